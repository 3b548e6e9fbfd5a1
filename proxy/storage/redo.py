"""What was promised before the database has it: two mapped files that outlive the process.

A commit of SQLite costs two changes of thread and a dozen system calls; a copy into a file mapped
as shared memory costs a microsecond and survives kill -9 just as well, because the page cache is
the kernel's. So an opened or ended call is durable (durability `process`) once its record is in
here, and the database follows within moments, many calls to a transaction.

Rules: one owner, the keeper's event loop, which appends; records are numbered without gaps, each
has a checksum that goes on from the one before it, and the database stores, in the same transaction
as the rows, how far it has come. A file begins with a preface, which says of which epoch and turn
it is; in the form of the release before, whose every record said so, it is one that fits no
database, so that this release's files are refused there and not passed over.
The two files take turns: one belongs to the batch that the writer thread works on, the other to
the batch that forms, so neither outgrows a batch. When one is full nothing more is logged, and
everybody waits for the database again, until that has caught up: what is logged is always a prefix
of what was decided. Every start takes what is left into the database first and begins a new epoch,
so that files of another time or database are never believed. A log may be of the release before:
its rows are completed, and told by their widths, so no new width may be one of an older release.
This module must not know threads, futures or how amounts are decided.
"""

import mmap
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import Final, TypeAlias
from zlib import crc32

import msgspec

from proxy.core.ledger import Charge, Posting, Transfer
from proxy.storage.batch import (
    OPEN_COLUMNS,
    ORDINARY_CALL_COLUMNS,
    ORDINARY_OPEN_COLUMNS,
    SETTLED_COLUMNS,
    SHARED_COLUMNS,
    Batch,
    completed,
)
from proxy.storage.inserts import Row
from proxy.storage.sqlite import Durability, open_writer

REST_OF_CALL_COLUMNS: Final = len(ORDINARY_CALL_COLUMNS) - SHARED_COLUMNS

OPENED: Final = 0
ENDED: Final = 1
UNDONE: Final = 2
SETTLED: Final = 3


class Opened(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=OPENED):
    """A call was admitted: its row of `open_call`."""

    call_id: int
    row: Row


class Ended(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=ENDED):
    """A call has ended: its row of `call`, and everything posted with it.

    An ordinary row is without the columns that begin it (`SHARED_COLUMNS`), where the file has its
    open row too.
    """

    call_id: int
    row: Row
    attempts: Sequence[Row]
    transfers: Sequence[Transfer]
    spend: Row | None
    charge: Charge | None = None
    """Which the release before had among the transfers."""


class Undone(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=UNDONE):
    """An admission nobody heard of was taken back."""

    call_id: int


class Settled(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=SETTLED):
    """A call has ended of which one row of `SETTLED_COLUMNS` says all but some transfers.

    Without the columns of its open row, where the file has that too.
    """

    call_id: int
    row: Row
    transfers: Sequence[Transfer]


Record: TypeAlias = Opened | Ended | Undone | Settled
"""As it is read. What is written is the tuple of a tag and its fields, which has the same bytes and
costs a fifth of a Struct to make."""
Logged: TypeAlias = (
    tuple[int, int, Row]
    | tuple[int, int, Row, Sequence[Row], Sequence[Posting], Row | None]
    | tuple[int, int, Row, Sequence[Row], Sequence[Posting], Row | None, Charge | None]
    | tuple[int, int, Row, Sequence[Posting]]
    | tuple[int, int]
)

SUFFIXES: Final = ("-redo0", "-redo1")
LOG_BYTES_MAX: Final = 8 << 20
"""One file: some eight thousand calls, and a second's worth at the highest rate measured."""

