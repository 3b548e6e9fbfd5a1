"""Small parts of the children; as real processes they are in tests/integration/test_processes.py."""

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy.app import processes
from proxy.app.addresses import Bound
from proxy.app.children import Assignment, Order, Role
from proxy.app.control import CommandError
from proxy.app.directory import DataDirectory
from proxy.app.in_force import InForce
from proxy.app.office import Office, load_secrets
from proxy.app.orders import Orders
from proxy.app.settings import Settings
from proxy.app.sockets import Listeners, bind
from proxy.app.wiring import open_keeper


class FakeOrders:
    def __init__(self) -> None:
        self.told: list[dict[str, object]] = []

    def tell(self, **message: object) -> None:
        self.told.append(message)


def with_office(path: Path, work: Any, **more: Any) -> Any:
    async def run() -> Any:
        settings = Settings(data_dir=str(path / "data"), **more)
        directory = DataDirectory(settings.data_path)
        with directory.locked():
            secrets = load_secrets(directory, settings)
            keeper = await open_keeper(directory, settings, secrets, lambda _error: None)
            try:
                in_force = InForce(settings, Bound(""))
                office = Office(keeper, directory.database, secrets, in_force=in_force)
                return await work(office, settings)
            finally:
                await keeper.close()

    return uvloop.run(run())


def test_a_file_that_went_bad_stops_a_first_start_and_no_later_one(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[[plan]]\n")

    async def work(office: Office, settings: Settings) -> None:
        with pytest.raises(CommandError):
            await processes._provision(office, settings, (), (), first=True)
        await processes._provision(office, settings, (), (), first=False)
        assert not office.keeper.catalog.plans

    with_office(tmp_path, work, catalog_file=str(file))


def test_the_supervisor_is_told_whether_the_catalog_was_good(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"

    async def work(office: Office, settings: Settings) -> None:
        orders: Any = FakeOrders()
        for text in ('[[plan]]\nname = "one"\n', "[[plan]]\n", "[[plan\n"):
            file.write_text(text)
            wanted = replace(settings, heartbeat_ms=500 + len(text))
            await processes._reload(office, wanted, orders)
            told = office.in_force
            assert told is not None
            assert told.settings.heartbeat_ms == 500 + len('[[plan]]\nname = "one"\n')
        await processes._reload(office, replace(settings, catalog_file=""), orders)
        assert orders.told == [{"reloaded": good} for good in (True, False, False, True)]
        assert [plan.name for plan in office.keeper.catalog.plans.values()] == ["one"]

    with_office(tmp_path, work, catalog_file=str(file))


def test_what_takes_too_long_is_given_up_and_what_fails_is_told() -> None:
    async def run() -> None:
        over = asyncio.Event()
        given_up = asyncio.Event()

        async def endless() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                given_up.set()

        over.set()
        await processes._unless(over.wait(), endless())
        await asyncio.wait_for(given_up.wait(), 10)
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await processes._unless(kept, asyncio.sleep(0))
        assert not kept.cancelled()

        async def failing() -> None:
            raise OSError("no")

        with pytest.raises(OSError, match="no"):
            await processes._unless(kept, failing())

    uvloop.run(run())


def test_the_demo_answers_on_the_socket_it_was_given() -> None:
    async def run(ours: socket.socket, theirs: socket.socket, listeners: Listeners) -> int:
        port = listeners.demo[0].getsockname()[1]
        assignment = Assignment(Role.DEMO, 0, -1, theirs)
        demo = asyncio.ensure_future(processes._pretend(assignment, listeners))
        loop = asyncio.get_running_loop()
        ours.setblocking(False)
        assert json.loads(await loop.sock_recv(ours, 100)) == {"ready": True}
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"200 OK" in await reader.readline()
        writer.close()
        await loop.sock_sendall(ours, json.dumps({"do": Order.STOP}).encode() + b"\n")
        return await demo

    ours, theirs = socket.socketpair()
    try:
        assert uvloop.run(run(ours, theirs, Listeners(demo=bind("127.0.0.1:0", 1)))) == 0
    finally:
        ours.close()
    assert Orders.__doc__
