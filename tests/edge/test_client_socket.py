"""Accepted sockets have what was set on the listening one, and what is corked arrives: asked of
real sockets."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from proxy.edge.client import ClientServer
from proxy.edge.client_request import Request
from proxy.edge.client_socket import (
    CORKED_BYTES_MAX,
    TCP_USER_TIMEOUT_MS,
    Cork,
    peer_address,
    prepare,
    unsent_bytes,
)

SEND_BUFFER_BYTES = 32_768
DOUBLED = 2 * SEND_BUFFER_BYTES
"""The kernel doubles what is asked for and says so (socket(7))."""
SECONDS_MAX = 20.0
HELD_TRIES_MAX = 50
"""The kernel holds what is corked for 200 ms, which a busy machine may let pass."""
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def options(peer: socket.socket) -> tuple[int, int, int]:
    return (
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
        peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    )


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_what_is_accepted_has_the_options_of_the_listener(family: socket.AddressFamily) -> None:
    if family == socket.AF_INET6 and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=family) as listener:
        assert prepare(listener, SEND_BUFFER_BYTES) == 0
        with socket.create_connection(listener.getsockname()[:2]):
            accepted, _ = listener.accept()
            with accepted:
                assert options(accepted) == (DOUBLED, TCP_USER_TIMEOUT_MS, 1)


def test_an_inherited_send_buffer_does_not_grow_by_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        prepare(listener, SEND_BUFFER_BYTES)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            accepted.setblocking(False)
            assert unsent_bytes(accepted) == 0
            with pytest.raises(BlockingIOError):
                fill(accepted)
            assert options(accepted)[0] == DOUBLED
            assert 0 < unsent_bytes(accepted) <= DOUBLED


def fill(peer: socket.socket) -> None:
    """Write to who does not read until no more is taken."""
    while True:
        peer.send(bytes(65_536))


def test_who_waited_in_the_queue_before_is_told_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address), socket.create_connection(address):
            assert prepare(listener, SEND_BUFFER_BYTES) == 2
            assert prepare(listener, SEND_BUFFER_BYTES) == 2, "a second process may get them too"


def test_a_socket_that_is_no_tcp_has_nothing_unsent() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert unsent_bytes(one) == 0, "that it cannot say is no fault"


@pytest.mark.parametrize("loop", LOOPS)
def test_connections_have_the_options_whenever_they_came(loop: str) -> None:
    async def handle(_: Request) -> None:
        raise AssertionError("nothing was asked")

    async def accepted(server: ClientServer, count: int) -> list[tuple[int, int, int]]:
        while len(server._connections) < count:
            await asyncio.sleep(0)
        transports = [one.transport for one in server._connections]
        assert {peer_address(one) for one in transports} == {"127.0.0.1"}
        return [options(one.get_extra_info("socket")) for one in transports if one is not None]

    async def run() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        server = ClientServer(handle, send_buffer_bytes=SEND_BUFFER_BYTES)
        early = [socket.create_connection(address) for _ in range(3)]
        running = asyncio.get_running_loop()
        listening = await running.create_server(server.on(listener), sock=listener)
        late = [socket.create_connection(address) for _ in range(3)]
        try:
            async with asyncio.timeout(20):
                found = await accepted(server, 6)
            assert found == [(DOUBLED, TCP_USER_TIMEOUT_MS, 1)] * 6
        finally:
            listening.close()
            await server.shutdown(1.0)
            for each in early + late:
                each.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run())


def test_nobody_knows_the_address_of_who_has_gone() -> None:
    assert peer_address(None) is None


class Accepted(asyncio.Protocol):
    """One accepted connection."""

    def __init__(self) -> None:
        self.made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.set_result(transport)  # type: ignore[arg-type]  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Accepted, asyncio.Transport, socket.socket]]:
    """An accepted connection with its transport, and the client's socket."""
    loop = asyncio.get_running_loop()
    accepted = Accepted()
    listening = await loop.create_server(lambda: accepted, "127.0.0.1", 0)
    client = socket.create_connection(listening.sockets[0].getsockname())
    client.settimeout(SECONDS_MAX)
    try:
        async with asyncio.timeout(SECONDS_MAX):
            transport = await accepted.made
            yield accepted, transport, client
            transport.abort()
            await accepted.lost.wait()
    finally:
        client.close()
        listening.close()


