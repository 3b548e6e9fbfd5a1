"""Reports of the admin API, made in the console's process.

Rules: few at a time, each over a connection of its own, so that pages wait for none; people without
a role have places of their own and one report at a time each, so that nobody keeps the others, or
the operator, waiting. Whoever finds no place within a while is told so. This module must not know
any report.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

from proxy.app.commands.reporter import Reporter
from proxy.app.control import CommandError
from proxy.core.actions.action import Actor, Role
from proxy.edge.console.keeper_line import BUSY, TRY_AGAIN, KeeperGoneError, Refused

AT_ONCE_MAX: Final = 2
QUEUE_SECONDS_MAX: Final = 10.0
REPORT_SECONDS_MAX: Final = 120.0
TOO_LONG: Final = "the report took too long"
LESS: Final = "ask for a shorter time"


class ConsoleReports:
    """Makes reports for pages_api.py. Lives in one event loop."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._of_operators = asyncio.Semaphore(AT_ONCE_MAX)
        self._of_people = asyncio.Semaphore(AT_ONCE_MAX)
        self._asking = Counter[int | str]()
        """How many reports of each person wait or are made."""
        self._turns: dict[int | str, asyncio.Lock] = {}

    async def do(self, command: str, arguments: Mapping[str, object], actor: Actor) -> object:
        """Make a report. Raises Refused, KeeperGoneError (nobody is free), sqlite3.Error."""
        if actor.role is not Role.USER:
            return await self._make(command, arguments, actor, self._of_operators)
        who = actor.name if actor.person is None else actor.person
        turn = self._turns.setdefault(who, asyncio.Lock())
        self._asking[who] += 1
        try:
            return await self._make(command, arguments, actor, turn, self._of_people)
        finally:
            self._asking[who] -= 1
            if not self._asking[who]:
                del self._asking[who], self._turns[who]

    async def _make(
        self,
        command: str,
        arguments: Mapping[str, object],
        actor: Actor,
        *gates: asyncio.Lock | asyncio.Semaphore,
    ) -> object:
        """Make a report once every gate was passed; see `do`."""
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(QUEUE_SECONDS_MAX):
                    for gate in gates:
                        await held.enter_async_context(gate)
            except TimeoutError:
                raise KeeperGoneError(BUSY, TRY_AGAIN, perhaps_done=False) from None
            try:
                async with asyncio.timeout(REPORT_SECONDS_MAX):
                    return await self._reporter.make(command, arguments, actor)
            except CommandError as error:
                raise Refused(error.message, error.remedy, error.fields) from None
            except TimeoutError:
                raise KeeperGoneError(TOO_LONG, LESS, perhaps_done=False) from None
