"""A worker's end of the port: the same answers as in one process, and nothing lost without it."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.core.entities import BudgetPeriod, Usage, UsageSource
from proxy.core.limits import LimitState
from proxy.storage import keys, messages
from proxy.storage import remote as remote_module
from proxy.storage.messages import Posted
from proxy.storage.ports import KeeperUnavailableError, Progress, Refusal, RefusalReason
from proxy.storage.remote import RemoteKeeper
from proxy.storage.verify import verify
from tests.storage.port import SECONDS_MAX, Office, Script, admitted, ids, office, worker
from tests.storage.world import MASTER, NOW, USD, closing, keeper, opening, read


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await work

    uvloop.run(bounded())


async def scripted(folder: Path) -> tuple[Script, RemoteKeeper]:
    """A worker of a keeper that only says what it is told to."""
    database = folder / "sluice.db"
    await (await keeper(database)).close()
    script = await Script(folder / "keeper.sock").start()
    connecting = asyncio.create_task(
        RemoteKeeper.connect(
            script.path, database, worker=0, master=MASTER, metrics_state=lambda: b"figures"
        )
    )
    await script.welcome()
    return script, await connecting


def test_a_call_is_billed_over_the_port_as_it_is_in_one_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            remote = await worker(here)
            source = ids(0)
            for stream in (False, True):
                call_id = source.next(NOW)
                admission = admitted(await remote.admit(opening(call_id, stream=stream)))
                assert (admission.held, admission.ceiling_held) == (100_000, False)
                await admission.committed
                assert read(here.database, "SELECT id FROM open_call") == [(call_id,)]
                receipt = remote.settle(closing(call_id))
                await receipt.committed
                assert (receipt.charged, receipt.overrun) == (50_000, 0)
                stored = read(here.database, "SELECT balance_after FROM call ORDER BY id DESC")
                assert stored[0] == (receipt.balance_after,)
            await remote.close()

    run(main())
    report = verify(tmp_path / "sluice.db", quiet=True)
    assert report.problems == ()
    assert (report.calls, report.wallets, report.revenue) == (2, 2 * USD - 100_000, 100_000)


def test_refusals_and_limits_come_back_as_they_are(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, credit=100_000) as here:
            remote, source = await worker(here), ids(0)
            refusal = await remote.admit(opening(source.next(NOW), hold=100_001))
            assert isinstance(refusal, Refusal)
            assert (refusal.reason, refusal.available) == (RefusalReason.WALLET, 100_000)
            for _ in range(2):
                admitted(await remote.admit(opening(source.next(NOW), key_id=2, user_id=2, hold=1)))
            refusal = await remote.admit(opening(source.next(NOW), key_id=2, user_id=2, hold=1))
            assert isinstance(refusal, Refusal)
            assert (refusal.reason, refusal.limit) == (RefusalReason.CONCURRENCY, 2)
            assert refusal.limits.requests_limit == 60
            assert (await remote.limits(2)).requests_limit == 60
            with pytest.raises(KeeperUnavailableError, match="does not know"):
                await remote.limits(99)
            with pytest.raises(KeeperUnavailableError, match="no key 99"):
                await remote.admit(opening(source.next(NOW), key_id=99))

    run(main())


def test_marks_and_extensions_reach_the_keeper(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, credit=100) as here:
            remote, call_id = await worker(here), ids(0).next(NOW)
            await admitted(await remote.admit(opening(call_id, hold=60, stream=True))).committed
            granted: asyncio.Queue[int] = asyncio.Queue(9)
            for expected in (30, 10, 0):
                remote.extend(call_id, 30, granted.put_nowait)
                assert await granted.get() == expected
            remote.mark(Progress(call_id, Usage(output=3), UsageSource.COUNTED, 6, 7, 1))
            receipt = remote.settle(closing(call_id, charge=100))
            await receipt.committed
            assert (receipt.charged, receipt.overrun, receipt.balance_after) == (100, 0, 0)
            for wrong in (
                lambda: remote.settle(closing(call_id)),
                lambda: remote.extend(call_id, 1, granted.put_nowait),
                lambda: remote.mark(Progress(call_id, Usage(), UsageSource.NONE, 0, 0, None)),
            ):
                with pytest.raises(AssertionError, match="is not open"):
                    wrong()

    run(main())


def test_a_settlement_that_cannot_be_posted_fails_where_it_was_made(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            remote, call_id = await worker(here), ids(0).next(NOW)
            admitted(await remote.admit(opening(call_id)))
            with pytest.raises(AssertionError, match="cannot settle"):
                remote.settle(closing(call_id, charge=1, forgiven=1))
            await remote.settle(closing(call_id)).committed

    run(main())


def test_the_keeper_is_told_which_catalog_is_in_force(tmp_path: Path) -> None:
    async def main() -> None:
        database = tmp_path / "sluice.db"
        books = await keeper(database)
        script = await Script(tmp_path / "keeper.sock").start()
        connecting = asyncio.create_task(
            RemoteKeeper.connect(
                script.path, database, worker=0, master=MASTER, metrics_state=lambda: b""
            )
        )
        (hello,) = await script.hear(messages.Hello)
        assert hello.catalog_version == 0
        script.say(messages.Welcome(0, books.catalog.version, asks_in_force=True))
        await script.hear(messages.Present)
        script.say(messages.Ready())
        remote = await connecting
        first = books.catalog.version
        while messages.InForce(first) not in script.heard:
            await script.hear(messages.InForce, len(await script.hear(messages.InForce)) + 1)
        served: list[int] = []
        remote.subscribe(lambda catalog: served.append(len(script.heard)))
        await books.change(lambda c: keys.set_key_budget(c, 1, 9, BudgetPeriod.DAILY))
        heard = len(await script.hear(messages.InForce))
        script.say(messages.CatalogChanged(first + 1))
        assert (await script.hear(messages.InForce, heard + 1))[-1] == messages.InForce(first + 1)
        assert served, "in force is what everybody who asked has acted on"
        # The next keeper hears it first thing; one that never asks hears no more.
        script.links[-1].abort()
        hellos = await script.hear(messages.Hello, 2)
        assert hellos[-1].catalog_version == first + 1
        script.say(messages.Welcome(0, first + 1))
        await script.hear(messages.Present, 2)
        script.say(messages.Ready())
        await books.change(lambda c: keys.set_key_budget(c, 1, 10, BudgetPeriod.DAILY))
        script.say(messages.CatalogChanged(first + 2))
        while remote.catalog.version < first + 2:
            await asyncio.sleep(0)
        await remote.close()
        await script.hear(messages.Goodbye)
        assert messages.InForce(first + 2) not in script.heard
        script.stop()
        await books.close()

    run(main())


def test_a_changed_catalog_is_read_and_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            remote = await worker(here)
            version = remote.catalog.version
            news: asyncio.Queue[int] = asyncio.Queue(9)
            end = remote.subscribe(lambda catalog: news.put_nowait(catalog.version))
            await here.keeper.change(
                lambda connection: keys.set_key_budget(connection, 1, 10, BudgetPeriod.DAILY)
            )
            assert await news.get() > version
            assert remote.catalog.keys_by_id[1].budget == 10
            end()

    run(main())


def test_without_a_keeper_nothing_is_admitted_and_everything_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "KEEPER_WAIT_SECONDS_MAX", 0.05)

    async def main() -> None:
        here = await Office(tmp_path).start(())
        remote, source = await worker(here), ids(0)
        first, second = source.next(NOW), source.next(NOW)
        for call_id in (first, second):
            admitted(await remote.admit(opening(call_id)))
        await here.kill()
        while remote.ready:
            await asyncio.sleep(0)
        with pytest.raises(KeeperUnavailableError, match="no keeper"):
            await remote.admit(opening(source.next(NOW)))
        with pytest.raises(KeeperUnavailableError, match="no keeper"):
            await remote.limits(1)
        granted: asyncio.Queue[int] = asyncio.Queue(9)
        remote.extend(second, 7, granted.put_nowait)
        remote.mark(Progress(second, Usage(output=3), UsageSource.COUNTED, 6_000, 7, 1))
        receipt = remote.settle(closing(first))
        assert not receipt.committed.done()
        await here.start({0})
        await receipt.committed
        assert (receipt.charged, receipt.balance_after) == (50_000, USD - 50_000)
        assert await granted.get() == 7
        assert here.keeper.statistics().held == 100_007
        stored = read(here.database, "SELECT id, charge, hold FROM open_call")
        assert stored == [(second, 6_000, 100_000)]
        await remote.settle(closing(second)).committed
        await remote.close()
        await here.stop()

    run(main())
    assert verify(tmp_path / "sluice.db", quiet=True).problems == ()


def test_a_row_that_is_waited_for_is_durable_with_the_next_keeper(tmp_path: Path) -> None:
    async def main() -> None:
        here = await Office(tmp_path).start(())
        remote, call_id = await worker(here), ids(0).next(NOW)
        admission = admitted(await remote.admit(opening(call_id)))
        await here.kill()
        waiting = asyncio.ensure_future(asyncio.wait_for(admission.committed, SECONDS_MAX))
        await here.start({0})
        await waiting
        assert read(here.database, "SELECT id, hold FROM open_call") == [(call_id, 100_000)]
        await remote.settle(closing(call_id)).committed
        await here.stop()

    run(main())


def test_an_admission_nobody_waits_for_is_undone(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            remote, source = await worker(here), ids(0)
            for stream in (False, True):
                asking = asyncio.create_task(remote.admit(opening(source.next(NOW), stream=stream)))
                await asyncio.sleep(0)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
            # Behind the questions and what undoes them:
            await remote.limits(1)
            assert here.keeper.statistics().holds_open == 0
            assert not remote._abandoned
            await remote.close()

    run(main())
    report = verify(tmp_path / "sluice.db", quiet=True)
    assert (report.problems, report.calls) == ((), 0)


def test_cancelled_in_the_turn_of_its_answer_it_is_undone_too(tmp_path: Path) -> None:
    async def main() -> None:
        script, remote = await scripted(tmp_path)
        source = ids(0)
        before, after = source.next(NOW), source.next(NOW)
        asking = {
            call_id: asyncio.create_task(remote.admit(opening(call_id)))
            for call_id in (before, after)
        }
        await script.hear(messages.Admit, 2)
        asking[before].cancel()
        remote._admitted(messages.Admitted(before, 1, ceiling_held=False, limits=LimitState()))
        remote._admitted(messages.Admitted(after, 1, ceiling_held=False, limits=LimitState()))
        asking[after].cancel()
        await asyncio.gather(*asking.values(), return_exceptions=True)
        assert {one.call_id for one in await script.hear(messages.Undo, 2)} == {before, after}
        assert not remote._open
        script.stop()
        await remote.close(0.0)

    run(main())


def test_a_worker_weighs_and_reads_what_its_keeper_has_decided(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, credit=100_000, redo=True) as here:
            remote, source = await worker(here), ids(0)
            assert (await remote.weigh(opening(source.next(NOW)))).held == 100_000
            refusal = (await remote.weigh(opening(source.next(NOW), hold=100_001))).refusal
            assert refusal is not None
            assert refusal.reason is RefusalReason.WALLET
            call_id = source.next(NOW)
            assert admitted(await remote.admit(opening(call_id))).balance == 100_000
            await remote.settle(closing(call_id)).committed
            await remote.catch_up()
            assert read(here.database, "SELECT id FROM call") == [(call_id,)]
            with pytest.raises(KeeperUnavailableError, match="does not know"):
                await remote.weigh(opening(source.next(NOW), key_id=77))
            await remote.close()
        with pytest.raises(KeeperUnavailableError, match="there is no keeper"):
            await remote.catch_up()

    run(main())


def test_a_request_without_money_counts_for_every_worker_alike(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, clock_monotonic=lambda: 5.0) as here:
            first, second = await worker(here), await worker(here, 1)
            left = (await second.limits(2)).requests_remaining
            assert left
            for number in range(left):
                assert await (first, second)[number % 2].count(2) is None
            refusal = await second.count(2)
            assert refusal is not None
            assert (refusal.reason, refusal.limit) == (RefusalReason.REQUESTS, 60)
            assert refusal.retry_after > 0
            assert (await first.limits(2)).requests_remaining == 0
            assert await first.count(1) is None, "whose plan has no limit"
            with pytest.raises(KeeperUnavailableError, match="does not know"):
                await first.count(77)
            for each in (first, second):
                await each.close()
        with pytest.raises(KeeperUnavailableError, match="there is no keeper"):
            await first.count(1)

    run(main())


def test_a_keeper_of_the_release_before_is_not_asked_what_it_does_not_know(tmp_path: Path) -> None:
    async def main() -> None:
        script, remote = await scripted(tmp_path)
        assert await remote.count(1) is None
        with pytest.raises(KeeperUnavailableError):
            await remote.catch_up()
        with pytest.raises(KeeperUnavailableError):
            await remote.weigh(opening(1))
        script.stop()
        await remote.close(0.0)

    run(main())


def test_a_keeper_that_hangs_is_waited_for_so_long_and_heard_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEEPER_WAIT_SECONDS_MAX", "ANSWER_WAIT_SECONDS_MAX", "CHECK_SECONDS"):
        monkeypatch.setattr(remote_module, name, 0.01)

    async def main() -> None:
        script, remote = await scripted(tmp_path)
        call_id = ids(0).next(NOW)
        with pytest.raises(KeeperUnavailableError, match="does not answer"):
            await remote.limits(1)
        with pytest.raises(KeeperUnavailableError, match="does not answer"):
            await remote.admit(opening(call_id))
        assert (await script.hear(messages.Undo))[0].call_id == call_id
        assert remote._abandoned == {call_id}
        # Whatever comes late finds nobody, and does no harm.
        script.say(
            messages.Admitted(call_id, 1, ceiling_held=False, limits=LimitState()),
            messages.Refused(call_id, RefusalReason.WALLET, LimitState(), 0, 0.0, 0),
            messages.Unavailable(call_id, "late"),
            messages.Limits(1, LimitState()),
            messages.Extended(call_id, 5),
            messages.Committed([call_id], [Posted(call_id, 1, 0, 0)]),
            messages.AskState(7),
        )
        assert await script.hear(messages.State) == [messages.State(7, b"figures")]
        assert not remote._abandoned
        assert not remote._open
        script.stop()
        await remote.close(0.0)

    run(main())


def test_the_undone_are_named_to_the_next_keeper_before_they_are_asked_again(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        script, remote = await scripted(tmp_path)
        source = ids(0)
        asked, given_up = source.next(NOW), source.next(NOW)
        asking = asyncio.create_task(remote.admit(opening(asked)))
        dropped = asyncio.create_task(remote.admit(opening(given_up)))
        await script.hear(messages.Admit, 2)
        dropped.cancel()
        script.links[-1].abort()
        await script.hear(messages.Hello, 2)
        script.heard.clear()
        script.say(messages.Welcome(5, 1))
        await script.hear(messages.Present)
        undone = [one.call_id for one in script.heard if isinstance(one, messages.Undo)]
        assert sorted(undone) == [asked, given_up]
        script.say(messages.Ready())
        assert [one.opening.call_id for one in await script.hear(messages.Admit)] == [asked]
        script.say(messages.Unavailable(asked, "later"))
        with pytest.raises(KeeperUnavailableError, match="later"):
            await asking
        script.stop()
        await remote.close(0.0)

    run(main())


def test_what_ends_while_calls_are_announced_is_said_when_the_keeper_is_ready(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        script, remote = await scripted(tmp_path)
        source = ids(0)
        ended, open_still = source.next(NOW), source.next(NOW)
        for call_id in (ended, open_still):
            asking = asyncio.create_task(remote.admit(opening(call_id)))
            await script.hear(messages.Admit)
            script.heard.clear()
            script.say(messages.Admitted(call_id, 9, ceiling_held=False, limits=LimitState()))
            admitted(await asking)
        script.links[-1].abort()
        await script.hear(messages.Hello)
        script.say(messages.Welcome(5, 1))
        restored = await script.hear(messages.Restore, 2)
        assert [(one.opening.call_id, one.held) for one in restored] == [
            (ended, 9),
            (open_still, 9),
        ]
        receipt = remote.settle(closing(ended))
        progress = Progress(open_still, Usage(output=3), UsageSource.COUNTED, 6, 7, 1)
        remote.mark(progress)
        remote.extend(open_still, 4, lambda granted: None)
        script.say(messages.Ready())
        assert await script.hear(messages.Settle) == [messages.Settle(closing(ended))]
        assert await script.hear(messages.Mark) == [messages.Mark(progress)]
        assert await script.hear(messages.Extend) == [messages.Extend(open_still, 4)]
        script.say(messages.Committed([open_still], [Posted(ended, 3, 2, 1)]))
        await receipt.committed
        assert (receipt.charged, receipt.overrun, receipt.balance_after) == (3, 2, 1)
        script.stop()
        await remote.close(0.0)

    run(main())


def test_settlements_that_nobody_acknowledges_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote_module, "SETTLING_CALLS_MAX", 1)

    async def main() -> None:
        script, remote = await scripted(tmp_path)
        source = ids(0)
        call_id = source.next(NOW)
        asking = asyncio.create_task(remote.admit(opening(call_id)))
        await script.hear(messages.Admit)
        script.say(messages.Admitted(call_id, 9, ceiling_held=False, limits=LimitState()))
        admitted(await asking)
        remote.settle(closing(call_id))
        with pytest.raises(KeeperUnavailableError, match="does not keep up"):
            await remote.admit(opening(source.next(NOW)))
        await remote.close(0.01)
        assert (await script.hear(messages.Goodbye))[0].state == b"figures"
        script.stop()

    run(main())
    assert caplog.messages == ["1 settlements were not acknowledged in time"]


def test_metrics_beyond_the_bound_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(remote_module, "STATE_BYTES_MAX", 3)

    async def main() -> None:
        script, remote = await scripted(tmp_path)
        script.say(messages.AskState(1))
        assert await script.hear(messages.State) == [messages.State(1, b"")]
        script.stop()
        await remote.close(0.0)

    run(main())
    assert "7 bytes" in caplog.text


def test_connecting_to_nobody_ends_in_time(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(KeeperUnavailableError, match="no keeper answers"):
            await RemoteKeeper.connect(
                tmp_path / "nobody.sock", tmp_path / "sluice.db", worker=0, master=MASTER,
                metrics_state=bytes, seconds_max=0.05,
            )  # fmt: skip

    run(main())
