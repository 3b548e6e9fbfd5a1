"""Generated Responses streams of a native channel. See stream_record.py for the fields.

The shapes follow OpenAI's event types (WIRE.md section 3), and llama.cpp's, which has no
`content_index` and no `output_index`. This module must not know how a relay works.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.core.entities import Dialect, Usage, Wire
from tests.integration.stream_record import (
    CODE_TEXT,
    UNICODE_TEXT,
    UpstreamStream,
    compact,
    pieces,
    prose,
)


@dataclass(slots=True)
class ResponsesWriter:
    """Builds Responses streams; every method appends events and returns the writer."""

    name: str
    ascii_only: bool = False
    newline: bytes = b"\n"
    indexed: bool = True
    numbered: bool = True
    obfuscated: bool = False
    events: list[bytes] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    finish: str | None = None
    number: int = 0
    item: int = -1
    output: list[object] = field(default_factory=list)

    def raw(self, event: bytes) -> "ResponsesWriter":
        self.events.append(event)
        return self

    def event(self, kind: str, **fields: object) -> "ResponsesWriter":
        value: dict[str, object] = {"type": kind}
        if self.numbered:
            value["sequence_number"] = self.number
            self.number += 1
        line = self.newline
        data = compact(value | fields, ascii_only=self.ascii_only)
        return self.raw(b"event: " + kind.encode() + line + b"data: " + data + line * 2)

    def response(self, status: str, **fields: object) -> dict[str, object]:
        return {
            "id": f"resp_{self.name}",
            "object": "response",
            "created_at": 1_790_000_000,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": "gpt-generated-1",
            "output": [],
            "usage": None,
            **fields,
        }

    def start(self, **fields: object) -> "ResponsesWriter":
        self.event("response.created", response=self.response("in_progress", **fields))
        return self.event("response.in_progress", response=self.response("in_progress", **fields))

    def of_item(self, kind: str, **fields: object) -> "ResponsesWriter":
        place: dict[str, object] = {"item_id": f"item_{self.item}"}
        if self.indexed:
            place["output_index"] = self.item
        return self.event(kind, **place, **fields)

    def add(self, item: Mapping[str, object]) -> "ResponsesWriter":
        self.item += 1
        return self.of_item("response.output_item.added", item={"id": f"item_{self.item}", **item})

    def close(self, item: Mapping[str, object]) -> "ResponsesWriter":
        whole = {"id": f"item_{self.item}", **item}
        self.output.append(whole)
        return self.of_item("response.output_item.done", item=whole)

    def deltas(self, kind: str, text: str, **place: object) -> "ResponsesWriter":
        if not self.indexed:
            place = {}
        more: dict[str, object] = {"obfuscation": "aB3dE5"} if self.obfuscated else {}
        for piece in pieces(text, seed=len(self.events)):
            self.of_item(f"response.{kind}.delta", **place, delta=piece, **more)
        run = f"{self.item}/{kind}"
        self.runs[run] = self.runs.get(run, "") + text
        return self

    def text(self, text: str) -> "ResponsesWriter":
        part = {"type": "output_text", "annotations": [], "text": ""}
        self.add({"type": "message", "role": "assistant", "status": "in_progress", "content": []})
        self.of_item("response.content_part.added", content_index=0, part=part)
        self.deltas("output_text", text, content_index=0)
        self.of_item("response.output_text.done", content_index=0, text=text)
        self.of_item("response.content_part.done", content_index=0, part=part | {"text": text})
        content = [part | {"text": text}]
        return self.close({"type": "message", "role": "assistant", "content": content})

    def refusal(self, text: str) -> "ResponsesWriter":
        self.add({"type": "message", "role": "assistant", "status": "in_progress", "content": []})
        self.deltas("refusal", text, content_index=0)
        self.of_item("response.refusal.done", content_index=0, refusal=text)
        content = [{"type": "refusal", "refusal": text}]
        return self.close({"type": "message", "role": "assistant", "content": content})

    def thinking(self, summary: str, words: str = "") -> "ResponsesWriter":
        self.add({"type": "reasoning", "summary": []})
        self.of_item("response.reasoning_summary_part.added", summary_index=0, part={})
        self.deltas("reasoning_summary_text", summary, summary_index=0)
        self.of_item("response.reasoning_summary_text.done", summary_index=0, text=summary)
        if words:
            self.deltas("reasoning_text", words, content_index=0)
        return self.close({"type": "reasoning", "encrypted_content": "RXJlYm9vdHM" * 30})

    def tool(self, name: str, arguments: object) -> "ResponsesWriter":
        call = {"type": "function_call", "call_id": f"call_{self.item + 1}", "name": name}
        text = json.dumps(arguments, ensure_ascii=self.ascii_only)
        self.add(call | {"arguments": ""}).deltas("function_call_arguments", text)
        self.of_item("response.function_call_arguments.done", arguments=text)
        return self.close(call | {"arguments": text})

    def custom(self, name: str, text: str) -> "ResponsesWriter":
        call = {"type": "custom_tool_call", "call_id": f"call_{self.item + 1}", "name": name}
        self.add(call | {"input": ""}).deltas("custom_tool_call_input", text)
        return self.close(call | {"input": text})

    def end(
        self, read: int, written: int, status: str = "completed", **details: object
    ) -> UpstreamStream:
        """The last event and the record; `details`: cached, cache_write, reasoning, reason."""
        self.finish = str(details.get("reason", status))
        fields: dict[str, object] = {"output": self.output, "usage": usage(read, written, details)}
        if "reason" in details:
            fields["incomplete_details"] = {"reason": details["reason"]}
        self.event(f"response.{status}", response=self.response(status, **fields))
        return self.record(vector(read, written, details))

    def record(self, reported: Usage | None = None, *, complete: bool = True) -> UpstreamStream:
        return UpstreamStream(
            name=f"responses-{self.name}",
            dialect=Dialect.OPENAI,
            events=tuple(self.events),
            text_runs=dict(self.runs),
            usage=reported,
            finish=self.finish,
            complete=complete,
            wire=Wire.RESPONSES,
        )


def figure(details: Mapping[str, object], name: str) -> int:
    value = details.get(name, 0)
    assert isinstance(value, int)
    return value


def usage(read: int, written: int, details: Mapping[str, object]) -> dict[str, object]:
    """A ResponseUsage object."""
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": figure(details, "cached"),
            "cache_write_tokens": figure(details, "cache_write"),
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": figure(details, "reasoning")},
        "total_tokens": read + written,
    }


def vector(read: int, written: int, details: Mapping[str, object]) -> Usage:
    """What such a report comes to."""
    cached, write = figure(details, "cached"), figure(details, "cache_write")
    return Usage(
        input_uncached=read - cached - write,
        cache_read=cached,
        cache_write_5m=write,
        output=written,
        reasoning=figure(details, "reasoning"),
        searches=figure(details, "searches"),
    )


W = ResponsesWriter


def _plain() -> list[UpstreamStream]:
    big = W("big-200-kb-event").start()
    big.add({"type": "message"}).deltas("output_text", "", content_index=0)
    big.of_item("response.output_text.delta", content_index=0, delta=prose(1, 36_000))
    big.runs["0/output_text"] = prose(1, 36_000)
    asked = W("echoed-instructions").start(instructions=prose(2, 20_000))
    return [
        W("short").start().text(prose(3, 30)).end(12, 33),
        W("obfuscated", obfuscated=True).start().text(prose(4, 30)).end(12, 33),
        W("unnumbered", numbered=False).start().text(prose(5, 60)).end(12, 63),
        W("llama", indexed=False).start().text(prose(6, 40)).end(12, 43),
        W("unicode-utf8").start().text(UNICODE_TEXT * 2).end(9, 140),
        W("unicode-escaped", ascii_only=True).start().text(UNICODE_TEXT).end(9, 70),
        W("code-and-control-characters").start().text(CODE_TEXT * 3).end(9, 90),
        W("crlf", newline=b"\r\n").start().text(prose(7, 12)).end(9, 13),
        W("long-2000-events").start().text(prose(8, 2000)).end(9, 2900),
        W("two-messages").start().text("First. ").text("Second.").end(9, 6),
        W("no-content-at-all").start().end(9, 1),
        W("comments").raw(b": hello\n\n").start().raw(b":\n\n").text("Hi.").end(9, 3),
        W("keepalives").start().event("keepalive").text("Hi.").event("keepalive").end(9, 3),
        big.end(9, 40_000),
        asked.text("Noted.").end(30_000, 3),
    ]


def _rich() -> list[UpstreamStream]:
    search = W("web-search").start().add({"type": "web_search_call", "status": "in_progress"})
    search.of_item("response.web_search_call.searching")
    search.close({"type": "web_search_call"}).text("Found.")
    data = W("audio-data-is-no-text").start().text("Listen:")
    data.event("response.audio.delta", delta="UklGRiQAAABXQVZF" * 40)
    cached = W("cached-and-reasoning").start().thinking("Hm.").text("So.")
    return [
        W("thinking").start().thinking("Looking at it.", "Hm, so.").text("42").end(9, 90),
        W("one-tool").start().tool("look_up", {"city": "Paris, ☂"}).end(9, 20),
        W("parallel-tools").start().tool("a", {"n": 1}).tool("b", {}).end(9, 20),
        W("free-form-tool").start().custom("run", CODE_TEXT).end(9, 40),
        W("refused").start().refusal("I cannot help with that.").end(9, 8),
        cached.end(40, 80, cached=20, cache_write=5, reasoning=60),
        W("cut-by-length")
        .start()
        .text("And then")
        .end(9, 2, "incomplete", reason="max_output_tokens"),
        W("filtered").start().text("The").end(9, 2, "incomplete", reason="content_filter"),
        search.end(900, 3, searches=1),
        data.end(9, 3),
    ]


def _broken() -> list[UpstreamStream]:
    error = {"type": "error", "code": "server_error", "message": "sk-secret", "param": None}
    failed = W("failed-after-content").start().text("Half an answer")
    failed.event("response.failed", response=failed.response("failed", error=error))
    before = W("failed-before-content").start()
    before.event("response.failed", response=before.response("failed", error=error))
    cut = W("cut-inside-the-last-event").start().text("Nearly")
    last = cut.end(9, 3).events[-1]
    cut.events[-1] = last[: len(last) // 2]
    return [
        W("no-terminal").start().text("Nothing follows").record(complete=False),
        W("nothing-at-all").record(complete=False),
        W("only-a-beginning").start().record(complete=False),
        W("error-event").start().text("Half").event("error", **error).record(complete=False),
        W("done-is-no-end").start().text("a").raw(b"data: [DONE]\n\n").record(complete=False),
        failed.record(complete=False),
        before.record(complete=False),
        cut.record(complete=False),
    ]


_FAMILIES: tuple[Callable[[], list[UpstreamStream]], ...] = (_plain, _rich, _broken)
RESPONSE_STREAMS = tuple(stream for family in _FAMILIES for stream in family())
