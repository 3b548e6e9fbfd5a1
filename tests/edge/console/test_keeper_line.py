"""The line against the control server it speaks to; a server of the test's making where that lies."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.app import control
from proxy.app.control import CommandError, ControlServer
from proxy.core.actions.action import LOCAL, Actor, Role, Via
from proxy.core.sentences import Sentence
from proxy.edge.console import keeper_line
from proxy.edge.console.keeper_line import KeeperGoneError, KeeperLine, Refused
from proxy.edge.console.languages import Translator

ANN = Actor(Role.USER, "ann", Via.CONSOLE, person=7, address="192.0.2.1", owner=False)


class Keeper:
    """What commands do here: they say who asked, and may wait for `gate`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gate = asyncio.Event()
        self.begun: list[str] = []
        self.done: list[str] = []
        self.at_once = self.most = 0
        self.server = ControlServer(path, self.run)

    async def run(self, command: str, arguments: Mapping[str, object], actor: Actor) -> object:
        self.begun.append(command)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            if command == "fail":
                raise CommandError("no such key", "list them")
            if command == "fail by pattern":
                fields = {"a": Sentence("{b}", b="c")}
                raise CommandError(Sentence("no {n}", n=1), Sentence("add {n}", n=1), fields)
            if command == "wait":
                await self.gate.wait()
        finally:
            self.at_once -= 1
        self.done.append(command)
        return {"by": actor.name, "person": actor.person, "local": actor == LOCAL, **arguments}

    async def restart(self) -> None:
        await self.server.stop()
        self.server = ControlServer(self.path, self.run)
        await self.server.start()


def against(test: Callable[[Keeper, KeeperLine], Awaitable[Any]], path: Path) -> Any:
    async def run() -> Any:
        keeper, line = Keeper(path / "s"), KeeperLine(path / "s")
        await keeper.server.start()
        try:
            return await test(keeper, line)
        finally:
            await line.close()
            await line.close()
            await keeper.server.stop()

    return uvloop.run(asyncio.wait_for(run(), 30))


async def until(true: Callable[[], object]) -> None:
    while not true():
        await asyncio.sleep(0)


def test_a_command_is_done_for_whom_it_is_said(tmp_path: Path) -> None:
    async def test(_: Keeper, line: KeeperLine) -> None:
        assert await line.do("x", {"a": "é", "n": 10**18}, ANN) == {
            "by": "ann", "person": 7, "local": False, "a": "é", "n": 10**18,
        }  # fmt: skip
        assert (await line.do("x", {})) == {"by": LOCAL.name, "person": None, "local": True}

    against(test, tmp_path)


def test_a_refusal_keeps_its_remedy_and_the_connection(tmp_path: Path) -> None:
    async def test(keeper: Keeper, line: KeeperLine) -> None:
        for _ in range(3):
            with pytest.raises(Refused) as refused:
                await line.do("fail", {})
            assert (refused.value.message, refused.value.remedy) == ("no such key", "list them")
        assert len(keeper.server._tasks) == 1

    against(test, tmp_path)


def test_a_large_answer_arrives_whole_and_a_larger_question_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(keeper: Keeper, line: KeeperLine) -> None:
        found = await line.do("x", {"text": "x" * 1_000_000})
        assert len(found["text"]) == 1_000_000  # type: ignore[index]  # what the server gives
        monkeypatch.setattr(keeper_line, "LINE_BYTES_MAX", 1_000)
        with pytest.raises(Refused, match="16 MB"):
            await line.do("x", {"text": "x" * 1_000})
        assert len(keeper.done) == 1

    against(test, tmp_path)


def test_an_endless_answer_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_line, "LINE_BYTES_MAX", 100)

    async def test(_: Keeper, line: KeeperLine) -> None:
        with pytest.raises(KeeperGoneError) as gone:
            await line.do("x", {"text": "x" * 20, "more": "x" * 20})
        assert gone.value.perhaps_done

    against(test, tmp_path)


def test_connections_are_kept_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_line, "CONNECTIONS_MAX", 3)

    async def test(keeper: Keeper, line: KeeperLine) -> None:
        asked = [asyncio.ensure_future(line.do("wait", {"n": n})) for n in range(8)]
        await until(lambda: keeper.at_once == 3)
        keeper.gate.set()
        assert sorted(answer["n"] for answer in await asyncio.gather(*asked)) == [*range(8)]  # type: ignore[index]
        assert (keeper.most, len(keeper.server._tasks)) == (3, 3)

    against(test, tmp_path)


def test_who_waits_too_long_for_a_connection_is_told_that_nothing_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_line, "CONNECTIONS_MAX", 1)
    monkeypatch.setattr(keeper_line, "QUEUE_SECONDS_MAX", 0.05)

    async def test(keeper: Keeper, line: KeeperLine) -> None:
        first = asyncio.ensure_future(line.do("wait", {}))
        await until(lambda: keeper.begun)
        with pytest.raises(KeeperGoneError, match="too much") as gone:
            await line.do("x", {})
        assert not gone.value.perhaps_done
        keeper.gate.set()
        await first

    against(test, tmp_path)


