"""A body that may be large: in memory or in a file, the same bytes for every attempt."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.edge import upload
from proxy.edge.upload import Source, Spool, Upload
from proxy.edge.world import Bounds

BODY = bytes(range(256)) * 1_200  # 307,200 bytes: above what stays in memory
SMALL = Bounds(spool_memory_bytes_max=1_000)


class Client:
    """What an upload asks of a client: pieces of a body."""

    def __init__(self, body: bytes, size: int = 10_000, error: BaseException | None = None) -> None:
        self.body, self.size, self.error = body, size, error

    async def body_pieces(self, bytes_max: int) -> AsyncIterator[bytes]:
        assert bytes_max == 9
        for at in range(0, len(self.body), self.size):
            yield self.body[at : at + self.size]
        if self.error is not None:
            raise self.error


async def received(
    body: bytes, bounds: Bounds, *, spool: Spool | None = None, size: int = 10_000
) -> Upload:
    made = Upload(spool or Spool())
    fed: list[bytes] = []
    try:
        await made.receive(Client(body, size), bounds, 9, fed.append)  # type: ignore[arg-type]
    except RelayError:
        made.close()
        raise
    assert b"".join(fed) == body
    return made


def taken(source: Source) -> bytes:
    pieces: list[bytes] = []
    while piece := source.take():
        assert len(piece) <= upload.PIECE_BYTES
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1, 999, 1_000])
def test_a_small_body_stays_in_memory(tmp_path: Path, size: int) -> None:
    async def check() -> None:
        bounds = Bounds(spool_memory_bytes_max=1_000, spool_dir=str(tmp_path / "nowhere"))
        made = await received(BODY[:size], bounds)
        assert (made.size, made.is_spooled) == (size, False)
        assert Source(made, ()).in_memory
        assert taken(Source(made, ())) == BODY[:size]
        assert await made.whole() == BODY[:size]
        made.close()

    asyncio.run(check())


@pytest.mark.parametrize("size", [1_001, 262_144, 300_000])
@pytest.mark.parametrize("piece", [700, 65_536])
def test_a_large_body_goes_to_a_file_without_a_name(tmp_path: Path, size: int, piece: int) -> None:
    async def check() -> None:
        spool = Spool()
        bounds = Bounds(spool_memory_bytes_max=1_000, spool_dir=str(tmp_path))
        made = await received(BODY[:size], bounds, spool=spool, size=piece)
        assert (made.size, made.is_spooled) == (size, True)
        assert list(tmp_path.iterdir()) == []
        assert spool.used_bytes == size
        for _ in range(2):  # as often as there are attempts
            source = Source(made, ())
            assert not source.in_memory
            assert taken(source) == BODY[:size]
        assert await made.whole() == BODY[:size]
        made.close()
        assert spool.used_bytes == 0

    asyncio.run(check())


@pytest.mark.parametrize("bounds", [Bounds(), SMALL])
@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ((), BODY[:2_000]),
        (((0, 0, b"new"),), b"new" + BODY[:2_000]),
        (((5, 9, b"new"),), BODY[:5] + b"new" + BODY[9:2_000]),
        (((1_990, 2_000, b""),), BODY[:1_990]),
        (((7, 8, b"b"), (0, 7, b"")), b"b" + BODY[8:2_000]),
    ],
)
def test_edits_change_spans_and_nothing_else(
    bounds: Bounds, edits: tuple[tuple[int, int, bytes], ...], expected: bytes
) -> None:
    async def check() -> None:
        made = await received(BODY[:2_000], bounds)
        source = Source(made, edits)
        assert source.size == len(expected)
        assert taken(source) == expected
        made.close()

    asyncio.run(check())


def test_all_files_together_have_a_limit() -> None:
    async def check() -> None:
        spool = Spool()
        bounds = Bounds(spool_memory_bytes_max=1_000, spool_bytes_max=100_000)
        first = await received(BODY[:60_000], bounds, spool=spool)
        with pytest.raises(RelayError) as full:
            await received(BODY[:60_000], bounds, spool=spool)
        assert full.value.code is ErrorCode.SERVICE_UNAVAILABLE
        assert full.value.retry_after is not None
        assert spool.used_bytes == 60_000, "who is refused gives back what was kept"
        first.close()
        again = await received(BODY[:60_000], bounds, spool=spool)
        again.close()

    asyncio.run(check())


def test_a_disk_that_is_full_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    async def check() -> None:
        monkeypatch.setattr(os, "write", full)
        made = Upload(Spool())
        with pytest.raises(RelayError) as failed:
            await made.receive(Client(BODY), SMALL, 9, len)  # type: ignore[arg-type]
        assert failed.value.code is ErrorCode.SERVICE_UNAVAILABLE
        assert "No space left on device" in failed.value.message
        made.close()

    asyncio.run(check())


def test_what_is_read_may_refuse_the_body_and_the_client_may_leave() -> None:
    def refuse(piece: bytes) -> None:
        raise RelayError(ErrorCode.INVALID_REQUEST, f"not {piece[:1]!r}")

    async def check() -> None:
        made = Upload(Spool())
        with pytest.raises(RelayError, match="not"):
            await made.receive(Client(BODY), SMALL, 9, refuse)  # type: ignore[arg-type]
        gone = ConnectionResetError("gone")
        with pytest.raises(ConnectionResetError):
            await made.receive(Client(BODY, error=gone), SMALL, 9, len)  # type: ignore[arg-type]
        made.close()

    asyncio.run(check())


def test_a_body_must_be_in_by_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writing counts as well; what a thread still does is waited for before the file closes."""
    begun, go_on = threading.Event(), threading.Event()
    write = os.write

    def slow(descriptor: int, data: bytes) -> int:
        begun.set()
        go_on.wait(20)
        return write(descriptor, data)

    async def check() -> None:
        monkeypatch.setattr(os, "write", slow)
        spool = Spool()
        made = Upload(spool)
        bounds = Bounds(spool_memory_bytes_max=1_000, body_seconds_max=0.001)
        with pytest.raises(RelayError) as late:
            await made.receive(Client(BODY), bounds, 9, len)  # type: ignore[arg-type]
        assert late.value.code is ErrorCode.REQUEST_TIMEOUT
        assert begun.wait(20)
        made.close()
        assert spool.used_bytes > 0, "a thread has the file"
        go_on.set()
        while spool.used_bytes:
            await asyncio.sleep(0)

    asyncio.run(check())


def test_a_file_that_shrank_is_noticed() -> None:
    async def check() -> None:
        made = await received(BODY, SMALL)
        assert made._file is not None
        os.truncate(made._file.fileno(), 10)
        with pytest.raises(OSError, match="shorter"):
            made.read(10, 20)
        made.close()

    asyncio.run(check())
