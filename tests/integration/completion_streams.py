"""Generated streams of legacy text completions. See stream_record.py for the fields.

The shapes follow OpenAI's CreateCompletionResponse and llama.cpp's server. This module must not
know how a relay works.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proxy.core.entities import Dialect, Usage, Wire
from tests.integration.stream_record import (
    CODE_TEXT,
    UNICODE_TEXT,
    UpstreamStream,
    compact,
    openai_usage,
    pieces,
    prose,
)


@dataclass(slots=True)
class CompletionsWriter:
    """Builds completion streams; every method appends events and returns the writer."""

    name: str
    ascii_only: bool = False
    newline: bytes = b"\n"
    every: Mapping[str, object] = field(default_factory=dict)
    events: list[bytes] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    usage_only: set[int] = field(default_factory=set)
    finish: str | None = None

    def raw(self, event: bytes) -> "CompletionsWriter":
        self.events.append(event)
        return self

    def chunk(self, choices: Sequence[object], **more: object) -> "CompletionsWriter":
        value = {
            "id": f"cmpl-{self.name}",
            "object": "text_completion",
            "created": 1_790_000_000,
            "choices": choices,
            "model": "gpt-generated-1",
            **self.every,
            **more,
        }
        return self.raw(b"data: " + compact(value, ascii_only=self.ascii_only) + self.newline * 2)

    def choice(
        self, text: str, index: int = 0, finish: str | None = None, **more: object
    ) -> "CompletionsWriter":
        self.runs[f"{index}/text"] = self.runs.get(f"{index}/text", "") + text
        self.finish = finish or self.finish
        choice = {"text": text, "index": index, "logprobs": None, "finish_reason": finish}
        return self.chunk([choice], **more)

    def text(self, text: str, index: int = 0) -> "CompletionsWriter":
        for piece in pieces(text, seed=len(self.events)):
            self.choice(piece, index)
        return self

    def done(self) -> "CompletionsWriter":
        return self.raw(b"data: [DONE]" + self.newline * 2)

    def end(
        self, read: int, written: int, finish: str = "stop", *, apart: bool = True
    ) -> UpstreamStream:
        """Finish, report usage in an event of its own or with the last choice, and be done."""
        if apart:
            self.choice("", finish=finish)
            self.usage_only.add(len(self.events))
            self.chunk([], usage=openai_usage(read, written))
        else:
            self.choice("", finish=finish, usage=openai_usage(read, written))
        return self.done().record(Usage(input_uncached=read, output=written))

    def record(
        self, usage: Usage | None = None, *, complete: bool = True, terminal: str = "done"
    ) -> UpstreamStream:
        return UpstreamStream(
            name=f"completions-{self.name}",
            dialect=Dialect.OPENAI,
            events=tuple(self.events),
            text_runs=dict(self.runs),
            usage=usage,
            finish=self.finish,
            complete=complete,
            usage_only=frozenset(self.usage_only),
            terminal=terminal,
            wire=Wire.COMPLETIONS,
        )


W = CompletionsWriter


def _complete() -> list[UpstreamStream]:
    two = W("two-prompts").text("First", 0).text("Second", 1).choice("", 1, "stop")
    comments = W("comments").raw(b": hello\n\n").text("Hi.").raw(b":\n\n")
    scored = W("log-probabilities")
    for piece in pieces("One two three"):
        scored.runs["0/text"] = scored.runs.get("0/text", "") + piece
        score = {"tokens": [piece], "token_logprobs": [-0.5], "text_offset": [0]}
        scored.chunk([{"text": piece, "index": 0, "logprobs": score, "finish_reason": None}])
    return [
        W("short").text(prose(1, 30)).end(5, 33),
        W("llama", every={"system_fingerprint": "b1"}).text(prose(2, 30)).end(5, 33, apart=False),
        W("usage-null", every={"usage": None}).text(prose(3, 20)).end(5, 23),
        W("unicode-utf8").text(UNICODE_TEXT).end(5, 70),
        W("unicode-escaped", ascii_only=True).text(UNICODE_TEXT).end(5, 70),
        W("code").text(CODE_TEXT * 2).end(5, 60),
        W("crlf", newline=b"\r\n").text(prose(4, 12)).end(5, 13),
        W("long-2000-events").text(prose(5, 2000)).end(5, 2900),
        W("cut-by-length").text("And then").end(5, 2, "length"),
        W("without-usage").text("No report.").choice("", finish="stop").done().record(),
        W("empty").end(5, 0),
        two.end(5, 2),
        comments.end(5, 3),
        scored.end(5, 3),
        W("no-done").text("Ends.").choice("", finish="stop").record(terminal="finish_reason"),
    ]


def _broken() -> list[UpstreamStream]:
    error = b'data: {"error":{"message":"sk-secret","type":"server_error"}}\n\n'
    return [
        W("no-terminal").text("Nothing follows").record(complete=False),
        W("error-in-the-middle").text("Half").raw(error).record(complete=False),
        W("error-first").raw(error).record(complete=False),
        W("nothing-at-all").record(complete=False),
    ]


COMPLETION_STREAMS = tuple(_complete() + _broken())
