import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.http1 import (
    CHUNK_LINE_BYTES_MAX,
    HEAD_BYTES_MAX,
    INTERIM_RESPONSES_MAX,
    TRAILER_BYTES_MAX,
    ResponseParser,
    request_head,
    whole_response,
)
from proxy.core.response_head import HEADERS_MAX, Framing, FramingError

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
CLOSE = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n"


def head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([status, *lines, b"", b""])


def read(*pieces: bytes) -> tuple[ResponseParser, bytes]:
    parser = ResponseParser()
    body = b"".join([parser.receive(piece) for piece in pieces])
    return parser, body


def each_byte(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


# Requests


def test_a_request_head() -> None:
    made = request_head("POST", "/v1/x?a=b", "host:8080", (("accept", "*/*"), ("x-é", "ü")), 12)
    assert made == (
        b"POST /v1/x?a=b HTTP/1.1\r\nhost: host:8080\r\naccept: */*\r\nx-\xe9: \xfc\r\n"
        b"content-length: 12\r\n\r\n"
    )
    assert b"x: ?\r\n" in request_head("POST", "/", "h", (("x", "日"),), 0)


@pytest.mark.parametrize("bad", ["a\rb", "a\nb", "a\0b"])
def test_control_bytes_in_a_request_head_are_our_bug(bad: str) -> None:
    for target, host, headers in (
        (bad, "h", ()),
        ("/", bad, ()),
        ("/", "h", (("x", bad),)),
        ("/", "h", ((bad, "x"),)),
    ):
        with pytest.raises(AssertionError, match="control byte"):
            request_head("POST", target, host, headers, 0)


# Responses: (bytes, body, framing, whether the connection may be reused)

REFERENCE = [
    (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello", Framing.CHUNKED, True),
    (CHUNKED + b"005;a=b\r\nhello\r\nA \r\n0123456789\r\n0\r\n\r\n", b"hello0123456789", Framing.CHUNKED, True),
    (CHUNKED + b'1;q="a b";r\r\nx\r\n0;end\r\nTrailer: a\r\nX: b\r\n\r\n', b"x", Framing.CHUNKED, True),
    (CHUNKED + b"0\r\n\r\n", b"", Framing.CHUNKED, True),
    (CHUNKED.replace(b"chunked", b"Chunked") + b"0\r\n\r\n", b"", Framing.CHUNKED, True),
    (LENGTH % 5 + b"hello", b"hello", Framing.LENGTH, True),
    (LENGTH % 0, b"", Framing.LENGTH, True),
    (head(b"content-length: 2", b"Content-Length:2") + b"ab", b"ab", Framing.LENGTH, True),
    (head(b"CONTENT-LENGTH:\t 2 \t", b"connection: close") + b"ab", b"ab", Framing.LENGTH, False),
    (head(b"content-length: 2", b"Connection: x, Close") + b"ab", b"ab", Framing.LENGTH, False),
    (head(b"content-length: 2", status=b"HTTP/1.0 200 OK") + b"ab", b"ab", Framing.LENGTH, False),
    (
        head(b"content-length: 2", b"connection: Keep-Alive", status=b"HTTP/1.0 200 OK") + b"ab",
        b"ab",
        Framing.LENGTH,
        True,
    ),
    (head(status=b"HTTP/1.1 204 No Content"), b"", Framing.LENGTH, True),
    (head(b"Content-Length: 9", status=b"HTTP/1.1 304 Not Modified"), b"", Framing.LENGTH, True),
    (head(b"Content-Length: 0", status=b"HTTP/1.1 200"), b"", Framing.LENGTH, True),
    (
        head(status=b"HTTP/1.1 100 Continue") + head(b"link: x", status=b"HTTP/1.1 103 ") + LENGTH % 1 + b"x",
        b"x",
        Framing.LENGTH,
        True,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "body", "framing", "reusable"), REFERENCE)
def test_responses_whole_and_cut_anywhere(
    wire: bytes, body: bytes, framing: Framing, reusable: bool
) -> None:
    for place in range(len(wire) + 1):
        parser, got = read(wire[:place], wire[place:])
        assert got == body
        assert parser.complete
        assert parser.reusable == reusable
        assert parser.head is not None
        assert parser.head.framing is framing
    parser, got = read(*each_byte(wire))
    assert (got, parser.complete, parser.reusable) == (body, True, reusable)
    assert parser.receive_eof()


@pytest.mark.parametrize(("wire", "body", "framing", "reusable"), REFERENCE)
def test_responses_with_a_tail(wire: bytes, body: bytes, framing: Framing, reusable: bool) -> None:
    for tail in (b"H", b"HTTP/1.1 200 OK\r\n\r\n", b"\r\n"):
        for pieces in ([wire + tail], [wire, tail], each_byte(wire + tail)):
            parser, got = read(*pieces)
            assert got == body
            assert parser.complete
            assert parser.excess
            assert not parser.reusable


@pytest.mark.parametrize(("wire", "body", "framing", "reusable"), REFERENCE)
def test_responses_cut_short(wire: bytes, body: bytes, framing: Framing, reusable: bool) -> None:
    for place in range(len(wire)):
        parser, got = read(wire[:place])
        assert body.startswith(got)
        assert not parser.reusable
        assert not parser.receive_eof()


@pytest.mark.parametrize(("wire", "body", "framing", "reusable"), REFERENCE)
def test_a_whole_answer_is_taken_in_one_go_or_not_at_all(
    wire: bytes, body: bytes, framing: Framing, reusable: bool
) -> None:
    found, parser = whole_response(wire), ResponseParser()
    assert parser.receive(wire) == body
    assert parser.head is not None
    at_once = parser.head.status == 200 and not wire.startswith(b"HTTP/1.1 1")
    assert (found is not None) is (framing is Framing.LENGTH and at_once)
    if found is not None:
        assert found == (parser.head, body)
        assert (parser.complete, parser.excess, parser.outlook()) == (True, False, reusable)
        assert found[0].keep_alive is reusable


@pytest.mark.parametrize(
    "wire",
    [
        LENGTH % 5 + b"hell",
        LENGTH % 5 + b"hello!",
        (LENGTH % 5)[:-2],
        LENGTH.replace(b"200", b"500") % 5 + b"hello",
        head(b"content-length: 2", b"content-encoding: gzip") + b"ab",
        head(b"content-length: 2", b"Content-Encoding: identity") + b"ab",
        head(b"content-length: x") + b"ab",
        head(b"content-length: 2", b" folded") + b"ab",
        head(b"content-length: 2", b"content-length: 3") + b"ab",
        head(b"x: " + b"y" * HEAD_BYTES_MAX, b"content-length: 2") + b"ab",
    ],
)
def test_what_is_not_whole_is_left_to_a_parser(wire: bytes) -> None:
    assert whole_response(wire) is None


def test_a_body_that_ends_with_the_connection() -> None:
    parser, body = read(CLOSE + b"all", b" of it")
    assert body == b"all of it"
    assert not parser.complete
    assert parser.receive_eof()
    assert parser.complete
    assert not parser.reusable


def test_where_a_whole_chunk_may_pass_unopened() -> None:
    parser = ResponseParser()
    assert not parser.between_chunks
    parser.receive(CHUNKED)
    assert parser.between_chunks
    for data, between in (
        (b"2", False),
        (b"\r\nab", False),
        (b"\r", False),
        (b"\n", True),
        (b"0\r\n", False),
    ):
        parser.receive(data)
        assert parser.between_chunks is between
    assert not read(LENGTH % 9)[0].between_chunks


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"X",
        head(status=b"HTTP/2.0 200 OK"),
        head(status=b"HTTP/1.2 200 OK"),
        head(status=b"HTTP/1.1 600 OK"),
        head(status=b"HTTP/1.1 20 OK"),
        head(status=b"HTTP/1.1  200 OK"),
        head(status=b"HTTP/1.1 2000"),
        head(status=b"HTTP/1.1 200 \0"),
        head(status=b"HTTP/1.1 200 a\nb: c"),
        head(status=b"HTTP/1.1 101 Switching Protocols"),
        head(b"no colon"),
        head(b": no name"),
        head(b"space before : colon"),
        head(b"a: b", b" folded"),
        head(b"a: b\rc: d"),
        head(b"a: b\nc: d"),
        head(b"a: \0"),
        head(b"\xe9: b"),
        head(b"transfer-encoding: chunked", b"content-length: 3"),
        head(b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
        head(b"transfer-encoding: gzip, chunked"),
        head(b"transfer-encoding: identity"),
        head(b"transfer-encoding: xchunked"),
        head(b"transfer-encoding: chunked", status=b"HTTP/1.0 200 OK"),
        head(b"content-length: 3", b"content-length: 4"),
        head(b"content-length: 3, 3"),
        head(b"content-length: +3"),
        head(b"content-length: -3"),
        head(b"content-length: 0x3"),
        head(b"content-length: \xb2"),
        head(b"content-length:"),
        head(b"content-length: " + b"9" * 16),
        *(
            CHUNKED + line + b"\r\n"
            for line in (
                b"", b"g", b"-1", b"+1", b"0x1", b" 1", b"1 1", b"1\n", b"1;\0\r", b"1\r;", b"\xb2",
                b"f" * 16, b"1,a",
            )
        ),
        CHUNKED + b"1\r\nab\r\n",
        CHUNKED + b"1\r\na\n\r\n",
        CHUNKED + b"1\r\naXX",
    ],
)  # fmt: skip
def test_what_breaks_http_ends_it(wire: bytes) -> None:
    for place in range(len(wire)):
        with pytest.raises(FramingError):
            read(wire[:place], wire[place:])
    with pytest.raises(FramingError):
        read(*each_byte(wire))


def test_what_came_before_the_fault_in_one_read_is_kept() -> None:
    for fault in (b"zz\r\n", b"3\r\nabcd\r\n", b"1" * CHUNK_LINE_BYTES_MAX):
        with pytest.raises(FramingError) as caught:
            read(CHUNKED + b"2\r\nok\r\n" + fault)
        assert caught.value.body.startswith(b"ok")
    with pytest.raises(FramingError) as caught:
        read(CHUNKED + b"2\r\nok\r\n0\r\n" + b"a: b\r\n" * TRAILER_BYTES_MAX)
    assert caught.value.body == b"ok"


# Limits


def test_a_head_is_bounded() -> None:
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: "
    fill = HEAD_BYTES_MAX - len(start) - 4
    assert read(start + b"y" * fill + b"\r\n\r\n")[0].complete
    for pieces in ([start + b"y" * (fill + 1) + b"\r\n\r\n"], [start, b"y" * fill, b"yyyy"]):
        with pytest.raises(FramingError, match="over"):
            read(*pieces)


def test_headers_are_bounded() -> None:
    assert read(head(*[b"a: b"] * (HEADERS_MAX - 1)))[0].head is not None
    with pytest.raises(FramingError, match="more than"):
        read(head(*[b"a: b"] * HEADERS_MAX))


def test_interim_responses_are_bounded() -> None:
    interim = head(status=b"HTTP/1.1 102 Processing")
    assert read(interim * INTERIM_RESPONSES_MAX + LENGTH % 0)[0].complete
    with pytest.raises(FramingError, match="interim"):
        read(*[interim] * (INTERIM_RESPONSES_MAX + 1))


def test_chunk_lines_are_bounded() -> None:
    longest = b"1;" + b"x" * (CHUNK_LINE_BYTES_MAX - 4) + b"\r\n"
    assert read(CHUNKED + longest + b"a\r\n")[1] == b"a"
    for pieces in (
        [CHUNKED + b"1;x" + longest],
        [CHUNKED, *each_byte(b"1" * CHUNK_LINE_BYTES_MAX)],
    ):
        with pytest.raises(FramingError, match="too long"):
            read(*pieces)


def test_trailers_are_bounded() -> None:
    line = b"a: " + b"b" * 95 + b"\r\n"
    count = (TRAILER_BYTES_MAX - 2) // len(line)
    assert read(CHUNKED + b"0\r\n" + line * count + b"\r\n")[0].complete
    with pytest.raises(FramingError, match="trailers"):
        read(CHUNKED + b"0\r\n", *[line] * (count + 1), b"\r\n")


@pytest.mark.parametrize(
    "line", [b"x:" + b" " * 60_000 + b"\0", b"x: a" + b" " * 60_000 + b"b", b"x" * 60_000]
)
def test_no_header_takes_long_to_refuse(line: bytes) -> None:
    """Backtracking over these would outlast the test's own time limit by hours."""
    for wire in (head(line), head(line, b"\0")):
        try:
            read(wire)
        except FramingError:
            continue


def test_a_huge_chunk_is_never_gathered() -> None:
    parser = ResponseParser()
    parser.receive(CHUNKED + b"fffffffffffffff\r\n")
    for _ in range(100):
        assert len(parser.receive(b"x" * 10_000)) == 10_000
        assert not parser._buffer


# Anything at all


FRAGMENTS = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [
                *(
                    CHUNKED,
                    LENGTH % 7,
                    CLOSE,
                    head(status=b"HTTP/1.1 100 C"),
                    b"HTTP/1.1 ",
                    b"200 OK\r\n",
                ),
                *(
                    b"5\r\nhello\r\n",
                    b"0\r\n",
                    b"\r\n",
                    b"\r\n\r\n",
                    b"a: b\r\n",
                    b"ffff\r\n",
                    b"1;x",
                ),
            ]
        ),
    ),
    max_size=25,
)


