"""What is known again of a head is what the parser makes of it, whatever the head is."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import head_patterns, http1
from proxy.core.head_patterns import known_head, learn_head
from proxy.core.http1 import ResponseParser
from proxy.core.response_head import FramingError, ResponseHead, parse_head

OK = b"HTTP/1.1 200 OK"
STREAM = [
    b"Date: Sun, 22 Nov 2026 04:00:00 GMT", b"Content-Type: text/event-stream; charset=utf-8",
    b"Transfer-Encoding: chunked", b"Connection: keep-alive", b"openai-processing-ms: 12",
    b"x-ratelimit-remaining-requests: 9999", b"X-Request-Id: req_1", b"Server: cloudflare",
    b"CF-RAY: 8f0c1-FRA",
]  # fmt: skip
PLAIN = [
    b"content-type: application/json", b"content-length: 2", b"request-id: req_1", b"via: 1.1 google",
]  # fmt: skip
VARY = {
    b"Date", b"openai-processing-ms", b"x-ratelimit-remaining-requests", b"X-Request-Id", b"CF-RAY",
    b"content-length", b"request-id",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    head_patterns._sketches.clear()
    head_patterns._patterns.clear()
    head_patterns._missed = count()  # type: ignore[misc]  # a test begins anew


def block_of(lines: list[bytes], status: bytes = OK) -> bytes:
    return b"\r\n".join([status, *lines])


def varied(lines: list[bytes], value: bytes = b"7") -> list[bytes]:
    """The same head of another call."""
    names = [line.partition(b":")[0] for line in lines]
    pairs = zip(names, lines, strict=True)
    return [name + b": " + value if name in VARY else line for name, line in pairs]


def learn(*heads: list[bytes]) -> None:
    for lines in heads:
        learn_head(parse_head(block_of(lines)))


def parsed(data: bytes) -> tuple[ResponseHead, bytes] | str:
    """The general way."""
    block, blank, rest = data.partition(b"\r\n\r\n")
    if not blank:
        return "unfinished"
    try:
        return parse_head(block), rest
    except FramingError as error:
        return str(error)


def compare(data: bytes) -> bool:
    """Whether `data` was known; what is known must be what is parsed."""
    try:
        known: tuple[ResponseHead, bytes] | str | None = known_head(data)
    except FramingError as error:
        known = str(error)
    assert known is None or known == parsed(data)
    return known is not None


@pytest.mark.parametrize("lines", [STREAM, PLAIN])
def test_a_head_is_known_when_two_like_it_were_parsed(lines: list[bytes]) -> None:
    wire = block_of(varied(lines, b"1")) + b"\r\n\r\nrest\r\n\r\n"
    assert not compare(wire)
    learn(lines)
    assert not compare(wire)
    learn(varied(lines))
    assert compare(wire)
    assert compare(wire[:-8])
    assert compare(wire + b"x" * 10_000)
    assert not compare(block_of(varied(lines), b"HTTP/1.1 201 Created") + b"\r\n\r\n")
    assert not compare(wire[1:])


def test_a_head_that_never_varies_is_known() -> None:
    learn([b"content-length: 2"], [b"content-length: 2"])
    assert compare(block_of([b"content-length: 2"]) + b"\r\n\r\nok")
    assert not compare(block_of([b"content-length: 3"]) + b"\r\n\r\nok!")


def test_the_head_that_comes_is_looked_for_first_also_where_none_varies() -> None:
    for via in (b"via: a", b"x: b"):
        learn([via], [via])
    wire = block_of([b"x: b"]) + b"\r\n\r\n"
    assert head_patterns._patterns[0].first != wire
    assert compare(wire)
    assert head_patterns._patterns[0].first == wire
    assert compare(block_of([b"via: a"]) + b"\r\n\r\n")


def test_what_varies_later_is_learnt_too() -> None:
    """A date is the same for a second."""
    learn(PLAIN, PLAIN)
    for place in (1, 2, 3):
        lines = [*PLAIN]
        lines[place] = lines[place].partition(b":")[0] + b": 5"
        wire = block_of(lines) + b"\r\n\r\nhello"
        assert not compare(wire)
        learn(lines)
        assert compare(wire)
    assert len(head_patterns._patterns) == 1


@pytest.mark.parametrize("name", [b"Connection", b"Content-Type", b"Transfer-Encoding"])
def test_what_the_framing_hangs_on_never_varies(name: bytes) -> None:
    learn(STREAM, varied(STREAM))
    other = [name + b": close" if line.startswith(name) else line for line in STREAM]
    assert not compare(block_of(other) + b"\r\n\r\n")


def test_another_framing_is_another_pattern() -> None:
    close = [line.replace(b"keep-alive", b"close") for line in STREAM]
    old = [line for line in PLAIN if b"length" not in line]
    for lines in (STREAM, close, PLAIN, old):
        learn(lines, varied(lines))
    for lines in (STREAM, close, PLAIN, old, STREAM, old, old, PLAIN):
        assert compare(block_of(varied(lines, b"3")) + b"\r\n\r\n1\r\nx\r\n")
    assert len(head_patterns._patterns) == 4


@pytest.mark.parametrize(
    "lines",
    [
        [b"content-length: 1", b"Content-Length: 1"],
        [b"x-request-id: 1", b"content-length: 0", b"X-Request-Id: 2"],
        [b"x: " + b"y" * head_patterns.HEAD_BYTES_MAX, b"content-length: 0"],
    ],
)
def test_what_is_repeated_or_long_is_always_parsed(lines: list[bytes]) -> None:
    learn(lines, lines, lines)
    assert not compare(block_of(lines) + b"\r\n\r\n")


def test_so_many_lines_may_vary() -> None:
    for number, is_known in (
        (head_patterns.VARIED_MAX, True),
        (head_patterns.VARIED_MAX + 1, False),
    ):
        forget()
        heads = [[b"x-%d: %d" % (line, said) for line in range(number)] for said in range(4)]
        learn(*heads[:3])
        assert compare(block_of(heads[3]) + b"\r\n\r\n") is is_known


def test_a_pattern_that_varies_too_much_later_is_forgotten() -> None:
    lines = [b"x-%d: 1" % line for line in range(head_patterns.VARIED_MAX + 1)]
    learn(lines, lines)
    assert compare(block_of(lines) + b"\r\n\r\n")
    learn([line + b"2" for line in lines])
    assert not compare(block_of(lines) + b"\r\n\r\n")


def test_a_head_that_comes_by_the_byte_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    learn(PLAIN, varied(PLAIN))
    looked: list[bytes] = []

    def look(data: bytes) -> None:
        looked.append(data)

    monkeypatch.setattr(http1, "known_head", look)
    wire = block_of(PLAIN) + b"\r\n\r\nok"
    parser = ResponseParser()
    body = b"".join([parser.receive(wire[at : at + 1]) for at in range(len(wire))])
    assert (parser.head, body) == (parse_head(block_of(PLAIN)), b"ok")
    assert looked == [wire[:1]]


def test_only_success_is_learnt() -> None:
    for _ in range(3):
        learn_head(parse_head(block_of(PLAIN, b"HTTP/1.1 429 No")))
    assert not head_patterns._sketches


@pytest.mark.parametrize(
    "bad",
    [b"", b"x", b"1 2", b"-1", b"9" * 16, b"\xb2", b"2\0", b"2\nb: c", b"2\rb: c", b"2\r\n c"],
)
def test_a_value_that_breaks_the_framing_is_refused(bad: bytes) -> None:
    learn(PLAIN, varied(PLAIN))
    wire = block_of(PLAIN).replace(b"length: 2", b"length: " + bad) + b"\r\n\r\nok"
    compare(wire)
    assert isinstance(parsed(wire), str)


@pytest.mark.parametrize("lines", [STREAM, PLAIN])
def test_one_byte_amiss_anywhere(lines: list[bytes]) -> None:
    learn(lines, varied(lines))
    wire = block_of(varied(lines, b"12")) + b"\r\n\r\nok"
    for place in range(len(wire)):
        compare(wire[:place])
        for byte in (
            b"\r",
            b"\n",
            b"\0",
            b":",
            b" ",
            b"\t",
            b"a",
            b"\r\n",
            b"\r\n ",
            b"\r\n\r\n",
            b"\xff",
        ):
            compare(wire[:place] + byte + wire[place:])
            compare(wire[:place] + byte + wire[place + 1 :])
        compare(wire[:place] + wire[place + 1 :])


NAMES = st.sampled_from(
    [
        b"content-length", b"Content-Length", b"transfer-encoding", b"Connection", b"content-type",
        b"content-encoding", b"x-request-id", b"X-Request-ID", b"request-id", b"date", b"a", b"a ", b"",
        b" folded", b"\xe9",
    ]
)  # fmt: skip
VALUES = st.sampled_from(
    [
        b"0", b"2", b"2 ", b"\t12", b"007", b"+2", b"", b"chunked", b"Chunked", b"close", b"keep-alive, x",
        b"gzip", b"text/event-stream", b"req_1", b"a\nb: c", b"a\rb", b"\0", b"\xe9", b"1\r\nz: 1", b"a:b",
    ]
) | st.binary(max_size=6)  # fmt: skip
LINES = st.lists(st.tuples(NAMES, VALUES), max_size=6)
CHANGES: st.SearchStrategy[Callable[[bytes], bytes]] = st.sampled_from(
    [
        lambda wire: wire,
        bytes.lower,
        lambda wire: wire.replace(b"\r\n", b"\n"),
        lambda wire: wire.replace(b": ", b":"),
        lambda wire: b"HTTP/1.1 100 Continue\r\n\r\n" + wire,
    ]
)


@given(
    lines=LINES,
    others=st.lists(st.lists(VALUES, min_size=6, max_size=6), min_size=1, max_size=5),
    asked=st.lists(VALUES, min_size=6, max_size=6),
    status=st.sampled_from([OK, b"HTTP/1.0 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 200 a:b", b"HTTP/1.1 204 "]),
    rest=st.binary(max_size=8) | st.just(b"y" * 500),
    change=CHANGES,
    times=st.sampled_from([1, 2]),
)  # fmt: skip
def test_whatever_was_learnt_only_the_parser_is_believed(
    lines: list[tuple[bytes, bytes]],
    others: list[list[bytes]],
    asked: list[bytes],
    status: bytes,
    rest: bytes,
    change: Callable[[bytes], bytes],
    times: int,
) -> None:
    """A head that was learnt twice is known as one that does not vary, until it does."""
    forget()
    for values in [[value for _, value in lines], *others]:
        named = [name + b": " + value for (name, _), value in zip(lines, values, strict=False)]
        wire = block_of(named, status) + b"\r\n\r\n" + rest
        compare(wire)
        found = parsed(wire)
        for _ in range(times):
            if isinstance(found, tuple):
                learn_head(found[0])
            compare(wire)
    named = [name + b": " + value for (name, _), value in zip(lines, asked, strict=False)]
    wire = change(block_of(named, status) + b"\r\n\r\n" + rest)
    for place in range(len(wire) + 1):
        compare(wire[:place])


def test_what_is_learnt_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_patterns, "PATTERNS_MAX", 4)
    for number in range(40):
        lines = [b"x-%d: 1" % number, *PLAIN]
        learn(lines, varied(lines))
        assert compare(block_of(lines) + b"\r\n\r\nok")
        assert len(head_patterns._patterns) <= len(head_patterns._sketches) <= 4


def test_who_never_repeats_is_learnt_from_at_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_patterns, "EAGER_MAX", 8)
    for number in range(9):
        learn([b"x-%d: 1" % number])
    assert len(head_patterns._sketches) == 9
    for number in range(9, 9 + 10 * head_patterns.RELUCTANCE):
        learn([b"x-%d: 1" % number])
    assert len(head_patterns._sketches) == 19
