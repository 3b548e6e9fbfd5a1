"""The console's line to the keeper: figures, asked for and told.

Rules: one question at a time is with the keeper; every wait is bounded; a line that breaks says
so and is made anew by who holds it. This module must not know what the states mean.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.storage import messages
from proxy.storage.link import Link
from proxy.storage.messages import FromKeeper, Role
from proxy.storage.ports import KeeperStatistics, KeeperUnavailableError

ANSWER_SECONDS_MAX = 3.0
"""Longer than the keeper waits for its workers (port_server.SCRAPE_SECONDS_MAX)."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """The figures of all processes. `unready` says why no call is admitted."""

    states: list[bytes]
    statistics: KeeperStatistics
    unready: str | None


class ConsoleLink:
    """A connection to the keeper; made by `connect`, used until it breaks or is closed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._states: list[bytes] = []
        self._answer: asyncio.Future[Scrape] | None = None
        self._turn = asyncio.Lock()
        handlers: dict[type, Callable[..., object]] = {
            messages.State: self._told_state,
            messages.Scraped: self._scraped,
        }
        self.link: Link[FromKeeper] = Link(
            self._loop, messages.from_keeper, handlers, self._lost, "the keeper"
        )

    @classmethod
    async def connect(cls, socket_path: Path) -> "ConsoleLink":
        """Connect to the keeper. Raises KeeperUnavailableError."""
        made = cls()
        try:
            await made._loop.create_unix_connection(lambda: made.link, str(socket_path))
        except OSError as error:
            raise KeeperUnavailableError(f"no keeper listens at {socket_path}: {error}") from None
        made.link.send(messages.Hello(Role.CONSOLE, 0, 0))
        return made

    @property
    def open(self) -> bool:
        """Whether the keeper is still there."""
        return self.link.open

    async def scrape(self) -> Scrape:
        """Ask for all figures. Raises KeeperUnavailableError when no answer comes."""
        async with self._turn:
            if not self.link.open:
                raise KeeperUnavailableError("the keeper is gone")
            self._number += 1
            self._states = []
            answer: asyncio.Future[Scrape] = self._loop.create_future()
            self._answer = answer
            self.link.send(messages.Scrape(self._number))
            try:
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    return await answer
            except TimeoutError:
                self.link.abort()  # the answer may still come, and is nobody's
                raise KeeperUnavailableError("the keeper does not answer") from None
            finally:
                self._answer = None

    async def close(self) -> None:
        """Close the connection."""
        self.link.close()

    def _told_state(self, message: messages.State) -> None:
        if message.number == self._number:
            self._states.append(message.state)

    def _scraped(self, message: messages.Scraped) -> None:
        answer = self._answer
        if answer is not None and not answer.done() and message.number == self._number:
            answer.set_result(Scrape(self._states, message.statistics, message.unready))

    def _lost(self) -> None:
        answer = self._answer
        if answer is not None and not answer.done():
            answer.set_exception(KeeperUnavailableError("the keeper is gone"))
