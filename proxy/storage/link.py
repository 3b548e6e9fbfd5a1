"""One end of the port: frames in, frames out, and nothing of what they mean.

Rules: a frame is four bytes of length (big-endian) and one msgpack array of messages. What is
sent in one turn of the event loop leaves in one write. Whoever sends garbage, too much, or does
not read is cut off with one line in the log; the protocol mends what that loses. No task, future
or timer per message. This module must not know calls or money.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar, cast

import msgspec

from proxy.storage.messages import PREFACE

FRAME_BYTES_MAX = 8 << 20
MESSAGES_PER_FRAME_MAX = 512
STATE_BYTES_MAX = 4 << 20
"""The metrics of one worker; a frame holds one such state."""
SEND_BYTES_MAX = 64 << 20
"""What may wait for a peer that does not read, before it is cut off."""
SLOW_BYTES = 1 << 20
"""Above this a peer is slow: what can wait is not sent to it."""
_LENGTH_BYTES = 4

Message = TypeVar("Message")

log = logging.getLogger("sluice.port")


class Link(asyncio.Protocol, Generic[Message]):
    """Frames over one connection; handlers are called by type of message, synchronously.

    A handler raises ValueError for what its peer should not have said. `on_lost` is called once,
    on the loop, after everything received before the end was handled.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        decoder: "msgspec.msgpack.Decoder[list[Message]]",
        handlers: "Mapping[type, Callable[..., object]]",
        on_lost: Callable[[], object],
        peer: str,
    ) -> None:
        self.peer = peer
        """Who the other side is, for the log."""
        self.handlers = handlers
        """By type of message; may be replaced as the conversation goes on."""
        self.slow = False
        self.open = False
        self._loop = loop
        self._decode = decoder.decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._greeted = False
        self._cut = False
        self._outbox: list[object] = []
        self._scheduled = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet; the peer's greeting is the first thing looked at."""
        # uvloop's transports have the methods of asyncio.Transport without being one.
        transport = self._transport = cast("asyncio.Transport", transport)
        if self._cut:
            transport.abort()
            return
        self.open = True
        transport.set_write_buffer_limits(high=SLOW_BYTES)
        transport.write(PREFACE)

    def data_received(self, data: bytes) -> None:
        """Handle every whole frame that is there, then send what that gave to say."""
        received = self._received
        received += data
        try:
            if self._greeted or self._read_preface():
                self._read_frames()
        except (ValueError, msgspec.DecodeError) as error:
            self.refuse(str(error))
            return
        if self._outbox:
            self._flush()

    def pause_writing(self) -> None:
        """The peer reads slowly."""
        self.slow = True

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.slow = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Everything received was handled when it came; nothing more will come."""
        del exc
        self.open = False
        self._outbox.clear()
        self._on_lost()

    def send(self, message: object) -> None:
        """Send at the end of this turn of the loop; nothing once the connection is lost."""
        if not self.open:
            return
        self._outbox.append(message)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def hold(self) -> None:
        """Read nothing more until `release`."""
        if self._transport is not None:
            self._transport.pause_reading()

    def release(self) -> None:
        """Read on."""
        if self._transport is not None and self.open:
            self._transport.resume_reading()

    def refuse(self, reason: str) -> None:
        """Cut the peer off and say why."""
        if self.open:
            log.error("the port refused %s: %s", self.peer, reason)
            self.abort()

    def abort(self) -> None:
        """Cut the connection; `on_lost` follows. It may be cut before it is made."""
        self._cut = True
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Send what waits, then close; `on_lost` follows."""
        self._cut = True
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _read_preface(self) -> bool:
        received = self._received
        if not PREFACE.startswith(received[: len(PREFACE)]):
            said = bytes(received[: len(PREFACE)])
            raise ValueError(f"it speaks {said!r}, not {PREFACE!r}: another release?")
        if len(received) < len(PREFACE):
            return False
        del received[: len(PREFACE)]
        self._greeted = True
        return True

    def _read_frames(self) -> None:
        received, start = self._received, 0
        end = len(received)
        while end - start >= _LENGTH_BYTES:
            body = start + _LENGTH_BYTES
            length = int.from_bytes(received[start:body], "big")
            if length > FRAME_BYTES_MAX:
                raise ValueError(f"a frame of {length} bytes")
            if end - body < length:
                break
            start = body + length
            for message in self._decode(received[body:start]):
                handler = self.handlers.get(type(message))
                if handler is None:
                    raise ValueError(f"{type(message).__name__} is not for it to say")
                handler(message)
        if start:
            del received[:start]

    def _flush(self) -> None:
        self._scheduled = False
        outbox = self._outbox
        transport = self._transport
        if not outbox or transport is None or not self.open:
            return
        if len(outbox) <= MESSAGES_PER_FRAME_MAX:
            transport.write(self._frame(outbox))
        else:
            transport.write(
                b"".join(
                    self._frame(outbox[start : start + MESSAGES_PER_FRAME_MAX])
                    for start in range(0, len(outbox), MESSAGES_PER_FRAME_MAX)
                )
            )
        outbox.clear()
        if self.slow and transport.get_write_buffer_size() > SEND_BYTES_MAX:
            self.refuse("it does not read")

    def _frame(self, messages: list[object]) -> bytes:
        payload = self._encode(messages)
        if len(payload) > FRAME_BYTES_MAX and len(messages) > 1:
            half = len(messages) // 2
            return self._frame(messages[:half]) + self._frame(messages[half:])
        return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload
