"""The header lines of form data: the boundary of a body, the name and file name of a part.

Rules: whatever two readers could take for different names is refused: a backslash or an encoded
word in a name, a parameter given twice, `name*`, a folded line. A file name is only shown, so it
may be odd. This module must not know bodies.

Sources: RFC 7578 sections 4.1 to 4.2 (form-data), RFC 2046 section 5.1.1 (boundary: 1 to 70
characters), RFC 8187 (`filename*`), and the WHATWG HTML encoding, which percent-escapes the quote,
CR and LF of names.
"""

import re
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from msgspec import Struct

BOUNDARY_CHARS_MAX: Final = 70
NAME_CHARS_MAX: Final = 256
FILENAME_CHARS_MAX: Final = 1_024

_TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - a token of RFC 9110
_PARAMETER: Final = re.compile(
    r"[ \t]*;[ \t]*(?:(" + _TOKEN + r')[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.|(?!))*+)"|([^";]*+)))?'
)
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]*[0-9A-Za-z'()+_,\-./:=?]")
_HEADER: Final = re.compile(r"(" + _TOKEN + r"):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_PLAIN_ENCODINGS: Final = frozenset({"", "binary", "8bit", "7bit"})


class PartHead(Struct, frozen=True):
    """What the headers of one part say. `filename` None: a plain field."""

    name: str
    filename: str | None
    content_type: str


def read_boundary(content_type: str) -> bytes | str:
    """Return the boundary a request's content type names, or what is wrong with it."""
    media, parameters = _split(content_type)
    if media != "multipart/form-data":
        return "must be multipart/form-data"
    if parameters is None:
        return "has parameters that cannot be read: write boundary=..."
    found = [value for name, value in parameters if name == "boundary"]
    if not found:
        return "names no boundary: leave the header to your HTTP client, which knows it"
    if len(found) > 1:
        return "names two boundaries: send one"
    if len(found[0]) > BOUNDARY_CHARS_MAX or not _BOUNDARY.fullmatch(found[0]):
        return f"has a boundary that is none: send 1 to {BOUNDARY_CHARS_MAX} letters and digits"
    return found[0].encode()


def read_head(block: bytes) -> PartHead | str:
    """Read the header lines of a part, without the empty line after them; else what is wrong."""
    headers: dict[str, str] = {}
    try:
        lines = block.decode().split("\r\n")
    except UnicodeDecodeError:
        return "has headers that are not UTF-8"
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            return "has a header line that is none"
        name = match[1].lower()
        if name in headers:
            return f"has the header {match[1]} twice"
        headers[name] = match[2].strip(" \t")
    if headers.get("content-transfer-encoding", "").lower() not in _PLAIN_ENCODINGS:
        return "has a Content-Transfer-Encoding: send its bytes as they are"
    if "content-disposition" not in headers:
        return "has no Content-Disposition: form-data header"
    return _disposed(headers["content-disposition"], headers.get("content-type", ""))


def _disposed(disposition: str, content_type: str) -> PartHead | str:
    kind, parameters = _split(disposition)
    if kind != "form-data":
        return "has a Content-Disposition that is not form-data"
    if parameters is None:
        return 'has a Content-Disposition that cannot be read: write form-data; name="..."'
    values = dict(parameters)
    if len(values) != len(parameters):
        return "has a Content-Disposition with a parameter twice"
    name = values.get("name")
    if name is None or "name*" in values:
        return 'has a Content-Disposition without a plain name="..."'
    if not name or len(name) > NAME_CHARS_MAX or "\\" in name or "=?" in name:
        return f"has a name that is empty, longer than {NAME_CHARS_MAX} or escaped"
    filename = values.get("filename")
    if "filename*" in values:
        filename = _extended(values["filename*"])
    elif filename is not None:
        filename = _QUOTED_PAIR.sub(r"\1", filename)
    if filename is not None and len(filename) > FILENAME_CHARS_MAX:
        return f"has a file name longer than {FILENAME_CHARS_MAX}"
    return PartHead(unquote(name), None if filename is None else unquote(filename), content_type)


def _extended(value: str) -> str:
    """Read `UTF-8'language'text`; what is not so is taken as it is."""
    charset, _, rest = value.partition("'")
    _, quoted, text = rest.partition("'")
    if charset.lower() != "utf-8" or not quoted:
        return value
    return unquote_to_bytes(text).decode("utf-8", "replace")


def _split(header: str) -> tuple[str, list[tuple[str, str]] | None]:
    """Return a header's first value and its parameters; None when they are no parameters."""
    first = header.partition(";")[0]
    media = first.strip(" \t").lower()
    position = len(first)
    parameters: list[tuple[str, str]] = []
    while position < len(header):
        match = _PARAMETER.match(header, position)
        if match is None:
            return media, None
        position = match.end()
        if match[1]:
            value = match[3].strip(" \t") if match[2] is None else match[2]
            parameters.append((match[1].lower(), value))
    return media, parameters
