"""Workers and keepers die at random points, and every call is charged exactly once all the same.

One loop, real sockets, one real file: the points are turns of the loop, so that they fall between
any two messages and also between a commit and its announcement.
"""

import asyncio
import random
from pathlib import Path

import pytest
import uvloop

from proxy.core.entities import Usage, UsageSource
from proxy.core.ids import IdSource
from proxy.storage.ports import (
    Admission,
    KeeperUnavailableError,
    Opening,
    Progress,
    Refusal,
)
from proxy.storage.remote import RemoteKeeper
from proxy.storage.verify import verify
from tests.storage.port import Office, ids, kill, office, worker
from tests.storage.world import NOW, closing, opening, read

STREAMS = 12
FAULTS = 25
CREDIT = 200_000_000
TOKEN = 2_000


class Worker:
    """A process of calls; `told` is what it was told is committed, `marked` what it had said."""

    def __init__(self, office: Office, number: int, born: float, rng: random.Random) -> None:
        self.office = office
        self.number = number
        self.rng = rng
        self.born = born
        """No clock stands still while a process dies: ids begin above those nobody recorded."""
        self.ids = ids(number)
        self.told: dict[int, int] = {}
        self.settled: dict[int, int] = {}
        self.marked: dict[int, set[int]] = {}
        self.held: dict[int, int] = {}
        self.remote: RemoteKeeper | None = None
        self.tasks: list[asyncio.Task[None]] = []
        self.leaving = False

    async def start(self) -> None:
        self.remote = await worker(self.office, self.number)
        self.ids = IdSource(
            self.number, after=max(self.remote.last_id, ids(0, self.born).next(NOW))
        )
        self.tasks = [asyncio.create_task(self.calls()) for _ in range(STREAMS)]

    async def calls(self) -> None:
        while not self.leaving:
            try:
                async with asyncio.timeout(self.rng.choice((None, None, None, 0.0))):
                    if not await self.one():
                        await asyncio.sleep(0.001)  # let the others spend what is left
            except (KeeperUnavailableError, TimeoutError):
                await asyncio.sleep(0)

    async def one(self) -> bool:
        remote, rng = self.remote, self.rng
        assert remote is not None
        call_id = self.ids.next(NOW)
        stream = rng.random() < 0.6
        asked: Opening = opening(
            call_id, stream=stream, hold=rng.randrange(1, 400) * TOKEN, ceiling=10**9
        )
        outcome = await remote.admit(asked)
        if isinstance(outcome, Refusal):
            return False
        self.marked[call_id] = {0}
        output = 0
        try:
            await self.serve(remote, call_id, outcome)
            output = rng.randrange(1, 300)
        finally:
            charge = output * TOKEN
            self.settled[call_id] = charge
            receipt = remote.settle(
                closing(
                    call_id, usage=Usage(output=output, calls=1), charge=charge,
                    delivered_bytes=output, attempts=(),
                )
            )  # fmt: skip
        await receipt.committed
        self.told[call_id] = receipt.charged
        return True

    async def serve(self, remote: RemoteKeeper, call_id: int, outcome: Admission) -> None:
        rng = self.rng
        if rng.random() < 0.8:
            await outcome.committed
        for _ in range(rng.randrange(4)):
            output = rng.randrange(1, 300)
            if rng.random() < 0.5:
                answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
                remote.extend(
                    call_id,
                    output * TOKEN,
                    lambda granted, answer=answer: (  # type: ignore[misc] # bound now
                        None if answer.done() else answer.set_result(granted)
                    ),
                )
                await answer
            else:
                progress = Progress(
                    call_id, Usage(output=output), UsageSource.COUNTED, output * TOKEN, output, 1
                )
                self.marked[call_id].add(output * TOKEN)
                remote.mark(progress)
                await asyncio.sleep(0)

    async def leave(self) -> None:
        self.leaving = True
        await asyncio.gather(*self.tasks)
        assert self.remote is not None
        await self.remote.close()

    def kill(self) -> None:
        assert self.remote is not None
        kill(self.remote)
        for task in self.tasks:
            task.cancel()


async def turns(rng: random.Random) -> None:
    """Let the loop turn a random number of times."""
    for _ in range(rng.randrange(rng.choice((3, 100, 2000)))):
        await asyncio.sleep(0)


