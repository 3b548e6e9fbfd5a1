"""A keeper behind its port and the workers in front of it, on one loop, for the tests of both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Self, get_args

from proxy.core.ids import EPOCH_MS, IdSource
from proxy.storage import messages
from proxy.storage.billing import Keeper
from proxy.storage.link import Link
from proxy.storage.messages import ToKeeper
from proxy.storage.port_server import PortServer
from proxy.storage.ports import Admission, Refusal
from proxy.storage.remote import RemoteKeeper
from tests.storage.world import MASTER, NOW, keeper

SECONDS_MAX = 8.0


class Office:
    """The keeper's side: `start`, then `kill` or `stop`, and `start` again."""

    keeper: Keeper
    port: PortServer

    def __init__(self, folder: Path, **options: Any) -> None:
        self.database = folder / "sluice.db"
        self.socket = folder / "keeper.sock"
        self.faults: list[BaseException] = []
        self.options = options
        self.port_options: dict[str, Any] = {}

    async def start(self, alive: Iterable[int] | None = ()) -> Self:
        """Start a keeper on the file, and tell it who lives."""
        if not self.database.exists():
            await (await keeper(self.database, **self.options)).close()
        options = {key: value for key, value in self.options.items() if key != "credit"}
        self.keeper = await keeper(
            self.database, settle_open=False, on_fatal=self.faults.append, **options
        )
        self.port = PortServer(self.keeper, self.socket, **self.port_options)
        await self.port.start()
        if alive is not None:
            self.port.alive(alive)
        return self

    async def kill(self) -> None:
        """End as kill -9 ends: nothing more is said, and what the writer has not got is lost."""
        assert not self.faults, self.faults
        for session in tuple(self.port._sessions):
            session.link._outbox.clear()
            session.link.abort()
        await self.port.stop()
        writer = self.keeper._writer
        if writer._redo is not None:  # what is in the log outlives the process
            writer._redo.close(delete=False)
            writer._redo = None
        writer.batch = type(writer.batch)()
        writer._lazy, writer._lazy_older = {}, {}
        await self.keeper.close()

    async def stop(self) -> None:
        """End in order."""
        assert not self.faults, self.faults
        await self.port.stop()
        await self.keeper.close()


@contextlib.asynccontextmanager
async def office(folder: Path, alive: Iterable[int] = (), **options: Any) -> AsyncIterator[Office]:
    """A running office, bounded in time."""
    async with asyncio.timeout(SECONDS_MAX):
        running = await Office(folder, **options).start(alive)
        try:
            yield running
        finally:
            await running.stop()


async def worker(office: Office, number: int = 0, state: bytes = b"") -> RemoteKeeper:
    """A worker connected to the office."""
    return await RemoteKeeper.connect(
        office.socket, office.database, worker=number, master=MASTER, metrics_state=lambda: state
    )


def ids(number: int, at: float = NOW) -> IdSource:
    """The call ids of one worker, from a fixed time on."""
    return IdSource(number, after=(int(at * 1000) - EPOCH_MS) << 22)


def admitted(outcome: Admission | Refusal) -> Admission:
    assert isinstance(outcome, Admission), outcome
    return outcome


def kill(remote: RemoteKeeper) -> None:
    """End a worker as kill -9 ends: what it has written is read, what it remembers is lost."""
    remote._closed = True
    link = remote._link
    remote._end()
    if link is not None:
        link._outbox.clear()
        link.abort()


class Script:
    """A keeper that only says what the test has it say; `heard` is what it was told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[object] = []
        self.links: list[Link[ToKeeper]] = []
        self._news = asyncio.Event()

    async def start(self) -> Self:
        loop = asyncio.get_running_loop()

        def accept() -> Link[ToKeeper]:
            handlers: dict[type, Any] = dict.fromkeys(get_args(ToKeeper), self._hear)
            link: Link[ToKeeper] = Link(loop, messages.to_keeper, handlers, lambda: None, "it")
            self.links.append(link)
            return link

        self._server = await loop.create_unix_server(accept, str(self.path))
        return self

    def _hear(self, message: object) -> None:
        self.heard.append(message)
        self._news.set()

    def say(self, *said: object) -> None:
        for message in said:
            self.links[-1].send(message)

    async def hear(self, kind: type, count: int = 1) -> list[Any]:
        """Wait until `count` messages of a kind have come; returns all of that kind."""
        while len(found := [one for one in self.heard if type(one) is kind]) < count:
            self._news.clear()
            await self._news.wait()
        return found

    async def welcome(self, connections: int = 1) -> None:
        """Play the greeting up to `Ready`."""
        await self.hear(messages.Hello, connections)
        self.say(messages.Welcome(0, 1))
        await self.hear(messages.Present, connections)
        self.say(messages.Ready())

    def stop(self) -> None:
        self._server.close()
        for link in self.links:
            link.abort()
