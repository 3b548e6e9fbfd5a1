"""What is taken by the chunk is what parser and splitter make of it, or it is left to them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.http1 import SIZE_MAX, ResponseParser
from proxy.core.sse import EVENT_BYTES_MAX, EventSplitter, fields
from proxy.core.whole_chunks import events_in_chunks
from tests.core.playbook import END, chunk, head

ONE = b"data: 1\n\n"
TWO = b"event: x\ndata: 2\n\n"


def taken(data: bytes, event_bytes_max: int = EVENT_BYTES_MAX) -> list[tuple[bytes, bytes | None]]:
    return [(event, payload) for event, payload, _ in events_in_chunks(data, event_bytes_max)]


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (chunk(ONE), [(ONE, b"1")]),
        (chunk(ONE) + chunk(TWO) + chunk(ONE), [(ONE, b"1"), (TWO, None), (ONE, b"1")]),
        (chunk(ONE) + END, [(ONE, b"1")]),
        (chunk(b": c\n\n"), [(b": c\n\n", None)]),
        (chunk(b"data:1\n\n"), [(b"data:1\n\n", None)]),
        (chunk(b"data: \n\n"), [(b"data: \n\n", b"")]),
        (chunk(b"data: 1\ndata: 2\n\n"), [(b"data: 1\ndata: 2\n\n", None)]),
        (chunk(b"\ndata: 1\n\n"), [(b"\ndata: 1\n\n", None)]),
        (chunk(b"x" * (SIZE_MAX - 2) + b"\n\n"), [(b"x" * (SIZE_MAX - 2) + b"\n\n", None)]),
    ],
)
def test_canonical_chunks_of_one_whole_event_each_are_taken(
    data: bytes, events: list[tuple[bytes, bytes | None]]
) -> None:
    assert taken(data) == events


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        END,
        b"0\r\nx: y\r\n\r\n",
        b"9",
        b"9\r\n",
        chunk(ONE)[:-3],
        chunk(ONE)[:-2],
        chunk(ONE)[:-1],
        b"09\r\ndata: 1\n\n\r\n",
        b"9;a=b\r\ndata: 1\n\n\r\n",
        b"9 \r\ndata: 1\n\n\r\n",
        b"9\r\ndata: 1\n\nX\n",
        b"8\r\ndata: 1\n\n\r\n",
        b"a\r\ndata: 1\n\n\r\n",
        b"9\ndata: 1\n\n\r\n",
        b"zz\r\n\r\n",
        b"\r\n\r\n",
        chunk(b"d"),
        chunk(b"\n\n"),
        chunk(b"data: 1\n"),
        chunk(b"data: 1\n\n\n"),
        chunk(ONE + ONE),
        chunk(ONE + b"data"),
        chunk(b"data: 1\r\n\r\n"),
        chunk(b"data: 1\r\n\n"),
        chunk(b"data: \r1\n\n"),
        chunk(b"x" * (SIZE_MAX - 1) + b"\n\n"),
    ],
)
def test_whatever_else_follows_is_left(rest: bytes) -> None:
    assert not taken(rest)
    before = chunk(ONE) + chunk(TWO)
    assert [end for _, _, end in events_in_chunks(before + rest, EVENT_BYTES_MAX)] == [
        len(chunk(ONE)),
        len(before),
    ]
    assert not taken(rest + chunk(ONE)) or not rest


def test_an_event_over_the_limit_is_left() -> None:
    assert taken(chunk(ONE), len(ONE)) == [(ONE, b"1")]
    assert not taken(chunk(ONE), len(ONE) - 1)


PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"data: 1", b"data: ", b"event: x\n", b"id: 1\n", b"\n", b"\n\n", b"\r", b"\r\n", b"1"]
    ),
)
BODIES = st.lists(PIECES, max_size=5).map(b"".join)
CHUNKS = st.one_of(
    BODIES.map(chunk),
    BODIES.map(lambda body: chunk(body + b"\n\n")),
    BODIES.map(lambda body: chunk(b"data: " + body + b"\n\n")),
    BODIES,
    st.sampled_from([chunk(ONE), chunk(TWO), END, b"0", b"9\r\n", b"9;x\r\n" + ONE + b"\r\n"]),
)


@given(chunks=st.lists(CHUNKS, max_size=5), limit=st.sampled_from([8, 20, EVENT_BYTES_MAX]))
def test_it_is_what_parser_and_splitter_make_of_it(chunks: list[bytes], limit: int) -> None:
    data = b"".join(chunks)
    parser, splitter = ResponseParser(), EventSplitter(limit)
    parser.receive(head())
    start = 0
    for event, payload, end in events_in_chunks(data, limit):
        assert splitter.receive(parser.receive(data[start:end])) == [(event, True)]
        assert parser.between_chunks
        assert splitter.idle
        assert payload is None or fields(event) == ("", payload, False)
        start = end