_HEAD: Final = Struct("<II")
"""Of a record: the length of the body that follows, and the sum of all bodies up to it."""
_PREFACE: Final = Struct("<QQI")
"""Epoch, the serial of the first record, and the length of the body that follows; a checksum of
all that comes last, with which the sums begin. A record of the release before had the same form."""
_SUM_BYTES: Final = 4
_EPOCH_BYTES: Final = 7
"""Fits SQLite's signed integers; the zeroes of a new file are no epoch."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Record).decode
_pack_head: Final = _HEAD.pack
_NOTHING_ENDED: Final = _encode((ENDED, 0, (), (), (), None))
"""The body of a preface."""


class RedoLog:
    """The log of one keeper; `append` until it is False, `turn` with every batch handed over."""

    __slots__ = ("_epoch", "_files", "_maps", "_now", "_sum", "_write", "serial", "suspended")

    def __init__(self, files: tuple[Path, Path], epoch: int) -> None:
        self.serial = 0
        """Of the last record."""
        self.suspended = False
        """Something decided is not in here: nothing may be that was decided after it."""
        self._epoch = epoch
        self._files = files
        self._sum = 0
        self._maps = [_map(file) for file in files]
        self._begin(self._maps[0])

    @classmethod
    def begin(cls, connection: sqlite3.Connection, path: Path) -> "RedoLog":
        """Start a new epoch beside the database in `path`, whose `replay` is done.

        Raises sqlite3.Error, also when there is no room for the two files.
        """
        epoch = int.from_bytes(os.urandom(_EPOCH_BYTES), "little") + 1
        connection.execute("UPDATE redo SET epoch = ?, applied = 0", (epoch,))
        try:
            return cls(log_files(path), epoch)
        except OSError as error:
            raise sqlite3.OperationalError(f"no redo log can be made: {error}") from error

    def append(self, record: Logged) -> bool:
        """Make `record` outlive this process; False, for this and all to come, when it is full."""
        if self.suspended:
            return False
        body = _encode(record)
        checksum = crc32(body, self._sum)
        try:
            self._write(_pack_head(len(body), checksum) + body)
        except ValueError:  # it does not fit: nothing of it was written
            self.suspended = True
            return False
        self._sum = checksum
        self.serial += 1
        return True

    def turn(self) -> int:
        """Begin the other file, whose batch is in the database; return the last serial of this."""
        self._begin(self._maps[0] if self._now is self._maps[1] else self._maps[1])
        return self.serial

    def _begin(self, file: mmap.mmap) -> None:
        self._now, self._write = file, file.write
        preface = _PREFACE.pack(self._epoch, self.serial + 1, len(_NOTHING_ENDED)) + _NOTHING_ENDED
        self._sum = crc32(preface)
        file.seek(0)
        file.write(preface + self._sum.to_bytes(_SUM_BYTES, "little"))

    def close(self, *, delete: bool) -> None:
        """Let go of the files; `delete` them when the database has all they hold."""
        for each in self._maps:
            each.close()
        for file in self._files if delete else ():
            file.unlink(missing_ok=True)


def log_files(path: Path) -> tuple[Path, Path]:
    """The two files that belong to the database in `path`."""
    first, second = SUFFIXES
    return Path(f"{path}{first}"), Path(f"{path}{second}")


def catch_up(path: Path, now: float) -> int:
    """Take what a killed keeper had logged into the database in `path`; returns how many records.

    The caller holds the data directory's lock. A relay does so at its start; this is for those
    who look at the file before. Raises SchemaError, sqlite3.Error.
    """
    if not any(file.exists() for file in log_files(path)):
        return 0
    connection = open_writer(path, Durability.POWER, now)
    try:
        return replay(connection, path)
    finally:
        connection.close()


def replay(connection: sqlite3.Connection, path: Path) -> int:
    """Take what a keeper that died had logged into the database; returns how many records.

    Raises sqlite3.Error; nothing is changed then.
    """
    epoch, applied = connection.execute("SELECT epoch, applied FROM redo").fetchone()
    found: dict[int, Record] = {}
    for file in log_files(path):
        found.update(_read(file, epoch))
    opened = {call_id for (call_id,) in connection.execute("SELECT id FROM open_call")}
    batch, serial = Batch(), int(applied)
    try:
        while (record := found.get(serial + 1)) is not None:
            serial += 1
            _take(batch, record, opened)
        if serial == applied:
            return 0
        batch.serial = serial
        batch.apply(connection)
    except (sqlite3.IntegrityError, AssertionError) as error:
        names = " and ".join(file.name for file in log_files(path))
        raise sqlite3.DatabaseError(
            f"{names} do not fit the database ({error}): one of them was restored or changed; "
            "with them moved away it starts without the calls they hold"
        ) from error
    return serial - int(applied)


def _take(batch: Batch, record: Record, opened: set[int]) -> None:
    """Add one record to `batch`; `opened` are the calls with a row of `open_call`."""
    if isinstance(record, Opened):
        # The release before knew fewer columns; what it did not know is NULL.
        row, unknown = record.row, len(OPEN_COLUMNS) - len(record.row)
        if len(row) != len(ORDINARY_OPEN_COLUMNS):
            row = (*row, *((None,) * unknown))
        batch.opens[record.call_id] = row
        return
    # A row that was never logged, because nobody waited for it, may have been written or not.
    begun = batch.opens.pop(record.call_id, None)
    if begun is None and record.call_id in opened:
        batch.closes.append((record.call_id,))
    if isinstance(record, Ended):
        row = record.row
        if len(row) == REST_OF_CALL_COLUMNS:
            if begun is None:
                raise AssertionError(f"call {record.call_id} ended and had not begun")
            row = (*begun[:SHARED_COLUMNS], *row)
        batch.end(completed(row), record.attempts, record.transfers, record.spend, record.charge)
    elif isinstance(record, Settled):
        row = record.row
        if len(row) != len(SETTLED_COLUMNS):
            row = (*(begun or ()), *row)
        if len(row) != len(SETTLED_COLUMNS):
            raise AssertionError(f"call {record.call_id} was settled and had not begun")
        batch.settle(row, record.transfers)


def _map(file: Path) -> mmap.mmap:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A page without room on the disk would kill the process at its first touch.
        os.posix_fallocate(descriptor, 0, LOG_BYTES_MAX)
        return mmap.mmap(descriptor, LOG_BYTES_MAX)
    finally:
        os.close(descriptor)


def _read(file: Path, epoch: int) -> dict[int, Record]:
    """Whole records of `epoch` from the start of one file on, by serial."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise sqlite3.OperationalError(f"{file.name} cannot be read: {error}") from error
    found: dict[int, Record] = {}
    for serial, record, end in _of_the_release_before(data, epoch):
        if isinstance(record, Ended) and not record.row:
            return _following(data, serial, end)
        found[serial] = record
    return found


