"""A request body that may be large: taken off the client, kept for every attempt, sent in pieces.

Rules: a small body stays in memory, a larger one goes to a file without a name, so that memory is
the same whatever a caller uploads; all of them together have a limit. The client is read no
faster than the file is written. Files are read and written by threads: a disk that stalls must
not stall the loop. This module must not know what is in a body; its edits are spans.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Final, Protocol

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.services.service import Edit
from proxy.edge import log
from proxy.edge.downstream import Downstream, body_too_slow

PIECE_BYTES: Final = 65_536
"""What is read back and sent at once."""
THREADS_MAX: Final = 4
WRITE_BYTES: Final = 262_144
"""What is gathered before it is written to the file."""


class Spool:
    """Where large bodies are kept, and how much they take together. One per process.

    Its threads are its own: the loop's others resolve names, and must not wait for a disk.
    """

    def __init__(self) -> None:
        self.used_bytes = 0
        self.threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="spool")


class Limits(Protocol):
    """The named limits an upload needs (edge/world.py:Bounds)."""

    @property
    def body_seconds_max(self) -> float:
        """A body must be in by then."""

    @property
    def spool_memory_bytes_max(self) -> int:
        """A larger body goes to a file."""

    @property
    def spool_bytes_max(self) -> int:
        """All files together."""

    @property
    def spool_dir(self) -> str:
        """The directory of the files; empty: the system's for temporary files."""


class Upload:
    """One body, once it is whole. `close` it when no attempt will be made any more."""

    def __init__(self, spool: Spool) -> None:
        self.size = 0
        self._spool = spool
        self._pieces: list[bytes] = []
        self._memory = b""
        self._file: IO[bytes] | None = None
        self._spooled = 0
        self._busy = 0
        """Threads that use the file now."""
        self._closed = False

    @property
    def is_spooled(self) -> bool:
        """Whether the body is in a file."""
        return self._file is not None

    async def receive(
        self,
        client: Downstream,
        limits: Limits,
        bytes_max: int,
        feed: Callable[[bytes], None],
    ) -> None:
        """Take the whole body, giving each piece to `feed` as it comes, which may raise.

        Raises RelayError 400, 408, 413, 503; ConnectionError when the client leaves.
        """
        try:
            async with asyncio.timeout(limits.body_seconds_max):
                async for piece in client.body_pieces(bytes_max):
                    feed(piece)
                    self._pieces.append(piece)
                    self.size += len(piece)
                    if self._must_write(limits):
                        await self._write(limits)
                if self._file is not None and self._pieces:
                    await self._write(limits)
        except TimeoutError:
            raise body_too_slow(limits.body_seconds_max) from None
        if self._file is None:
            self._memory = b"".join(self._pieces)
            self._pieces.clear()

    def _must_write(self, limits: Limits) -> bool:
        waiting = self.size - self._spooled
        if self._file is None:
            return self.size > limits.spool_memory_bytes_max
        return waiting >= WRITE_BYTES

    async def _write(self, limits: Limits) -> None:
        """Move what waits to the file. Raises RelayError 503."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        if self._spool.used_bytes + len(data) > limits.spool_bytes_max:
            raise RelayError(
                ErrorCode.SERVICE_UNAVAILABLE,
                "Too many large requests are being received at once; try again.",
                retry_after=2,
            )
        self._spool.used_bytes += len(data)
        self._spooled += len(data)
        try:
            await asyncio.shield(self.in_thread(lambda: self._append(data, limits.spool_dir)))
        except OSError as error:
            log.get().error(
                "a large request body cannot be kept",
                directory=limits.spool_dir,
                reason=str(error),
                remedy="make spool_dir a directory this user may write to, with room",
            )
            raise RelayError(
                ErrorCode.SERVICE_UNAVAILABLE,
                f"The request body cannot be kept: {os.strerror(error.errno or 0)}.",
                retry_after=5,
            ) from error

    def _append(self, data: bytes, directory: str) -> bytes:
        if self._file is None:
            # Unnamed where the file system can (open(2), O_TMPFILE), else unlinked at once.
            self._file = tempfile.TemporaryFile(dir=directory or None, buffering=0)  # noqa: SIM115 - it outlives this call; `close` closes it
        view = memoryview(data)
        while view:
            view = view[os.write(self._file.fileno(), view) :]
        return b""

    def read(self, start: int, end: int) -> bytes:
        """Return bytes `start` to `end`; those of a file are read at once, by a thread."""
        if self._file is None:
            return self._memory[start:end]
        data = os.pread(self._file.fileno(), end - start, start)
        if not data:
            raise OSError("the kept body is shorter than it was")
        return data

    async def whole(self) -> bytes:
        """Return all of the body, for the few that must be looked at again."""
        return await asyncio.shield(self.in_thread(self._whole))

    def _whole(self) -> bytes:
        pieces: list[bytes] = []
        position = 0
        while position < self.size:
            pieces.append(self.read(position, self.size))
            position += len(pieces[-1])
        return b"".join(pieces)

    def in_thread(self, work: Callable[[], bytes]) -> asyncio.Future[bytes]:
        """Let a thread do `work`; the file stays open until it is done, whoever still waits."""
        self._busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._spool.threads, work)
        future.add_done_callback(self._done)
        return future

    def _done(self, future: asyncio.Future[bytes]) -> None:
        if not future.cancelled():
            future.exception()  # whoever waited was told, or nobody waits any more
        self._busy -= 1
        if self._closed and not self._busy:
            self._release()

    def close(self) -> None:
        """Give back what the body took, as soon as no thread uses it."""
        self._closed = True
        if not self._busy:
            self._release()

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
        self._spool.used_bytes -= self._spooled
        self._spooled = 0
        self._memory = b""
        self._pieces.clear()


class Source:
    """An upload as one attempt sends it: its bytes with a few spans replaced, piece by piece."""

    def __init__(self, upload: Upload, edits: Sequence[Edit]) -> None:
        self.upload = upload
        self.size = upload.size
        self._parts: list[tuple[int, int, bytes]] = []
        """Spans of the body in order, or (0, 0, bytes of ours)."""
        position = 0
        for start, end, put in sorted(edits):
            self._parts += [(position, start, b""), (0, 0, put)]
            self.size += len(put) - (end - start)
            position = end
        self._parts.append((position, upload.size, b""))
        self._parts.reverse()

    @property
    def in_memory(self) -> bool:
        """Whether `take` returns at once."""
        return not self.upload.is_spooled

    def take(self) -> bytes:
        """Return the next piece, b"" at the end. Raises OSError; may wait for a disk."""
        while self._parts:
            start, end, put = self._parts.pop()
            if put:
                return put
            if start == end:
                continue
            piece = self.upload.read(start, min(end, start + PIECE_BYTES))
            self._parts.append((start + len(piece), end, b""))
            return piece
        return b""
