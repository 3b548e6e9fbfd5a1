"""The keeper of one process: limits and money decided in memory, then written in order.

Rules: every decision is synchronous on the event loop and serial, so nothing can come between
looking and taking; the file follows in the order of decisions. A plain call's open row is lazy:
written when an answer has come and before one byte of it leaves, or never, when the call ended
without. A stream's open row is written at once, and the first byte to its client waits for it. At
start, calls that were open when the keeper died are settled at their last mark, before anything is
admitted. This module must not know HTTP, and holds no SQL of its own beyond what recovery reads.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time
from typing import TypeVar

import msgspec

from proxy.core.catalog import Catalog
from proxy.core.ids import WORKERS_MAX, IdSource
from proxy.core.ledger import (
    Denial,
    Hold,
    Ledger,
)
from proxy.core.limits import Limiter, LimitState
from proxy.storage.accounts import TopUp, add_top_up
from proxy.storage.batch import Row
from proxy.storage.fingerprints import check_pepper
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
)
from proxy.storage.recovery import Recovery, last_id, load_ledger, recover
from proxy.storage.rows import add_money, attempt_row, ended_row, head_row
from proxy.storage.snapshots import load_catalog
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.writer import QUEUE_CALLS_MAX, OpenRow, Writer

OPEN_CALLS_MAX = 100_000
EXPENSE_PER_KEY_AND_DAY = 5_000_000_000
"""5 USD: what the operator pays for one key and day before its calls must hold ceilings."""
MODELS_COUNTED_MAX = 10_000
"""Models whose charges are counted apart; further ones count as `other`."""
KEEPER_WORKER = WORKERS_MAX - 1
"""The worker number in ids of ledger events that no call caused."""

Result = TypeVar("Result")


class _OpenCall(msgspec.Struct, frozen=True, gc=False):
    opening: Opening
    head: Row
    """The columns an open row and an ended row share, built once per call."""
    hold: Hold


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
        last_id: int,
        expense_max: int,
        clock: Callable[[], float],
        clock_monotonic: Callable[[], float],
    ) -> None:
        self.recovery = recovery
        self.last_id = last_id
        """The greatest id in the file at start: a source of ids must begin above it."""
        self._writer = writer
        self._ledger = ledger
        self._limiter = Limiter()
        self._catalog = catalog
        self._master = master
        self._clock = clock
        self._monotonic = clock_monotonic
        self._expense_max = expense_max
        self._event_ids = IdSource(KEEPER_WORKER)
        self._open: dict[int, _OpenCall] = {}
        self._settlements: dict[tuple[str, str], int] = {}
        self._charged: dict[str, int] = {}
        self._expense = 0
        self._subscribers: list[Callable[[Catalog], object]] = []
        self._admitting = True
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
        clock: Callable[[], float] = time,
        clock_monotonic: Callable[[], float] = monotonic,
    ) -> "Keeper":
        """Open the database, settle what was open, and begin.

        The caller holds the data directory's lock. `master` opens upstream keys; `pepper`, where
        given, must be the one that made the digests of the client keys. `on_fatal` is
        called once, on the loop, when a commit or sync failed: exit and start anew.
        Raises SchemaError, SecretError, sqlite3.Error.
        """
        now = clock()
        connection = open_writer(path, durability, now)
        try:
            if pepper is not None:
                check_pepper(connection, pepper)
            catalog = load_catalog(connection, master)
            ledger = load_ledger(connection, catalog, now)
            recovery = recover(connection, ledger, now)
            greatest = last_id(connection)
        except BaseException:
            connection.close()
            raise
        writer = Writer(connection, path, durability, asyncio.get_running_loop(), on_fatal)
        return cls(
            writer,
            ledger,
            catalog,
            master,
            recovery=recovery,
            last_id=greatest,
            expense_max=expense_max,
            clock=clock,
            clock_monotonic=clock_monotonic,
        )

    @property
    def catalog(self) -> Catalog:
        """The snapshot in force."""
        return self._catalog

    async def admit(self, opening: Opening) -> Admission | Refusal:
        """Charge the limits and hold the money, or change nothing. See `ports.Billing`.

        The open row of a plain call is lazy: nobody waits for it before there is an answer.
        """
        self._ready()
        ledger, catalog = self._ledger, self._catalog
        call_id, key_id, user_id = opening.call_id, opening.key_id, opening.user_id
        amount = opening.hold
        model = catalog.models.get(opening.model)
        careful = (model is not None and model.hidden_output) or (
            ledger.expense(key_id, opening.started_at) >= self._expense_max
        )
        if careful:
            amount = max(amount, opening.ceiling)
        hold = ledger.reserve(call_id, user_id, key_id, amount, opening.started_at)
        limits = catalog.limits_by_key[key_id]
        now = self._monotonic()
        limiter = self._limiter
        if isinstance(hold, Denial):
            state = limiter.state(key_id, user_id, limits, now)
            return Refusal(RefusalReason(hold.shortage.value), state, available=hold.available)
        decision = limiter.decide(key_id, user_id, limits, opening.tokens, now)
        state = limiter.state(key_id, user_id, limits, now)
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
        head = head_row(opening)
        self._open[call_id] = _OpenCall(opening, head, hold)
        row = (*head, opening.input_estimate, amount)
        writer = self._writer
        if opening.stream:
            writer.batch.opens[call_id] = row
            writer.flush()
            return Admission(amount, careful, state, writer.commit)
        writer.open_lazily(call_id, row)
        return Admission(amount, careful, state, OpenRow(writer, call_id))

    def extend(self, call_id: int, amount: int, answer: Callable[[int], None]) -> None:
        """Hold more for an open call; answers at once. See `ports.Billing`."""
        answer(self._ledger.extend(call_id, amount, self._clock()))

    def mark(self, progress: Progress) -> None:
        """Record what an open call has delivered. See `ports.Billing`."""
        opened = self._open.get(progress.call_id)
        if opened is None:
            raise AssertionError(f"call {progress.call_id} is not open")
        row = (
            opened.hold.amount,
            progress.charge,
            progress.source._value_,
            msgspec.json.encode(progress.usage).decode(),
            progress.delivered_bytes,
            progress.channel_id,
            progress.call_id,
        )
        self._writer.mark(progress.call_id, row)

    def settle(self, closing: Closing) -> Receipt:
        """Close the call exactly once. See `ports.Billing`."""
        call_id, usage = closing.call_id, closing.usage
        opened = self._open.get(call_id)
        if opened is None:
            raise AssertionError(f"call {call_id} is not open: never admitted, or settled twice")
        opening = opened.opening
        attempts = closing.attempts
        costs = [(attempt.channel_id, attempt.cost) for attempt in attempts if attempt.cost]
        settlement = self._ledger.settle(
            call_id, closing.charge, closing.forgiven, costs, closing.ended_at
        )
        del self._open[call_id]
        if not self._admitting and not self._open:
            self._idle.set()
        self._limiter.release(
            opening.key_id,
            opening.user_id,
            opening.tokens,
            usage.input_total + usage.output,
            self._monotonic(),
        )
        writer = self._writer
        writer.close(call_id)
        batch = writer.batch
        batch.calls.append(ended_row(opened.head, closing, settlement, opening.started_at))
        add_money(batch, settlement)
        for number, attempt in enumerate(attempts):
            batch.attempts.append(attempt_row(call_id, number, attempt, usage))
        commit = writer.commit
        writer.flush_together()
        counts, counted = self._settlements, (closing.verdict._value_, closing.source._value_)
        counts[counted] = counts.get(counted, 0) + 1
        self._count_money(opening.model, settlement.charged, closing.forgiven + settlement.overrun)
        return Receipt(
            call_id, settlement.charged, settlement.overrun, settlement.balance_after, commit
        )

    async def limits(self, key_id: int) -> LimitState:
        """The key's buckets now. Raises KeyError for a key that is not in the catalog."""
        catalog = self._catalog
        key = catalog.keys_by_id[key_id]
        limits = catalog.limits_by_key[key_id]
        return self._limiter.state(key_id, key.user_id, limits, self._monotonic())

    def balance(self, user_id: int) -> int:
        """What a wallet holds now, open holds included. Nano-USD."""
        return self._ledger.wallet(user_id).balance

    async def credit(self, user_id: int, amount: int, reason: str, reference: str) -> TopUp:
        """Credit a wallet once per `reference`; a repetition returns the first top-up.

        Raises ValueError (amount, unknown user, a reference used for something else),
        KeeperUnavailableError. Once begun it cannot be cancelled, only no longer waited for.
        """
        now = self._clock()
        event_id = max(self._event_ids.next(now), self.last_id + 1)

        def top_up(connection: sqlite3.Connection) -> TopUp:
            return add_top_up(connection, event_id, user_id, amount, reason, reference, now)

        def credited(added: TopUp) -> None:
            if added.fresh:
                self._ledger.top_up(user_id, amount)

        return await self._writer.call(top_up, credited)

    async def change(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run a change of the catalog in a transaction, then swap the snapshot everyone sees.

        Raises the ValueError `function` raised (nothing is changed then),
        KeeperUnavailableError.
        """

        def work(connection: sqlite3.Connection) -> tuple[Result, Catalog]:
            result = function(connection)
            return result, load_catalog(connection, self._master)

        def swap(outcome: tuple[Result, Catalog]) -> None:
            self._swap(outcome[1])

        result, _ = await self._writer.call(work, swap)
        return result

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

    def subscribe(self, callback: Callable[[Catalog], object]) -> Callable[[], None]:
        """Call `callback` with every new catalog; returns what ends that."""
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def statistics(self) -> KeeperStatistics:
        """Figures for the metrics page. See `ports.KeeperStatistics`."""
        holds, writer = self._ledger.holds, self._writer
        oldest = next(iter(holds.values()), None)
        return KeeperStatistics(
            holds_open=len(holds),
            hold_oldest_seconds=0.0
            if oldest is None
            else max(0.0, self._clock() - oldest.opened_at),
            held=sum(hold.amount for hold in holds.values()),
            imbalance=writer.imbalance,
            commits=writer.commits,
            commit_seconds=writer.commit_seconds,
            checkpoint_seconds=writer.checkpoint_seconds,
            queue_depth=writer.depth,
            settlements=dict(self._settlements),
            charged=dict(self._charged),
            expense=self._expense,
        )

    async def drain(self) -> None:
        """Admit nothing more and wait until every open call has settled; bound it outside."""
        self._admitting = False
        if self._open:
            await self._idle.wait()

    async def close(self) -> None:
        """Write what is queued and close the file; calls still open are settled at next start."""
        self._admitting = False
        await self._writer.stop()

    def _count_money(self, model: str, charged: int, expense: int) -> None:
        """Add what one settlement posted to the figures of the metrics page. Nano-USD."""
        counts = self._charged
        if model not in counts and len(counts) >= MODELS_COUNTED_MAX:
            model = "other"
        counts[model] = counts.get(model, 0) + charged
        self._expense += expense

    def _ready(self) -> None:
        writer = self._writer
        if writer.failed is not None:
            raise writer.failed
        if not self._admitting:
            raise KeeperUnavailableError("the keeper is shutting down")
        # Ended calls alone: open ones are bounded, and every other row belongs to one of either.
        if len(self._open) >= OPEN_CALLS_MAX or len(writer.batch.calls) >= QUEUE_CALLS_MAX:
            raise KeeperUnavailableError("more calls are open than the keeper can follow")

    def _swap(self, catalog: Catalog) -> None:
        self._catalog = catalog
        now = self._clock()
        for key in catalog.keys_by_id.values():
            self._ledger.set_budget(key.id, key.budget, key.budget_period, now)
        for callback in tuple(self._subscribers):
            callback(catalog)
