"""Form data read from pieces of any size, in constant memory: small fields, and where files are.

Rules: strict, because readers that disagree about a form would disagree about its model: lines end
in CRLF, the boundary stands nowhere but in delimiters, and those have nothing added to them. Small
fields are kept, larger ones measured; of a file its first bytes are kept, and the rest is shown in
passing to whoever asked. A fault is a value, and the first one is the last. This module must not
know what any field means.

Sources: RFC 7578 (form data), RFC 2046 section 5.1.1 (delimiters, preamble and epilogue).
"""

from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Struct

from proxy.core.form_headers import PartHead, read_head

PARTS_MAX: Final = 256
HEAD_BYTES_MAX: Final = 8_192
"""Header lines of one part."""
FIELD_BYTES_MAX: Final = 4_096
"""A larger field is measured but not kept."""
FILE_HEAD_BYTES_MAX: Final = 64
PREAMBLE_BYTES_MAX: Final = 4_096
EPILOGUE_BYTES_MAX: Final = 4_096
_HIGH: Final = bytes(range(128, 256))
_NOT_LEADING: Final = bytes(range(192))
_CRLF: Final = b"\r\n"


class FormFault(Struct, frozen=True):
    """What is wrong with a form, as the end of a sentence about it, and a stable name for it."""

    kind: str
    offset: int
    problem: str


class Field(Struct):
    """A plain field. `start` and `end`: where its value is, from the first byte of the body."""

    name: str
    start: int
    end: int = -1
    value: bytes | None = b""
    """None for more than `FIELD_BYTES_MAX`."""
    narrow: int = 0
    wide: int = 0
    """Characters that are ASCII, and others."""


class FilePart(Struct):
    """A file. `head`: its first bytes."""

    name: str
    filename: str
    content_type: str
    start: int
    end: int = -1
    head: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of a file that has ended."""
        return self.end - self.start


class Sink(Protocol):
    """Whoever looks at the bytes of a file as they pass."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""


def _nobody(_file: FilePart) -> Sink | None:
    return None


