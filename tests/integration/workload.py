"""Calls that can be made again from their numbers alone: what is asked, and what is answered.

`Plan.of(profile, seed, number)` is the same in the client, the upstream and the test, so that
each can say what should have happened without hearing from the others. Pieces are whole words:
counted tokens only grow as a text grows. Profile `race` costs 0.2 to 3 holds; `kill` has streams
of all lengths and paces; `fixed` is short; `steady` is streams of one to eight seconds. This module must not know the relay.
"""

import json
import math
import random
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self

import bpe_openai

WORDS: Final = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "with",
    "they",
    "be",
    "at",
    "one",
    "have",
    "this",
    "from",
    "by",
    "hot",
    "word",
    "but",
    "what",
    "some",
    "you",
    "had",
    "out",
    "other",
    "were",
    "all",
    "your",
    "when",
    "up",
    "use",
    "how",
    "said",
    "an",
    "each",
    "she",
    "which",
    "do",
    "their",
]
RACE_SLICE: Final = 64
"""`slice_tokens` of the relay that profile `race` is made for."""
INPUT_PRICE: Final = 1_000
OUTPUT_PRICE: Final = 4_000
"""Nano-USD per token, as `relay_process.catalog` prices its models."""
_MARK: Final = re.compile(rb"plan-(race|kill|fixed|steady)-(\d+)-(\d+)")


@cache
def _encoding() -> Any:
    return bpe_openai.get_encoding("o200k_base")


def tokens(text: str) -> int:
    """Tokens of `text` in o200k."""
    return len(_encoding().encode(text))


