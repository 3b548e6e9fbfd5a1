"""Frames over a real socket pair: every split, every bound, every peer that does not keep to it."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from proxy.storage import link as link_module
from proxy.storage import messages
from proxy.storage.link import Link
from proxy.storage.messages import PREFACE, ToKeeper

SECONDS_MAX = 10.0


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await work

    asyncio.run(bounded())


def frame(*said: object) -> bytes:
    payload = msgspec.msgpack.encode(said)
    return len(payload).to_bytes(4, "big") + payload


class End:
    """A link and the bare socket at its other side."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.arrived = asyncio.Event()
        self.lost = asyncio.Event()
        self.socket, self._inner = socket.socketpair()
        self.socket.setblocking(False)
        loop = asyncio.get_running_loop()
        handlers: dict[type, Any] = {messages.Undo: self._hear, messages.Extend: self._hear}
        self.link: Link[ToKeeper] = Link(
            loop, messages.to_keeper, handlers, self.lost.set, "the test"
        )

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self.link, sock=self._inner)
        assert await self.read(len(PREFACE)) == PREFACE

    def _hear(self, message: object) -> None:
        if message == messages.Extend(0, 0):
            raise ValueError("that is nothing to say")
        self.heard.append(message)
        self.arrived.set()

    async def read(self, size: int) -> bytes:
        loop, got = asyncio.get_running_loop(), b""
        while len(got) < size and (some := await loop.sock_recv(self.socket, size - len(got))):
            got += some
        return got

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def hear(self, count: int) -> None:
        while len(self.heard) < count:
            self.arrived.clear()
            await self.arrived.wait()

    def close(self) -> None:
        self.link.abort()
        self.socket.close()


def test_frames_are_read_at_every_split() -> None:
    said = PREFACE + frame(messages.Undo(1), messages.Undo(2)) + frame() + frame(messages.Undo(3))

    async def main() -> None:
        for cut in range(len(said) + 1):
            end = End()
            await end.open()
            await end.write(said[:cut])
            await asyncio.sleep(0)
            await end.write(said[cut:])
            await end.hear(3)
            assert end.heard == [messages.Undo(1), messages.Undo(2), messages.Undo(3)]
            end.close()
            await end.lost.wait()

    run(main())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"sluice port 2\n" + frame(), "another release"),
        (b"GET / HTTP/1.1\r\n\r\n", "another release"),
        (PREFACE + b"\xff\xff\xff\xff", "a frame of 4294967295 bytes"),
        (PREFACE + b"\0\0\0\1\xc1", "MessagePack"),
        (PREFACE + frame(messages.Present()), "Present is not for it to say"),
        (PREFACE + frame(messages.Extend(0, 0)), "that is nothing to say"),
    ],
)
def test_whoever_does_not_keep_to_it_is_cut_off_with_one_line(
    said: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        end = End()
        await end.open()
        await end.write(said)
        await end.lost.wait()
        assert not end.heard
        assert await end.read(1) == b""
        end.socket.close()

    run(main())
    (line,) = caplog.messages
    assert line.startswith("the port refused the test: ")
    assert reason in line


def test_one_turn_is_one_frame_and_what_is_answered_leaves_with_it() -> None:
    async def main() -> None:
        end = End()
        await end.open()
        for call_id in range(3):
            end.link.send(messages.Undo(call_id))
        expected = frame(*(messages.Undo(call_id) for call_id in range(3)))
        assert await end.read(len(expected)) == expected
        end.link.handlers = {messages.Undo: end.link.send}
        await end.write(PREFACE + frame(messages.Undo(7)))
        assert await end.read(len(frame(messages.Undo(7)))) == frame(messages.Undo(7))
        end.close()
        await end.lost.wait()
        end.link.send(messages.Undo(8))  # said to nobody

    run(main())


def test_frames_are_bounded_in_messages_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "MESSAGES_PER_FRAME_MAX", 2)
    monkeypatch.setattr(link_module, "FRAME_BYTES_MAX", 64)

    async def main() -> None:
        end = End()
        await end.open()
        said = [messages.Undo(1), messages.Undo(2), messages.Undo(3)]
        for one in said:
            end.link.send(one)
        expected = frame(*said[:2]) + frame(said[2])
        assert await end.read(len(expected)) == expected
        states = [messages.State(1, bytes(50)), messages.State(2, bytes(50))]
        for state in states:
            end.link.send(state)
        expected = frame(states[0]) + frame(states[1])
        assert await end.read(len(expected)) == expected
        end.close()
        await end.lost.wait()

    run(main())


def test_a_peer_that_does_not_read_is_slow_and_then_cut_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link_module, "SEND_BYTES_MAX", 3 << 20)

    async def main() -> None:
        end = End()
        await end.open()
        chunk = messages.State(1, bytes(1 << 20))
        while not end.link.slow:
            end.link.send(chunk)
            await asyncio.sleep(0)
        assert end.link.open
        while end.link.open:
            end.link.send(chunk)
            await asyncio.sleep(0)
        end.socket.close()
        await end.lost.wait()

    run(main())
    assert caplog.messages == ["the port refused the test: it does not read"]


def test_a_peer_that_reads_again_is_not_slow_any_more() -> None:
    async def main() -> None:
        end = End()
        await end.open()
        sent = 0
        while not end.link.slow:
            end.link.send(messages.State(1, bytes(1 << 20)))
            sent += len(frame(messages.State(1, bytes(1 << 20))))
            await asyncio.sleep(0)
        assert len(await end.read(sent)) == sent
        while end.link.slow:
            await asyncio.sleep(0)
        end.close()
        await end.lost.wait()

    run(main())


def test_a_held_link_reads_when_it_is_released() -> None:
    async def main() -> None:
        end = End()
        await end.open()
        end.link.hold()
        await end.write(PREFACE + frame(messages.Undo(1)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not end.heard
        end.link.release()
        await end.hear(1)
        end.close()
        await end.lost.wait()

    run(main())


def test_a_link_may_be_cut_before_it_is_made() -> None:
    async def main() -> None:
        end = End()
        end.link.abort()
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: end.link, sock=end._inner)
        await end.lost.wait()
        assert not end.link.open
        assert await end.read(1) == b""
        end.socket.close()

    run(main())


def test_closing_sends_what_waits() -> None:
    async def main() -> None:
        end = End()
        await end.open()
        end.link.send(messages.Undo(1))
        end.link.close()
        assert await end.read(100) == frame(messages.Undo(1))
        await end.lost.wait()
        end.socket.close()

    run(main())
