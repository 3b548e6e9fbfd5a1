"""The same answers as four providers would tell them, written by hand for translation tests.

A scenario is what a model says, in parts and pieces; each provider here tells it in its own
protocol, streamed and whole, as the real ones were seen to. Nothing of the product's writers is
used, so that a mistake of theirs cannot hide.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from proxy.core.translation.conversation import Wire

MODEL = "some-model"


@dataclass(frozen=True, slots=True)
class Said:
    """One part: `kind` is text, thinking, redacted, refusal or call; `pieces` make its words."""

    kind: str
    pieces: tuple[str, ...] = ()
    signature: str | None = None
    call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the answer used; `uncached`, `read` and `written` exclude each other."""

    uncached: int = 11
    read: int = 0
    written: int = 0
    output: int = 7
    reasoning: int = 0

    @property
    def given(self) -> int:
        return self.uncached + self.read + self.written


@dataclass(frozen=True, slots=True)
class Scenario:
    """`finish` is stop, length, tools, refused or a stop sequence; `error` cuts the stream."""

    name: str
    said: tuple[Said, ...]
    finish: str = "stop"
    tokens: Tokens = field(default_factory=Tokens)
    error: str | None = None

    def of(self, kind: str) -> list[Said]:
        return [said for said in self.said if said.kind == kind]


def text(*pieces: str) -> Said:
    return Said("text", pieces)


def thinking(*pieces: str, signature: str | None = None) -> Said:
    return Said("thinking", pieces, signature)


def call(call_id: str, name: str, *pieces: str) -> Said:
    return Said("call", pieces, call_id=call_id, name=name)