class FormScanner:
    """Reads one form as it comes; see the module docstring.

    `watch` is asked for every file that begins who wants to see it. Feed pieces, then `finish`;
    read `fault`, `fields` and `files` at any time.
    """

    __slots__ = (
        "_base", "_marker", "_part", "_parts", "_rest", "_sink", "_step", "_watch", "complete",
        "fault", "fields", "files", "first", "size",
    )  # fmt: skip

    def __init__(self, boundary: bytes, watch: Callable[[FilePart], Sink | None] = _nobody) -> None:
        self.fields: list[Field] = []
        self.files: list[FilePart] = []
        self.fault: FormFault | None = None
        self.complete = False
        self.size = 0
        """Bytes fed."""
        self.first = -1
        """Where the first delimiter is."""
        self._marker = b"--" + boundary
        self._watch = watch
        self._rest = b""
        self._base = 0
        self._step: Callable[[bytes, int], int] = self._preamble
        self._part: Field | FilePart | None = None
        self._sink: Sink | None = None
        self._parts = 0

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body; ignored after a fault."""
        if self.fault is not None or not piece:
            return
        data = self._rest + piece if self._rest else piece
        self._base = self.size - len(self._rest)
        self.size += len(piece)
        position = 0
        while self.fault is None:
            reached = self._step(data, position)
            if reached == position:
                break
            position = reached
        self._rest = data[position:]

    def finish(self) -> None:
        """Say that nothing follows."""
        if self.fault is not None or self.complete:
            return
        if not self.size:
            self._fail("empty", 0, "is empty")
        elif self.first < 0:
            self._fail("no_delimiter", 0, "does not contain the boundary its content type names")
        else:
            self._fail("unterminated", self.size, f"ends at byte {self.size} without its last line")

    def _fail(self, kind: str, at: int, problem: str) -> int:
        self.fault = FormFault(kind, at, problem)
        self._sink = None
        return 0

    # One method per state: takes the bytes and where to go on, returns how far it came.

    def _preamble(self, data: bytes, position: int) -> int:
        marker = self._marker
        found = data.find(marker)
        if found > PREAMBLE_BYTES_MAX or (
            found < 0 and len(data) >= PREAMBLE_BYTES_MAX + len(marker)
        ):
            return self._fail(
                "preamble_too_large",
                0,
                f"does not begin with its boundary within {PREAMBLE_BYTES_MAX} bytes",
            )
        if found < 0:
            return position
        if found and data[max(0, found - 2) : found] != _CRLF:
            return self._misplaced(found)
        self.first = self._base + found
        self._step = self._delimiter
        return found + len(marker)

    def _delimiter(self, data: bytes, position: int) -> int:
        """Read what follows the boundary: the end of its line, or the mark of the last."""
        after = data[position : position + 2]
        if after == _CRLF:
            self._parts += 1
            if self._parts > PARTS_MAX:
                return self._fail(
                    "too_many_parts",
                    self._base + position,
                    f"has too many parts: send at most {PARTS_MAX}",
                )
            self._step = self._head
            return position + 2
        if after == b"--":
            self._step = self._epilogue
            self.complete = True
            return position + 2
        return self._misplaced(position) if len(after) == 2 else position

    def _head(self, data: bytes, position: int) -> int:
        at = self._base + position
        if data.startswith(_CRLF, position):
            return self._fail("bad_headers", at, f"has a part at byte {at} that has no headers")
        end = data.find(b"\r\n\r\n", position)
        limit = position + HEAD_BYTES_MAX
        if end > limit or (end < 0 and len(data) >= limit + 4):
            return self._fail(
                "headers_too_large",
                at,
                f"has a part whose headers are larger than {HEAD_BYTES_MAX} bytes",
            )
        if end < 0:
            return position
        block = data[position:end]
        if self._marker in block:
            return self._misplaced(position + block.index(self._marker))
        head = read_head(block)
        if isinstance(head, str):
            return self._fail("bad_headers", at, f"has a part at byte {at} that {head}")
        self._begin(head, self._base + end + 4)
        self._step = self._data
        return end + 4

    def _begin(self, head: PartHead, start: int) -> None:
        if head.filename is None:
            field = Field(head.name, start)
            self.fields.append(field)
            self._part = field
        else:
            file = FilePart(head.name, head.filename, head.content_type, start)
            self.files.append(file)
            self._sink = self._watch(file)
            self._part = file

    def _data(self, data: bytes, position: int) -> int:
        """Take what surely belongs to the part, up to the delimiter if it is there."""
        part = self._part
        if part is None:
            raise AssertionError("there is no part")
        marker = self._marker
        found = data.find(marker, position)
        if found < 0:
            # What could be the beginning of a delimiter, its line end included, waits.
            end = max(position, len(data) - len(marker) - 1)
            self._take(part, data[position:end])
            return end
        end = found - 2
        if end < position or data[end:found] != _CRLF:
            return self._misplaced(found)
        self._take(part, data[position:end])
        part.end = self._base + end
        self._part = self._sink = None
        self._step = self._delimiter
        return found + len(marker)

    def _take(self, part: Field | FilePart, piece: bytes) -> None:
        if not piece:
            return
        if isinstance(part, FilePart):
            if len(part.head) < FILE_HEAD_BYTES_MAX:
                part.head += piece[: FILE_HEAD_BYTES_MAX - len(part.head)]
            if self._sink is not None:
                self._sink.feed(piece)
            return
        if piece.isascii():
            part.narrow += len(piece)
        else:
            part.narrow += len(piece.translate(None, _HIGH))
            part.wide += len(piece.translate(None, _NOT_LEADING))
        if part.value is not None:
            kept = part.value + piece
            part.value = kept if len(kept) <= FIELD_BYTES_MAX else None

    def _epilogue(self, data: bytes, position: int) -> int:
        """Look that nothing follows that another reader could take for a part."""
        after = data[position : position + 2]
        if not _CRLF.startswith(after):
            return self._misplaced(position)
        found = data.find(self._marker, position, position + EPILOGUE_BYTES_MAX)
        if found >= 0:
            return self._misplaced(found)
        if len(data) - position > EPILOGUE_BYTES_MAX:
            self._fail(
                "epilogue_too_large",
                self._base + position,
                f"goes on for more than {EPILOGUE_BYTES_MAX} bytes after its last line",
            )
        return position

    def _misplaced(self, position: int) -> int:
        at = self._base + position
        return self._fail(
            "boundary_inside",
            at,
            f"has its boundary at byte {at} where no line begins or ends with it: lines end in "
            "CRLF, and a boundary must not occur in what is sent",
        )