@dataclass(frozen=True, slots=True)
class Plan:
    """One call. `pauses` are seconds before each write; a write carries `per_write` events."""

    profile: str
    seed: int
    number: int
    dialect: str
    stream: bool
    prompt: str
    pieces: tuple[str, ...]
    output_tokens_max: int
    input_tokens: int
    """What the upstream will report for the prompt."""
    reports: bool
    """Whether the upstream reports usage at all."""
    first_pause: float
    pause: float
    per_write: int
    slow_reader: bool

    @classmethod
    def of(cls, profile: str, seed: int, number: int) -> "Plan":
        """The plan with these numbers."""
        rng = random.Random(f"{profile}-{seed}-{number}")
        dialect = "anthropic" if rng.random() < 0.3 else "openai"
        stream = rng.random() < {"kill": 0.7, "steady": 1.0}.get(profile, 0.5)
        makers = {"race": _race, "kill": _kill, "fixed": _fixed, "steady": _steady}
        return makers[profile](rng, cls, dialect, stream, seed, number)

    @classmethod
    def asked_by(cls, body: bytes) -> Self:
        """The plan that a request names."""
        match = _MARK.search(body)
        if match is None:
            raise AssertionError(f"no plan in {body[:200]!r}")
        found: Any = cls.of(match[1].decode(), int(match[2]), int(match[3]))
        return found

    @property
    def name(self) -> str:
        """What the request is known by to its client, the relay and the upstream."""
        return f"plan-{self.profile}-{self.seed}-{self.number}"

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(self.pieces)

    def request(self, key: str) -> bytes:
        """The HTTP request, head and body."""
        anthropic = self.dialect == "anthropic"
        document: dict[str, object] = {
            "model": "model-a" if anthropic else "model-o",
            "stream": self.stream,
            "max_tokens": self.output_tokens_max,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        document |= {"metadata": {"user_id": self.name}} if anthropic else {"user": self.name}
        body = json.dumps(document).encode()
        path = "messages" if anthropic else "chat/completions"
        head = (
            f"POST /v1/{path} HTTP/1.1\r\nHost: relay.test\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nx-request-id: {self.name}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def answer(self) -> list[bytes]:
        """The upstream's response, a write at a time; the first carries the head."""
        if not self.stream:
            body = json.dumps(self._plain()).encode()
            head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            return [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body]
        events = self._anthropic_events() if self.dialect == "anthropic" else self._openai_events()
        step = self.per_write
        writes = [
            b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events[at : at + step])
            for at in range(0, len(events), step)
        ]
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        writes[0] = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + writes[0]
        writes[-1] += b"0\r\n\r\n"
        return writes

    def _plain(self) -> dict[str, object]:
        output = tokens(self.text)
        if self.dialect == "anthropic":
            usage: dict[str, int] = {"input_tokens": self.input_tokens, "output_tokens": output}
            return {
                "id": self.name, "type": "message", "role": "assistant", "model": "m",
                "content": [{"type": "text", "text": self.text}], "stop_reason": "end_turn",
                **({"usage": usage} if self.reports else {}),
            }  # fmt: skip
        message = {"role": "assistant", "content": self.text}
        return {
            "id": self.name, "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            **({"usage": self._openai_usage(output)} if self.reports else {}),
        }  # fmt: skip

    def _openai_usage(self, output: int) -> dict[str, int]:
        return {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": output,
            "total_tokens": self.input_tokens + output,
        }

    def _openai_events(self) -> list[bytes]:
        def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            document = {
                "id": self.name, "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [choice],
            }  # fmt: skip
            return b"data: " + json.dumps(document).encode() + b"\n\n"

        events = [chunk({"role": "assistant", "content": ""})]
        events += [chunk({"content": piece}) for piece in self.pieces]
        events.append(chunk({}, "stop"))
        if self.reports:
            document = {
                "id": self.name, "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [], "usage": self._openai_usage(tokens(self.text)),
            }  # fmt: skip
            events.append(b"data: " + json.dumps(document).encode() + b"\n\n")
        return [*events, b"data: [DONE]\n\n"]

    def _anthropic_events(self) -> list[bytes]:
        def event(kind: str, **fields: object) -> bytes:
            data = json.dumps({"type": kind, **fields})
            return f"event: {kind}\ndata: {data}\n\n".encode()

        start: dict[str, object] = {
            "id": self.name, "type": "message", "role": "assistant", "model": "m", "content": [],
        }  # fmt: skip
        end: dict[str, object] = {"delta": {"stop_reason": "end_turn"}}
        if self.reports:
            start["usage"] = {"input_tokens": self.input_tokens, "output_tokens": 1}
            end["usage"] = {"output_tokens": tokens(self.text)}
        return [
            event("message_start", message=start),
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            *(
                event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
                for piece in self.pieces
            ),
            event("content_block_stop", index=0),
            event("message_delta", **end),
            event("message_stop"),
        ]


def _words(rng: random.Random, count: int, longest: int) -> tuple[str, ...]:
    pieces = []
    while count > 0:
        step = min(count, rng.randint(1, longest))
        pieces.append("".join(f" {rng.choice(WORDS)}" for _ in range(step)))
        count -= step
    return tuple(pieces)


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _race(
    rng: random.Random, cls: type[Plan], dialect: str, stream: bool, seed: int, number: int
) -> Plan:
    """Aim at a price of 0.2 to 3 holds; a hold is about a token per two bytes and a slice."""
    size = rng.randint(20, 400) if stream else rng.randint(1600, 2400)
    prompt = "".join(_words(rng, size // 4, 1))[1:]
    hold = (len(prompt) // 2 + 8) * INPUT_PRICE + RACE_SLICE * OUTPUT_PRICE
    aim = rng.uniform(0.2, 3) * hold
    if stream:
        asked = tokens(prompt) + 8
        output = max(1, round((aim - asked * INPUT_PRICE) / OUTPUT_PRICE))
    else:
        output = rng.randint(1, RACE_SLICE)
        asked = max(1, round((aim - output * OUTPUT_PRICE) / INPUT_PRICE))
    return cls(
        "race", seed, number, dialect, stream, prompt, _words(rng, output, 8),
        output_tokens_max=4096 if stream else RACE_SLICE,
        input_tokens=asked,
        reports=not stream or rng.random() < 0.7,
        first_pause=rng.uniform(0, 0.2),
        pause=rng.choice((0.0, 0.0, 0.005)),
        per_write=rng.choice((1, 1, 4, 1000)),
        slow_reader=False,
    )  # fmt: skip


def _kill(
    rng: random.Random, cls: type[Plan], dialect: str, stream: bool, seed: int, number: int
) -> Plan:
    prompt = "".join(_words(rng, rng.randint(1, 100), 1))[1:]
    output = round(_log_uniform(rng, 1, 3000 if stream else 400))
    return cls(
        "kill", seed, number, dialect, stream, prompt,
        _words(rng, output, rng.choice((1, 3, 30))),
        output_tokens_max=4096,
        input_tokens=tokens(prompt) + 8,
        reports=rng.random() < 0.7,
        first_pause=_log_uniform(rng, 0.0001, 0.3 if stream else 1.0),
        pause=rng.choice((0.0, _log_uniform(rng, 0.0005, 0.05))),
        per_write=rng.choice((1, 1, 1, 5, 5000)),
        slow_reader=rng.random() < 0.1,
    )  # fmt: skip


def _fixed(
    rng: random.Random, cls: type[Plan], dialect: str, stream: bool, seed: int, number: int
) -> Plan:
    return cls(
        "fixed", seed, number, dialect, stream, "hot word", _words(rng, rng.randint(1, 20), 2),
        output_tokens_max=64, input_tokens=10, reports=rng.random() < 0.5,
        first_pause=rng.uniform(0, 0.1), pause=0.0, per_write=rng.choice((1, 1000)),
        slow_reader=False,
    )  # fmt: skip


def _steady(
    rng: random.Random, cls: type[Plan], dialect: str, stream: bool, seed: int, number: int
) -> Plan:
    return cls(
        "steady", seed, number, dialect, stream, "hot word", _words(rng, rng.randint(20, 80), 1),
        output_tokens_max=4096, input_tokens=10, reports=rng.random() < 0.7,
        first_pause=rng.uniform(0, 0.3), pause=rng.uniform(0.05, 0.1), per_write=1,
        slow_reader=False,
    )  # fmt: skip
