"""Money that moves without a call: in one transaction with its reasons, then in memory.

Rules: whoever asks gives a function that checks, writes its own rows and says which transfers to
post; they are posted in the same transaction, and the wallets in memory follow once it is
committed. What a wallet is to lose is set aside first, so that no call can spend it meanwhile, and
is given back whatever becomes of it. This module must not know why money moves.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from proxy.core.catalog import Catalog
from proxy.core.ids import WORKERS_MAX, IdSource
from proxy.core.ledger import Ledger, Transfer
from proxy.core.money import format_usd
from proxy.core.sentences import Sentence
from proxy.storage.batch import post
from proxy.storage.writer import Writer

KEEPER_WORKER = WORKERS_MAX - 1
"""The worker number in ids of ledger events that no call caused."""

Result = TypeVar("Result")


class Event(NamedTuple):
    """What is about to happen: its id, and when, in Unix seconds."""

    id: int
    at: float


class Moved(NamedTuple, Generic[Result]):
    """What a function found out, and the transfers that are to be posted with its rows."""

    result: Result
    transfers: Sequence[Transfer] = ()


class Aside(NamedTuple):
    """What a wallet is about to lose. Nano-USD."""

    user_id: int
    amount: int


class ShortfallError(ValueError):
    """The wallet has not so much that is free, but only `free` nano-USD."""

    def __init__(self, message: str, free: int = 0) -> None:
        super().__init__(message)
        self.free = free


class Till:
    """One per keeper, on its loop."""

    def __init__(
        self,
        writer: Writer,
        ledger: Ledger,
        clock: Callable[[], float],
        last_id: Callable[[], int],
        load: Callable[[sqlite3.Connection], Catalog],
        swap: Callable[[Catalog], object],
    ) -> None:
        self._writer = writer
        self._ledger = ledger
        self._clock = clock
        self._last_id = last_id
        self._load = load
        self._swap = swap
        self._ids = IdSource(KEEPER_WORKER, after=last_id())

    async def move(
        self,
        function: Callable[[sqlite3.Connection, Event], Moved[Result]],
        *,
        aside: Aside | None = None,
        catalog: bool = False,
    ) -> Result:
        """Do what `function` says and post its transfers, all of it or nothing.

        `aside`: what its transfers may take from a wallet. `catalog`: it changes the catalog too,
        which everyone sees before this returns. Once begun it cannot be cancelled, only no longer
        waited for. Raises ShortfallError; the ValueError `function` raised, and nothing is changed
        then; KeeperUnavailableError.
        """
        event = self._event()
        if aside is not None and not self._ledger.set_aside(*aside):
            wallet = self._ledger.wallet(aside.user_id)
            free = wallet.balance - wallet.held
            raise ShortfallError(
                Sentence(
                    "the wallet has {free} USD that no open call holds, not {amount}",
                    free=format_usd(free),
                    amount=format_usd(aside.amount),
                ),
                free,
            )

        def work(connection: sqlite3.Connection) -> tuple[Moved[Result], Catalog | None]:
            moved = function(connection, event)
            if moved.transfers:
                post(connection, list(moved.transfers))
            return moved, self._load(connection) if catalog else None

        def done(outcome: tuple[Moved[Result], Catalog | None]) -> None:
            give_back()
            moved, loaded = outcome
            self._ledger.follow(moved.transfers)
            if loaded is not None:
                self._swap(loaded)

        def give_back() -> None:
            if aside is not None:
                self._ledger.give_back(*aside)

        (result, _), _ = await self._writer.call(work, done, give_back)
        return result

    def _event(self) -> Event:
        now = self._clock()
        event_id, last = self._ids.next(now), self._last_id()
        if event_id < last:  # the clock has stepped back since a call was made
            self._ids = IdSource(KEEPER_WORKER, after=last)
            event_id = self._ids.next(now)
        return Event(event_id, now)
