"""A request's head and body: whole, byte by byte, with a tail; refused where two could differ."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import http1_request
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.http1_request import (
    AGAIN_BYTES_MAX,
    CHUNK_LINE_BYTES_MAX,
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    HEADS_MEMO_BYTES_MAX,
    HEADS_MEMO_MAX,
    LINE_BYTES_MAX,
    QUERY_FIELDS_MAX,
    TRAILER_BYTES_MAX,
    ChunkedBody,
    HeadMemo,
    RequestHead,
    parse_head,
)

LINE = b"POST /v1/messages HTTP/1.1"
HOST = b"Host: relay.test"


def head(*lines: bytes, first: bytes = LINE) -> bytes:
    """A head of `first`, a Host and `lines`, without its blank line."""
    return b"\r\n".join([first, HOST, *lines])


def parsed(*lines: bytes, first: bytes = LINE) -> RequestHead:
    return parse_head(head(*lines, first=first))


def refusal(block: bytes, memo: HeadMemo | None = None) -> str:
    """The reason for which `block` is refused, by the full parse or through `memo`."""
    with pytest.raises(RelayError) as caught:
        parse_head(block) if memo is None else memo.parse(block)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    return caught.value.message


def facts(found: tuple[RequestHead, int]) -> tuple[object, ...]:
    """All that a head says, with the body's length; rows without the length that may be stale."""
    one, length = found
    rows = tuple(row for row in one.rows if row[0] != "content-length")
    return (
        one.method, one.path, one.query_string, one.minor, one.chunked, one.keep_alive,
        one.expects_continue, rows, length,
    )  # fmt: skip


def fresh(block: bytes) -> tuple[object, ...] | str:
    """What `block` means to a memo that knows nothing."""
    return through(HeadMemo(), block)


def through(memo: HeadMemo, block: bytes) -> tuple[object, ...] | str:
    """What `block` means to `memo`: its facts, or why it is refused."""
    try:
        return facts(memo.parse(block))
    except RelayError as error:
        return error.message


# Request lines


def test_a_head_says_all_that_is_in_it() -> None:
    one = parsed(b"X-A:1", b"x-b: \t two words \t", b"x-A: 2", b"x-empty:", b"x-latin: \xe9")
    assert (one.method, one.path, one.query_string, one.minor) == ("POST", "/v1/messages", "", 1)
    assert one.items() == (
        ("host", "relay.test"), ("x-a", "1"), ("x-b", "two words"), ("x-a", "2"),
        ("x-empty", ""), ("x-latin", "é"),
    )  # fmt: skip
    assert one.get("x-a") == "1", "of repeated headers the first"
    assert one.get("x-nowhere") is None
    assert "x-b" in one
    assert "x-nowhere" not in one
    assert (one.keep_alive, one.chunked, one.length, one.expects_continue) == (
        True,
        False,
        0,
        False,
    )


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/v1/models?limit=2&after_id=a%20b", "/v1/models", "limit=2&after_id=a%20b"),
        ("/v1/models/a%2Fb%20c", "/v1/models/a/b c", ""),
        ("/%E9%80%9A?%", "/通", "%"),
        ("/%zz%e9", "/%zz\N{REPLACEMENT CHARACTER}", ""),
        ("//host/v1", "//host/v1", ""),
        ("/?", "/", ""),
        ("/a?b?c", "/a", "b?c"),
    ],
)
def test_a_target_is_a_path_and_a_query(target: str, path: str, query: str) -> None:
    one = parsed(first=f"GET {target} HTTP/1.1".encode())
    assert (one.path, one.query_string) == (path, query)


def test_a_query_is_read_by_its_last_fields_and_has_a_limited_number_of_them() -> None:
    assert parsed(first=b"GET /m?a=1&b=&a=2&c=%C3%A9 HTTP/1.1").query == {
        "a": "2",
        "b": "",
        "c": "é",
    }
    fields = b"&".join(b"f%d=1" % number for number in range(QUERY_FIELDS_MAX))
    assert len(parsed(first=b"GET /m?%b HTTP/1.1" % fields).query) == QUERY_FIELDS_MAX
    one = parsed(first=b"GET /m?%b&g=1 HTTP/1.1" % fields)
    with pytest.raises(RelayError, match=f"more than {QUERY_FIELDS_MAX} fields"):
        _ = one.query


