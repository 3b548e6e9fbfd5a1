"""A call is found the moment it has ended, whole, by its owner alone."""

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Attempt, Usage, UsageSource, Verdict
from proxy.core.pricing import charge
from proxy.storage.ports import CallRecord, KeeperUnavailableError, KeptAnswer
from proxy.storage.records import LedgerRecords
from tests.storage.world import NOW, USD, closing, keeper, opening

USAGE = Usage(input_uncached=10, output=20, cache_read=3, reasoning=5)


def play(path: Path, scene: Any, **options: Any) -> None:
    database = path / "sluice.db"

    async def main() -> None:
        books = await keeper(database, **options)
        records = LedgerRecords(database, books.catch_up)
        try:
            await scene(books, records)
        finally:
            await records.close()
            await records.close()
            await books.close()

    asyncio.run(main())
    assert not [one for one in threading.enumerate() if "worker_thread" in one.name]


@pytest.mark.parametrize("redo", [False, True])
def test_an_ended_call_is_found_at_once_with_all_there_is_to_know(
    tmp_path: Path, redo: bool
) -> None:
    async def scene(books: Any, records: LedgerRecords) -> None:
        await books.admit(opening(1, client_reference="mine"))
        failed = Attempt(1, 1, NOW, 503, "upstream_error", None, "m-2", Usage(calls=0), 0, 3.0)
        served = Attempt(1, 1, NOW + 0.5, 200, "served", "up-1", "m-2", USAGE, 7, 12.0)
        price = books.catalog.models["m"].price
        assert price is not None
        amount = charge(USAGE, price, 1_000_000)
        receipt = books.settle(
            closing(
                1, usage=USAGE, charge=amount, attempts=(failed, served), anomalies=("text", "x")
            )
        )
        found = await records.find(1, 1)
        assert isinstance(found, CallRecord)
        assert (found.charge, found.overrun, found.forgiven) == (amount, 0, 0)
        assert found.balance_after == receipt.balance_after == USD - amount
        assert found.budget_after is None
        assert (found.usage, found.source) == (USAGE, UsageSource.REPORTED)
        assert found.price is not None
        assert charge(found.usage, found.price, found.multiplier) == amount
        assert (found.model, found.upstream_model, found.channel) == ("m", "m-2", "main")
        assert (found.key, found.group, found.endpoint) == ("key 1", "default", "chat")
        assert (found.verdict, found.finish_reason) == (Verdict.COMPLETE, "stop")
        assert (found.status, found.error_code, found.stream) == (200, None, False)
        assert (found.ttft_ms, found.duration_ms) == (5.0, 1_000.0)
        assert found.client_reference == "mine"
        assert found.anomalies == ("text", "x")
        assert [(one.outcome, one.status) for one in found.attempts] == [
            ("upstream_error", 503),
            ("served", 200),
        ]
        assert [one.usage for one in found.attempts] == [Usage(calls=0), USAGE]
        assert found.attempts[1].upstream_request_id == "up-1"
        assert found.attempts[1].channel == "main"

    play(tmp_path, scene, redo=redo)


def test_a_call_is_open_ended_or_nobodys(tmp_path: Path) -> None:
    async def scene(books: Any, records: LedgerRecords) -> None:
        assert await records.find(1, 5) is False
        admission = await books.admit(opening(5, stream=True))
        await admission.committed
        assert await records.find(1, 5) is True
        assert await records.find(2, 5) is False, "somebody else's"
        books.settle(closing(5, channel_id=None, attempts=()))
        found = await records.find(1, 5)
        assert isinstance(found, CallRecord)
        assert (found.channel, found.attempts) == (None, ())
        assert await records.find(2, 5) is False, "somebody else's"

    play(tmp_path, scene)


@pytest.mark.parametrize("redo", [False, True])
def test_an_answer_is_found_where_it_was_made_by_who_made_it(tmp_path: Path, redo: bool) -> None:
    async def scene(books: Any, records: LedgerRecords) -> None:
        first = Attempt(1, 7, NOW, 503, "upstream_error", None, "m-2", Usage(calls=0), 0, 3.0)
        served = Attempt(1, 8, NOW + 0.5, 200, "served", "up-1", "m-2", USAGE, 7, 12.0)
        for call_id in (1, 2, 3):
            await books.admit(opening(call_id))
        books.settle(closing(1, usage=USAGE, attempts=(first, served), answer_id="resp_1"))
        tokens = USAGE.prompt_total + USAGE.completion_total
        kept = KeptAnswer("m", 1, 8, tokens)
        assert await records.find_answer(1, "resp_1") == kept
        assert await records.find_answer(2, "resp_1") is None, "somebody else's"
        assert await records.find_answer(1, "resp_2") is None
        books.settle(closing(2))
        # A provider may say a name twice: the newest call is meant.
        books.settle(closing(3, answer_id="resp_1"))
        await books.catch_up()
        again = await records.find_answer(1, "resp_1")
        assert again is not None
        assert again.tokens == 30

    play(tmp_path, scene, redo=redo)


def test_a_call_without_a_price_any_more_is_told_without(tmp_path: Path) -> None:
    async def scene(books: Any, records: LedgerRecords) -> None:
        await books.admit(opening(1, price_version=9))
        books.settle(closing(1))
        found = await records.find(1, 1)
        assert isinstance(found, CallRecord)
        assert found.price is None

    play(tmp_path, scene)


def test_many_may_ask_at_once_and_open_one_connection(tmp_path: Path) -> None:
    async def scene(books: Any, records: LedgerRecords) -> None:
        for call_id in range(1, 6):
            await books.admit(opening(call_id))
            books.settle(closing(call_id, charge=10))
        found = await asyncio.gather(*[records.find(1, call_id) for call_id in range(1, 6)])
        assert [isinstance(one, CallRecord) for one in found] == [True] * 5
        assert len([one for one in threading.enumerate() if "worker_thread" in one.name]) == 1

    play(tmp_path, scene)


def test_a_file_that_cannot_be_read_is_an_outage(tmp_path: Path) -> None:
    async def nothing() -> None:
        return None

    async def main() -> None:
        records = LedgerRecords(tmp_path / "none.db", nothing)
        with pytest.raises(KeeperUnavailableError, match="cannot be read") as raised:
            await records.find(1, 1)
        with pytest.raises(KeeperUnavailableError, match="cannot be read"):
            await records.find_answer(1, "resp_1")
        assert isinstance(raised.value.__cause__, sqlite3.Error)

    asyncio.run(main())
