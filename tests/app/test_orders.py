import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict

import uvloop

from proxy.app.children import Order
from proxy.app.orders import Orders
from proxy.app.settings import Settings

Scenario = Callable[[Orders, socket.socket], Awaitable[None]]


def play(scenario: Scenario) -> None:
    async def run() -> None:
        ours, theirs = socket.socketpair()
        orders = await Orders.listen(theirs)
        try:
            async with asyncio.timeout(20):
                await scenario(orders, ours)
        finally:
            orders.close()
            ours.close()
            await asyncio.sleep(0)

    uvloop.run(run())


def say(link: socket.socket, **message: object) -> None:
    link.sendall(json.dumps(message).encode() + b"\n")


def test_only_haste_follows_an_order_to_leave() -> None:
    async def scenario(orders: Orders, link: socket.socket) -> None:
        say(link, do=Order.RETIRE)
        assert await orders.leave() is Order.RETIRE
        say(link, do=Order.DRAIN)
        say(link, do=Order.STOP)
        await orders.at_once()
        assert await orders.leave() is Order.RETIRE
        assert not orders.deserted

    play(scenario)


def test_the_end_of_the_link_is_an_order_to_leave() -> None:
    async def scenario(orders: Orders, link: socket.socket) -> None:
        link.close()
        assert await orders.leave() is Order.STOP
        await orders.at_once()
        assert orders.deserted
        orders.tell(ready=True)
        await orders.follow_alive(lambda numbers: None)

    play(scenario)


def test_settings_come_as_they_are_in_force() -> None:
    async def scenario(orders: Orders, link: socket.socket) -> None:
        heard: asyncio.Queue[Settings] = asyncio.Queue(2)
        say(link, do=Order.RELOAD, settings=asdict(Settings()))  # nobody to reload yet
        orders.on_reload = heard.put_nowait
        wanted = Settings(heartbeat_ms=777, trusted_proxies=("10.0.0.0/8",))
        text = json.dumps({"do": Order.RELOAD, "settings": asdict(wanted)}).encode()
        link.sendall(text[:50])
        await asyncio.sleep(0)
        link.sendall(text[50:] + b"\n")
        assert wanted in {await heard.get(), wanted if heard.empty() else await heard.get()}

    play(scenario)


def test_nobody_is_taken_for_dead_before_it_is_known_who_lives() -> None:
    async def scenario(orders: Orders, link: socket.socket) -> None:
        heard: asyncio.Queue[tuple[int, ...]] = asyncio.Queue(9)
        following = asyncio.ensure_future(orders.follow_alive(heard.put_nowait))
        await asyncio.sleep(0)
        assert not following.done()
        say(link, alive=[4, 5])
        await following
        say(link, alive=[])
        assert [await heard.get(), await heard.get()] == [(4, 5), ()]

    play(scenario)


def test_what_is_told_is_a_line() -> None:
    async def scenario(orders: Orders, link: socket.socket) -> None:
        orders.tell(ready=True, banner="x")
        link.settimeout(10)
        line = await asyncio.to_thread(link.recv, 1000)
        assert json.loads(line) == {"ready": True, "banner": "x"}

    play(scenario)
