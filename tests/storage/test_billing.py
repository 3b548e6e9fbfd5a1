import asyncio
import gc
import random
from pathlib import Path
from typing import Any

import pytest

from proxy.core.catalog import Catalog
from proxy.core.entities import Attempt, BudgetPeriod, Usage, UsageSource, Verdict
from proxy.storage import keys
from proxy.storage.billing import Keeper
from proxy.storage.ports import (
    Admission,
    KeeperUnavailableError,
    Progress,
    Refusal,
    RefusalReason,
)
from proxy.storage.sqlite import Durability
from proxy.storage.verify import verify
from tests.storage.world import MASTER, NOW, USAGE, USD, closing, keeper, opening, read


def admitted(outcome: Admission | Refusal) -> Admission:
    assert isinstance(outcome, Admission)
    return outcome


@pytest.mark.parametrize("durability", list(Durability))
def test_a_call_is_in_the_ledger_once_its_receipt_has_committed(
    tmp_path: Path, durability: Durability
) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path, durability=durability)
        for call_id, stream in ((1, False), (2, True)):
            admission = admitted(await books.admit(opening(call_id, stream=stream)))
            assert (admission.held, admission.ceiling_held) == (100_000, False)
            await admission.committed
            receipt = books.settle(closing(call_id, anomalies=("a", "b")))
            assert (receipt.charged, receipt.overrun) == (50_000, 0)
            await receipt.committed
            assert read(path, "SELECT charge FROM call WHERE id = ?", call_id) == [(50_000,)]
        assert books.statistics().settlements == {("complete", "reported"): 2}
        assert (books.statistics().charged, books.statistics().expense) == ({"m": 100_000}, 0)
        await books.close()

    asyncio.run(main())
    report = verify(path, quiet=True)
    assert report.problems == ()
    assert (report.calls, report.wallets, report.revenue) == (2, 2 * USD - 100_000, 100_000)
    assert read(path, "SELECT balance_after, anomalies, duration_ms FROM call") == [
        (USD - 50_000, "a,b", 1000.0),
        (USD - 100_000, "a,b", 1000.0),
    ]
    assert read(path, "SELECT call_id, number, usage FROM attempt") == [(1, 0, None), (2, 0, None)]


def test_attempts_and_their_costs_are_recorded_also_when_they_failed(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    failed = Attempt(1, 1, NOW, 500, "upstream_error", None, "m-2", Usage(calls=0), 0, 3.0)
    served = Attempt(1, 1, NOW, 200, "served", "x", "m-2", USAGE, 30_000, 9.0)

    async def main() -> None:
        books = await keeper(path)
        await books.admit(opening(1))
        await books.settle(closing(1, attempts=(failed, served))).committed
        await books.close()

    asyncio.run(main())
    assert read(path, "SELECT number, outcome, cost, usage IS NULL FROM attempt") == [
        (0, "upstream_error", 0, 0),
        (1, "served", 30_000, 1),
    ]
    assert read(path, "SELECT id, balance FROM account WHERE id IN (13, 14)") == [
        (13, -30_000),
        (14, 30_000),
    ]
    assert verify(path, quiet=True).clean


def test_refusals_say_why_and_change_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db", credit=100_000)
        refusal = await books.admit(opening(1, hold=100_001))
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.available) == (RefusalReason.WALLET, 100_000)
        await books.change(
            lambda connection: keys.set_key_budget(connection, 1, 10, BudgetPeriod.DAILY)
        )
        refusal = await books.admit(opening(2, hold=11))
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.available) == (RefusalReason.KEY_BUDGET, 10)
        for call_id in (3, 4):
            admitted(await books.admit(opening(call_id, key_id=2, user_id=2, hold=1)))
        refusal = await books.admit(opening(5, key_id=2, user_id=2, hold=1))
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.limit) == (RefusalReason.CONCURRENCY, 2)
        assert 0 < refusal.retry_after <= 60
        assert books.statistics().held == 2
        books.settle(closing(3, charge=0))
        admitted(await books.admit(opening(5, key_id=2, user_id=2, hold=1)))
        for call_id in (4, 5):
            books.settle(closing(call_id, charge=0))
        assert books.statistics().holds_open == 0
        assert (await books.limits(2)).requests_limit == 60
        assert (await books.limits(1)).requests_limit is None
        await books.close()

    asyncio.run(main())


