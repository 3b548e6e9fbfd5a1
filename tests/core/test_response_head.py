"""What a response's head says, and what is refused of it; how it comes is in test_http1.py."""

import pytest

from proxy.core import response_head
from proxy.core.response_head import (
    HEADERS_MAX,
    PASSED_ON_CHARS_MAX,
    Framing,
    FramingError,
    ResponseHead,
    parse_head,
)

OK = b"HTTP/1.1 200 OK"


def read(*lines: bytes, status: bytes = OK) -> ResponseHead:
    return parse_head(b"\r\n".join([status, *lines]))


def test_the_head_is_read_as_it_was_sent() -> None:
    made = read(
        b"X-A: 1", b"x-a:  two  words\t", b"B:", b"C: \xe9", b"my-d: 2", b"content-length: 0"
    )
    assert made.status == 200
    asked = [made.header(name) for name in ("x-a", "b", "c", "my-d", "content-length")]
    assert asked == ["1", "", "\xe9", "2", "0"]
    assert made.header("d") is None
    assert made.header("nothing") is None
    assert made.header("content-type") is None
    assert read(b"a: b").header("a") == "b"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], None),
        ([b"X-Request-Id: "], ""),
        ([b"request-id: msg_1"], "msg_1"),
        ([b"X-Request-Id: req_1", b"Request-Id: msg_1"], "req_1"),
        ([b"x-request-id:", b"request-id: a\xe9"], "a\xe9"),
        ([b"x-request-id: 1", b"x-request-id: 2"], "1"),
    ],
)
def test_the_upstreams_own_id(lines: list[bytes], said: str | None) -> None:
    assert (read(*lines).request_id or None) == (said or None)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], []),
        ([b"openai-organization: acme", b"server: x"], []),
        ([b"OpenAI-Version: 2020-10-01"], [("openai-version", "2020-10-01")]),
        (
            [b"openai-processing-ms:  7 ", b"openai-version: 1", b"openai-version: 2"],
            [("openai-version", "1"), ("openai-processing-ms", "7")],
        ),
        ([b"openai-version: " + b"v" * PASSED_ON_CHARS_MAX], [("openai-version", "v" * 128)]),
        ([b"openai-version: " + b"v" * (PASSED_ON_CHARS_MAX + 1)], []),
        ([b"openai-version: a\tb", b"openai-processing-ms:"], []),
        (
            [b"openai-version: \x7f", b"openai-processing-ms: \xe9"],
            [("openai-processing-ms", "\xe9")],
        ),
    ],
)
def test_what_goes_on_of_a_head(lines: list[bytes], said: list[tuple[str, str]]) -> None:
    assert read(*lines).passed_on() == said


@pytest.mark.parametrize(
    ("status", "lines", "framing", "length", "keep_alive"),
    [
        (OK, [b"transfer-encoding: chunked"], Framing.CHUNKED, 0, True),
        (OK, [b"Transfer-Encoding: Chunked", b"connection: CLOSE"], Framing.CHUNKED, 0, False),
        (OK, [b"content-length: 2", b"Content-Length:\t2 "], Framing.LENGTH, 2, True),
        (OK, [b"connection: a", b"connection: close", b"content-length: 0"], Framing.LENGTH, 0, False),
        (OK, [], Framing.CLOSE, 0, False),
        (b"HTTP/1.0 200 OK", [b"content-length: 1"], Framing.LENGTH, 1, False),
        (b"HTTP/1.0 200", [b"content-length: 1", b"connection: keep-alive"], Framing.LENGTH, 1, True),
        (b"HTTP/1.1 204 No Content", [], Framing.LENGTH, 0, True),
        (b"HTTP/1.1 304 ", [b"content-length: 9"], Framing.LENGTH, 0, True),
        (b"HTTP/1.1 500 Error", [b"content-length: 9"], Framing.LENGTH, 9, True),
        (b"HTTP/1.1 100 Continue", [], Framing.LENGTH, 0, True),
    ],
)  # fmt: skip
def test_what_delimits_the_body(
    status: bytes, lines: list[bytes], framing: Framing, length: int, keep_alive: bool
) -> None:
    made = read(*lines, status=status)
    assert (made.framing, made.length, made.keep_alive) == (framing, length, keep_alive)


@pytest.mark.parametrize(
    ("status", "lines"),
    [
        *((status, []) for status in (b"", b"HTTP/2 200", b"HTTP/1.1 99", b"HTTP/1.1 200 \0")),
        *(
            (OK, [line])
            for line in (
                b"", b"no colon", b": no name", b"a : b", b" folded: c", b"a: b\rc", b"a: b\nc: d",
                b"a:\0", b"\xe9: b", b"transfer-encoding: gzip", b"content-length:",
                b"content-length: +3", b"content-length: " + b"9" * 16,
            )
        ),
        (OK, [b"transfer-encoding: chunked", b"content-length: 3"]),
        (OK, [b"transfer-encoding: chunked", b"transfer-encoding: chunked"]),
        (OK, [b"content-length: 3", b"content-length: 4"]),
        (b"HTTP/1.0 200 OK", [b"transfer-encoding: chunked"]),
    ],
)  # fmt: skip
def test_what_breaks_the_framing_is_refused(status: bytes, lines: list[bytes]) -> None:
    with pytest.raises(FramingError):
        read(*lines, status=status)


def test_headers_are_bounded() -> None:
    read(*[b"a: b"] * (HEADERS_MAX - 1))
    with pytest.raises(FramingError, match="more than"):
        read(*[b"a: b"] * HEADERS_MAX)


def test_lines_of_heads_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and however long: what is remembered changes nothing of a head."""
    monkeypatch.setattr(response_head, "LINES_REMEMBERED_MAX", 8)
    monkeypatch.setattr(response_head, "LENGTHS", {})
    long = b"x" * (response_head.LINE_REMEMBERED_BYTES_MAX + 1)
    for number in range(40):
        made = read(
            *(b"X-Request-Id:  %d\t" % number, b"x-long: " + long, b"Content-Length: 2"),
            b"x-number: %d" % number,
        )
        assert made.length == 2
        assert made.header("x-request-id") == f"{number}"
        assert made.header("x-long") == long.decode()
        assert made.header("x-longer") is None
        assert len(response_head._lines) <= 8
        assert b"x-long: " + long not in response_head._lines
        assert b"x-number: %d" % number in response_head._lines
        assert b"X-Request-Id:  %d\t" % number not in response_head._lines, "it never comes again"
    for length in (*range(40), 3, 39):
        assert read(b"Content-Length: %d" % length).length == length
        assert len(response_head.LENGTHS) <= 8
