import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import sse
from proxy.core.sse import EVENT_BYTES_MAX, EventSplitter, fields

Span = tuple[bytes, bool]


def split(*reads: bytes, limit: int = EVENT_BYTES_MAX) -> tuple[list[Span], tuple[bytes, bool]]:
    splitter = EventSplitter(limit)
    spans = [span for data in reads for span in splitter.receive(data)]
    return spans, splitter.receive_eof()


def each_byte(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [b"data: a\n\n"]),
        (b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"]),
        (b"data: a\r\rdata: b\r\r", [b"data: a\r\r", b"data: b\r\r"]),
        (b"a\n\r\nb\r\n\nc\n\n", [b"a\n\r\n", b"b\r\n\n", b"c\n\n"]),
        (b"a\n\rb\r\n\rc\n\n", [b"a\n\r", b"b\r\n\r", b"c\n\n"]),
        (b"a\r\r\n\nb\n\n", [b"a\r\r", b"\n\n", b"b\n\n"]),
        (b"event: x\ndata: a\n\n", [b"event: x\ndata: a\n\n"]),
        (b"event: x\r\ndata: a\rid: 1\n\n", [b"event: x\r\ndata: a\rid: 1\n\n"]),
        (b"\n\n\n\n\na\n\n", [b"\n\n", b"\n\n", b"\na\n\n"]),
        (b"a\n\n\n\n\n\n", [b"a\n\n", b"\n\n", b"\n\n"]),
        (b": c\n\n", [b": c\n\n"]),
        (b"\r\n\r\n\r\n\r\n", [b"\r\n\r\n", b"\r\n\r\n"]),
        (b"", []),
    ],
)
def test_events_end_at_blank_lines_however_they_are_written(
    body: bytes, events: list[bytes]
) -> None:
    expected = [(event, True) for event in events], (b"", False)
    assert split(body) == expected
    assert split(*each_byte(body)) == expected
    for place in range(len(body) + 1):
        assert split(body[:place], body[place:]) == expected


@pytest.mark.parametrize("tail", [b"d", b"data: x", b"data: x\n", b"data: x\r\n", b"data: x\r"])
def test_what_has_no_blank_line_waits_for_the_end(tail: bytes) -> None:
    body = b"data: a\n\n" + tail
    for reads in ([body], each_byte(body)):
        assert split(*reads) == ([(b"data: a\n\n", True)], (tail, False))


@pytest.mark.parametrize("last", [b"data: x\n\r", b"data: x\r\n\r"])
def test_a_last_cr_is_a_line_end_once_nothing_follows(last: bytes) -> None:
    assert split(last) == ([], (last, True))
    assert split(*each_byte(last)) == ([], (last, True))


def test_a_stream_of_lone_cr_never_waits_for_the_next_event() -> None:
    splitter = EventSplitter()
    assert splitter.receive(b"data: a\r\r") == [(b"data: a\r\r", True)]
    assert splitter.idle


def test_idle_between_events_only() -> None:
    splitter = EventSplitter(4)
    assert splitter.idle
    splitter.receive(b"a\n")
    assert not splitter.idle
    splitter.receive(b"\n")
    assert splitter.idle
    splitter.receive(b"abcdefgh")
    assert splitter.oversized
    assert not splitter.idle
    splitter.receive(b"\n\n")
    assert splitter.idle
    assert not splitter.oversized


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_an_event_over_the_limit_is_never_whole(size: int) -> None:
    exact, over = b"x" * 18 + b"\n\n", b"y" * 19 + b"\n\n"
    body = exact + over + b"z\n\n"
    reads = [body[start : start + size] for start in range(0, len(body), size)]
    spans, rest = split(*reads, limit=20)
    assert rest == (b"", False)
    assert [event for event, whole in spans if whole] == [exact, b"z\n\n"]
    assert b"".join(event for event, _ in spans) == body


def test_the_end_of_an_oversized_event_is_no_event() -> None:
    spans, rest = split(b"abcdefgh\n\r", limit=4)
    assert spans == [(b"abcdefg", False)]
    assert rest == (b"h\n\r", False)


def test_an_event_of_a_million_one_byte_reads_is_not_copied_a_million_times() -> None:
    splitter = EventSplitter()
    for _ in range(EVENT_BYTES_MAX - 10):
        assert not splitter.receive(b"x")
    assert len(splitter.receive(b"\n\n")[0][0]) == EVENT_BYTES_MAX - 8


