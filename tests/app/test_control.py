import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from proxy.app import control
from proxy.app.control import CommandError, ControlServer, NotRunningError, ask
from proxy.core.actions.action import LOCAL, Actor, Role, Via
from proxy.core.sentences import Sentence

hanging: list[str] = []


async def run_command(command: str, arguments: Mapping[str, object], actor: Actor) -> object:
    if command == "who":
        return msgspec.to_builtins(actor)
    if command == "fault":
        raise KeyError("name")
    if command == "strange":
        return object()
    if command == "fail":
        raise CommandError("no such user 'x'", "add it first")
    if command == "fail by pattern":
        raise CommandError(Sentence("no {n}", n=1), "add it", {"a": Sentence("{b!r}", b="c")})
    if command == "hang":
        hanging.append(command)
        await asyncio.Event().wait()
    return {"command": command, **arguments}


def with_server(path: Path, test: Callable[[ControlServer], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        server = ControlServer(path, run_command)
        await server.start()
        try:
            return await test(server)
        finally:
            await server.stop()
            await server.stop()

    return asyncio.run(asyncio.wait_for(run(), 20))


def asking(path: Path, command: str, arguments: Mapping[str, object]) -> Any:
    async def test(_server: ControlServer) -> object:
        return await asyncio.to_thread(ask, path, command, arguments)

    return with_server(path, test)


def raw(path: Path, data: bytes) -> list[dict[str, Any]]:
    async def test(_server: ControlServer) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(data)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    return [orjson.loads(line) for line in with_server(path, test).splitlines()]


def test_who_asks_is_told_or_whoever_may_open_the_socket(tmp_path: Path) -> None:
    somebody = Actor(Role.USER, "ann@example.com", Via.CONSOLE, 7, "192.0.2.1")
    told = msgspec.json.encode(somebody)
    lines = (
        b'{"command":"who"}\n{"command":"who","actor":%b}\n{"command":"who","actor":{}}\n' % told
    )
    local, named, wrong = raw(tmp_path / "s", lines)
    assert local["result"] == msgspec.to_builtins(LOCAL)
    assert named["result"] == msgspec.to_builtins(somebody)
    assert not wrong["ok"]
    assert wrong["error"].startswith("actor: ")


def test_a_command_and_its_result_pass_the_socket(tmp_path: Path) -> None:
    found = asking(tmp_path / "s", "user add", {"name": "é", "n": 10**18})
    assert found == {"command": "user add", "name": "é", "n": 10**18}


def test_a_large_answer_arrives_whole(tmp_path: Path) -> None:
    text = "x" * 1_000_000
    assert asking(tmp_path / "s", "echo", {"text": text})["text"] == text


def test_a_refusal_keeps_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as caught:
        asking(tmp_path / "s", "fail", {})
    assert (caught.value.message, caught.value.remedy) == ("no such user 'x'", "add it first")


def test_the_socket_is_for_its_owner_and_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("left by one that was killed")

    async def test(_server: ControlServer) -> int:
        return path.stat().st_mode

    assert with_server(path, test) & 0o777 == 0o600
    assert not path.exists()


def test_nobody_listening_is_told_apart_from_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        ask(tmp_path / "none", "x", {})
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    with pytest.raises(NotRunningError):
        ask(tmp_path / "dead", "x", {})
    (tmp_path / "file").write_text("")
    with pytest.raises((NotRunningError, CommandError)):
        ask(tmp_path / "file" / "below", "x", {})


def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="too long") as caught:
        ask(tmp_path / ("x" * 120), "x", {})
    assert "shorter path" in caught.value.remedy


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"1", b'{"command": 1}', b'{"command": "x", "arguments": []}']
)
def test_nonsense_is_answered_and_the_connection_goes_on(tmp_path: Path, line: bytes) -> None:
    first, second = raw(tmp_path / "s", line + b'\n{"command": "ok"}\n')
    assert first["ok"] is False
    assert second == {"ok": True, "result": {"command": "ok"}}


def test_a_line_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LINE_BYTES_MAX", 1000)
    (answer,) = raw(tmp_path / "s", b"x" * 5000)
    assert answer["ok"] is False
    assert "above" in answer["error"]


def test_connections_at_once_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 0)
    (answer,) = raw(tmp_path / "s", b"")
    assert answer["error"] == "too many commands at once"


def test_a_command_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "ANSWER_SECONDS_MAX", 0.0)
    (answer,) = raw(tmp_path / "s", b'{"command": "hang"}\n')
    assert "may still happen" in answer["error"]


def test_an_idle_connection_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "IDLE_SECONDS_MAX", 0.0)

    async def test(_server: ControlServer) -> bytes:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    assert with_server(tmp_path / "s", test) == b""


def test_stopping_ends_commands_under_way(tmp_path: Path) -> None:
    hanging.clear()

    async def test(server: ControlServer) -> bytes:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b'{"command": "hang"}\n')
        while not hanging:
            await asyncio.sleep(0)
        await server.stop()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    assert with_server(tmp_path / "s", test) == b""


def test_stopping_just_after_an_answer_waits_for_nobody(tmp_path: Path) -> None:
    async def test(server: ControlServer) -> bytes:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b'{"command": "ok"}\n')
        await reader.readline()
        await server.stop()
        rest = await reader.read()
        writer.close()
        await writer.wait_closed()
        return rest

    assert with_server(tmp_path / "s", test) == b""


def test_a_relay_that_dies_before_answering_is_not_a_success(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        async def run() -> None:
            asked = asyncio.ensure_future(asyncio.to_thread(ask, tmp_path / "s", "x", {}))
            connection, _ = await asyncio.to_thread(listener.accept)
            connection.close()
            with pytest.raises(CommandError, match="went away before it answered"):
                await asked

        asyncio.run(run())


@pytest.mark.parametrize("command", ["fault", "strange"])
def test_a_fault_of_ours_is_an_answer_and_the_next_command_is_done(
    tmp_path: Path, command: str
) -> None:
    sent = b'{"command": "%s"}\n{"command": "ok"}\n' % command.encode()
    faulty, after = raw(tmp_path / "s", sent)
    assert (faulty["ok"], faulty["unavailable"]) == (False, True)
    assert "fault of the relay" in faulty["error"]
    assert "name" not in faulty["error"], "what it says is for the log"
    assert after["ok"]


def test_a_refusal_says_by_which_patterns_it_was_made(tmp_path: Path) -> None:
    (answer,) = raw(tmp_path / "s", b'{"command": "fail by pattern"}\n')
    assert answer == {
        "ok": False,
        "error": "no 1",
        "remedy": "add it",
        "fields": {"a": "'c'"},
        "patterns": {
            "error": {"pattern": "no {n}", "values": {"n": 1}},
            "remedy": "add it",
            "fields": {"a": {"pattern": "{b!r}", "values": {"b": "c"}}},
        },
    }
    (answer,) = raw(tmp_path / "t", b'{"command": "fail"}\n')
    assert "patterns" not in answer
