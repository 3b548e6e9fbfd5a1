"""The keeper of one process: limits and money decided in memory, then written in order.

Rules: every decision is synchronous on the event loop and serial, so nothing can come between
looking and taking; the file follows in the order of decisions. An open row is written at once, and
the first byte to its client waits for it. Without a redo log a plain call's is lazy: written when
an answer has come and before one byte of it leaves, or never, when the call ended without.
Calls that were open when the keeper died are settled at their last mark before anything is
admitted, or, where workers outlive the keeper, taken on again. This module must not know HTTP or
the port, and holds no SQL of its own beyond what recovery reads.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from typing import TypeVar

import msgspec

from proxy.core.catalog import Catalog
from proxy.core.entities import NOTHING_USED
from proxy.core.ids import worker_of
from proxy.core.ledger import Hold, Ledger
from proxy.core.limits import UNLIMITED, EffectiveLimits, Limiter, LimitState
from proxy.storage import rows
from proxy.storage.commits import Commit
from proxy.storage.fingerprints import check_pepper
from proxy.storage.inserts import Row
from proxy.storage.messages import Posted
from proxy.storage.opening import guarded, open_ledger
from proxy.storage.ports import (
    Admission,
    Closing,
    KeeperStatistics,
    KeeperUnavailableError,
    Opening,
    Progress,
    Receipt,
    Refusal,
    RefusalReason,
    Weighed,
)
from proxy.storage.recovery import (
    NONE_OPEN,
    Found,
    Recovery,
    closing_at_mark,
    find_ended,
    find_open,
    last_id,
    load_ledger,
    recover,
)
from proxy.storage.redo import RedoLog, replay
from proxy.storage.renewals import Renewals
from proxy.storage.rows import open_row, settled_row
from proxy.storage.snapshots import load_catalog
from proxy.storage.sqlite import Durability
from proxy.storage.till import Till
from proxy.storage.totals import Totals
from proxy.storage.upkeep import NO_CARE, Care, Upkeep
from proxy.storage.wallet_changes import TopUp, add_top_up
from proxy.storage.weighing import count, weigh
from proxy.storage.writer import QUEUE_CALLS_MAX, Writer

OPEN_CALLS_MAX = 100_000
EXPENSE_PER_KEY_AND_DAY = 5_000_000_000
"""5 USD: what the operator pays for one key and day before its calls must hold ceilings."""

Result = TypeVar("Result")
log = logging.getLogger("sluice.storage")


class _OpenCall(msgspec.Struct, gc=False):
    opening: Opening
    row: Row
    """Its open row, whose first columns are those of its ended row too."""
    hold: Hold
    progress: Progress | None = None
    """The last mark: its bill if its worker died now."""


class Keeper:
    """Admission, money and limits of one process; implements `ports.Billing`."""

    def __init__(
        self,
        writer: Writer,
        ledger: Ledger,
        catalog: Catalog,
        master: bytes,
        *,
        recovery: Recovery,
        found: dict[int, Found] | None = None,
        last_id: int,
        upkeep: Upkeep,
        fallback_plan: str = "",
        expense_max: int,
        clock: Callable[[], float],
        clock_monotonic: Callable[[], float],
    ) -> None:
        self.recovery = recovery
        self.last_id = last_id
        """The greatest id in use: a source of ids must begin above it."""
        self.upkeep = upkeep
        self.found = found or {}
        """Calls the file says are open; emptied by who takes them on or settles them."""
        self._writer = writer
        self._ledger = ledger
        self._limiter = Limiter()
        self._catalog = catalog
        self._master = master
        self._clock = clock
        self._monotonic = clock_monotonic
        self._expense_max = expense_max
        self.till = Till(writer, ledger, clock, lambda: self.last_id, self._load, self._swap)
        self.renewals = Renewals(self, fallback_plan, upkeep.moment, log.warning)
        self.renewals.start()
        self._open: dict[int, _OpenCall] = {}
        self._totals = Totals()
        self._subscribers: list[Callable[[Catalog], object]] = []
        self._refusing = None if found is None else "the keeper is collecting open calls"
        self._idle = asyncio.Event()

    @classmethod
    async def start(
        cls,
        path: Path,
        *,
        master: bytes,
        pepper: bytes | None = None,
        on_fatal: Callable[[BaseException], object],
        durability: Durability = Durability.PROCESS,
        expense_max: int = EXPENSE_PER_KEY_AND_DAY,
        settle_open: bool = True,
        care: Care = NO_CARE,
        redo: bool = False,
        clock: Callable[[], float] = time,
        clock_monotonic: Callable[[], float] = monotonic,
    ) -> "Keeper":
        """Open the database, settle what was open, and begin.

        The caller holds the data directory's lock. `master` opens upstream keys; `pepper`, where
        given, must be the one that made the digests of the client keys. `on_fatal` is
        called once, on the loop, when a commit or sync failed: exit and start anew. Without
        `settle_open` the calls found open wait in `found`, and nothing is admitted until
        `begin_admitting`: workers may still be serving them. `redo`: see storage/redo.py.
        Raises StorageError, SecretError.
        """
        now = clock()
        connection = open_ledger(path, durability, now, log.warning)
        with guarded(path, connection):
            replay(connection, path)
            if pepper is not None:
                check_pepper(connection, pepper)
            catalog = load_catalog(connection, master)
            ledger = load_ledger(connection, catalog, now)
            found = None if settle_open else find_open(connection)
            recovery = recover(connection, ledger, catalog, now) if settle_open else NONE_OPEN
            greatest = last_id(connection)
            logged = redo and durability is Durability.PROCESS
            redo_log = RedoLog.begin(connection, path) if logged else None
        loop = asyncio.get_running_loop()
        writer = Writer(connection, path, durability, loop, on_fatal, redo_log)
        upkeep = Upkeep(writer, path, care, clock, clock_monotonic, told=log.warning)
        upkeep.start()
        return cls(
            writer,
            ledger,
            catalog,
            master,
            recovery=recovery,
            found=found,
            last_id=greatest,
            upkeep=upkeep,
            fallback_plan=care.fallback_plan,
            expense_max=expense_max,
            clock=clock,
            clock_monotonic=clock_monotonic,
        )

    @property
    def catalog(self) -> Catalog:
        """The snapshot in force."""
        return self._catalog

    async def admit(self, opening: Opening) -> Admission | Refusal:
        """Charge the limits and hold the money, or change nothing. See `ports.Billing`."""
        return self.decide(opening)

    def decide(self, opening: Opening) -> Admission | Refusal:
        """Admit or refuse a call at once: nothing comes between looking and taking.

        The open row of a plain call is lazy where it would be waited for: nobody does before there
        is an answer. In the log it costs less than being asked about. KeeperUnavailableError.
        """
        self._ready()
        ledger, catalog = self._ledger, self._catalog
        call_id, key_id, user_id = opening.call_id, opening.key_id, opening.user_id
        limits = catalog.limits_by_key.get(key_id)
        if limits is None:
            raise KeeperUnavailableError(f"this catalog has no key {key_id}")
        if call_id > self.last_id:  # noqa: PLR1730 - hot
            self.last_id = call_id
        amount = opening.hold
        model = catalog.models.get(opening.model)
        careful = (model is not None and model.hidden_output) or (
            ledger.expense(key_id, opening.started_at) >= self._expense_max
        )
        if careful:
            amount = max(amount, opening.ceiling)
        hold = ledger.reserve(call_id, user_id, key_id, amount, opening.started_at)
        now = self._monotonic()
        limiter = self._limiter
        if not isinstance(hold, Hold):  # seen at once where it is one
            state = limiter.state(key_id, user_id, limits, now)
            return Refusal(RefusalReason(hold.shortage.value), state, available=hold.available)
        decision = limiter.decide(key_id, user_id, limits, opening.tokens, now)
        state = UNLIMITED if limits.unlimited else limiter.state(key_id, user_id, limits, now)
        if not decision.admitted:
            ledger.void(call_id)
            if decision.kind is None:
                raise AssertionError("a limit refused without saying which")
            return Refusal(
                RefusalReason(decision.kind.value),
                state,
                retry_after=decision.retry_after,
                limit=decision.limit,
            )
        row = open_row(opening, amount)
        self._open[call_id] = _OpenCall(opening, row, hold)
        writer = self._writer
        write = writer.open if opening.stream else writer.open_lazily
        return Admission(amount, careful, state, write(call_id, row), hold.wallet.balance)

    async def weigh(self, opening: Opening) -> Weighed:
        """Say what `admit` would, and change nothing. See `ports.Billing`."""
        return self.weighed(opening)

    def weighed(self, opening: Opening) -> Weighed:
        """The same, at once. Raises KeeperUnavailableError."""
        self._ready()
        return weigh(
            self._catalog, self._ledger, self._limiter, self._expense_max, opening,
            self._monotonic(),
        )  # fmt: skip

    async def count(self, key_id: int) -> Refusal | None:
        """Count a request that costs nothing. See `ports.Billing`."""
        return self.counted(key_id)

    def counted(self, key_id: int) -> Refusal | None:
        """The same, at once. Raises KeeperUnavailableError."""
        self._ready()
        return count(self._catalog, self._limiter, key_id, self._monotonic())

    def extend(self, call_id: int, amount: int, answer: Callable[[int], None]) -> None:
        """Hold more for an open call; answers at once. See `ports.Billing`."""
        answer(self._ledger.extend(call_id, amount, self._clock()))

    def mark(self, progress: Progress) -> None:
        """Record what an open call has delivered. See `ports.Billing`."""
        call_id = progress.call_id
        opened = self._open.get(call_id)
        if opened is None:
            raise AssertionError(f"call {call_id} is not open")
        opened.progress = progress
        self._writer.mark(call_id, rows.mark_row(progress, opened.hold.amount))

    def settle(self, closing: Closing) -> Receipt:
        """Close the call exactly once. See `ports.Billing`."""
        call_id = closing.call_id
        opened = self._open.get(call_id)
        if opened is None:
            raise AssertionError(f"call {call_id} is not open: never admitted, or settled twice")
        opening = opened.opening
        costs: list[tuple[int, int]] = []
        for attempt in closing.attempts:
            if attempt.cost:
                costs.append((attempt.channel_id, attempt.cost))  # noqa: PERF401 - hot: no frame
        settlement = self._ledger.settle(
            call_id, closing.charge, closing.forgiven, costs, closing.ended_at, opening.charge_max
        )
        del self._open[call_id]
        if self._refusing is not None and not self._open:
            self._idle.set()
        self._limiter.release(
            opening.key_id, opening.user_id, opening.tokens, closing.usage, self._monotonic()
        )
        row, transfers = opened.row, settlement.transfers
        said = settled_row(row, closing, settlement)
        if said is not None:
            commit = self._writer.settle(call_id, row, said, transfers)
        else:
            ended = rows.ended_row(row, closing, settlement, opening.started_at)
            tries, spend = rows.attempt_rows(closing), rows.spend_row(settlement)
            commit = self._writer.end(call_id, ended, tries, transfers, spend, settlement.charge)
        self._totals.count(closing, opening.model, settlement.charged, settlement.overrun)
        left = settlement.balance_after
        return Receipt(call_id, settlement.charged, settlement.overrun, left, commit)

    async def limits(self, key_id: int) -> LimitState:
        """The key's buckets now. Raises KeyError for a key that is not in the catalog."""
        return self.buckets(key_id)

    def buckets(self, key_id: int) -> LimitState:
        """The same, at once."""
        user_id, limits = self._catalog.keys_by_id[key_id].user_id, self._catalog.limits_by_key
        return self._limiter.state(key_id, user_id, limits[key_id], self._monotonic())

    def balance(self, user_id: int) -> int:
        """What a wallet holds now, open holds included. Nano-USD."""
        return self._ledger.wallet(user_id).balance

    async def credit(self, user_id: int, amount: int, reason: str, reference: str) -> TopUp:
        """Credit a wallet once per `reference`; a repetition returns the first top-up.

        Raises ValueError (amount, unknown user, a reference used for something else),
        KeeperUnavailableError. Once begun it cannot be cancelled, only no longer waited for.
        """
        return await self.till.move(
            lambda c, event: add_top_up(c, event, user_id, amount, reason, reference)
        )

    async def change(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a change of the catalog in a transaction, then swap the snapshot everyone sees.

        Raises the ValueError `function` raised (nothing is changed then),
        KeeperUnavailableError.
        """

        def work(connection: sqlite3.Connection) -> tuple[Result, Catalog]:
            result = function(connection)
            return result, self._load(connection)

        result, _ = await self._writer.call(work, lambda outcome: self._swap(outcome[1]))
        return result

    async def note(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a change of what is neither catalog nor money in a transaction of its own.

        Raises the ValueError `function` raised (nothing is changed then),
        KeeperUnavailableError.
        """
        return await self._writer.call(function)

    async def beat(self) -> float:
        """Write a row that means nothing and wait for its commit: proof that the ledger lives.

        Returns for how many seconds the sync under way has kept the disk, 0.0 if none is: with
        durability `process` commits do not wait for it. Raises KeeperUnavailableError.
        """
        at = self._clock()

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("UPDATE heartbeat SET at = ?", (at,))

        await self._writer.call(write)
        return self._writer.sync_seconds

    async def catch_up(self) -> None:
        """Wait until readers of the file see all that was promised. KeeperUnavailableError."""
        await self.following()

    def following(self) -> Commit:
        """The commit with which readers of the file see all that was promised so far."""
        return self._writer.follow()

    def subscribe(self, callback: Callable[[Catalog], object]) -> Callable[[], None]:
        """Call `callback` with every new catalog; returns what ends that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def statistics(self) -> KeeperStatistics:
        """Figures for the metrics page. See `ports.KeeperStatistics`."""
        return self._totals.statistics(self._ledger, self._writer, self._clock())

    def hurry(self, call_id: int) -> Commit:
        """Write a lazy open row now; returns the commit that makes it durable, or has."""
        return self._writer.open_now(call_id) or self._writer.durable

    def opened_at_once(self, call_id: int) -> bool:
        """Make the open row durable if that takes no time; False if it has to be waited for."""
        return self._writer.logging and self.hurry(call_id).done()

    def is_open(self, call_id: int) -> bool:
        """Whether the call was admitted and has not been settled."""
        return call_id in self._open

    def open_calls(self, worker: int | None = None) -> list[int]:
        """The open calls, or those of them that one worker serves."""
        return [one for one in self._open if worker is None or worker_of(one) == worker]

    @property
    def durable(self) -> Commit:  # one that has happened
        return self._writer.durable

    def restore(self, opening: Opening, held: int, progress: Progress | None) -> Commit:
        """Take on again a call that was open before this keeper, or its worker's connection.

        Returns the commit that makes its row durable, or has. `held` is what the worker knows
        of: an extension whose answer was lost is given back, because it is asked for again.
        """
        call_id, key_id, user_id = opening.call_id, opening.key_id, opening.user_id
        opened, ledger = self._open.get(call_id), self._ledger
        if opened is not None:
            if held < opened.hold.amount:
                ledger.void(call_id)
                opened.hold = ledger.restore(call_id, user_id, key_id, held, opening.started_at)
            return self.hurry(call_id)
        limits = self._catalog.limits_by_key.get(key_id) or EffectiveLimits()
        hold = ledger.restore(call_id, user_id, key_id, held, opening.started_at)
        self._limiter.restore(key_id, user_id, limits, self._monotonic())
        self.last_id = max(self.last_id, call_id)
        row, writer = open_row(opening, hold.amount), self._writer
        self._open[call_id] = _OpenCall(opening, row, hold)
        commit = writer.durable
        if self.found.pop(call_id, None) is None:
            commit = writer.open(call_id, row)
        if progress is not None:
            self.mark(progress)
        return commit

    def undo(self, call_id: int) -> None:
        """Forget an admission nobody heard of, as if it had never been; total."""
        opened = self._open.pop(call_id, None)
        if opened is None and self.found.pop(call_id, None) is None:
            return
        if opened is not None:
            opening, now = opened.opening, self._monotonic()
            self._ledger.void(call_id)
            self._limiter.release(
                opening.key_id, opening.user_id, opening.tokens, NOTHING_USED, now
            )
        self._writer.undo(call_id)

    def settle_at_mark(self, call_id: int) -> Receipt:
        """Close an open call whose worker has died, at what it had last said of it."""
        opened, catalog, now = self._open[call_id], self._catalog, self._clock()
        receipt = self.settle(closing_at_mark(opened.opening, opened.progress, catalog, now))
        self.recovery = self.recovery.more(receipt.charged)
        return receipt

    async def posted(self, call_ids: list[int]) -> dict[int, Posted]:
        """Return what was posted for those of the calls that have ended and are in the file.

        Raises KeeperUnavailableError.
        """
        return await self._writer.call(lambda connection: find_ended(connection, call_ids))

    def begin_admitting(self) -> None:
        """Every call found open has been taken on or settled: admit."""
        if self.found:
            raise AssertionError(f"{len(self.found)} calls of before are neither open nor settled")
        self._refusing = None

    @property
    def unready(self) -> str | None:
        """Why no call is admitted; None when calls are."""
        failed = self._writer.failed
        return self._refusing or self.upkeep.space.short if failed is None else str(failed)

    async def drain(self) -> None:
        """Admit nothing more and wait until every open call has settled; bound it outside."""
        self._refusing = "the keeper is shutting down"
        if self._open:
            await self._idle.wait()

    async def close(self) -> None:
        """Write what is queued and close the file; calls still open are settled at next start."""
        self._refusing = "the keeper is shutting down"
        self.upkeep.stop()
        self.renewals.stop()
        await self._writer.stop()

    def _ready(self) -> None:
        writer = self._writer
        if writer.failed is not None:
            raise writer.failed
        refusing = self._refusing or self.upkeep.space.short
        if refusing is not None:
            raise KeeperUnavailableError(refusing)
        # Ended calls alone: open ones are bounded, and every other row belongs to one of either.
        queued = len(writer.batch.calls) + len(writer.batch.settled)
        if len(self._open) >= OPEN_CALLS_MAX or queued >= QUEUE_CALLS_MAX:
            raise KeeperUnavailableError("more calls are open than the keeper can follow")

    def _load(self, connection: sqlite3.Connection) -> Catalog:
        return load_catalog(connection, self._master, self._catalog)

    def _swap(self, catalog: Catalog) -> None:
        self._catalog = catalog
        now, keys, changed = self._clock(), catalog.keys_by_id, catalog.keys_changed
        for key in keys.values() if changed is None else [keys[i] for i in changed if i in keys]:
            self._ledger.set_budget(key.id, key.budget, key.budget_period, now)
        for callback in tuple(self._subscribers):
            callback(catalog)