def test_hidden_output_and_keys_above_their_expense_hold_the_ceiling(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path, expense_max=50_000, clock=lambda: NOW)
        thinker = await books.admit(opening(1, model="thinker", hold=10, ceiling=70))
        assert (admitted(thinker).held, admitted(thinker).ceiling_held) == (70, True)
        books.settle(closing(1, charge=0, forgiven=50_000, delivered_bytes=0))
        careful = await books.admit(opening(2, hold=10, ceiling=70, started_at=NOW))
        assert (admitted(careful).held, admitted(careful).ceiling_held) == (70, True)
        books.settle(closing(2, charge=0))
        tomorrow = await books.admit(opening(3, hold=10, started_at=NOW + 86_400))
        assert admitted(tomorrow).held == 10
        books.settle(closing(3, charge=0))
        await books.close()
        again = await keeper(path, expense_max=50_000, clock=lambda: NOW)
        # The ids of this test are not times, so the day of its expense is the epoch's.
        assert again.recovery.calls == 0
        await again.close()

    asyncio.run(main())


def test_extending_is_answered_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db", credit=100)
        await books.admit(opening(1, hold=60))
        answers: list[int] = []
        for _ in range(3):
            books.extend(1, 30, answers.append)
        assert answers == [30, 10, 0]
        receipt = books.settle(closing(1))
        assert (receipt.charged, receipt.overrun, receipt.balance_after) == (100, 49_900, 0)
        assert (books.statistics().charged, books.statistics().expense) == ({"m": 100}, 49_900)
        await books.close()

    asyncio.run(main())


