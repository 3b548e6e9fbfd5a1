"""A body is text, and the same text to everybody."""

from gzip import compress

import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.unicode import check_text


@pytest.mark.parametrize(
    "body",
    [
        b'"plain"',
        '"naïve 日本語 🚤"'.encode(),
        rb'"\n \" \u00e9"',
        rb'"\ud83d\udea4"',
        rb'"\uD83D\uDEA4\uD83D\uDEA4"',
        rb'"\\ud800"',
    ],
)
def test_text_passes(body: bytes) -> None:
    check_text(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\x00}\x00", "byte order mark"),
        (compress(b"{}", mtime=0), "compressed, which is not supported"),
        (b"\x28\xb5\x2f\xfd\x20\x02\x11\x00\x00{}", "compressed, which is not supported"),
        (b'"\xc3("', "not valid UTF-8 at byte 1"),
        (rb'"\ud800"', "half a surrogate pair at byte 1"),
        (rb'"\\\uDC00"', "half a surrogate pair at byte 3"),
        (rb'"\ud83dx"', "half a surrogate pair"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(RelayError, match=words) as caught:
        check_text(body)
    assert caught.value.code is ErrorCode.INVALID_JSON
