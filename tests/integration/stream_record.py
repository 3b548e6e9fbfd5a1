"""One generated upstream stream with what a relay must make of it, and writers for both dialects.

All text is made up from a seed; nothing was recorded. Sources of the shapes: WIRE.md sections 1
and 5. This module must not know how a relay works, only what it promises.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proxy.core.entities import Dialect, Usage, Wire

_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")
_TEXT = (
    "the a of to and harbour quiet light over water stone morning ledger counts every grain "
    "slow river carries boats under seven bridges while someone writes numbers down twice so "
    "nothing is lost between evening market and first train north where salt rain wind turn"
)
_WORDS = _TEXT.split()

UNICODE_TEXT = (
    "Größe, naïve Œuvre — 日本語の文章、漢字とかな。 Привет, мир! שלום عالم "
    "한국어 हिन्दी 👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b\u202e 𝒳𝓎 ﷽ 🇩🇪"
)
CODE_TEXT = "def f(x):\n\treturn {\"a\\n\": [x ** 2, 'b']}  # \\u0041 </s> <|end|>\n\r\n"


def prose(seed: int, words: int) -> str:
    """Made-up text of `words` words, the same for the same seed."""
    rng = random.Random(seed)
    return " ".join(rng.choice(_WORDS) for _ in range(words))


def pieces(text: str, seed: int = 0, longest: int = 9) -> list[str]:
    """Cut `text` into delta-sized pieces at any character, as tokens do."""
    rng = random.Random(seed)
    cut: list[str] = []
    while text:
        size = rng.randint(1, longest)
        cut.append(text[:size])
        text = text[size:]
    return cut


@dataclass(frozen=True, slots=True)
class UpstreamStream:
    """A stream and its expectations.

    `events` concatenated are the body; the last one may be unfinished on purpose. `text_runs`
    maps a run (`0/content`, `0/tool/1`, `0/refusal`, `0/reasoning`, `0/function`; for Anthropic
    `BLOCK/text`, `BLOCK/thinking`, `BLOCK/input`) to all its text. `usage` is the provider's
    final figure, None when the stream never gave one. `usage_only` are indices of events that
    exist only because usage was asked for. `complete`: by protocol, not by end of file.
    `terminal` is the channel setting the stream needs: `done` or `finish_reason`.
    `after_terminal`: index of the first event that comes after the terminal one, if any.
    """

    name: str
    dialect: Dialect
    events: tuple[bytes, ...]
    text_runs: Mapping[str, str]
    usage: Usage | None
    finish: str | None
    complete: bool
    usage_only: frozenset[int] = frozenset()
    terminal: str = "done"
    after_terminal: int | None = None
    wire: Wire | None = None
    """The form, where it is not the first of its dialect."""

    @property
    def body(self) -> bytes:
        """The whole upstream body."""
        return b"".join(self.events)

    def forwarded(self, *, usage_asked: bool) -> bytes:
        """The upstream bytes a client of its own dialect must get, comments apart.

        For a complete stream these are all events up to the terminal one, less the usage-only
        event if the client did not ask for usage. Of an incomplete one they are the most a
        client may get: whole events, before whatever in-band error the relay adds. A terminal
        event may lack its last line ends; a relay may add them.
        """
        last = len(self.events) - 1
        return b"".join(
            event
            for index, event in enumerate(self.events)
            if (usage_asked or index not in self.usage_only)
            and (self.after_terminal is None or index < self.after_terminal)
            and (event.endswith(_BLANK_LINES) or (self.complete and index == last))
        )


def compact(value: object, *, ascii_only: bool = False) -> bytes:
    """JSON without spaces, as both providers send it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only).encode()


@dataclass(slots=True)
class OpenAIWriter:
    """Builds chat completion streams; every method appends events and returns the writer."""

    name: str
    ascii_only: bool = False
    newline: bytes = b"\n"
    prefix: bytes = b"data: "
    every: Mapping[str, object] = field(default_factory=dict)
    """Fields added to every chunk."""
    events: list[bytes] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    usage_only: set[int] = field(default_factory=set)
    finish: str | None = None

    def raw(self, event: bytes) -> "OpenAIWriter":
        self.events.append(event)
        return self

    def payload(self, value: object) -> "OpenAIWriter":
        data = compact(value, ascii_only=self.ascii_only)
        return self.raw(self.prefix + data + self.newline * 2)

    def chunk(self, choices: Sequence[object], **more: object) -> "OpenAIWriter":
        return self.payload(
            {
                "id": f"chatcmpl-{self.name}",
                "object": "chat.completion.chunk",
                "created": 1_790_000_000,
                "model": "gpt-generated-1",
                **self.every,
                "choices": choices,
                **more,
            }
        )

    def choice(
        self,
        delta: Mapping[str, object],
        *,
        index: int = 0,
        finish: str | None = None,
        more: Mapping[str, object] | None = None,
        **top: object,
    ) -> "OpenAIWriter":
        self.note(delta, index)
        if finish is not None and index == 0:
            self.finish = finish
        body = {"index": index, "delta": delta, **(more or {}), "finish_reason": finish}
        return self.chunk([body], **top)

    def note(self, delta: Mapping[str, object], index: int) -> None:
        """Add a delta's text to its runs."""
        kinds = (
            ("content", "content"),
            ("refusal", "refusal"),
            ("reasoning_content", "reasoning"),
            ("reasoning", "reasoning"),
        )
        for key, run in kinds:
            self._add(f"{index}/{run}", delta.get(key))
        function = delta.get("function_call")
        if isinstance(function, dict):
            self._add(f"{index}/function", function.get("arguments"))
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            arguments = call.get("function", {}).get("arguments")
            self._add(f"{index}/tool/{call['index']}", arguments)

    def _add(self, run: str, text: object) -> None:
        if isinstance(text, str) and text:
            self.runs[run] = self.runs.get(run, "") + text

    def role(self, index: int = 0, **delta: object) -> "OpenAIWriter":
        return self.choice({"role": "assistant", "content": "", **delta}, index=index)

    def text(self, text: str, *, index: int = 0, field_name: str = "content") -> "OpenAIWriter":
        for number, piece in enumerate(pieces(text, seed=len(self.events))):
            if number == 0 and not self.events:
                self.role(index)
            self.choice({field_name: piece}, index=index)
        return self

    def stop(self, finish: str = "stop", index: int = 0) -> "OpenAIWriter":
        return self.choice({}, index=index, finish=finish)

    def usage(self, prompt: int, completion: int, **details: object) -> "OpenAIWriter":
        self.usage_only.add(len(self.events))
        return self.chunk([], usage=openai_usage(prompt, completion, **details))

    def done(self) -> "OpenAIWriter":
        return self.raw(self.prefix + b"[DONE]" + self.newline * 2)

    def record(
        self,
        usage: Usage | None = None,
        *,
        complete: bool = True,
        terminal: str = "done",
        after_terminal: int | None = None,
    ) -> UpstreamStream:
        return UpstreamStream(
            name=f"openai-{self.name}",
            dialect=Dialect.OPENAI,
            events=tuple(self.events),
            text_runs=dict(self.runs),
            usage=usage,
            finish=self.finish,
            complete=complete,
            usage_only=frozenset(self.usage_only),
            terminal=terminal,
            after_terminal=after_terminal,
        )


