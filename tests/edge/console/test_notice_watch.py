"""Who has little left is told once, by mail."""

import asyncio
from pathlib import Path

import pytest

from proxy.edge.console import notice_watch
from proxy.edge.console.account_options import AccountOptions
from proxy.edge.console.keeper_line import KeeperGoneError
from proxy.edge.console.mail import Letter
from proxy.edge.console.notice_watch import NoticeWatch
from proxy.edge.console.surroundings import Options
from tests.edge.console.consoles import World, in_console

MAILS = Options(smtp_host="127.0.0.1", mail_from="relay@example.com")


def collecting(world: World) -> list[Letter]:
    """Letters that would be sent; how they are is tests/edge/console/test_mail.py's."""
    letters: list[Letter] = []

    def put(letter: Letter, options: AccountOptions) -> None:
        assert options.mails
        letters.append(letter)

    world.surroundings.accounts.outbox.put = put  # type: ignore[method-assign]
    return letters


async def low(world: World) -> None:
    await world.person("ann@example.com", wallet="ann")
    await world.person("eve@example.com", wallet="ann", rank="member")
    await world.do("wallet threshold", user="ann", below="10.5")


def test_a_crossing_is_one_mail_to_who_owns_the_wallet(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        letters, watch = collecting(world), NoticeWatch(world.surroundings)
        await low(world)
        for _ in range(3):
            await watch.look()
        (letter,) = letters
        assert letter.to == "ann@example.com"
        assert "$10.00 left" in letter.text
        assert "$10.50" in letter.text
        assert "http://127.0.0.1:8082/wallet" in letter.text
        await world.do("wallet credit", user="ann", amount="5")
        await watch.look()
        await world.do("wallet adjust", user="ann", amount="-6", reason="why")
        await watch.look()
        assert len(letters) == 2, "a new crossing is a new mail"

    in_console(tmp_path, test, MAILS)


def test_without_a_mail_server_the_notice_waits_on_the_page(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        letters, watch = collecting(world), NoticeWatch(world.surroundings)
        await low(world)
        await watch.look()
        assert letters == []
        world.surroundings.options = MAILS
        await watch.look()
        assert len(letters) == 1

    in_console(tmp_path, test)


def test_a_plan_that_ended_is_told(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        letters = collecting(world)
        await world.person("ann@example.com", wallet="ann")
        await world.office.keeper.note(
            lambda c: c.execute(
                "INSERT INTO notice (user_id, kind, detail, at) VALUES (1, 'plan_ended', 'pro', 1)"
            )
        )
        await NoticeWatch(world.surroundings).look()
        assert "the plan pro" in letters[0].text

    in_console(tmp_path, test, MAILS)


def test_the_watch_goes_on_when_the_keeper_was_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notice_watch, "PERIOD_SECONDS", 0.0)

    async def test(world: World) -> None:
        letters = collecting(world)
        told = asyncio.Event()
        keeper, failed = world.surroundings.keeper, asyncio.Event()

        class Gone:
            async def do(self, *_: object) -> object:
                failed.set()
                raise KeeperGoneError("gone", "again", perhaps_done=False)

        world.surroundings.keeper = Gone()
        await low(world)

        def put(letter: Letter, options: AccountOptions) -> None:
            assert options.mails
            letters.append(letter)
            told.set()

        world.surroundings.accounts.outbox.put = put  # type: ignore[method-assign]
        watch = NoticeWatch(world.surroundings)
        watch.start()
        watch.start()
        await asyncio.wait_for(failed.wait(), 10)
        world.surroundings.keeper = keeper
        await asyncio.wait_for(told.wait(), 10)
        await watch.stop()
        await watch.stop()
        assert len(letters) == 1

    in_console(tmp_path, test, MAILS)