LINES = st.lists(
    st.one_of(
        st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b"event:y", b":", b"id: 1", b"\n\n"]),
        st.binary(max_size=6),
    ),
    max_size=40,
).map(b"".join)


@given(body=LINES, sizes=st.lists(st.integers(1, 9), max_size=60), limit=st.integers(4, 40))
def test_no_byte_is_changed_and_memory_is_bounded(
    body: bytes, sizes: list[int], limit: int
) -> None:
    splitter = EventSplitter(limit)
    start, out = 0, b""
    for size in [*sizes, len(body) + 1]:
        for event, whole in splitter.receive(body[start : start + size]):
            out += event
            assert not whole or len(event) <= limit
        start += size
        assert len(splitter._partial) <= limit
        assert splitter.idle == (not splitter._partial and not splitter.oversized)
    rest, _ = splitter.receive_eof()
    assert out + rest == body


@given(body=LINES, sizes=st.lists(st.integers(1, 9), max_size=60))
def test_events_do_not_depend_on_how_the_body_was_cut(body: bytes, sizes: list[int]) -> None:
    reads, start = [], 0
    for size in [*sizes, len(body) + 1]:
        reads.append(body[start : start + size])
        start += size
    assert split(*reads) == split(body)


@given(events=st.lists(st.binary(min_size=1, max_size=20), max_size=9), joint=st.binary(max_size=1))
def test_every_event_is_found(events: list[bytes], joint: bytes) -> None:
    bodies = [b"data: " + re.sub(rb"[\r\n]", b".", event + joint) + b"\n\n" for event in events]
    assert split(b"".join(bodies))[0] == [(body, True) for body in bodies]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b"data: a\n\n", ("", b"a", False)),
        (b"data:a\n\n", ("", b"a", False)),
        (b"data:  a\n\n", ("", b" a", False)),
        (b"data: a\ndata: b\n\n", ("", b"a\nb", False)),
        (b"data: a\r\ndata: b\rdata:c\r\r", ("", b"a\nb\nc", False)),
        (b"data\n\n", ("", b"", False)),
        (b"data: a\ndata\n\n", ("", b"a\n", False)),
        (b"data:\n\n", ("", b"", False)),
        (b"event: ping\n\n", ("ping", None, False)),
        (b"event:ping \ndata: {}\n\n", ("ping", b"{}", False)),
        (b"event: \xff\n\n", ("\ufffd", None, False)),
        (b"event: a\nevent: b\n\n", ("b", None, False)),
        (b"id: 5\ndata: a\n\n", ("", b"a", True)),
        (b"id\n\n", ("", None, True)),
        (b": comment\nretry: 3\nunknown: x\nDATA: y\n\n", ("", None, False)),
        (b"\xef\xbb\xbfdata: a\n\n", ("", None, False)),
        (b"\n\n", ("", None, False)),
        (b"", ("", None, False)),
    ],
)
def test_fields(event: bytes, expected: tuple[str, bytes | None, bool]) -> None:
    assert fields(event) == expected


@given(st.binary(max_size=60))
def test_fields_of_anything(event: bytes) -> None:
    name, data, _ = fields(event)
    assert "\n" not in name
    assert data is None or len(data) <= len(event)


FIELD_LINES = st.lists(
    st.sampled_from(
        [b"data: a", b"data:b", b"data", b"data: ", b"event: x ", b"event:y", b"event: \xff",
         b"id: 1", b": c", b"", b"other: z", b"data: data: a", b"\rdata: a"]
    ),
    max_size=4,
)  # fmt: skip


@given(lines=FIELD_LINES, end=st.sampled_from([b"\n\n", b"\n", b"\r\n\r\n", b""]))
def test_the_commonest_events_read_like_any(lines: list[bytes], end: bytes) -> None:
    event = b"\n".join(lines) + end
    assert sse.fields(event) == sse._any_fields(event)


@pytest.mark.parametrize(
    ("event", "read"),
    [
        (b"data: a\n\n", ("", b"a", False)),
        (b"event: x \ndata: a\n\n", ("x", b"a", False)),
        (b"event: x\n\n", ("x", None, False)),
        (b"data: a\ndata: b\n\n", ("", b"a\nb", False)),
        (b"event: x\ndata: a\nid: 1\n\n", ("x", b"a", True)),
        (b"\n\n", ("", None, False)),
    ],
)
def test_fields_of(event: bytes, read: tuple[str, bytes | None, bool]) -> None:
    assert sse.fields(event) == read
