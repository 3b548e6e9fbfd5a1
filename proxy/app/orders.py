"""A child's end of its link to the supervisor: what it is told, and what it says.

Rules: orders are obeyed once each, and only more haste comes after one to leave; the end of the
link is an order to leave at once, because nobody would restart or stop this process any more.
This module must not know what a child does.
"""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any, cast

from proxy.app.children import LINE_BYTES_MAX, Order
from proxy.app.settings import Settings


class Orders(asyncio.Protocol):
    """See the module docstring. `on_reload` is set once there is somebody to reload."""

    def __init__(self) -> None:
        self.on_reload: Callable[[Settings], object] = lambda _settings: None
        self._alive: tuple[int, ...] = ()
        self._alive_told = asyncio.Event()
        self._on_alive: Callable[[tuple[int, ...]], object] = lambda _numbers: None
        self.deserted = False
        """The supervisor is gone."""
        self._leave: asyncio.Future[Order] = asyncio.get_running_loop().create_future()
        self._at_once = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._received = b""

    @classmethod
    async def listen(cls, link: socket.socket) -> "Orders":
        """Take over a child's end of the link."""
        loop = asyncio.get_running_loop()
        link.settimeout(0)
        _, orders = await loop.create_unix_connection(cls, sock=link)
        return orders

    def tell(self, **message: object) -> None:
        """Send one line to the supervisor."""
        if self._transport is not None:
            self._transport.write(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Say nothing more; safe to call twice."""
        if self._transport is not None:
            self._transport.close()

    async def follow_alive(self, heard: Callable[[tuple[int, ...]], object]) -> None:
        """Call `heard` with the numbers of the living workers, once they are known and then again.

        Returns when it has been called: before that nobody may be taken for dead.
        """
        await self._alive_told.wait()
        self._on_alive = heard
        heard(self._alive)

    async def leave(self) -> Order:
        """Wait for the first order to leave."""
        return await asyncio.shield(self._leave)

    async def at_once(self) -> None:
        """Wait until there is no time left for anything but an end."""
        await self._at_once.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the link."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Obey every whole line."""
        *lines, self._received = (self._received + data).split(b"\n")
        if len(self._received) > LINE_BYTES_MAX:
            raise AssertionError("the supervisor sends no endless lines")
        for line in lines:
            self._obey(json.loads(line))

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave: the supervisor is gone."""
        del exc
        self.deserted = True
        self._transport = None
        self._alive_told.set()
        self._hurry()

    def _obey(self, message: Mapping[str, Any]) -> None:
        if "alive" in message:
            self._alive = tuple(message["alive"])
            self._alive_told.set()
            self._on_alive(self._alive)
            return
        order = Order(message["do"])
        if order is Order.RELOAD:
            self.on_reload(Settings.read(message["settings"]))
        elif order is Order.STOP:
            self._hurry()
        elif not self._leave.done():
            self._leave.set_result(order)

    def _hurry(self) -> None:
        self._at_once.set()
        if not self._leave.done():
            self._leave.set_result(Order.STOP)
