"""A mark beside the database: how much of which WAL a checkpoint may have begun to copy.

Rules: while a checkpoint copies pages the database alone is no state that ever was; only together
with the WAL is it one. The mark is written before each checkpoint, so that a start can tell a WAL
that was cut, or removed, below that point from one that is as it was left. It costs a checkpoint
some twenty small reads and a commit nothing. Only the WAL file is opened: SQLite locks the other
two, and closing any descriptor of those would drop its locks (fcntl(2)). This module must not know
what is in the pages.

Source: sqlite.org/fileformat2.html section 4.1, header and frames of a WAL.
"""

import contextlib
import os
import sqlite3
import struct
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct(">8I")
_MAGIC_LITTLE = 0x377F0682
_MAGIC_BIG = 0x377F0683
_FRAME_HEADER_BYTES = 24
_SALT_OFFSET = 8
_SALT_BYTES = 8
_MARK = struct.Struct(">I8s")


class WalState(NamedTuple):
    """How many frames of its current generation a WAL holds, and the salts that name it."""

    frames: int
    salts: bytes


class CheckpointMark:
    """The file `DATABASE-mark`."""

    def __init__(self, database: Path) -> None:
        self._wal = Path(f"{database}-wal")
        self._path = Path(f"{database}-mark")

    def write(self) -> None:
        """Say what a checkpoint that begins now may copy. Raises OSError."""
        state = wal_state(self._wal)
        if state is None or not state.frames:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, _MARK.pack(*state), 0)
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Forget it: all of the WAL is in the database. Raises OSError."""
        self._path.unlink(missing_ok=True)

    def close(self, connection: sqlite3.Connection) -> None:
        """Close the writing connection, which checkpoints once more.

        What cannot be marked any more is no worse than an unmarked close.
        """
        with contextlib.suppress(OSError):
            self.write()
        connection.close()
        if not self._wal.exists():  # removed by SQLite: all of it is in the database
            with contextlib.suppress(OSError):
                self.clear()

    def lost(self) -> str | None:
        """What the WAL lacks, None if it has what the mark says. Raises OSError.

        To be asked before anything is written.
        """
        try:
            raw = self._path.read_bytes()
        except FileNotFoundError:
            return None
        if len(raw) != _MARK.size:
            return None  # killed while it was made, so nothing had been copied
        marked = WalState(*_MARK.unpack(raw))
        state = wal_state(self._wal)
        if state is not None and state.salts != marked.salts:
            return None  # begun anew since, which SQLite does only once all was copied
        found = 0 if state is None else state.frames
        if found >= marked.frames:
            return None
        return (
            f"{self._wal} was cut or removed: {found} of at least {marked.frames} pages are there"
        )


def wal_state(wal: Path) -> WalState | None:
    """What the file holds; None without a valid header, which SQLite takes for an empty WAL."""
    try:
        descriptor = os.open(wal, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        header = os.pread(descriptor, _HEADER.size, 0)
        if len(header) < _HEADER.size or not _header_valid(header):
            return None
        page_bytes = int.from_bytes(header[8:12], "big")
        salts = header[16:24]
        stride = _FRAME_HEADER_BYTES + page_bytes
        whole = (os.fstat(descriptor).st_size - _HEADER.size) // stride
        # Frames of this generation come first; what follows them is left from an earlier one.
        low, high = 0, whole
        while low < high:
            middle = (low + high) // 2
            at = _HEADER.size + middle * stride + _SALT_OFFSET
            if os.pread(descriptor, _SALT_BYTES, at) == salts:
                low = middle + 1
            else:
                high = middle
        return WalState(low, salts)
    finally:
        os.close(descriptor)


def _header_valid(header: bytes) -> bool:
    magic, *_, first, second = _HEADER.unpack(header)
    if magic not in {_MAGIC_LITTLE, _MAGIC_BIG}:
        return False
    order = "<" if magic == _MAGIC_LITTLE else ">"
    one = two = 0
    for left, right in struct.iter_unpack(f"{order}II", header[:24]):
        one = (one + left + two) & 0xFFFFFFFF
        two = (two + right + one) & 0xFFFFFFFF
    return (one, two) == (first, second)