@pytest.mark.parametrize(
    "first",
    [
        b"", b" ", b"POST", b"POST /", b"POST / HTTP", b"POST / HTTP/1", b"POST / HTTP/1.1 ",
        b" POST / HTTP/1.1", b"POST  / HTTP/1.1", b"POST /  HTTP/1.1", b"POST\t/\tHTTP/1.1",
        b"post / HTTP/1.1", b"P0ST / HTTP/1.1", b"POST / http/1.1", b"POST / HTTP/1.1.1",
        b"POST / HTTP/11.1", b"POST / HTTP/1.10", b"POST / HTTP/-1.1", b"POST /a b HTTP/1.1",
        b"POST /\x00 HTTP/1.1", b"POST /\x7f HTTP/1.1", b"POST /\xe9 HTTP/1.1",
        b"\nPOST / HTTP/1.1", b"POST / HTTP/1.1\n", b"POST / HTTP/1.1\r", b"\rPOST / HTTP/1.1",
        b"M" * 17 + b" / HTTP/1.1", b"HTTP/1.1 200 OK", b"POST /\r HTTP/1.1",
        "POST / HTTP/1.١".encode(),
    ],
)  # fmt: skip
def test_a_first_line_of_another_form_is_refused(first: bytes) -> None:
    assert "first line is not" in refusal(head(first=first))


@pytest.mark.parametrize("version", ["0.9", "1.2", "1.9", "2.0", "3.0", "0.0", "9.9", "0.1"])
def test_other_versions_are_refused(version: str) -> None:
    assert "only HTTP/1.0 and HTTP/1.1" in refusal(head(first=f"GET / HTTP/{version}".encode()))


@pytest.mark.parametrize(
    "target", ["http://h/v1", "HTTPS://h", "h:443", "v1/messages", "*", "?", "#", "%2Fv1", "\\v1"]
)
def test_a_target_that_is_no_path_is_refused(target: str) -> None:
    assert "must be a path" in refusal(head(first=f"POST {target} HTTP/1.1".encode()))


def test_only_options_may_ask_about_everything() -> None:
    assert parsed(first=b"OPTIONS * HTTP/1.1").path == "*"
    assert "must be a path" in refusal(head(first=b"OPTIONS *x HTTP/1.1"))


# Header lines


@pytest.mark.parametrize(
    "line",
    [
        b"x", b"", b":", b": v", b"x : v", b"x\t: v", b" x: v", b"\tx: v", b"x y: v", b"x(: v",
        b"x/y: v", b"x[: v", b'x": v', b"x@: v", b"x=: v", b"x;: v", b"x,: v", b"x<: v", b"x?: v",
        b"x\\: v", b"x{: v", b"\xe9: v", b"x\x00: v", b"x\x7f: v", b"x: a\x00b", b"x: a\rb",
        b"x: a\nb", b"x: a\x0bb", b"x: a\x1fb", b"x: a\x7fb", b"x: \x1b[1m", b"x: v\r", b"x: v\n",
        b"\nx: v", b"\rx: v",
    ],
)  # fmt: skip
def test_a_malformed_header_line_is_refused(line: bytes) -> None:
    assert "malformed header line" in refusal(head(line))


@pytest.mark.parametrize(
    "name", [b"content_length", b"x_api_key", b"_", b"a_b c", b"Transfer_Encoding"]
)
def test_an_underscore_in_a_name_has_its_own_message(name: bytes) -> None:
    assert "underscore" in refusal(head(name + b": 5"))
    assert parsed(b"x-a: _").get("x-a") == "_"


def test_every_token_character_is_one_of_a_name() -> None:
    name = "!#$%&'*+-.^`|~09AZaz"
    assert parsed(f"{name}: v".encode()).get(name.lower()) == "v"


@pytest.mark.parametrize(
    ("lines", "first", "good"),
    [
        ([HOST], LINE, True),
        ([b"Host:"], LINE, True),
        ([], LINE, False),
        ([HOST, HOST], LINE, False),
        ([HOST, b"hOsT: other"], LINE, False),
        ([], b"POST / HTTP/1.0", True),
        ([HOST], b"POST / HTTP/1.0", True),
        ([HOST, HOST], b"POST / HTTP/1.0", False),
    ],
)
def test_there_is_one_host(lines: Sequence[bytes], first: bytes, good: bool) -> None:
    block = b"\r\n".join([first, *lines])
    if good:
        assert parse_head(block).method == "POST"
    else:
        assert "exactly one Host" in refusal(block)


def test_the_number_of_headers_is_bounded() -> None:
    lines = [b"x-%d: v" % number for number in range(HEADERS_MAX - 1)]
    assert len(parsed(*lines).rows) == HEADERS_MAX
    assert f"more than {HEADERS_MAX} headers" in refusal(head(*lines, b"y: v"))