def test_what_a_caller_will_pay_at_most_binds_the_charge(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")
        admission = admitted(await books.admit(opening(1, charge_max=49_000, stream=True)))
        assert admission.balance == USD
        receipt = books.settle(closing(1))
        posted = (receipt.charged, receipt.overrun, receipt.balance_after)
        assert posted == (49_000, 1_000, USD - 49_000)
        assert admitted(await books.admit(opening(2))).balance == USD - 49_000
        books.settle(closing(2))
        await books.close()

    asyncio.run(main())


def test_charges_are_counted_by_model_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.storage.totals.MODELS_COUNTED_MAX", 1)

    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")
        for call_id, model in enumerate(("m", "thinker", "m", "thinker"), 1):
            await books.admit(opening(call_id, model=model))
            books.settle(closing(call_id, charge=call_id))
        assert books.statistics().charged == {"m": 1 + 3, "other": 2 + 4}
        await books.admit(opening(5))
        books.settle(closing(5, charge=0, forgiven=28))
        assert books.statistics().expense == 28
        await books.close()

    asyncio.run(main())


def test_a_plain_call_that_ends_at_once_never_writes_an_open_row(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        admission = admitted(await books.admit(opening(1)))
        assert not admission.committed.done()
        await books.settle(closing(1)).committed
        assert admission.committed.done()
        assert books.statistics().queue_depth == 0
        await books.admit(opening(2))
        while not read(path, "SELECT 1 FROM open_call"):  # it follows within two ticks
            await asyncio.sleep(0.001)
        await books.settle(closing(2)).committed
        assert read(path, "SELECT * FROM open_call") == []
        await books.close()

    asyncio.run(main())


def test_waiting_for_an_open_row_hurries_it(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        first, second = [admitted(await books.admit(opening(number))) for number in (1, 2)]
        told: list[bool] = []
        second.committed.add_done_callback(lambda commit: told.append(commit.done()))
        await first.committed
        assert first.committed.done()
        assert first.committed.exception() is None
        assert (1,) in read(path, "SELECT id FROM open_call")
        await second.committed
        await asyncio.sleep(0)
        assert told == [True]
        for number in (1, 2):
            await books.settle(closing(number)).committed
        await first.committed  # durable, or gone: nothing to wait for
        assert read(path, "SELECT * FROM open_call") == []
        await books.close()

    asyncio.run(main())


def test_calls_left_open_are_settled_at_their_last_mark(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def first() -> None:
        books = await keeper(path, credit=200_000)
        for call_id in (1, 2, 3):
            admission = admitted(await books.admit(opening(call_id, stream=True, hold=60_000)))
            await admission.committed
        books.mark(Progress(1, USAGE, UsageSource.COUNTED, 10_000, 10, 1))
        books.mark(Progress(1, USAGE, UsageSource.COUNTED, 50_000, 99, 1))
        books.mark(Progress(2, USAGE, UsageSource.COUNTED, 50_000, 0, 1))
        await books.close()

    async def second() -> None:
        books = await keeper(path)
        assert (books.recovery.calls, books.recovery.charged) == (3, 50_000)
        assert books.balance(1) == 150_000
        assert books.statistics().holds_open == 0
        await books.close()

    asyncio.run(first())
    assert read(path, "SELECT count(*) FROM open_call") == [(3,)]
    asyncio.run(second())
    assert verify(path, quiet=True).problems == ()
    assert read(
        path, "SELECT id, verdict, source, charge, forgiven, delivered_bytes, status FROM call"
    ) == [
        (1, "internal_error", "counted", 50_000, 0, 99, 200),
        (2, "internal_error", "counted", 0, 50_000, 0, 500),
        (3, "internal_error", "none", 0, 0, 0, 500),
    ]


def test_recovery_respects_a_budget_that_was_lowered(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def first() -> None:
        books = await keeper(path)
        for call_id in (1, 2):
            await admitted(await books.admit(opening(call_id, stream=True))).committed
            books.mark(Progress(call_id, USAGE, UsageSource.COUNTED, 50_000, 10, 1))
        await books.change(
            lambda connection: keys.set_key_budget(connection, 1, 70_000, BudgetPeriod.TOTAL)
        )
        await books.close()

    async def second() -> None:
        books = await keeper(path)
        assert books.recovery.charged == 70_000
        await books.close()

    asyncio.run(first())
    asyncio.run(second())
    assert verify(path, quiet=True).problems == ()
    assert read(path, "SELECT charge, overrun, budget_after FROM call") == [
        (50_000, 0, 20_000),
        (20_000, 30_000, 0),
    ]


def test_spending_expense_and_balances_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    call_id = (int(NOW * 1000) - 1_577_836_800_000) << 22

    def budget(connection: Any) -> None:
        keys.set_key_budget(connection, 1, 120_000, BudgetPeriod.MONTHLY)

    async def first() -> None:
        books = await keeper(path, clock=lambda: NOW)
        await books.change(budget)
        await books.admit(opening(call_id))
        books.settle(closing(call_id))
        await books.admit(opening(call_id + 1, hold=1))
        books.settle(closing(call_id + 1, charge=0, forgiven=50_000, delivered_bytes=0))
        await books.close()

    async def second() -> None:
        books = await keeper(path, clock=lambda: NOW, expense_max=50_000)
        assert books.last_id >= call_id + 1
        refusal = await books.admit(opening(call_id + 2, hold=70_001, ceiling=70_001))
        assert isinstance(refusal, Refusal)
        assert (refusal.reason, refusal.available) == (RefusalReason.KEY_BUDGET, 70_000)
        careful = admitted(await books.admit(opening(call_id + 3, hold=1, ceiling=2)))
        assert careful.ceiling_held
        books.settle(closing(call_id + 3, charge=0))
        await books.close()

    asyncio.run(first())
    asyncio.run(second())


def test_a_credit_counts_once_per_reference_also_when_nobody_waits(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path, credit=0)
        many = await asyncio.gather(*(books.credit(1, 500, "code", "r") for _ in range(50)))
        assert [top_up.fresh for top_up in many].count(True) == 1
        assert len({top_up.event_id for top_up in many}) == 1
        assert books.balance(1) == 500
        for user, amount in ((2, 500), (1, 501)):
            with pytest.raises(ValueError, match="was used for another"):
                await books.credit(user, amount, "code", "r")
        for amount in (0, -1, 10**18 + 1):
            with pytest.raises(ValueError, match="above 0"):
                await books.credit(1, amount, "code", "other")
        with pytest.raises(ValueError, match="no user 9"):
            await books.credit(9, 1, "code", "other")
        impatient = asyncio.ensure_future(books.credit(1, 7, "code", "late"))
        await asyncio.sleep(0)
        impatient.cancel()
        await books.credit(2, 1, "code", "after")
        assert books.balance(1) == 507
        await books.close()

    asyncio.run(main())
    assert verify(path).problems == ()


def test_a_change_swaps_the_snapshot_or_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")
        seen: list[Catalog] = []
        unsubscribe = books.subscribe(seen.append)
        before = books.catalog

        def disable(connection: Any) -> str:
            keys.set_key_enabled(connection, 1, enabled=False)
            return "done"

        assert await books.change(disable) == "done"
        assert seen == [books.catalog]
        assert before.keys_by_id[1].enabled
        assert not books.catalog.keys_by_id[1].enabled
        assert books.catalog.version == before.version + 1

        def half(connection: Any) -> None:
            disable(connection)
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await books.change(half)
        assert books.catalog.version == before.version + 1
        unsubscribe()
        await books.change(disable)
        assert len(seen) == 1
        await books.close()

    asyncio.run(main())


def test_each_call_is_settled_once(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")
        await books.admit(opening(1))
        books.settle(closing(1))
        with pytest.raises(AssertionError, match="settled twice"):
            books.settle(closing(1))
        with pytest.raises(AssertionError, match="not open"):
            books.mark(Progress(1, USAGE, UsageSource.COUNTED, 1, 1, None))
        await books.close()

    asyncio.run(main())


def test_a_commit_that_fails_stops_admission_and_tells_everyone(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        faults: list[BaseException] = []
        books = await keeper(path, on_fatal=faults.append)
        await books.admit(opening(1))
        await books.settle(closing(1)).committed
        await books.admit(opening(1))  # the same id again: the file refuses it
        first = books.settle(closing(1))
        with pytest.raises(KeeperUnavailableError):
            await first.committed
        assert len(faults) == 1
        with pytest.raises(KeeperUnavailableError):
            await books.admit(opening(2))
        with pytest.raises(KeeperUnavailableError):
            await books.change(lambda _: None)
        await books.close()
        gc.collect()

    asyncio.run(main())
    assert verify(path, quiet=True).problems == ()
    assert read(path, "SELECT count(*) FROM call") == [(1,)]


def test_draining_waits_for_open_calls_and_admits_no_more(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")
        await books.admit(opening(1))
        draining = asyncio.ensure_future(books.drain())
        await asyncio.sleep(0)
        with pytest.raises(KeeperUnavailableError):
            await books.admit(opening(2))
        assert not draining.done()
        books.settle(closing(1))
        await draining
        await books.drain()
        await books.close()

    asyncio.run(main())


def test_calls_beyond_the_bound_are_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.storage.billing.OPEN_CALLS_MAX", 1)

    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")
        await books.admit(opening(1))
        with pytest.raises(KeeperUnavailableError):
            await books.admit(opening(2))
        books.settle(closing(1))
        await books.close()

    asyncio.run(main())


def test_a_file_that_does_not_keep_up_turns_calls_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.storage.billing.QUEUE_CALLS_MAX", 1)

    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db")
        await books.admit(opening(1))
        receipt = books.settle(closing(1))
        with pytest.raises(KeeperUnavailableError):
            await books.admit(opening(2))
        await receipt.committed
        await books.admit(opening(2))
        books.settle(closing(2))
        await books.close()

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(3))
def test_many_calls_at_once_never_overdraw_and_always_add_up(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "sluice.db"
    price = 2_000_000  # of 1,000 output tokens
    rng = random.Random(seed)
    start = 40 * price

    async def call(books: Keeper, call_id: int, tokens: int) -> None:
        stream = rng.random() < 0.5
        outcome = await books.admit(opening(call_id, stream=stream, hold=price, ceiling=price))
        if isinstance(outcome, Refusal):
            assert outcome.available < price, "refused although the hold was covered"
            return
        if stream:
            await outcome.committed
        usage = Usage(output=tokens)
        await asyncio.sleep(rng.random() / 50)  # pace: calls overlap at random
        receipt = books.settle(closing(call_id, usage=usage, charge=tokens * 2_000))
        assert receipt.balance_after >= 0
        await receipt.committed

    async def main() -> None:
        books = await keeper(path, credit=start)
        sizes = [rng.randrange(200, 3_000) for _ in range(500)]
        await asyncio.gather(*(call(books, number + 1, size) for number, size in enumerate(sizes)))
        assert books.statistics().holds_open == 0
        await books.close()

    asyncio.run(main())
    report = verify(path, quiet=True)
    assert report.problems == ()
    (charged, fewest, served) = read(
        path, "SELECT sum(charge), min(balance_after), count(*) FROM call"
    )[0]
    (balance,) = read(path, "SELECT balance FROM account WHERE id = 9")[0]
    assert charged + balance == start
    assert fewest >= 0
    assert served > 0


def test_at_a_fixed_price_exactly_as_many_succeed_as_the_wallet_pays(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "sluice.db", credit=37 * 50_000)

        async def call(call_id: int) -> bool:
            outcome = await books.admit(opening(call_id, hold=50_000, ceiling=50_000))
            if isinstance(outcome, Refusal):
                return False
            await asyncio.sleep(0)
            await books.settle(closing(call_id)).committed
            return True

        served = await asyncio.gather(*(call(number + 1) for number in range(500)))
        assert sum(served) == 37
        assert books.balance(1) == 0
        await books.close()

    asyncio.run(main())


def test_a_verdict_is_on_every_row(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        for number, verdict in enumerate(Verdict, 1):
            await books.admit(opening(number))
            books.settle(closing(number, verdict=verdict, charge=0))
        await books.close()

    asyncio.run(main())
    assert [row[0] for row in read(path, "SELECT verdict FROM call ORDER BY id")] == list(Verdict)


def test_the_keys_of_a_channel_open_only_with_their_master(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        assert books.catalog.channels[1].keys[0].secret == "sk-upstream-canary-0001"
        await books.close()
        with pytest.raises(Exception, match="master key") as refused:
            await Keeper.start(path, master=bytes(32), on_fatal=print)
        assert "canary" not in str(refused.value)

    asyncio.run(main())
    everything = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"canary" not in everything
    assert MASTER not in everything