def test_a_keeper_that_comes_back_is_waited_for_before_anything_is_sent(tmp_path: Path) -> None:
    async def test(keeper: Keeper, line: KeeperLine) -> None:
        await line.do("x", {})
        await keeper.server.stop()
        asked = asyncio.ensure_future(line.do("x", {}))
        await asyncio.sleep(0)
        keeper.server = ControlServer(keeper.path, keeper.run)
        await keeper.server.start()
        await asked
        assert keeper.done == ["x", "x"], "a connection that has ended is not used"

    against(test, tmp_path)


def test_a_keeper_that_stays_away_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_line, "RETURN_SECONDS_MAX", 0.0)

    async def test(keeper: Keeper, line: KeeperLine) -> None:
        await keeper.server.stop()
        with pytest.raises(KeeperGoneError, match="does not take commands") as gone:
            await line.do("x", {})
        assert not gone.value.perhaps_done
        await keeper.restart()
        await line.do("x", {})

    against(test, tmp_path)


def test_an_answer_that_is_lost_is_not_asked_for_again(tmp_path: Path) -> None:
    async def test(keeper: Keeper, line: KeeperLine) -> None:
        asked = asyncio.ensure_future(line.do("wait", {}))
        await until(lambda: keeper.begun)
        await keeper.server.stop()
        with pytest.raises(KeeperGoneError) as gone:
            await asked
        assert gone.value.perhaps_done
        assert "look whether it has happened" in gone.value.remedy
        await keeper.restart()
        assert keeper.begun == ["wait"]

    against(test, tmp_path)


def test_an_answer_that_does_not_come_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_line, "ANSWER_SECONDS_MAX", 0.05)

    async def test(_: Keeper, line: KeeperLine) -> None:
        with pytest.raises(KeeperGoneError) as gone:
            await line.do("wait", {})
        assert gone.value.perhaps_done

    against(test, tmp_path)


def test_who_leaves_takes_nothing_back_and_leaves_no_answer_for_the_next(tmp_path: Path) -> None:
    async def test(keeper: Keeper, line: KeeperLine) -> None:
        asked = asyncio.ensure_future(line.do("wait", {"whose": "first"}))
        await until(lambda: keeper.begun)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        found = await line.do("x", {"whose": "second"})
        assert found["whose"] == "second"  # type: ignore[index]  # what the server gives
        keeper.gate.set()
        await until(lambda: "wait" in keeper.done)

    against(test, tmp_path)


def test_a_connection_that_rested_too_long_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_line, "IDLE_SECONDS_MAX", 0.0)

    async def test(keeper: Keeper, line: KeeperLine) -> None:
        await line.do("x", {})
        (before,) = keeper.server._tasks
        await line.do("x", {})
        await until(lambda: before not in keeper.server._tasks)
        assert len(keeper.server._tasks) == 1

    against(test, tmp_path)
    assert keeper_line.IDLE_SECONDS_MAX < control.IDLE_SECONDS_MAX


def test_a_server_that_is_full_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 0)

    async def test(_keeper: Keeper, line: KeeperLine) -> None:
        for _ in range(5):
            with pytest.raises(Refused, match="too many commands at once"):
                await line.do("x", {})

    against(test, tmp_path)


def test_words_nobody_asked_for_meet_nobody(tmp_path: Path) -> None:
    """A server that answers twice: the second answer would be another command's."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            listener.setblocking(False)
            line = KeeperLine(tmp_path / "s")
            for turn in range(2):
                asked = asyncio.ensure_future(line.do("x", {}))
                there, _address = await loop.sock_accept(listener)
                await loop.sock_recv(there, 1000)
                await loop.sock_sendall(there, b'{"ok":true,"result":%d}\n' % turn)
                assert await asked == turn
                await loop.sock_sendall(there, b'{"ok":true,"result":9}\n')
                there.close()
            await line.close()

    uvloop.run(asyncio.wait_for(run(), 20))


def test_both_sides_have_the_same_bounds() -> None:
    assert keeper_line.LINE_BYTES_MAX == control.LINE_BYTES_MAX
    assert keeper_line.ANSWER_SECONDS_MAX > control.ANSWER_SECONDS_MAX
    assert keeper_line.CONNECTIONS_MAX * 2 <= control.CONNECTIONS_MAX


def test_a_refusal_can_be_said_in_another_language(tmp_path: Path) -> None:
    async def test(_: Keeper, line: KeeperLine) -> None:
        with pytest.raises(Refused) as caught:
            await line.do("fail by pattern", {})
        refused = caught.value
        assert (refused.message, refused.remedy, refused.fields) == ("no 1", "add 1", {"a": "c"})
        say = Translator("zh", {"no {n}": "没有 {n}", "add {n}": "添加 {n}", "{b}": "乙 {b}"})
        told = refused.said_by(say)
        assert (told.message, told.remedy, told.fields) == ("没有 1", "添加 1", {"a": "乙 c"})
        assert told.english is refused

    against(test, tmp_path)
