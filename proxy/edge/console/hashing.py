"""Passwords as argon2id hashes: made and compared here, in the console's process, and nowhere else.

Rules: two at a time, each in a thread, because one takes 64 MiB and CPU that calls are served with;
few may wait, and who would wait behind them is told to come again. A person without a password, or
none at all, costs as much as one with a wrong one. A hash made with other parameters is made anew
when its password was right. This module must not know who signs in.

Source: RFC 9106 section 4, the second recommended option (3 passes over 64 MiB, 4 lanes).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from proxy.core.passwords import BYTES_MAX, normal

AT_ONCE_MAX: Final = 2
WAITING_MAX: Final = 16
"""Who waits here waits at most 8 turns of two."""
_NOBODYS: Final = "a password that nobody has"

Result = TypeVar("Result")


class BusyError(Exception):
    """Too many passwords are being looked at; nothing was."""


class Looked(NamedTuple):
    """What came of a comparison. `stale`: right, but the hash should be made anew."""

    right: bool
    stale: bool = False


class Hasher:
    """Lives in one event loop, from making to `close`."""

    def __init__(self, parameters: argon2.Parameters | None = None) -> None:
        chosen = argon2.profiles.RFC_9106_LOW_MEMORY if parameters is None else parameters
        self._argon2 = argon2.PasswordHasher.from_parameters(chosen)
        self._threads: ThreadPoolExecutor | None = None
        self._busy = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """Make a hash of a new password. Raises BusyError."""
        return await self._in_turn(self._hash, password)

    async def compare(self, known: str | None, password: str) -> Looked:
        """Whether this is the password of a hash; None is never right. Raises BusyError."""
        return await self._in_turn(self._compare, known, password)

    def close(self) -> None:
        """End the threads; what they are about is finished and told to nobody."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=True, cancel_futures=True)

    async def _in_turn(self, function: Callable[..., Result], *values: object) -> Result:
        if self._busy >= AT_ONCE_MAX + WAITING_MAX:
            raise BusyError
        if self._threads is None:
            self._threads = ThreadPoolExecutor(AT_ONCE_MAX, thread_name_prefix="argon2")
        self._busy += 1
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, function, *values)
        # Counted until it is done, not until nobody waits for it: a browser that leaves takes
        # nothing back.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: "asyncio.Future[Result]") -> None:
        self._busy -= 1
        if not future.cancelled():
            future.exception()

    def _hash(self, password: str) -> str:
        return self._argon2.hash(_bytes(password))

    def _compare(self, known: str | None, password: str) -> Looked:
        if known is None:
            if self._nobodys is None:
                self._nobodys = self._argon2.hash(_NOBODYS)  # which costs the same, once
            else:
                self._verify(self._nobodys, password)
            return Looked(right=False)
        right = self._verify(known, password)
        return Looked(right, stale=right and self._argon2.check_needs_rehash(known))

    def _verify(self, known: str, password: str) -> bool:
        try:
            return self._argon2.verify(known, _bytes(password))
        except (VerificationError, InvalidHashError):
            return False


def _bytes(password: str) -> bytes:
    # Longer ones are never taken (core/passwords.py), so what is cut here is wrong anyway.
    return normal(password).encode("utf-8", "surrogatepass")[: BYTES_MAX + 1]