@given(fragments=FRAGMENTS, first=st.sampled_from([b"", CHUNKED, LENGTH % 30, CLOSE]))
def test_anything_is_parsed_or_refused_and_memory_is_bounded(
    fragments: list[bytes], first: bytes
) -> None:
    parser, sent, got = ResponseParser(), 0, 0
    for data in [first, *fragments]:
        sent += len(data)
        try:
            got += len(parser.receive(data))
        except FramingError as error:
            got += len(error.body)
            break
        assert len(parser._buffer) < HEAD_BYTES_MAX
        assert not parser.reusable or parser.complete
    assert got <= sent
    parser.receive_eof()


@given(fragments=FRAGMENTS, sizes=st.lists(st.integers(1, 30), max_size=40))
def test_how_it_was_cut_changes_nothing(fragments: list[bytes], sizes: list[int]) -> None:
    wire = CHUNKED + b"".join(fragments)
    assert everything([wire]) == everything(pieces_of(wire, sizes))


def pieces_of(wire: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in [*sizes, len(wire)]:
        pieces.append(wire[start : start + size])
        start += size
    return [piece for piece in pieces if piece]


def everything(pieces: list[bytes]) -> tuple[bytes, str, bool, bool]:
    parser, body = ResponseParser(), b""
    for piece in pieces:
        try:
            body += parser.receive(piece)
        except FramingError as error:
            return body + error.body, str(error), parser.complete, parser.excess
    return body, "", parser.complete, parser.excess


@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), max_size=12),
    sizes=st.lists(st.integers(1, 60), max_size=40),
    extension=st.sampled_from([b"", b";a", b' ; a="b c"']),
    upper=st.booleans(),
)
def test_a_chunked_body_comes_out_as_it_went_in(
    parts: list[bytes], sizes: list[int], extension: bytes, upper: bool
) -> None:
    lines = [b"%X" % len(part) if upper else b"%x" % len(part) for part in parts]
    wire = CHUNKED
    for line, part in zip(lines, parts, strict=True):
        wire += line + extension + b"\r\n" + part + b"\r\n"
    parser, body = read(*pieces_of(wire + b"0\r\n\r\n", sizes))
    assert body == b"".join(parts)
    assert parser.reusable


