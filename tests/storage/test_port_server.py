"""The roll call, the dead and their successors, with real sockets and a real file."""

import asyncio
import stat
from pathlib import Path

import pytest

from proxy.core.entities import BudgetPeriod, Usage, UsageSource
from proxy.storage import keys, messages, port_server
from proxy.storage.messages import Posted
from proxy.storage.port_server import PortServer
from proxy.storage.ports import KeeperUnavailableError, Progress
from proxy.storage.remote import RemoteKeeper
from proxy.storage.verify import verify
from tests.storage.port import SECONDS_MAX, Office, admitted, ids, kill, office, worker
from tests.storage.test_session import Peer, peer, ready
from tests.storage.world import NOW, USD, closing, opening, read

CALL = "SELECT verdict, charge, forgiven, overrun FROM call WHERE id = ?"


def mark(call_id: int, output: int, delivered: int = 7) -> Progress:
    return Progress(
        call_id, Usage(output=output), UsageSource.COUNTED, 2_000 * output, delivered, 1
    )


async def until_gone(here: Office) -> None:
    while here.port.has_workers():
        await asyncio.sleep(0)


async def begin(here: Office, remote: RemoteKeeper, number: int, count: int = 1) -> list[int]:
    """Open `count` streams of one worker."""
    source = ids(number)
    calls = [source.next(NOW) for _ in range(count)]
    for call_id in calls:
        await admitted(await remote.admit(opening(call_id, stream=True))).committed
    return calls


def test_only_its_own_user_may_connect(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            assert stat.S_IMODE(here.socket.stat().st_mode) == 0o600
            assert here.socket.is_socket()
            again = PortServer(here.keeper, here.socket)
            await again.start()  # in the place of the one before
            await again.stop()

    asyncio.run(main())


def test_a_dead_workers_calls_are_settled_at_their_last_mark(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, alive=[1, 2]) as here:
            dying, living = await asyncio.gather(worker(here, 1), worker(here, 2))
            (marked, silent, unseen), (other,) = (
                await begin(here, dying, 1, 3), await begin(here, living, 2),
            )  # fmt: skip
            dying.mark(mark(marked, 10))
            dying.mark(mark(unseen, 10, delivered=0))
            dying.mark(mark(marked, 20))
            await dying.limits(1)
            kill(dying)
            while 1 in {seat.number for seat in here.port._seats.values() if seat.session}:
                await asyncio.sleep(0)
            assert len(here.keeper.open_calls()) == 4, "its number still lives"
            here.port.alive([2])
            assert here.keeper.open_calls() == [other]
            await living.settle(closing(other)).committed
            here.port.alive([])
            await living.close()
            assert read(here.database, CALL, marked) == [("internal_error", 40_000, 0, 0)]
            assert read(here.database, CALL, silent) == [("internal_error", 0, 0, 0)]
            assert read(here.database, CALL, unseen) == [("internal_error", 0, 20_000, 0)]

    asyncio.run(main())
    assert verify(tmp_path / "sluice.db", quiet=True).problems == ()


def test_what_a_worker_had_written_before_it_died_counts(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, alive=[1]) as here:
            remote = await worker(here, 1)
            (call_id,) = await begin(here, remote, 1)
            session = here.port._seats[1].session
            assert session is not None
            session.link.hold()
            remote.settle(closing(call_id))
            link = remote._link
            assert link is not None
            link._flush()
            kill(remote)
            here.port.alive([])
            assert here.keeper.open_calls() == [call_id], "not before its line is at its end"
            session.link.release()
            while here.keeper.open_calls():
                await asyncio.sleep(0)

    asyncio.run(main())
    database = tmp_path / "sluice.db"
    assert read(database, "SELECT verdict, charge FROM call") == [("complete", 50_000)]


def test_a_new_keeper_admits_when_the_last_living_worker_has_spoken(tmp_path: Path) -> None:
    async def main() -> None:
        here = await Office(tmp_path).start([1, 2, 3])
        assert here.port.unready == "waiting for workers 1, 2, 3 to announce their calls"
        here.port.alive([1, 2])
        first, second = await asyncio.gather(worker(here, 1), worker(here, 2))
        kept, lost = await begin(here, first, 1), await begin(here, second, 2)
        second.mark(mark(lost[0], 10))
        await second.limits(1)
        await asyncio.sleep(0)
        while not read(here.database, "SELECT 1 FROM open_call WHERE charge > 0"):
            await asyncio.sleep(0)
        await here.kill()
        kill(second)
        await here.start([1, 2])
        while here.port.unready != "waiting for workers 2 to announce their calls":
            await asyncio.sleep(0)
        with pytest.raises(KeeperUnavailableError, match="collecting"):
            here.keeper.decide(opening(ids(5).next(NOW)))
        assert not first.ready
        here.port.alive([1])
        await here.port.ready()
        assert here.port.unready is None
        assert here.keeper.recovery == (1, 20_000)
        assert here.keeper.statistics().held == 100_000
        await first.settle(closing(kept[0])).committed
        await first.close()
        await here.stop()

    asyncio.run(main())
    database = tmp_path / "sluice.db"
    assert verify(database, quiet=True).problems == ()
    assert sorted(read(database, "SELECT verdict, charge FROM call")) == [
        ("complete", 50_000), ("internal_error", 20_000),
    ]  # fmt: skip


def test_who_stays_silent_keeps_its_calls_until_it_speaks_or_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(port_server, "ROLL_CALL_SECONDS_MAX", 0.05)

    async def main() -> None:
        here = await Office(tmp_path).start([1, 2])
        speaking, silent = await asyncio.gather(worker(here, 1), worker(here, 2))
        (kept,), (held,) = await begin(here, silent, 2), await begin(here, speaking, 1)
        kill(silent)
        await here.kill()
        await here.start([1, 2])
        await here.port.ready()
        assert sorted(here.keeper.open_calls()) == sorted([kept, held])
        here.port.alive([1])
        assert here.keeper.open_calls() == [held]
        await speaking.settle(closing(held)).committed
        await here.stop()

    asyncio.run(main())
    assert "waiting for workers 2 to announce their calls: starting without them" in caplog.text
    assert verify(tmp_path / "sluice.db", quiet=True).problems == ()


def test_a_successor_in_the_number_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, alive=[1]) as here:
            first = await ready(here, 1)
            call_id = ids(1).next(NOW)
            first.say(messages.Admit(opening(call_id)))
            await first.hear(messages.Admitted)
            third, second = await peer(here, 1, 8), await peer(here, 1, 9)
            await third.lost.wait()
            assert here.keeper.open_calls() == [call_id]
            first.link.abort()
            await second.hear(messages.Welcome)
            assert not here.keeper.open_calls()
            second.say(messages.Present())
            await second.hear(messages.Ready)

    asyncio.run(main())
    assert verify(tmp_path / "sluice.db", quiet=True).problems == ()


