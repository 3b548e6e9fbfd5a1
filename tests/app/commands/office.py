"""An office with a small catalog, for the tests of the commands."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import runner
from proxy.app.commands.reporter import Reporter
from proxy.app.control import CommandError
from proxy.app.directory import DataDirectory
from proxy.app.office import Office, open_office
from proxy.core.actions.action import LOCAL, Actor
from proxy.core.actions.table import ACTIONS

DOCUMENT: dict[str, Any] = {
    "plan": [{"name": "paygo"}],
    "group": [{"name": "default"}],
    "model": [
        {
            "name": "m",
            "context_window": 1000,
            "output_tokens_max": 100,
            "price": {"input": "1.00", "output": "2.00"},
        }
    ],
    "channel": [
        {
            "name": "main",
            "dialect": "openai",
            "base_url": "http://127.0.0.1:9/v1",
            "keys": ["upstream-secret-canary"],
            "groups": ["default"],
            "models": {"m": "m-upstream"},
            "allow_private": True,
        }
    ],
}

Do = Callable[..., Awaitable[Any]]


async def asked(
    office: Office, command: str, arguments: Mapping[str, object], actor: Actor = LOCAL
) -> Any:
    """Do a command, or make a report, as the command line would."""
    if command in ACTIONS and ACTIONS[command].report:
        await office.keeper.catch_up()
        return await Reporter(office.database, clock=office.clock).make(command, arguments, actor)
    return await runner.run(office, command, arguments, actor)


def in_office(path: Path, test: Callable[[Do, Office], Awaitable[Any]]) -> Any:
    """Run `test` with a filled office; `do("user add", name=...)` does one command."""

    async def run() -> Any:
        directory = DataDirectory(path)
        directory.create()
        async with open_office(directory) as office:

            async def do(command: str, **arguments: object) -> Any:
                return await asked(office, command, arguments)

            await do("catalog apply", document=DOCUMENT)
            return await test(do, office)

    return asyncio.run(asyncio.wait_for(run(), 30))


def refusal(path: Path, command: str, **arguments: object) -> tuple[str, str]:
    async def test(do: Do, _office: Office) -> None:
        await do("user add", name="ann", credit="5")
        await do("user add", name="bob")
        await do("key add", user="ann", name="k")
        await do("key add", user="bob", name="k")
        await do(command, **arguments)

    with pytest.raises(CommandError) as caught:
        in_office(path, test)
    return caught.value.message, caught.value.remedy