@pytest.mark.parametrize(
    ("sent", "rest", "before", "after"),
    [
        (CHUNKED + b"1\r\nx\r\n", b"0\r\n\r\n", None, True),
        (CHUNKED + b"1\r\nx\r\n", b"0\r\n", None, None),
        (CHUNKED + b"1\r\nx\r\n", b"zz\r\n", None, False),
        (CHUNKED + b"0\r\n\r\n", b"more", True, False),
        (head(b"Connection: close", b"Content-Length: 2") + b"x", b"y", False, False),
        (CLOSE + b"x", b"y", False, False),
        (b"HTTP/1.1 ", b"200 OK\r\n\r\n", False, False),
    ],
)
def test_what_may_still_become_of_a_connection(
    sent: bytes, rest: bytes, before: bool | None, after: bool | None
) -> None:
    parser, _ = read(sent)
    assert parser.outlook() is before
    parser.receive_rest(rest)
    assert parser.outlook() is after


LINES = st.lists(
    st.tuples(
        st.sampled_from(
            [b"content-length", b"Content-Length", b"x-request-id", b"content-type", b"connection",
             b"transfer-encoding", b"content-encoding", b"date", b"a ", b" a"]
        ),
        st.sampled_from(
            [b"2", b"0", b" 2\t", b"02", b"x", b"close", b"chunked", b"gzip", b"1\n", b"1\0", b"1\r"]
        ) | st.integers(0, 99).map(b"%d".__mod__),
    ),
    max_size=5,
)  # fmt: skip


