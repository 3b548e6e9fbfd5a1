"""Accepted sockets have what was set on the listening one: asked of real sockets."""

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from proxy.edge.client import ClientServer, Request
from proxy.edge.client_socket import TCP_USER_TIMEOUT_MS, peer_address, prepare, unsent_bytes

SEND_BUFFER_BYTES = 32_768
DOUBLED = 2 * SEND_BUFFER_BYTES
"""The kernel doubles what is asked for and says so (socket(7))."""
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
