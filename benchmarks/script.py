"""What the mock upstream sends for one call, so that every received byte can be checked.

Rules: the bytes of an answer are a pure function of its `Script`, except the stamps, which have
a fixed width and a fixed place. A script travels inside the request body (`user` for OpenAI,
`metadata.user_id` for Anthropic), because relays forward bodies and drop unknown headers. This
module must not know sockets or clocks.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

STAMP_BYTES = 10
STAMP_MASK = (1 << (4 * STAMP_BYTES)) - 1
"""Stamps are nanoseconds of the monotonic clock modulo 2^40 (18 minutes), in hexadecimal."""

OPENAI = "openai"
ANTHROPIC = "anthropic"

_WORDS = """
    the of and a to in is that it was for on are with as his they at be this from have or by one
    had not but what all were when we there can an your which their said if do will each about
    how up out them then she many some so these would other into has more her two like him
"""
_TEXTS = tuple(f" {word}" for word in _WORDS.split())
assert len(_TEXTS) == 64
_FILLER = " streaming relays forward whole events and count what they carry"
_OBFUSCATION = "aZ3kQ9xW7mB2vN5cR8tY1uP4sD6fG0hJ"
_PROMPT = (
    "You are a careful assistant. Summarise the minutes of the last meeting in plain words, name "
    "every decision and who is to carry it out, and say which questions were left open."
)


@dataclass(frozen=True, slots=True)
class Script:
    """One call: how many content events, how large (bytes), how fast (per second, 0 unpaced).

    `batch` events go out in one write. `hold`: after the first content event the mock waits for
    `/bench/release`. `fault` makes the mock misbehave on purpose, to prove that runs go void.
    """

    call: int
    events: int = 100
    size: int = 300
    pace: float = 50.0
    batch: int = 1
    hold: int = 0
    fault: str = ""
    dialect: str = OPENAI
    """The mock's."""
    caller: str = ""
    """The caller's dialect, where it is another one."""

    def encode(self) -> str:
        """The directive as it stands in a JSON string."""
        return (
            f"bench:call={self.call:012d};events={self.events};size={self.size};pace={self.pace:g};"
            f"batch={self.batch};hold={self.hold};fault={self.fault}"
        )


_DIRECTIVE = re.compile(
    rb"bench:call=(\d+);events=(\d+);size=(\d+);pace=([\d.e+]+);batch=(\d+);hold=(\d+);"
    rb"fault=(\w*)"
)


def parse(body: bytes, dialect: str) -> Script | None:
    """The script inside a request body, or None."""
    match = _DIRECTIVE.search(body)
    if match is None:
        return None
    call, events, size, pace, batch, hold, fault = match.groups()
    return Script(
        int(call),
        int(events),
        int(size),
        float(pace),
        int(batch),
        int(hold),
        fault.decode(),
        dialect,
    )


def request_body(script: Script, *, stream: bool, model: str, include_usage: bool = False) -> bytes:
    """The JSON body of the call in the caller's dialect."""
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": _PROMPT}],
        "temperature": 0.7,
    }
    if (script.caller or script.dialect) == ANTHROPIC:
        body["max_tokens"] = max(1024, script.events * tokens_per_event(script.size))
        body["metadata"] = {"user_id": script.encode()}
    else:
        body["user"] = script.encode()
    if stream:
        body["stream"] = True
        if include_usage:
            body["stream_options"] = {"include_usage": True}
    return json.dumps(body, separators=(",", ":")).encode()


def call_id(script: Script) -> bytes:
    """The answer's id: it names the call, so that no answer can pass for another."""
    if script.dialect == ANTHROPIC:
        return b"msg_%024d" % script.call
    return b"chatcmpl-%029d" % script.call