SCENARIOS = (
    Scenario("plain", (text("Hel", "lo", " there."),)),
    Scenario("empty", (), tokens=Tokens(output=2)),
    Scenario("several-texts", (text("One. "), text("Two. ", "Half."), text("Three."))),
    Scenario(
        "thinking-signed",
        (thinking("Let me", " see.", signature="ErUBsigned=="), text("Four.")),
        tokens=Tokens(output=40, reasoning=25),
    ),
    Scenario("thinking-unsigned", (thinking("Hm", "m."), text("Five."))),
    Scenario("redacted", (Said("redacted", ("c2VjcmV0",)), text("Six."))),
    Scenario("one-call", (call("call_1", "weather", '{"city":', ' "Kiel"', "}"),), "tools"),
    Scenario(
        "parallel-calls",
        (
            call("call_1", "weather", '{"city":"Kiel"}'),
            call("call_2", "weather", '{"city"', ':"Ulm"}'),
            call("call_3", "clock", '{"zone":"UTC"}'),
        ),
        "tools",
    ),
    Scenario("call-without-arguments", (call("call_1", "clock"),), "tools"),
    Scenario(
        "text-then-call", (text("I will ", "look."), call("call_1", "clock", "{}")), "tools"
    ),
    Scenario(
        "thinking-text-and-calls",
        (
            thinking("Which?", signature="c2ln"),
            text("Both."),
            call("call_1", "weather", '{"city":"Kiel"}'),
            call("call_2", "clock", "{", "}"),
        ),
        "tools",
    ),
    Scenario("refusal", (Said("refusal", ("I can", "not.")),), "refused"),
    Scenario("filtered", (text("Well"),), "refused"),
    Scenario("length", (text("Once upon"),), "length"),
    Scenario("stop-sequence", (text("to the "),), "END"),
    Scenario("unicode", (text("日", "本", "🚤", "👨", "\u200d", "👩", "e", "\u0301", '\\"\n\t'),)),
    Scenario(
        "cached",
        (text("Again."),),
        tokens=Tokens(uncached=5, read=900, written=64, output=3),
    ),
    Scenario("long", tuple(text(*(f"word{n} " for n in range(60))) for _ in range(2))),
    Scenario("error", (text("So f", "ar"),), error="the provider is overloaded"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Told:
    """A provider's stream, its last event apart, and its whole answer (empty after an error).

    Nothing but its body ends a stream of Gemini's.
    """

    events: bytes
    terminal: bytes
    plain: bytes


def _json(document: object, *, ascii_only: bool = False) -> str:
    return json.dumps(document, ensure_ascii=ascii_only, separators=(",", ":"))


# Chat completions


def chat(scenario: Scenario) -> Told:
    head = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    out = []

    def chunk(delta: dict[str, Any], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        out.append("data: " + _json({**head, "choices": [choice], "usage": None}) + "\n\n")

    chunk({"role": "assistant", "content": "", "refusal": None})
    index = 0
    for said in scenario.said:
        if said.kind == "call":
            function = {"name": said.name, "arguments": ""}
            start = {"index": index, "id": said.call_id, "type": "function", "function": function}
            chunk({"tool_calls": [start]})
            for piece in said.pieces:
                chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
            index += 1
        elif said.kind != "redacted":
            names = {"text": "content", "thinking": "reasoning_content", "refusal": "refusal"}
            for piece in said.pieces:
                chunk({names[said.kind]: piece})
    if scenario.error is not None:
        error = {"message": scenario.error, "type": "server_error", "param": None, "code": None}
        out.append("data: " + _json({"error": error}) + "\n\n")
        return Told("".join(out).encode(), b"", b"")
    chunk({}, _chat_reason(scenario))
    out.append("data: " + _json({**head, "choices": [], "usage": _chat_usage(scenario)}) + "\n\n")
    return Told("".join(out).encode(), b"data: [DONE]\n\n", _chat_plain(scenario))


def _chat_reason(scenario: Scenario) -> str:
    if scenario.finish == "refused" and scenario.of("refusal"):
        return "stop"
    names = {"tools": "tool_calls", "refused": "content_filter", "length": "length"}
    return names.get(scenario.finish, "stop")


def _chat_usage(scenario: Scenario) -> dict[str, Any]:
    used = scenario.tokens
    return {
        "prompt_tokens": used.given,
        "completion_tokens": used.output,
        "total_tokens": used.given + used.output,
        "prompt_tokens_details": {"cached_tokens": used.read, "cache_write_tokens": used.written},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }


def _chat_plain(scenario: Scenario) -> bytes:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(said.text for said in scenario.of("text")) or None,
        "refusal": "".join(said.text for said in scenario.of("refusal")) or None,
    }
    if scenario.of("thinking"):
        message["reasoning_content"] = "".join(said.text for said in scenario.of("thinking"))
    if scenario.of("call"):
        message["tool_calls"] = [
            {
                "id": said.call_id,
                "type": "function",
                "function": {"name": said.name, "arguments": said.text},
            }
            for said in scenario.of("call")
        ]
    choice = {"index": 0, "message": message, "finish_reason": _chat_reason(scenario)}
    document = {
        "id": "chatcmpl-9",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [choice],
        "usage": _chat_usage(scenario),
    }
    return _json(document).encode()


# Messages


def messages(scenario: Scenario) -> Told:
    out = []

    def event(kind: str, **fields: Any) -> None:
        out.append(f"event: {kind}\ndata: {_json({'type': kind, **fields}, ascii_only=True)}\n\n")

    used = scenario.tokens
    given = {
        "input_tokens": used.uncached,
        "cache_read_input_tokens": used.read,
        "cache_creation_input_tokens": used.written,
    }
    head = {"id": "msg_9", "type": "message", "role": "assistant", "model": MODEL}
    empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
    event("message_start", message={**head, **empty, "usage": {**given, "output_tokens": 1}})
    event("ping")
    for index, said in enumerate(scenario.said):
        start, deltas = _block(said)
        event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            event("content_block_delta", index=index, delta=delta)
        event("content_block_stop", index=index)
    if scenario.error is not None:
        event("error", error={"type": "overloaded_error", "message": scenario.error})
        return Told("".join(out).encode(), b"", b"")
    reason = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use", "refused": "refusal"}
    sequence = None if scenario.finish in reason else scenario.finish
    ended = {
        "stop_reason": reason.get(scenario.finish, "stop_sequence"),
        "stop_sequence": sequence,
    }
    event("message_delta", delta=ended, usage={"output_tokens": used.output})
    content = [_whole_block(said) for said in scenario.said]
    usage = {**given, "output_tokens": used.output}
    plain = _json({**head, "content": content, **ended, "usage": usage}).encode()
    stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    return Told("".join(out).encode(), stop, plain)


def _block(said: Said) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if said.kind == "call":
        start = {"type": "tool_use", "id": said.call_id, "name": said.name, "input": {}}
        return start, [
            {"type": "input_json_delta", "partial_json": piece} for piece in ("", *said.pieces)
        ]
    if said.kind == "redacted":
        return {"type": "redacted_thinking", "data": said.text}, []
    if said.kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in said.pieces]
        if said.signature is not None:
            deltas.append({"type": "signature_delta", "signature": said.signature})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    return {"type": "text", "text": ""}, [
        {"type": "text_delta", "text": piece} for piece in said.pieces
    ]


def _whole_block(said: Said) -> dict[str, Any]:
    if said.kind == "call":
        arguments = json.loads(said.text or "{}")
        return {"type": "tool_use", "id": said.call_id, "name": said.name, "input": arguments}
    if said.kind == "redacted":
        return {"type": "redacted_thinking", "data": said.text}
    if said.kind == "thinking":
        return {"type": "thinking", "thinking": said.text, "signature": said.signature or ""}
    return {"type": "text", "text": said.text}


# Responses


def responses(scenario: Scenario) -> Told:
    out: list[str] = []

    def event(kind: str, **fields: Any) -> None:
        document = {"type": kind, "sequence_number": len(out), **fields}
        out.append(f"event: {kind}\ndata: {_json(document)}\n\n")

    def response(status: str, output: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        return {
            "id": "resp_9",
            "object": "response",
            "created_at": 1,
            "model": MODEL,
            "status": status,
            "output": output,
            **fields,
        }

    event("response.created", response=response("in_progress", [], usage=None))
    event("response.in_progress", response=response("in_progress", [], usage=None))
    output = []
    for place, (item, steps) in enumerate(_items(scenario)):
        blank: dict[str, Any] = {"content": [], "summary": [], "arguments": ""}
        empty = {name: blank.get(name, value) for name, value in item.items()}
        empty.pop("encrypted_content", None)
        event("response.output_item.added", output_index=place, item=empty)
        for kind, fields in steps:
            event(f"response.{kind}", output_index=place, item_id=item["id"], **fields)
        event("response.output_item.done", output_index=place, item=item)
        output.append(item)
    if scenario.error is not None:
        error = {"code": "server_error", "message": scenario.error}
        event("response.failed", response=response("failed", output, error=error))
        return Told("".join(out).encode(), b"", b"")
    reason = {"length": "max_output_tokens", "refused": "content_filter"}.get(scenario.finish)
    if scenario.of("refusal"):
        reason = None
    status = "completed" if reason is None else "incomplete"
    used = scenario.tokens
    whole = response(
        status,
        output,
        incomplete_details=None if reason is None else {"reason": reason},
        usage={
            "input_tokens": used.given,
            "input_tokens_details": {
                "cached_tokens": used.read,
                "cache_write_tokens": used.written,
            },
            "output_tokens": used.output,
            "output_tokens_details": {"reasoning_tokens": used.reasoning},
            "total_tokens": used.given + used.output,
        },
    )
    event(f"response.{status}", response=whole)
    return Told("".join(out[:-1]).encode(), out[-1].encode(), _json(whole).encode())


_Steps = list[tuple[str, dict[str, Any]]]


def _items(scenario: Scenario) -> Iterator[tuple[dict[str, Any], _Steps]]:
    """The items with what is told between their beginning and end; texts share a message."""
    content: list[dict[str, Any]] = []
    steps: _Steps = []
    for place, said in enumerate(scenario.said):
        if said.kind in ("text", "refusal"):
            steps += _message_steps(said, len(content), content)
            if scenario.said[place + 1 : place + 2] and scenario.said[place + 1].kind in (
                "text",
                "refusal",
            ):
                continue
            message = {"id": f"msg_{place}", "type": "message", "role": "assistant"}
            yield {**message, "status": "completed", "content": content}, steps
            content, steps = [], []
        elif said.kind == "call":
            deltas: _Steps = [
                ("function_call_arguments.delta", {"delta": piece}) for piece in said.pieces
            ]
            done = ("function_call_arguments.done", {"arguments": said.text, "name": said.name})
            yield (
                {
                    "id": f"fc_{place}",
                    "type": "function_call",
                    "status": "completed",
                    "call_id": said.call_id,
                    "name": said.name,
                    "arguments": said.text,
                },
                [*deltas, done],
            )
        else:
            yield _reasoning(said, place)


def _message_steps(said: Said, index: int, content: list[dict[str, Any]]) -> _Steps:
    kind, name = ("output_text", "text") if said.kind == "text" else ("refusal", "refusal")
    extra: dict[str, Any] = {"logprobs": []} if said.kind == "text" else {}
    whole: dict[str, Any] = {"type": kind, name: said.text}
    if extra:
        whole["annotations"] = []
    content.append(whole)
    at = {"content_index": index}
    return [
        ("content_part.added", {**at, "part": {**whole, name: ""}}),
        *((f"{kind}.delta", {**at, **extra, "delta": piece}) for piece in said.pieces),
        (f"{kind}.done", {**at, **extra, name: said.text}),
        ("content_part.done", {**at, "part": whole}),
    ]


def _reasoning(said: Said, place: int) -> tuple[dict[str, Any], _Steps]:
    secret = said.text if said.kind == "redacted" else said.signature
    item: dict[str, Any] = {"id": f"rs_{place}", "type": "reasoning", "summary": []}
    if secret is not None:
        item["encrypted_content"] = secret
    if said.kind == "redacted":
        return item, []
    at = {"summary_index": 0}
    whole = {"type": "summary_text", "text": said.text}
    item["summary"] = [whole]
    return item, [
        ("reasoning_summary_part.added", {**at, "part": {**whole, "text": ""}}),
        *(("reasoning_summary_text.delta", {**at, "delta": piece}) for piece in said.pieces),
        ("reasoning_summary_text.done", {**at, "text": said.text}),
        ("reasoning_summary_part.done", {**at, "part": whole}),
    ]


# Gemini


def gemini(scenario: Scenario) -> Told:
    """Every event is a response; usage grows, and why it ends comes with the last words."""
    head = {"modelVersion": MODEL, "responseId": "r9"}
    out = []

    def event(parts: list[dict[str, Any]], finish: str | None, made: int) -> None:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        usage = _gemini_usage(scenario, made)
        document = {"candidates": [candidate], "usageMetadata": usage, **head}
        out.append("data: " + _json(document) + "\r\n\r\n")

    secret = next((said.signature for said in scenario.said if said.signature), None)
    whole: list[dict[str, Any]] = []
    for said in scenario.said:
        if said.kind == "call":
            call = {"id": said.call_id, "name": said.name, "args": json.loads(said.text or "{}")}
            part: dict[str, Any] = {"functionCall": call}
            if secret is not None:
                part["thoughtSignature"], secret = secret, None
            whole.append(part)
            event([part], None, 1)
        elif said.kind != "redacted":
            thought: dict[str, Any] = {"thought": True} if said.kind == "thinking" else {}
            whole.append({"text": said.text, **thought})
            for piece in said.pieces:
                event([{"text": piece, **thought}], None, 1)
    if scenario.error is not None:
        error = {"code": 503, "message": scenario.error, "status": "UNAVAILABLE"}
        out.append("data: " + _json({"error": error}) + "\r\n\r\n")
        return Told("".join(out).encode(), b"", b"")
    last = {"text": ""}
    if secret is not None:
        last["thoughtSignature"] = secret
    whole.append(last)
    reason = {"length": "MAX_TOKENS", "refused": "SAFETY"}.get(scenario.finish, "STOP")
    event([last], reason, scenario.tokens.output)
    candidate = {"content": {"parts": whole, "role": "model"}, "finishReason": reason, "index": 0}
    usage = _gemini_usage(scenario, scenario.tokens.output)
    plain = {"candidates": [candidate], "usageMetadata": usage, **head}
    return Told("".join(out).encode(), b"", json.dumps(plain, indent=2).encode())


def _gemini_usage(scenario: Scenario, made: int) -> dict[str, Any]:
    used = scenario.tokens
    thoughts = min(made, used.reasoning)
    found = {"promptTokenCount": used.given, "totalTokenCount": used.given + made}
    figures = {
        "candidatesTokenCount": made - thoughts,
        "thoughtsTokenCount": thoughts,
        "cachedContentTokenCount": used.read,
    }
    return found | {name: figure for name, figure in figures.items() if figure}


PROVIDERS: dict[Wire, Callable[[Scenario], Told]] = {
    Wire.CHAT: chat,
    Wire.MESSAGES: messages,
    Wire.RESPONSES: responses,
    Wire.GEMINI: gemini,
}