async def life(folder: Path, rng: random.Random, *, redo: bool) -> list[Worker]:
    """Let things die until `FAULTS` have; returns every worker there was."""
    async with asyncio.timeout(50):
        here = await Office(folder, credit=CREDIT, redo=redo).start(())
        living = [Worker(here, number, NOW, rng) for number in range(3)]
        every = list(living)
        here.port.alive(range(3))
        for one in living:
            await one.start()
        for _ in range(FAULTS):
            await turns(rng)
            fault = rng.choice(("keeper", "keeper", "worker", "line"))
            if fault == "keeper":
                await here.kill()
                await turns(rng)
                await here.start({one.number for one in living})
            elif fault == "line":
                link = living[rng.randrange(3)].remote._link  # type: ignore[union-attr] # started
                if link is not None:
                    link.abort()
            else:
                place = rng.randrange(3)
                victim = living[place]
                victim.kill()
                number = victim.number if rng.random() < 0.5 else len(every)
                successor = Worker(here, number, NOW + len(every), rng)
                every.append(successor)
                living[place] = successor
                here.port.alive({one.number for one in living})
                await successor.start()
        for one in living:
            await one.leave()
        await here.stop()
        return every


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.timeout(120)
def test_every_call_is_charged_once_whoever_dies_when(tmp_path: Path, seed: int) -> None:
    every = uvloop.run(life(tmp_path, random.Random(seed), redo=bool(seed % 2)))
    path = tmp_path / "sluice.db"
    report = verify(path, quiet=True)
    assert report.problems == ()
    stored = {
        row[0]: row[1:]
        for row in read(path, "SELECT id, verdict, charge, overrun, forgiven FROM call")
    }
    told = 0
    dead = [one for one in every if not one.leaving]
    for one in every:
        for call_id, charged in one.told.items():
            assert stored[call_id][:2] == ("complete", charged)
            told += 1
        for call_id, charge in one.settled.items():
            if call_id in stored and stored[call_id][0] == "complete":
                assert sum(stored[call_id][1:]) == charge
            else:
                assert one in dead, "the settlement of a living worker was lost"
        for call_id, marks in one.marked.items():
            if call_id in stored and stored[call_id][0] != "complete":
                assert sum(stored[call_id][1:]) in marks
    admitted = {call_id for one in every for call_id in one.marked}
    for call_id in stored.keys() - admitted:
        assert stored[call_id][:4] == ("internal_error", 0, 0, 0), "nobody was told of it"
    assert told
    assert report.wallets == 2 * CREDIT - sum(row[1] for row in stored.values())


@pytest.mark.parametrize("workers", [2, 4])
def test_calls_race_for_one_wallet_across_workers(tmp_path: Path, workers: int) -> None:
    """R2: of N calls on a wallet for k of them, k are admitted, whoever asks first."""
    share, fitting, asked = TOKEN, 37, 200

    async def main() -> int:
        async with office(tmp_path, credit=share * fitting + share - 1) as here:
            remotes = [await worker(here, number) for number in range(workers)]
            sources = [ids(number) for number in range(workers)]
            openings = [
                (index % workers, opening(sources[index % workers].next(NOW), hold=share, stream=bool(index % 3)))
                for index in range(asked)
            ]  # fmt: skip
            outcomes = await asyncio.gather(
                *(remotes[number].admit(one) for number, one in openings)
            )
            held = [
                (number, one.call_id)
                for (number, one), outcome in zip(openings, outcomes, strict=True)
                if isinstance(outcome, Admission)
            ]
            receipts = [
                remotes[number].settle(
                    closing(call_id, charge=share, usage=Usage(output=1), attempts=())
                )
                for number, call_id in held
            ]
            for receipt in receipts:
                await receipt.committed
                assert receipt.overrun == 0
            for remote in remotes:
                await remote.close()
            return len(held)

    assert uvloop.run(main()) == fitting
    report = verify(tmp_path / "sluice.db", quiet=True)
    assert report.problems == ()
    assert read(tmp_path / "sluice.db", "SELECT balance FROM account WHERE id = 9") == [
        (share - 1,)
    ]