@lru_cache(maxsize=64)
def _shape(dialect: str, size: int) -> tuple[bytes, tuple[bytes, ...]]:
    """What precedes the id, and 64 remainders up to the stamp; all events come out equally long."""
    if dialect == ANTHROPIC:
        before = (
            'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            '"delta":{"type":"text_delta","text":"'
        )
        after_text = '"},"p":"'
        identity = 0
        opening = ""
    elif size < 200:
        opening, identity = "", 0
        before = 'data: {"choices":[{"index":0,"delta":{"content":"'
        after_text = '"}}],"o":"'
    else:
        opening = 'data: {"id":"'
        identity = len(call_id(Script(0)))
        before = (
            '","object":"chat.completion.chunk","created":1741570283,"model":"gpt-4o-2024-08-06",'
            '"system_fingerprint":"fp_50cad350e4","choices":[{"index":0,"delta":{"content":"'
        )
        after_text = '"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"'
    fixed = len(opening) + identity + len(before) + len(after_text) + STAMP_BYTES + len(_CLOSE)
    widest = max(len(text) for text in _TEXTS)
    room = max(size - fixed, widest)
    remainders = []
    for text in _TEXTS:
        padding = room - len(text)
        filler = ""
        if padding > len(_OBFUSCATION):
            filler_bytes = padding - 8
            filler = (_FILLER * (filler_bytes // len(_FILLER) + 1))[:filler_bytes]
            padding = 8
        remainders.append((before + text + filler + after_text + _OBFUSCATION[:padding]).encode())
    return opening.encode(), tuple(remainders)


_CLOSE = b'"}\n\n'


def tokens_per_event(size: int) -> int:
    """What the mock reports for one content event; near what a tokenizer would count."""
    return 1 if size <= 320 else max(1, (size - 290) // 5)


class Frames:
    """The events of one script as bytes, with or without HTTP chunk framing.

    An event is `opening + remainders[index % 64] + stamp + closing`.
    """

    __slots__ = ("closing", "opening", "remainders", "script", "stampless", "usage_asked")

    def __init__(self, script: Script, *, usage_asked: bool, chunked: bool) -> None:
        """`usage_asked`: the OpenAI usage chunk is part of the answer."""
        opening, self.remainders = _shape(script.dialect, script.size)
        if opening:
            opening += call_id(script)
        self.closing = _CLOSE
        self.script = script
        self.usage_asked = usage_asked
        self.stampless = len(opening) + len(self.remainders[0])
        if chunked:
            length = self.stampless + STAMP_BYTES + len(_CLOSE)
            opening = b"%x\r\n%b" % (length, opening)
            self.closing = _CLOSE + b"\r\n"
        self.opening = opening

    def content(self, index: int, stamp: int) -> bytes:
        """Content event `index` (from 0), written at `stamp` nanoseconds."""
        return b"%b%b%010x%b" % (
            self.opening,
            self.remainders[index & 63],
            stamp & STAMP_MASK,
            self.closing,
        )

    def head(self) -> list[bytes]:
        """The unframed, unstamped events before the first content event."""
        script = self.script
        if script.dialect == ANTHROPIC:
            return [
                b'event: message_start\ndata: {"type":"message_start","message":{"id":"%b",'
                b'"type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],'
                b'"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":42,'
                b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0,'
                b'"output_tokens":1}}}\n\n' % call_id(script),
                (
                    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
                    b'"content_block":{"type":"text","text":""}}\n\n'
                ),
            ]
        return [
            self._chunk(
                b'[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},'
                b'"logprobs":null,"finish_reason":null}],"usage":null}'
            )
        ]

    def tail(self, stamp: int) -> list[bytes]:
        """The unframed events after the last content event; the first of them is stamped."""
        script = self.script
        written = b"%010x" % (stamp & STAMP_MASK)
        tokens = script.events * tokens_per_event(script.size)
        if script.dialect == ANTHROPIC:
            return [
                b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0,'
                b'"p":"%b"}\n\n' % written,
                b'event: message_delta\ndata: {"type":"message_delta","delta":'
                b'{"stop_reason":"end_turn","stop_sequence":null},'
                b'"usage":{"output_tokens":%d}}\n\n' % tokens,
                b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
            ]
        events = [
            self._chunk(
                b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null,'
                b'"obfuscation":"%b"}' % written
            )
        ]
        if self.usage_asked:
            events.append(self._chunk(b'[],"usage":%b}' % openai_usage(tokens)))
        events.append(b"data: [DONE]\n\n")
        return events

    def _chunk(self, choices_onward: bytes) -> bytes:
        return (
            b'data: {"id":"%b","object":"chat.completion.chunk","created":1741570283,'
            b'"model":"gpt-4o-2024-08-06","system_fingerprint":"fp_50cad350e4","choices":%b\n\n'
            % (call_id(self.script), choices_onward)
        )

    def expected(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Every event as (bytes before the stamp, bytes after it); None where it has no stamp."""
        for event in self.head():
            yield event, None
        opening, _ = _shape(self.script.dialect, self.script.size)
        if opening:
            opening += call_id(self.script)
        for index in range(self.script.events):
            yield opening + self.remainders[index & 63], _CLOSE
        stamped, *rest = self.tail(0)
        before, _, after = stamped.rpartition(b"0" * STAMP_BYTES)
        yield before, after
        for event in rest:
            yield event, None


def texts(script: Script) -> tuple[str, ...]:
    """What the 64 kinds of content events say; event `index` says the one at `index % 64`."""
    opening, remainders = _shape(script.dialect, script.size)
    found = []
    for remainder in remainders:
        event = opening + (call_id(script) if opening else b"") + remainder + b"0" + _CLOSE
        data = json.loads(event.rpartition(b"data: ")[2])
        delta = data["delta"] if script.dialect == ANTHROPIC else data["choices"][0]["delta"]
        found.append(delta["text"] if script.dialect == ANTHROPIC else delta["content"])
    return tuple(found)


def openai_usage(tokens: int) -> bytes:
    """A `usage` object with all the detail fields of the real one."""
    return (
        b'{"prompt_tokens":42,"completion_tokens":%d,"total_tokens":%d,'
        b'"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
        b'"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,'
        b'"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}' % (tokens, 42 + tokens)
    )


def plain_answer(script: Script) -> bytes:
    """The small JSON answer of a call that does not stream."""
    identity = call_id(script)
    if script.dialect == ANTHROPIC:
        return (
            b'{"id":"%b","type":"message","role":"assistant","model":"claude-sonnet-4-5",'
            b'"content":[{"type":"text","text":"Two decisions were taken and one question is '
            b'open."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":42,'
            b'"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":10}}'
            % identity
        )
    return (
        b'{"id":"%b","object":"chat.completion","created":1741570283,"model":"gpt-4o-2024-08-06",'
        b'"choices":[{"index":0,"message":{"role":"assistant","content":"Two decisions were taken '
        b'and one question is open.","refusal":null,"annotations":[]},"logprobs":null,'
        b'"finish_reason":"stop"}],"usage":%b,"service_tier":"default",'
        b'"system_fingerprint":"fp_50cad350e4"}' % (identity, openai_usage(10))
    )