def test_the_same_process_on_a_new_line_says_everything_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path, alive=[1], credit=USD) as here:
            first = await ready(here, 1)
            source = ids(1)
            kept, undone, forgotten = (source.next(NOW) for _ in range(3))
            asked = opening(kept)
            first.say(*(messages.Admit(opening(one)) for one in (kept, undone, forgotten)))
            first.say(messages.Extend(kept, 500))
            await first.hear(messages.Extended)
            assert here.keeper.statistics().held == 300_500
            second = await peer(here, 1)
            await second.hear(messages.Welcome)
            await first.lost.wait()
            second.say(
                messages.Restore(asked, 100_000, mark(kept, 3)),
                messages.Undo(undone),
                messages.Present(),
            )
            await second.hear(messages.Ready)
            assert (await second.hear(messages.Committed)).opened == [kept]
            assert here.keeper.statistics().held == 100_000, "what was not heard of is given back"
            second.say(messages.Admit(opening(undone, stream=True)))
            await second.hear(messages.Admitted)
            assert (await second.hear(messages.Committed)).opened == [undone]
            for call_id in (kept, undone):
                second.say(messages.Settle(closing(call_id)))
                await second.hear(messages.Committed)
            assert read(here.database, CALL, forgotten) == [("internal_error", 0, 0, 0)]

    asyncio.run(main())
    report = verify(tmp_path / "sluice.db", quiet=True)
    assert (report.problems, report.calls) == ((), 3)