def test_the_length_of_every_line_is_bounded() -> None:
    value = b"v" * (LINE_BYTES_MAX - 3)
    assert parsed(b"x: " + value).get("x") == value.decode()
    path = b"/" * (LINE_BYTES_MAX - len(b"GET  HTTP/1.1"))
    assert len(parsed(first=b"GET %b HTTP/1.1" % path).path) == len(path)
    for block in (head(b"x: v" + value), head(first=b"GET /%b HTTP/1.1" % path)):
        assert f"longer than {LINE_BYTES_MAX} bytes" in refusal(block)


@pytest.mark.parametrize(
    ("first", "lines", "kept"),
    [
        (LINE, [], True),
        (LINE, [b"Connection: close"], False),
        (LINE, [b"Connection: Keep-Alive, CLOSE"], False),
        (LINE, [b"Connection: keep-alive", b"connection: close"], False),
        (LINE, [b"Connection: closed"], True),
        (LINE, [b"Connection:"], True),
        (b"GET / HTTP/1.0", [], False),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive"], True),
        (b"GET / HTTP/1.0", [b"Connection: x", b"Connection: Keep-Alive"], True),
        (b"GET / HTTP/1.0", [b"Connection: keep-alive, close"], False),
    ],
)
def test_who_wants_the_connection_kept(first: bytes, lines: list[bytes], kept: bool) -> None:
    assert parsed(*lines, first=first).keep_alive is kept


# Framing


@pytest.mark.parametrize("value", ["0", "5", "007", "999999999999999", " 5 ", "\t5\t"])
@pytest.mark.parametrize(
    "name", ["Content-Length", "content-length", "CONTENT-LENGTH", "cOnTeNt-Length"]
)
def test_a_length_is_a_plain_number(name: str, value: str) -> None:
    one, length = HeadMemo().parse(head(f"{name}:{value}".encode()))
    assert length == one.length == int(value)
    assert not one.chunked


@pytest.mark.parametrize(
    "value",
    [
        "", "+5", "-5", "5.0", "5e0", "0x5", "5_0", "5,5", "5, 5", "5;", '"5"', "five", "5 5",
        "1234567890123456", "5\xa0", "\xb25", "\xb9",
    ],
)  # fmt: skip
def test_a_length_that_is_no_plain_number_is_refused(value: str) -> None:
    assert "not one plain number" in refusal(
        head(f"Content-Length: {value}".encode("latin-1")), HeadMemo()
    )


@pytest.mark.parametrize("second", ["Content-Length: 5", "content-length: 6", "CONTENT-LENGTH:5"])
def test_two_lengths_are_refused_even_if_they_agree(second: str) -> None:
    for lines in ((b"Content-Length: 5", second.encode()), (second.encode(), b"Content-Length: 5")):
        assert "not one plain number" in refusal(head(*lines), HeadMemo())


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED", " chunked\t"])
def test_a_body_may_come_in_chunks(value: str) -> None:
    one, length = HeadMemo().parse(head(f"Transfer-Encoding:{value}".encode()))
    assert (one.chunked, length) == (True, -1)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "xchunked",
        ",chunked",
    ],
)
def test_no_other_transfer_coding_is_known(value: str) -> None:
    assert "is not `chunked`" in refusal(head(f"Transfer-Encoding: {value}".encode()))


def test_a_body_has_one_framing() -> None:
    chunked, length = b"Transfer-Encoding: chunked", b"Content-Length: 5"
    assert "both" in refusal(head(chunked, length))
    assert "both" in refusal(head(length, chunked))
    assert "both" in refusal(head(b"Content-Length: 0", chunked))
    assert "is not `chunked`" in refusal(head(chunked, chunked))
    assert "is not `chunked`" in refusal(head(chunked, first=b"POST / HTTP/1.0"))


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE"])
def test_some_methods_have_no_body(method: str) -> None:
    first, memo = f"{method} / HTTP/1.1".encode(), HeadMemo()
    assert memo.parse(head(first=first))[1] == 0
    for _ in range(2):
        assert memo.parse(head(b"Content-Length: 0", first=first))[1] == 0
        for line in (b"Content-Length: 1", b"CONTENT-LENGTH: 1", b"Transfer-Encoding: chunked"):
            assert f"{method} must not have a body" in refusal(head(line, first=first), memo)