def _following(data: bytes, serial: int, position: int) -> dict[int, Record]:
    """Records behind the preface that ends at `position`; the first of them is number `serial`."""
    found: dict[int, Record] = {}
    checksum = int.from_bytes(data[position - _SUM_BYTES : position], "little")
    while position + _HEAD.size <= len(data):
        size, claimed = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        body = data[position : position + size]
        checksum = crc32(body, checksum)
        # Behind the newest record lie those of an earlier turn, whose sums began otherwise.
        if checksum != claimed or len(body) != size or not size:
            break
        found[serial] = _decode(body)
        serial, position = serial + 1, position + size
    return found


def _of_the_release_before(data: bytes, epoch: int) -> Iterator[tuple[int, Record, int]]:
    """Serial, record and end of what is in the form of a preface, which it once all was."""
    position, last = 0, 0
    while position + _PREFACE.size + _SUM_BYTES <= len(data):
        of, serial, size = _PREFACE.unpack_from(data, position)
        end = position + _PREFACE.size + size
        # Behind the newest record lie those of an earlier turn.
        if of != epoch or (last and serial != last + 1) or end + _SUM_BYTES > len(data):
            break
        if crc32(data[position:end]).to_bytes(_SUM_BYTES, "little") != data[end : end + _SUM_BYTES]:
            break
        record = _decode(data[position + _PREFACE.size : end])
        position, last = end + _SUM_BYTES, serial
        yield serial, record, position
