"""Whole answers kept for a while, to be given again to the very same request.

Rules: exact match and nothing else: the digest covers every byte of the request's body and all
that may make its answer another one. Everything is bounded: the bytes of all entries, of one
entry, and their number; the least recently used leave first, and whoever is past its time is as
good as not there. Kept in memory alone, so that nothing a user said is ever on a disk. Time is an
argument, Unix seconds. This module must not know requests, keys or prices.
"""

from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from proxy.core.entities import Usage

ENTRY_OVERHEAD_BYTES = 1_024
"""What an entry takes besides its answer, counted so that many small ones are bounded too."""


class Limits(Struct, frozen=True):
    """How much is kept. `bytes_max` 0: nothing."""

    bytes_max: int = 0
    entry_bytes_max: int = 1 << 20
    entries_max: int = 10_000


class Entry(Struct, frozen=True, gc=False):
    """One answer as its caller got it, and what it is billed by.

    `last` is what waits for the bill: the last event of a stream, nothing of a plain answer.
    """

    body: bytes
    last: bytes
    stream: bool
    content_type: str
    usage: Usage
    finish_reason: str | None
    channel: str
    upstream_model: str
    stored_at: float
    expires_at: float
    headers: tuple[tuple[str, str], ...] = ()
    """What else its head said of it."""

    @property
    def size(self) -> int:
        """Bytes it takes."""
        return len(self.body) + len(self.last) + ENTRY_OVERHEAD_BYTES


class Counts(Struct):
    """What came of looking, since the process began."""

    hits: int = 0
    misses: int = 0
    stored: int = 0
    evicted: int = 0
    too_large: int = 0


def fingerprint(parts: Iterable[bytes]) -> bytes:
    """Return the digest of `parts`, each with its length, so that none runs into the next."""
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


class ResponseCache:
    """See the module docstring. One owner, one event loop."""

    __slots__ = ("_entries", "counts", "size")

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        """In order of use: the first was not used for longest."""
        self.size = 0
        """Bytes of all entries."""
        self.counts = Counts()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes, now: float) -> Entry | None:
        """Return what is kept for a request, if its time is not over; counts what came of it."""
        entry = self._entries.pop(digest, None)
        if entry is not None and now < entry.expires_at:
            self._entries[digest] = entry
            self.counts.hits += 1
            return entry
        if entry is not None:
            self.size -= entry.size
        self.counts.misses += 1
        return None

    def takes(self, size: int, limits: Limits) -> bool:
        """Whether an answer of `size` bytes would be kept."""
        size += ENTRY_OVERHEAD_BYTES
        return size <= limits.entry_bytes_max and size <= limits.bytes_max

    def put(self, digest: bytes, entry: Entry, limits: Limits) -> bool:
        """Keep an answer in the place of any before; False if it is too large."""
        before = self._entries.pop(digest, None)
        if before is not None:
            self.size -= before.size
        kept = self.takes(entry.size - ENTRY_OVERHEAD_BYTES, limits)
        if kept:
            self._entries[digest] = entry
            self.size += entry.size
            self.counts.stored += 1
        else:
            self.counts.too_large += 1
        self.trim(limits)
        return kept

    def trim(self, limits: Limits) -> None:
        """Let go of what is beyond the limits, the least recently used first."""
        entries = self._entries
        while entries and (self.size > limits.bytes_max or len(entries) > limits.entries_max):
            entry = entries.pop(next(iter(entries)))
            self.size -= entry.size
            self.counts.evicted += 1