@given(
    lines=LINES,
    before=st.sampled_from([b"", head(status=b"HTTP/1.1 103 Early")]),
    body=st.sampled_from([b"", b"ab", b"abc", b"2\r\nab\r\n0\r\n\r\n"]),
)
def test_a_head_that_is_known_again_is_taken_as_one_that_never_was(
    lines: list[tuple[bytes, bytes]], before: bytes, body: bytes
) -> None:
    """Whether as a whole answer, in one read or cut anywhere."""
    lines = [(b"content-length", b"2"), *lines] if b"\r" not in body else lines
    made = head(*[name + b":" + value for name, value in lines])
    wire = before + made + body
    first = outcome_of([wire])  # of a head that may be new
    for _ in range(3):
        assert outcome_of([wire]) == first
    for place in range(len(wire) + 1):
        assert outcome_of([piece for piece in (wire[:place], wire[place:]) if piece]) == first
    whole = whole_response(wire)
    if whole is not None:
        found, content = whole
        assert ("", content, found, True, found.keep_alive) == first


def outcome_of(pieces: list[bytes]) -> tuple[object, ...]:
    parser, body, fault = ResponseParser(), b"", ""
    try:
        for piece in pieces:
            body += parser.receive(piece)
    except FramingError as error:
        body, fault = body + error.body, str(error)
    return fault, body, parser.head, parser.complete, parser.outlook()