def test_only_100_continue_is_expected() -> None:
    assert parsed(b"Expect: 100-Continue").expects_continue
    assert not parsed(b"Expect: 100-continue", first=b"POST / HTTP/1.0").expects_continue
    with pytest.raises(RelayError) as caught:
        parsed(b"Expect: 200-ok")
    assert (caught.value.status, caught.value.code) == (417, ErrorCode.INVALID_REQUEST)


# The memo


def test_a_head_seen_before_is_the_same_object_with_its_own_length() -> None:
    memo = HeadMemo()
    for name in (b"Content-Length", b"content-length", b"Content-length", b"content-Length"):
        for before, after in (((b"x: v",), ()), ((), (b"x: v",)), ((), ())):
            one, length = memo.parse(head(*before, name + b": 5", *after))
            assert length == 5
            for value, wanted in (
                (b":6", 6),
                (b": \t7 ", 7),
                (b": 0", 0),
                (b":  123456789012345", None),
            ):
                again, length = memo.parse(head(*before, name + value, *after))
                if wanted is None:
                    assert (again is one, length) == (False, 123_456_789_012_345)
                else:
                    assert (again is one, length) == (True, wanted)
    other, length = memo.parse(head(b"x: v"))
    assert length == 0
    assert memo.parse(head(b"x: v"))[0] is other
    chunked, length = memo.parse(head(b"Transfer-Encoding: chunked", b"x: v"))
    assert memo.parse(head(b"Transfer-Encoding: chunked", b"x: v")) == (chunked, -1)
    assert memo.parse(head(b"CONTENT-LENGTH: 9", b"x: v"))[1] == 9


HIDDEN = [
    b"Content-Length: 6", b"content-length: 6", b"CONTENT-LENGTH: 6", b"cOnTent-lEngth:6",
    b"Content-Length : 6", b" Content-Length: 6", b"\tContent-Length: 6", b"Content-Length: +6",
    b"Content-Length: 6,6", b"Content-Length: 0x6", b"Content-Length:\x0b6", b"Content_Length: 6",
    b"Content-Length:          6", b"Content-Length: 6          ", b"Content-Length: " + b"6" * 16,
    b"Transfer-Encoding: chunked", b"TRANSFER-ENCODING: chunked", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: xchunked", b"X: y\nContent-Length: 6", b"X: y\rContent-Length: 6",
    b"X: y\n\nContent-Length: 6", b"Content-Length: 6\n", b"Content-Length: 6\r",
    b"Content-Length: 6\nX: y", b"Content-Length\n: 6", b"Content-Length:\n 6",
]  # fmt: skip


@pytest.mark.parametrize("line", HIDDEN)
def test_a_second_framing_is_never_hidden_by_a_remembered_head(line: bytes) -> None:
    memo = HeadMemo()
    good = [head(), head(b"Content-Length: 5"), head(b"Transfer-Encoding: chunked")]
    for block in good:
        memo.parse(block)
    for block in (
        head(b"Content-Length: 5", line),
        head(line, b"Content-Length: 5"),
        head(b"Content-Length: 5", line, b"content-length: 5"),
        head(b"Transfer-Encoding: chunked", line),
    ):
        assert isinstance(fresh(block), str)
        assert through(memo, block) == fresh(block)
    for block in (head(line), line + b"\r\n" + head(), head() + b"\r\n" + line):
        assert through(memo, block) == fresh(block)


@pytest.mark.parametrize("before", [b"\n", b"\r\n", b"\r", b" ", b"\0", b"\n\n"])
def test_nothing_before_a_head_makes_it_one_whose_length_was_cut_out(before: bytes) -> None:
    """A line feed once did: such a head took the length of the remembered one."""
    memo = HeadMemo()
    memo.parse(head(b"Content-Length: 5"))
    assert "first line" in refusal(before + head(), memo)
    assert memo.parse(head())[1] == 0


def test_a_length_line_of_forbidden_size_is_refused_though_its_head_is_known() -> None:
    memo = HeadMemo()
    memo.parse(head(b"Content-Length: 5"))
    for space in (b" " * LINE_BYTES_MAX, b"\t" * LINE_BYTES_MAX):
        assert "longer than" in refusal(head(b"Content-Length:%b5" % space), memo)
        assert "longer than" in refusal(head(b"Content-Length:5" + space), memo)
    assert memo.parse(head(b"Content-Length:" + b" " * 99 + b"7"))[1] == 7