def in_each_loop(loop: str, work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(run())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_corked_waits_for_what_follows(loop: str) -> None:
    async def work() -> None:
        async with connected() as (_, transport, client):
            peer = transport.get_extra_info("socket")
            cork, held = Cork(transport), 0
            for _ in range(HELD_TRIES_MAX):
                cork.write(transport, b"begin")
                held += unsent_bytes(peer) == len(b"begin")
                transport.write(b"!")
                assert unsent_bytes(peer) == 0
                assert await asyncio.to_thread(exactly, client, 6) == b"begin!"
            assert held, "it never waited"

    in_each_loop(loop, work)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_pushed_leaves_at_once(loop: str) -> None:
    async def work() -> None:
        async with connected() as (_, transport, client):
            cork = Cork(transport)
            for _ in range(3):
                cork.write(transport, b"begin")
                cork.push()
                assert unsent_bytes(transport.get_extra_info("socket")) == 0
                assert await asyncio.to_thread(exactly, client, 5) == b"begin"

    in_each_loop(loop, work)


def exactly(peer: socket.socket, size: int) -> bytes:
    """Read `size` bytes, or fewer if there are no more."""
    found = b""
    while len(found) < size and (data := peer.recv(size - len(found))):
        found += data
    return found


@pytest.mark.parametrize("size", [1, 900, CORKED_BYTES_MAX, CORKED_BYTES_MAX + 1])
def test_what_the_kernel_does_not_take_goes_by_the_transport_in_order(size: int) -> None:
    """Also what comes after bytes that wait in this process, where they have to be first."""

    async def work() -> None:
        async with connected() as (_, transport, client):
            peer = transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            cork, sent = Cork(transport), b""
            while not transport.get_write_buffer_size():
                cork.write(transport, piece := bytes([len(sent) % 251]) * size)
                sent += piece
            cork.write(transport, b"after")
            transport.write(b"!")
            sent += b"after!"
            assert await asyncio.to_thread(exactly, client, len(sent)) == sent

    in_each_loop("uvloop", work)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_has_left_is_found_out_by_the_transport(loop: str) -> None:
    async def work() -> None:
        async with connected() as (accepted, transport, client):
            cork = Cork(transport)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()  # with a reset
            while not transport.is_closing():
                cork.write(transport, b"begin")
                cork.push()
            cork.write(transport, b"dropped, as by the transport")
            await accepted.lost.wait()
            cork.release()

    in_each_loop(loop, work)


def test_a_closed_connection_is_nobody_elses() -> None:
    """Neither what is given back nor what is forgotten closes the next one of that number."""

    async def work() -> None:
        async with connected() as (accepted, transport, _):
            cork, forgotten = Cork(transport), Cork(transport)
            number = transport.get_extra_info("socket").fileno()
            transport.abort()
            await accepted.lost.wait()
            cork.release()
        others = [socket.socket() for _ in range(64)]
        assert number in {other.fileno() for other in others}
        del forgotten
        gc.collect()
        cork.push()
        for other in others:
            os.fstat(other.fileno())
            other.close()

    in_each_loop("uvloop", work)


KILLED = """
import asyncio, os, signal, sys
import uvloop
from proxy.edge.client_socket import Cork

class Killed(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        Cork(self.transport).write(self.transport, b"x" * int(data))
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    server = await asyncio.get_running_loop().create_server(Killed, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

uvloop.run(main())
"""


@pytest.mark.parametrize("size", [1, 900, CORKED_BYTES_MAX])
def test_what_is_corked_outlives_a_process_that_is_killed(size: int) -> None:
    """A charge may follow what the kernel has: it arrives though nothing of ours runs any more."""
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), SECONDS_MAX) as client:
            client.sendall(b"%d" % size)
            assert exactly(client, size + 1) == b"x" * size
        assert process.wait(SECONDS_MAX) == -signal.SIGKILL