def test_a_settlement_said_again_is_answered_from_the_file_and_charged_once(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        here = await Office(tmp_path).start([1])
        first = await ready(here, 1)
        source = ids(1)
        committed, lost = source.next(NOW), source.next(NOW)
        first.say(messages.Admit(opening(committed)), messages.Settle(closing(committed)))
        told = (await first.hear(messages.Committed)).posted
        await here.kill()
        await here.start([1])
        second = await peer(here, 1)
        await second.hear(messages.Welcome)
        second.say(
            messages.Resend(opening(committed), 100_000, closing(committed)),
            messages.Resend(opening(lost), 100_000, closing(lost)),
            messages.Present(),
        )
        await second.hear(messages.Ready)
        answers: list[Posted] = []
        while len(answers) < 2:
            answers += (await second.hear(messages.Committed)).posted
        assert sorted(answers, key=lambda posted: posted.call_id) == [
            *told, Posted(lost, 50_000, 0, USD - 100_000),
        ]  # fmt: skip
        await here.stop()

    asyncio.run(main())
    report = verify(tmp_path / "sluice.db", quiet=True)
    assert (report.problems, report.calls, report.revenue) == ((), 2, 100_000)


def test_holds_that_no_longer_fit_take_what_is_left_and_overdraw_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        here = await Office(tmp_path, credit=150_000).start([1])
        source = ids(1)
        calls = [source.next(NOW) for _ in range(3)]
        one = await peer(here, 1)
        await one.hear(messages.Welcome)
        one.say(*(messages.Restore(opening(call_id), 100_000, None) for call_id in calls))
        one.say(messages.Present())
        await one.hear(messages.Ready)
        assert here.keeper.statistics().held == 150_000
        one.say(*(messages.Settle(closing(call_id, charge=100_000, usage=Usage(output=50)))
                  for call_id in calls))  # fmt: skip
        posted: list[Posted] = []
        while len(posted) < 3:
            posted += (await one.hear(messages.Committed)).posted
        assert [(each.charged, each.overrun) for each in posted] == [
            (100_000, 0), (50_000, 50_000), (0, 100_000),
        ]  # fmt: skip
        await here.stop()

    asyncio.run(main())
    report = verify(tmp_path / "sluice.db", quiet=True)
    assert (report.problems, report.revenue) == ((), 300_000)


def test_a_restored_call_of_a_limited_key_keeps_its_slot(tmp_path: Path) -> None:
    async def main() -> None:
        here = await Office(tmp_path).start([1])
        source = ids(1)
        one = await peer(here, 1)
        await one.hear(messages.Welcome)
        limited = {"key_id": 2, "user_id": 2, "hold": 1}
        one.say(*(messages.Restore(opening(source.next(NOW), **limited), 1, None) for _ in "ab"))
        one.say(messages.Present())
        await one.hear(messages.Ready)
        one.say(messages.Admit(opening(source.next(NOW), **limited)))
        refused = await one.hear(messages.Refused)
        assert (refused.reason.value, refused.limit) == ("concurrency", 2)
        await here.stop()

    asyncio.run(main())


def test_every_worker_is_told_of_a_new_catalog(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            remotes = [await worker(here, number) for number in (1, 2)]
            await here.keeper.change(
                lambda connection: keys.set_key_budget(connection, 1, 10, BudgetPeriod.DAILY)
            )
            for remote in remotes:
                while remote.catalog.version < here.keeper.catalog.version:
                    await asyncio.sleep(0)
                await remote.close()
            await until_gone(here)

    asyncio.run(main())


def test_a_ledger_that_cannot_be_written_ends_the_port(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        here = await Office(tmp_path).start(())
        here.keeper._writer._connection.execute("DROP TABLE open_call")
        one = await ready(here, 1)
        one.say(messages.Admit(opening(ids(1).next(NOW), stream=True)))
        while not here.faults:
            await asyncio.sleep(0)
        other = Peer()
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: other.link, str(here.socket))
        other.say(messages.Hello(messages.Role.WORKER, 2, 5))
        await other.hear(messages.Welcome)
        other.say(messages.Undo(1), messages.Present())
        await other.lost.wait()
        await one.lost.wait()
        here.faults.clear()
        await here.stop()

    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await main()

    asyncio.run(bounded())
    assert "the port ends" in caplog.text
