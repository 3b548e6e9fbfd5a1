"""The tables say of every chunk what parsing would say; what is not ordinary changes nothing."""

import pytest

from proxy.core.metering import Meter
from proxy.core.passthrough import (
    BLOCK_DELTA_START,
    EVENT_BYTES_BEYOND_START,
    OPENAI_START,
    OPENAI_STARTS,
    SIZE_MAX,
    SIZES,
    plain_chunk,
    take_anthropic,
    take_openai,
)

PLAIN = b'data: {"choices":[{"index":0,"delta":{"content":"two words"},"finish_reason":null}]}\n\n'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}],"usage":null}\n\n'
REASONING = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
BLOCK = BLOCK_DELTA_START + b'"type":"content_block_delta","index":0,"delta":{"text":"hi"}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def letters() -> Meter:
    return Meter(len)


@pytest.mark.parametrize("size", [7, 8, 15, 16, 255, 256, 304, 4095, 4096, SIZE_MAX])
def test_a_whole_chunk_is_found_by_its_length(size: int) -> None:
    event = OPENAI_START + b"x" * (size - len(OPENAI_START))
    chunk = b"%x\r\n%b\r\n" % (size, event)
    start = OPENAI_STARTS[len(chunk)]
    assert chunk.startswith(start)
    assert chunk[len(start) - len(OPENAI_START) :] == event + b"\r\n"
    assert len(chunk) - len(start) + EVENT_BYTES_BEYOND_START == size
    assert SIZES[b"%x" % size] == size


def test_lengths_no_chunk_can_have_match_nothing() -> None:
    possible = {len(b"%x" % size) + size + 4 for size in range(SIZE_MAX + 1)}
    for length, start in enumerate(OPENAI_STARTS):
        assert (start == b"\0") is (length not in possible)


def test_no_other_spelling_is_canonical() -> None:
    assert not {b"0a", b"A", b"0x5", b"+5", b" 5", b"5 ", b"", b"1_0", b"5;a=b"} & set(SIZES)


@pytest.mark.parametrize(("event", "text"), [(PLAIN, "two words"), (ROLE, "")])
def test_a_plain_chunk_is_metered(event: bytes, text: str) -> None:
    meter, chunk = letters(), framed(event)
    assert plain_chunk(chunk, len(chunk), meter) == len(event)
    assert meter.advance() == len(text)
    assert meter.advance(0) == len(text)


@pytest.mark.parametrize(
    "read",
    [
        framed(REASONING),
        framed(FINISH),
        framed(USAGE),
        framed(PLAIN) + framed(PLAIN),
        framed(PLAIN)[:-1],
        framed(PLAIN).upper(),
        framed(PLAIN[:-1] + b" \n"),
        framed(b"data: [DONE]\n\n"),
        framed(b"data: {not json}\n\n"),
        framed(PLAIN.replace(b"two", b"t" * SIZE_MAX)),
    ],
)
def test_anything_else_is_left_alone(read: bytes) -> None:
    meter = letters()
    assert plain_chunk(read, len(read), meter) == 0
    assert meter.characters == 0


@pytest.mark.parametrize(
    ("event", "taken", "counted"),
    [(PLAIN, True, 9), (REASONING, True, 2), (FINISH, False, 0), (STOP, False, 0)],
)
def test_one_event_of_many_openai(event: bytes, taken: bool, counted: int) -> None:
    meter = letters()
    assert take_openai(b"##" + event, 2, 2 + len(event), meter) is taken
    assert meter.advance() == counted


@pytest.mark.parametrize(("event", "counted"), [(BLOCK, 2), (STOP, 0), (PLAIN, 0)])
def test_one_event_of_many_anthropic(event: bytes, counted: int) -> None:
    meter = letters()
    assert take_anthropic(b"##" + event, 2, 2 + len(event), meter) is bool(counted)
    assert meter.advance() == counted
