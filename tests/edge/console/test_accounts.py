import asyncio

import argon2
import pytest

from proxy.edge.console import accounts
from proxy.edge.console.account_options import AccountOptions
from proxy.edge.console.accounts import Accounts
from proxy.edge.console.hashing import Hasher
from proxy.edge.console.mail import Letter


def test_it_may_be_closed_twice_and_begin_again() -> None:
    async def run() -> None:
        desk = Accounts(hasher=Hasher(argon2.profiles.CHEAPEST))
        for _ in range(2):
            known = await desk.hasher.hash("correct horse")
            assert (await desk.hasher.compare(known, "correct horse")).right
            desk.outbox.put(Letter("a@b.c", "x", "y"), AccountOptions(smtp_host="127.0.0.1"))
            await desk.close()
            await desk.close()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_an_answer_of_a_provider_counts_once_until_nobody_can_give_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Accounts()
    assert desk.answered_once("a", 0.0, 600)
    assert not desk.answered_once("a", 599.0, 600)
    assert desk.answered_once("a", 601.0, 600)
    monkeypatch.setattr(accounts, "ANSWERED_MAX", 2)
    for name in "bcd":
        assert desk.answered_once(name, 602.0, 600)
    assert len(desk._answered) == 2
    assert not desk.answered_once("d", 603.0, 600)


def test_a_provider_of_another_name_takes_the_place_of_the_one_before() -> None:
    async def run() -> None:
        desk = Accounts()
        first = await desk.provider_of("https://a.example")
        assert await desk.provider_of("https://a.example") is first
        assert await desk.provider_of("https://b.example") is not first
        await desk.close()

    asyncio.run(asyncio.wait_for(run(), 30))
