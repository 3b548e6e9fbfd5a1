"""Writes that leave together: in order, each whole, and one that cannot holds up no other."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Wire
from proxy.core.exchange import Expectation
from proxy.core.plain_exchange import PlainExchange
from proxy.edge.attempt import AttemptEnd, PlainAttempt
from proxy.edge.bursts import CALLS_MIN, Burst
from proxy.edge.client import ClientConnection
from proxy.edge.upstream import Kept, Origin
from tests.edge.harness import ANN, BOB, CHAT, Relay, body, channel, plain_answer
from tests.integration.raw_client import RawClient, request_bytes, responses
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script

ORIGIN = Origin("127.0.0.1", 1, tls=False, proxy=None, allow_private=True)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
PLAIN_ASK = request_bytes(CHAT, body(stream=False, max_tokens=5), key=ANN)


class Wires:
    """Connected pairs: a transport each to write to, and what its other end has received."""

    def __init__(self, count: int) -> None:
        self.pairs = [socket.socketpair() for _ in range(count)]
        self.transports: list[asyncio.Transport] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        for ours, theirs in self.pairs:
            theirs.setblocking(False)
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            self.transports.append(transport)

    def received(self, number: int) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return self.pairs[number][1].recv(1 << 20)
        return b""

    def close(self) -> None:
        for transport in self.transports:
            transport.abort()
        for _, theirs in self.pairs:
            theirs.close()


def on_wires(count: int, play: Callable[[Burst, Wires], Awaitable[None]]) -> None:
    async def main() -> None:
        wires = Wires(count)
        await wires.open()
        try:
            await play(Burst(), wires)
        finally:
            wires.close()

    uvloop.run(main())


def test_what_is_written_leaves_with_the_next_turn_before_what_was_asked_for_later() -> None:
    async def play(burst: Burst, wires: Wires) -> None:
        one, two = wires.transports
        seen: list[bytes] = []
        burst.write(one, b"first")
        asyncio.get_running_loop().call_soon(lambda: seen.append(wires.received(0)))
        burst.write(two, b"second")
        burst.write(one, b" and third")
        assert wires.received(0) == b""
        assert burst.waiting == {one: b"first and third", two: b"second"}
        await asyncio.sleep(0)
        assert seen == [b"first and third"]
        assert wires.received(1) == b"second"
        assert not burst.waiting
        burst.write(one, b"again")
        await asyncio.sleep(0)
        assert wires.received(0) == b"again"

    on_wires(2, play)


def test_one_that_was_closed_or_ended_meanwhile_holds_up_no_other() -> None:
    async def play(burst: Burst, wires: Wires) -> None:
        closed, ended, well = wires.transports
        for transport in wires.transports:
            burst.write(transport, b"data")
        closed.abort()
        ended.write_eof()
        await asyncio.sleep(0)
        assert wires.received(2) == b"data"
        assert ended.is_closing()
        burst.hurry(well)  # which has nothing to say any more
        burst.write(closed, b"late")
        burst.hurry(closed)
        await asyncio.sleep(0)
        assert wires.received(2) == b""

    on_wires(3, play)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["soon", "now", "turn"]), st.binary(min_size=1)),
    max_size=40,
)


@given(STEPS)
def test_every_wire_has_its_bytes_in_the_order_of_writing(
    steps: list[tuple[int, str, bytes]],
) -> None:
    async def play(burst: Burst, wires: Wires) -> None:
        wanted, found = [b""] * 3, [b""] * 3
        for number, how, data in steps:
            if how == "turn":
                await asyncio.sleep(0)
                continue
            wanted[number] += data
            transport = wires.transports[number]
            if how == "soon":
                burst.write(transport, data)
            else:
                burst.hurry(transport)
                transport.write(data)
        await asyncio.sleep(0)
        for number in range(3):
            found[number] += wires.received(number)
        assert found == wanted

    on_wires(3, play)


# A request that waits to be asked


class Owner:
    """A plain call is never asked for more credit."""

    def credit_needed(self, *, at_edge: bool) -> None:
        raise AssertionError(at_edge)


def asked(burst: Burst, transport: asyncio.Transport) -> PlainAttempt[PlainExchange]:
    """An attempt over a kept connection, whose request waits in `burst`."""
    transport.set_protocol(Kept(ORIGIN, transport, lambda _: None))
    exchange = PlainExchange(Expectation(Wire.CHAT, stream=False))
    attempt = PlainAttempt(asyncio.get_running_loop(), Owner(), exchange, 0)
    attempt.burst = burst
    attempt.send(transport, b"request")
    return attempt


def test_an_answer_to_what_was_not_asked_yet_is_none_and_the_connection_no_use() -> None:
    async def play(burst: Burst, wires: Wires) -> None:
        (transport,) = wires.transports
        attempt = asked(burst, transport)
        cast("Kept", transport.get_protocol()).data_received(ANSWER)
        assert (attempt.end, attempt.silent) == (AttemptEnd.LOST, True)
        assert transport.is_closing()
        await asyncio.sleep(0)
        assert wires.received(0) == b""

    on_wires(1, play)


def test_who_leaves_before_the_request_has_left_asks_nothing() -> None:
    async def play(burst: Burst, wires: Wires) -> None:
        (transport,) = wires.transports
        asked(burst, transport).stop(AttemptEnd.CLIENT_GONE)
        await asyncio.sleep(0)
        assert wires.received(0) == b""

    on_wires(1, play)


def test_a_request_that_has_left_is_answered() -> None:
    async def play(burst: Burst, wires: Wires) -> None:
        (transport,) = wires.transports
        attempt = asked(burst, transport)
        await asyncio.sleep(0)
        assert wires.received(0) == b"request"
        cast("Kept", transport.get_protocol()).data_received(ANSWER)
        assert attempt.over
        assert attempt.exchange.body == b"{}"

    on_wires(1, play)


# Through the relay


@pytest.fixture(params=[0, CALLS_MIN], ids=["always", "when there are many"])
def crowd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("call", "relay"):
        monkeypatch.setattr(f"proxy.edge.{module}.CALLS_MIN", request.param)


def answered(client: RawClient, count: int) -> list[int]:
    """Read that many whole answers; their statuses."""
    client.read_until(lambda data: data.count(plain_answer()) >= count)
    return [each.status for each in responses(bytes(client.received))]


@pytest.mark.usefixtures("crowd")
def test_forty_clients_at_once_have_all_their_answers(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), plan="free") as relay,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(relay.client()) for _ in range(40)]
        for turn in range(6):
            for number, client in enumerate(clients):
                mark = f"{number}-{turn}"
                asking = body(stream=False, max_tokens=5, user=mark)
                client.send(request_bytes(CHAT, asking, key=ANN if number % 2 else BOB))
            if turn % 2:  # every other is sent ahead
                assert [answered(client, turn + 1) for client in clients] == [
                    [200] * (turn + 1)
                ] * 40
        marks = [json.loads(each.body)["user"] for each in upstream.requests]
        assert sorted(marks) == sorted(f"{a}-{b}" for a in range(40) for b in range(6))
        assert [call["verdict"] for call in relay.calls()] == ["complete"] * 240


LAST: dict[str, tuple[bytes, list[int]]] = {
    "asks to close": (PLAIN_ASK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), [200] * 4),
    "HTTP/1.0": (PLAIN_ASK.replace(b"HTTP/1.1", b"HTTP/1.0", 1), [200] * 4),
    "is no HTTP": (b"GET\r\n\r\n", [200] * 3 + [400]),
    "has no such path": (PLAIN_ASK.replace(b"/completions", b"/nowhere", 1), [200] * 3 + [404]),
}


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("ahead", [False, True])
def test_what_comes_behind_an_answer_never_overtakes_its_end(
    tmp_path: Path, last: str, ahead: bool
) -> None:
    asking, statuses = LAST[last]
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        if ahead:
            client.send(PLAIN_ASK * 3 + asking)
        else:
            for turn in range(3):
                client.send(PLAIN_ASK)
                answered(client, turn + 1)
            client.send(asking)
        wanted = len(statuses)
        client.read_until(lambda data: len(whole(data)) == wanted)
        assert whole(bytes(client.received)) == statuses
        assert bytes(client.received).count(plain_answer()) == statuses.count(200)


def whole(data: bytes) -> list[int]:
    """The statuses of the answers that are there to their last byte."""
    return [each.status for each in responses(data) if each.whole]


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("how", [RawClient.leave, RawClient.reset, RawClient.half_close])
def test_who_leaves_when_the_answer_is_in_was_charged_once(
    tmp_path: Path, how: Callable[[RawClient], Any]
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        answered(client.send(PLAIN_ASK), 1)
        how(client)
        assert [call["verdict"] for call in relay.calls()] == ["complete"]


EXPECTING = PLAIN_ASK.replace(b"\r\n", b"\r\nExpect: 100-continue\r\n", 1).partition(b"{")[0]


def half_closed(connection: ClientConnection) -> None:
    """What the loop does when it reads the end of what a client sends."""
    connection.eof_received()
    assert connection.transport is not None
    connection.transport.close()


SAME_TURN: dict[str, Callable[[ClientConnection], object]] = {
    "a drain": lambda connection: connection.close_at_rest(),
    "no HTTP": lambda connection: connection.data_received(b"GET\r\n\r\n"),
    "a half-close": half_closed,
    "an abort": lambda connection: connection.abort(),
    "a body to be asked for": lambda connection: connection.data_received(EXPECTING),
}


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("what", SAME_TURN)
def test_what_comes_in_the_same_turn_as_an_answers_end_finds_it_gone(
    tmp_path: Path, what: str
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        handler = relay.server.handler

        async def followed(request: Any) -> None:
            await handler(request)
            SAME_TURN[what](request.protocol)

        relay.server.handler = followed
        answered(client.send(PLAIN_ASK), 1)
        head, found, rest = bytes(client.received).partition(plain_answer())
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert found
        assert not rest or rest.startswith((b"HTTP/1.1 400", b"HTTP/1.1 100"))