def openai_usage(prompt: int, completion: int, **details: object) -> dict[str, object]:
    """A CompletionUsage object; `details` are further fields of it."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        **details,
    }


@dataclass(slots=True)
class AnthropicWriter:
    """Builds messages streams; every method appends events and returns the writer."""

    name: str
    ascii_only: bool = False
    newline: bytes = b"\n"
    space: bytes = b" "
    type_last: bool = False
    events: list[bytes] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    finish: str | None = None
    block: int = -1

    def raw(self, event: bytes) -> "AnthropicWriter":
        self.events.append(event)
        return self

    def event(self, kind: str, **fields: object) -> "AnthropicWriter":
        value = {**fields, "type": kind} if self.type_last else {"type": kind, **fields}
        line = self.newline
        return self.raw(
            b"event:" + self.space + kind.encode() + line + b"data:" + self.space
            + compact(value, ascii_only=self.ascii_only) + line * 2
        )  # fmt: skip

    def start(
        self, input_tokens: int = 12, output_tokens: int = 1, **usage: object
    ) -> "AnthropicWriter":
        return self.event(
            "message_start",
            message={
                "id": f"msg_{self.name}",
                "type": "message",
                "role": "assistant",
                "model": "claude-generated-1",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": input_tokens, **usage, "output_tokens": output_tokens},
            },
        )

    def open(self, kind: str, **content: object) -> "AnthropicWriter":
        self.block += 1
        block = {"type": kind, **content}
        return self.event("content_block_start", index=self.block, content_block=block)

    def delta(self, kind: str, **content: object) -> "AnthropicWriter":
        for key, run in (("text", "text"), ("thinking", "thinking"), ("partial_json", "input")):
            text = content.get(key)
            if isinstance(text, str) and text:
                name = f"{self.block}/{run}"
                self.runs[name] = self.runs.get(name, "") + text
        return self.event("content_block_delta", index=self.block, delta={"type": kind, **content})

    def close(self) -> "AnthropicWriter":
        return self.event("content_block_stop", index=self.block)

    def ping(self) -> "AnthropicWriter":
        return self.event("ping")

    def text(self, text: str, *, ping_every: int = 0) -> "AnthropicWriter":
        self.open("text", text="")
        for number, piece in enumerate(pieces(text, seed=len(self.events)), start=1):
            self.delta("text_delta", text=piece)
            if ping_every and number % ping_every == 0:
                self.ping()
        return self.close()

    def thinking(self, text: str) -> "AnthropicWriter":
        self.open("thinking", thinking="", signature="")
        for piece in pieces(text, seed=len(self.events)):
            self.delta("thinking_delta", thinking=piece)
        self.delta("signature_delta", signature="RXJlYm9vdHM" * 12 + "==")
        return self.close()

    def tool(self, name: str, arguments: object, kind: str = "tool_use") -> "AnthropicWriter":
        self.open(kind, id=f"toolu_{self.block + 1}", name=name, input={})
        self.delta("input_json_delta", partial_json="")
        if arguments:
            text = json.dumps(arguments, ensure_ascii=self.ascii_only)
            for piece in pieces(text, seed=len(self.events)):
                self.delta("input_json_delta", partial_json=piece)
        return self.close()

    def message_delta(
        self, output: int, stop: str | None = "end_turn", *, more: object = None, **usage: object
    ) -> "AnthropicWriter":
        self.finish = stop or self.finish
        delta = {"stop_reason": stop, "stop_sequence": None}
        if isinstance(more, dict):
            delta.update(more)
        return self.event("message_delta", delta=delta, usage={**usage, "output_tokens": output})

    def stop(self) -> "AnthropicWriter":
        return self.event("message_stop")

    def record(
        self,
        usage: Usage | None = None,
        *,
        complete: bool = True,
        after_terminal: int | None = None,
    ) -> UpstreamStream:
        return UpstreamStream(
            name=f"anthropic-{self.name}",
            dialect=Dialect.ANTHROPIC,
            events=tuple(self.events),
            text_runs=dict(self.runs),
            usage=usage,
            finish=self.finish,
            complete=complete,
            after_terminal=after_terminal,
        )