@pytest.mark.parametrize("name", [b"Content-L", b"content-l"])
@pytest.mark.parametrize("after", [(), (b"x: 1",), (b"X-Strength: 1",)])
def test_what_a_cut_leaves_of_its_line_is_no_line_of_its_own(
    name: bytes, after: tuple[bytes, ...]
) -> None:
    memo = HeadMemo()
    assert memo.parse(head(name + b"ength: 5", *after))[1] == 5
    assert memo.parse(head(name + b"ength: 65", *after))[1] == 65
    for lines in (
        (name, *after),
        (b"Content-Length: 5", name, *after),
        (name, b"Content-Length: 5"),
    ):
        assert "malformed header line" in refusal(head(*lines), memo)
        assert "malformed header line" in refusal(head(*lines, *lines), memo)


def test_what_is_refused_is_not_remembered() -> None:
    memo = HeadMemo()
    for _ in range(2):
        refusal(head(b"bad"), memo)
        refusal(head(b"bad", b"Content-Length: 5"), memo)


def test_the_memo_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1_request, "HEADS_MEMO_MAX", 3)
    memo = HeadMemo()
    one = memo.parse(head())[0]
    memo.parse(head(b"Content-Length: 5"))
    memo.parse(head(b"x: 1"))
    assert memo.parse(head())[0] is one
    memo.parse(head(b"x: 2", b"Content-Length: 5"))
    assert memo.parse(head())[0] is not one
    assert HEADS_MEMO_MAX == 4_096


