"""Bytes that every reader takes for the same text: UTF-8, no mark before it, no halves of pairs.

Rules: looks at bytes before anybody parses them, because a parser of JSON may skip over strings
unread. This module must not know what the text says.
"""

import re

from proxy.core.errors import ErrorCode, RelayError

BACKSLASH = 0x5C
"""As a number, which is looked for in bytes at a fourth of what bytes of it cost."""
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F])"
)

_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How gzip (RFC 1952, 2.3.1) and zstd (RFC 8878, 3.1.1) begin; neither is text."""


def check_text(body: bytes) -> None:
    """Refuse a JSON body that is not plain text. Raises RelayError INVALID_JSON."""
    if not body.isascii():
        _check_utf8(body)
    if BACKSLASH in body:
        _check_surrogates(body)


def _check_utf8(body: bytes) -> None:
    if body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise RelayError(
            ErrorCode.INVALID_JSON,
            "The request body starts with a byte order mark: send UTF-8 without one.",
        )
    if body.startswith(_COMPRESSED):
        raise RelayError(
            ErrorCode.INVALID_JSON,
            "The request body is compressed, which is not supported: send it as it is, without "
            "`content-encoding`.",
        )
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise RelayError(
            ErrorCode.INVALID_JSON,
            f"The request body is not valid UTF-8 at byte {error.start}.",
        ) from None


def _check_surrogates(body: bytes) -> None:
    if b"\\ud" not in body and b"\\uD" not in body:
        return
    # Pairs of backslashes first: in `\\\\ud800` nothing is escaped but the backslash.
    lone = _LONE_SURROGATE.search(body.replace(b"\\\\", b".."))
    if lone is not None:
        raise RelayError(
            ErrorCode.INVALID_JSON,
            f"The request body has half a surrogate pair at byte {lone.start()}: "
            "escape the whole character, or send it as UTF-8.",
        )
