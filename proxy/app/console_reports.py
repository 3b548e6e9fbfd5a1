"""Reports of the admin API, made in the console's process.

Rules: few at a time, each over a connection of its own, so that pages wait for none; whoever finds
no place within a while is told so. This module must not know any report.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from proxy.app.commands.reporter import Reporter
from proxy.app.control import CommandError
from proxy.core.actions.action import Actor
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
        self._places = asyncio.Semaphore(AT_ONCE_MAX)

    async def do(self, command: str, arguments: Mapping[str, object], actor: Actor) -> object:
        """Make a report. Raises Refused, KeeperGoneError (nobody is free), sqlite3.Error."""
        try:
            async with asyncio.timeout(QUEUE_SECONDS_MAX):
                await self._places.acquire()
        except TimeoutError:
            raise KeeperGoneError(BUSY, TRY_AGAIN, perhaps_done=False) from None
        try:
            async with asyncio.timeout(REPORT_SECONDS_MAX):
                return await self._reporter.make(command, arguments, actor)
        except CommandError as error:
            raise Refused(error.message, error.remedy, error.fields) from None
        except TimeoutError:
            raise KeeperGoneError(TOO_LONG, LESS, perhaps_done=False) from None
        finally:
            self._places.release()