def test_the_memo_is_bounded_in_bytes() -> None:
    memo, room, kept, largest = HeadMemo(), HEAD_BYTES_MAX, 0, 0
    first = memo.parse(head(b"x: 0"))[0]
    while memo.parse(head(b"x: 0"))[0] is first:
        lines = [b"x-%d: %b" % (number, b"v" * 8_000) for number in range(room // 8_100)]
        memo.parse(head(*lines, b"x: %d" % (kept + 1)))
        kept += 1
        largest = max(largest, sum(map(len, memo._heads)))
    assert HEADS_MEMO_BYTES_MAX // 4 < largest < HEADS_MEMO_BYTES_MAX // 2
    assert kept < HEADS_MEMO_MAX
    assert memo.parse(head(b"x: 0"))[1] == 0


NAMES = st.sampled_from(
    ["Host", "host", "Content-Length", "content-length", "CONTENT-LENGTH", "conTent-Length",
     "Content-Length ", " Content-Length", "Content_Length", "Transfer-Encoding",
     "transfer-encoding", "TRANSFER-ENCODING", "Connection", "connection", "Expect", "X-A", "x-a",
     "X-Strength", "content-l"]
)  # fmt: skip
VALUES = st.sampled_from(
    ["5", "6", "0", "05", "+5", "5,5", " 5", "5 ", "\t5\t", "          5", "", "chunked",
     "Chunked", "gzip", "close", "keep-alive", "100-continue", "v", "5\nContent-Length: 6", "5\r"]
)  # fmt: skip
HEADER_LINES = st.tuples(NAMES, st.sampled_from([":", ": "]), VALUES).map("".join) | st.just(
    "content-l"
)
FIRST_LINES = st.sampled_from(
    ["POST / HTTP/1.1", "GET / HTTP/1.1", "POST / HTTP/1.0", "\nPOST / HTTP/1.1", ""]
)
BLOCKS = st.tuples(
    FIRST_LINES, st.booleans(), st.lists(HEADER_LINES, max_size=4), st.sampled_from(["\r\n", "\n"])
).map(lambda made: head_of(*made))


def head_of(first: str, hosted: bool, lines: list[str], last: str) -> bytes:
    """A head that is often good; `last` joins its last line."""
    lines = [first, *(["Host: h"] if hosted else []), *lines]
    return ("\r\n".join(lines[:-1]) + last + lines[-1]).encode() if lines[1:] else first.encode()


@given(st.lists(BLOCKS, min_size=2, max_size=6), st.data())
def test_through_the_memo_every_head_means_what_it_means_alone(
    blocks: list[bytes], data: st.DataObject
) -> None:
    memo = HeadMemo()
    for block in [*blocks, *data.draw(st.permutations(blocks))]:
        assert through(memo, block) == fresh(block)


GOOD = st.lists(
    st.sampled_from(
        [b"Content-Length: 5", b"X-A: v", b"Connection: close", b"Expect: 100-continue"]
    ),
    max_size=4,
    unique=True,
)


@given(
    GOOD,
    st.none() | HEADER_LINES.map(str.encode),
    st.integers(0, 8),
    st.booleans(),
    st.sampled_from([b"", b"", b"\n", b"\r", b" ", b"\0"]),
)
def test_nothing_done_to_a_remembered_head_is_hidden(
    good: list[bytes], line: bytes | None, place: int, without_length: bool, before: bytes
) -> None:
    memo = HeadMemo()
    assert not isinstance(through(memo, head(*good)), str)
    lines = head(*good).split(b"\r\n")
    if without_length:
        lines = [one for one in lines if not one.startswith(b"Content-Length")]
    if line is not None:
        lines.insert(place % (len(lines) + 1), line)
    changed = before + b"\r\n".join(lines)
    assert through(memo, changed) == fresh(changed)


# A head that comes again on its connection


def known(block: bytes) -> RequestHead:
    return HeadMemo().parse(block)[0]


@pytest.mark.parametrize(
    "line", [b"Content-Length: 5", b"content-length:5", b"Content-Length:\t5 "]
)
@pytest.mark.parametrize("after", [(), (b"x: v",)])
def test_a_head_knows_itself_whatever_its_length(line: bytes, after: tuple[bytes, ...]) -> None:
    one = known(head(line, *after))
    for digits in (b"5", b"0", b"0012", b"123456789012345"):
        block = head(line.replace(b"5", digits), *after)
        assert one.again(block + b"\r\n\r\n") == (int(digits), b"")
        assert one.again(block + b"\r\n\r\n12345" + block) == (int(digits), b"12345" + block)
        assert one.again(block) is one.again(block + b"\r\n\r") is None
    for digits in (b"", b"-5", b"5,5", b"5 5", b"5_5", b"\xb2", b"1234567890123456"):
        assert one.again(head(line.replace(b"5", digits), *after) + b"\r\n\r\n") is None


def test_what_is_left_of_a_head_is_not_that_head() -> None:
    block = head(b"Content-Length: 5", b"x: v")
    one = known(block)
    assert one.again(b"5" + one.after) is None
    assert one.again(b"\r\n" + block + b"\r\n\r\n") is None
    assert one.again(block[1:] + b"\r\n\r\n") is None


def test_heads_that_a_length_could_make_wrong_or_large_are_not_looked_for() -> None:
    for block in (
        head(),
        head(b"CONTENT-LENGTH: 5"),
        head(b"Transfer-Encoding: chunked"),
        head(b"Content-Length: 0", first=b"GET / HTTP/1.1"),
        head(b"Content-Length: 5", b"Sec-WebSocket-Key: x"),
        head(b"Content-Length: 5", b"x: " + b"v" * (AGAIN_BYTES_MAX // 3)),
        head(b"Content-Length: 5", *[b"x: v"] * 64),
    ):
        one = known(block)
        assert one.before == one.after == b""
        assert one.again(block + b"\r\n\r\n") is None


@given(
    GOOD,
    st.none() | HEADER_LINES.map(str.encode),
    st.integers(0, 8),
    st.booleans(),
    st.sampled_from([b"", b"", b"", b"\n", b"\r\n", b"5", b"\0"]),
    st.sampled_from([b"", b"12345", b"\r\n\r\n", b"5\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"]),
)
def test_a_head_that_came_again_means_what_it_means_alone(
    good: list[bytes], line: bytes | None, place: int, other: bool, before: bytes, rest: bytes
) -> None:
    one = known(head(*good))
    lines = head(*good).split(b"\r\n")
    if other:
        lines = [b"Content-Length: 77" if b"Length" in each else each for each in lines]
    if line is not None:
        lines.insert(place % (len(lines) + 1), line)
    data = before + b"\r\n".join(lines) + b"\r\n\r\n" + rest
    found = one.again(data)
    if found is not None:
        block, _, follows = data.partition(b"\r\n\r\n")
        assert (facts((one, found[0])), found[1]) == (fresh(block), follows)
    elif line is None and not before:
        assert not any(b"Length" in each for each in good)


# Anything at all


@given(st.binary(max_size=400))
def test_bytes_of_any_kind_are_a_head_or_a_refusal(block: bytes) -> None:
    fresh(block)
    fresh(head(block))


PIECES = st.sampled_from(
    [LINE, b"GET /?a=%zz&b HTTP/1.1", HOST, b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"x", b"\0",
     b"Content-Length", b"Transfer-Encoding", b"chunked", b"5", b",", b"Expect", b"Connection",
     b"\xff", b"_", b"%", b"/", b"*", b"OPTIONS", b"HTTP/1.1", b"100-continue"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=30).map(b"".join))
def test_pieces_of_heads_are_a_head_or_a_refusal(block: bytes) -> None:
    memo = HeadMemo()
    assert through(memo, block) == through(memo, block) == fresh(block)
    if not isinstance(fresh(block), str):
        one = HeadMemo().parse(block)[0]
        assert one.method
        assert one.path
        assert isinstance(one.query, dict)


HOSTILE = {
    "spaces in a value": lambda size: head(b"x:" + b" " * size),
    "spaces around a value": lambda size: head(b"x:" + b" " * (size // 2) + b"v" + b" " * (size // 2)),
    "tabs and spaces": lambda size: head(b"x:" + b"\t " * (size // 2) + b"\0"),
    "one long name": lambda size: head(b"x" * size),
    "one long name and a bad end": lambda size: head(b"x" * size + b"\0: v"),
    "colons": lambda size: head(b":" * size),
    "line feeds": lambda size: head(b"\n" * size),
    "carriage returns": lambda size: head(b"\r" * size),
    "line ends": lambda size: head(b"\r\n" * (size // 2)),
    "short headers": lambda size: head(*[b"x:"] * (size // 4)),
    "lengths": lambda size: head(*[b"Content-Length: 5"] * (size // 19)),
    "almost lengths": lambda size: head(*[b"Content-Length: "] * (size // 18)),
    "digits": lambda size: head(b"Content-Length: " + b"9" * size),
    "spaces before a length": lambda size: head(b"Content-Length:" + b" " * size + b"5"),
    "length tabs": lambda size: head(b"Content-Length: 5" + b"\t" * size + b"x"),
    "connection tokens": lambda size: head(b"Connection: " + b"," * size),
    "a long target": lambda size: head(first=b"GET /" + b"%" * size + b" HTTP/1.1"),
    "a long escaped target": lambda size: head(first=b"GET /" + b"%E9" * (size // 3) + b" HTTP/1.1"),
    "spaces in the first line": lambda size: head(first=b"GET" + b" " * size),
    "a query": lambda size: head(first=b"GET /?" + b"&" * size + b" HTTP/1.1"),
    "a long method": lambda size: head(first=b"G" * size),
}  # fmt: skip


READINGS = 200


@pytest.mark.timeout(10, method="signal")
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("size", [LINE_BYTES_MAX - 100, HEAD_BYTES_MAX])
def test_hostile_heads_of_every_size_are_read_in_linear_steps(kind: str, size: int) -> None:
    """Readings take 0.2 ms each; of a quadratic reading so many would exceed the limit."""
    block = HOSTILE[kind](size)
    assert len({fresh(block) for _ in range(READINGS)}) == 1


# Chunked bodies

BODY = b"hello, chunked world"
CHUNKED = b'5\r\nhello\r\nA;x="y"\t z\r\n, chunked \r\n00005\r\nworld\r\n0;last\r\nX-T: v\r\n\r\n'
TAIL = b"GET / HTTP/1.1\r\n"


def dechunked(*pieces: bytes) -> tuple[bytes, bytes, bool]:
    """The body, what was left over, and whether it is complete."""
    body, rest = ChunkedBody(), b""
    found = b""
    for piece in pieces:
        rest += piece if body.complete else body.receive(piece)
        found += b"".join(body.pieces)
        body.pieces.clear()
    return found, rest, body.complete


def each_byte(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def unchunkable(*pieces: bytes) -> str:
    with pytest.raises(RelayError) as caught:
        dechunked(*pieces)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    return caught.value.message


@pytest.mark.parametrize("tail", [b"", TAIL])
def test_a_chunked_body_whole_byte_by_byte_and_with_a_tail(tail: bytes) -> None:
    assert dechunked(CHUNKED + tail) == (BODY, tail, True)
    assert dechunked(*each_byte(CHUNKED + tail)) == (BODY, tail, True)
    assert dechunked(CHUNKED, tail) == (BODY, tail, True)


def test_a_chunked_body_at_every_split() -> None:
    data = CHUNKED + TAIL
    for place in range(len(data) + 1):
        assert dechunked(data[:place], data[place:]) == (BODY, TAIL, True)
        for second in range(place, len(data) + 1, 7):
            assert dechunked(data[:place], data[place:second], data[second:])[:2] == (BODY, TAIL)


def test_a_chunked_body_is_complete_at_its_last_byte_and_no_sooner() -> None:
    for place in range(len(CHUNKED)):
        assert dechunked(CHUNKED[:place])[2] is False
    assert dechunked(b"0\r\n\r\n") == (b"", b"", True)
    body = ChunkedBody()
    assert body.receive(CHUNKED + TAIL) == TAIL
    assert body.receive(TAIL) == TAIL, "what follows is not the body's"


@pytest.mark.parametrize(
    "line",
    [
        b"", b" 5", b"5 ", b"+5", b"-5", b"0x5", b"5_0", b"5.0", b"g", b"5,", b"\t5", b"5\n",
        b"5\r", b"5;\n", b"5;a\x00", b"5;\xe9", b"1234567890123456", b";x", b"5 ;x",
    ],
)  # fmt: skip
def test_a_chunk_size_is_a_plain_hexadecimal_number(line: bytes) -> None:
    data = line + b"\r\nhello\r\n0\r\n\r\n"
    assert "not a hexadecimal number" in unchunkable(data)
    assert "not a hexadecimal number" in unchunkable(*each_byte(data))


@pytest.mark.parametrize(
    "data", [b"5\r\nhello!\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r5", b"5\r\nhelloXY"]
)
def test_a_chunk_ends_where_its_size_says(data: bytes) -> None:
    assert "longer than its size" in unchunkable(data)
    assert "longer than its size" in unchunkable(*each_byte(data))


@pytest.mark.parametrize(
    "line", [b"x", b" folded", b"x : y", b"x: a\0", b"x: a\nb", b"\n", b"a b: c", b"_x: y"]
)
def test_a_malformed_trailer_is_refused(line: bytes) -> None:
    assert "malformed trailer" in unchunkable(b"0\r\n" + line + b"\r\n\r\n")


def test_the_lines_of_a_chunked_body_are_bounded() -> None:
    longest = b"5;" + b"x" * (CHUNK_LINE_BYTES_MAX - 4) + b"\r\n"
    rest = b"hello\r\n0\r\n\r\n"
    assert len(longest) == CHUNK_LINE_BYTES_MAX
    for pieces in ([longest + rest], each_byte(longest + rest)):
        assert dechunked(*pieces) == (b"hello", b"", True)
    over = b"5;x" + longest[2:]
    assert "longer than its size" in unchunkable(over + rest)
    assert "longer than its size" in unchunkable(*each_byte(over + rest))
    assert "longer than its size" in unchunkable(b"0" * CHUNK_LINE_BYTES_MAX)


def test_the_trailers_of_a_chunked_body_are_bounded() -> None:
    line = b"x: " + b"v" * 95 + b"\r\n"
    many = line * (TRAILER_BYTES_MAX // len(line))
    left = TRAILER_BYTES_MAX - len(many) - 2
    fill = b"x:" + b"v" * (left - 4) + b"\r\n"
    assert dechunked(b"0\r\n" + many + fill + b"\r\n") == (b"", b"", True)
    over = b"0\r\n" + many + b"v" + fill + b"\r\n"
    assert "trailers are too long" in unchunkable(over)
    assert "trailers are too long" in unchunkable(*each_byte(over))
    one = b"0\r\nx:" + b"v" * TRAILER_BYTES_MAX
    assert "longer than its size" in unchunkable(one)
    assert "longer than its size" in unchunkable(*each_byte(one))


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=8), st.data())
def test_what_was_chunked_comes_out_again_however_it_is_cut(
    chunks: list[bytes], data: st.DataObject
) -> None:
    wire = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\n\r\n" + TAIL
    places = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    pieces = [wire[a:b] for a, b in zip([0, *places], [*places, len(wire)], strict=True)]
    assert dechunked(*pieces) == (b"".join(chunks), TAIL, True)


@given(
    st.lists(
        st.sampled_from([b"5", b"0", b"a", b"\r\n", b"\n", b"\r", b";", b"x: y", b"hello", b"\0"]),
        max_size=20,
    ).map(b"".join)
)
def test_any_bytes_are_a_chunked_body_or_a_refusal_the_same_however_cut(data: bytes) -> None:
    def outcome(pieces: Sequence[bytes]) -> tuple[bytes, bytes, bool] | None:
        try:
            return dechunked(*pieces)
        except RelayError:
            return None

    assert outcome([data]) == outcome(each_byte(data))


@pytest.mark.parametrize("sign", ["%3F", "%3f"])
def test_an_encoded_question_mark_stays_apart_from_the_query(sign: str) -> None:
    head = RequestHead("GET", f"/v1/models/a%20b{sign}c?limit=%3F", 1, ())
    assert head.path == "/v1/models/a b%3Fc"
    assert head.query == {"limit": "?"}


def test_a_head_that_is_another_every_time_is_not_remembered() -> None:
    memo = HeadMemo()
    plain = head(b"X-A: 1")
    once = head(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    assert memo.parse(plain)[0] is memo.parse(plain)[0]
    assert memo.parse(once)[0] is not memo.parse(once)[0]
