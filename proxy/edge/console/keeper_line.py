"""The console's line to the keeper: every change it makes is a command over the control socket.

Rules: connections are kept and bounded; one carries a command at a time, and is not used again
unless its answer was read whole. Before a command is sent, a keeper that is being replaced is
waited for; once it is sent, it is never sent again: an answer that is lost may stand for something
that has happened, and whoever asked is told so. This module must not know any command.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson

from proxy.core.actions.action import Actor
from proxy.core.sentences import from_wire
from proxy.edge.console.languages import later as _

CONNECTIONS_MAX = 16
"""The control socket takes more, so that the command line always finds room (app/control.py)."""
QUEUE_SECONDS_MAX = 10.0
"""How long a command waits for one of them to be free."""
RETURN_SECONDS_MAX = 6.0
"""How long a keeper that is gone is waited for; a new one is ready within five seconds."""
RETURN_PAUSE_SECONDS = 0.05
IDLE_SECONDS_MAX = 30.0
"""Half of what the other side waits: a connection it is about to close must not be chosen."""
ANSWER_SECONDS_MAX = 125.0
"""A little more than a command may take there, so that its own word on that arrives."""
LINE_BYTES_MAX = 16 << 20
READ_BYTES = 65_536

BUSY = _("the relay has too much to do")
GONE = _("the relay does not take commands now")
LOST = _("the relay's answer was lost, so this may have happened or not")
UNSENDABLE = _("a number is too large, or a text is not Unicode")
TRY_AGAIN = _("try again in a moment")
LOOK_FIRST = _("look whether it has happened before you repeat it")


class Refused(Exception):  # noqa: N818 - an answer, not a failure
    """The keeper said no: `message` says why, `remedy` what to do (may be empty).

    `fields`: what is wrong with single arguments, by their names.
    """

    def __init__(
        self, message: str, remedy: str = "", fields: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.fields = dict(fields or {})
        self.english: Refused = self

    def said_by(self, say: Callable[[str], str]) -> "Refused":
        """The same in a reader's language; `english` is as the keeper said it."""
        fields = {name: say(text) for name, text in self.fields.items()}
        made = Refused(say(self.message), say(self.remedy), fields)
        made.english = self
        return made


class KeeperGoneError(Exception):
    """No answer came. `perhaps_done`: the command was sent, so it may have happened."""

    def __init__(self, message: str, remedy: str, *, perhaps_done: bool) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.perhaps_done = perhaps_done


class KeeperLine:
    """See the module docstring. Lives in one event loop, from making to `close`."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._gate = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: list[tuple[float, socket.socket]] = []

    async def do(
        self, command: str, arguments: Mapping[str, object], actor: Actor | None = None
    ) -> object:
        """Do a command and return its result, plain JSON; without an actor, as the operator.

        A caller that is cancelled does not take the command back. Raises Refused, KeeperGoneError.
        """
        request: dict[str, object] = {"command": command, "arguments": arguments}
        if actor is not None:
            request["actor"] = msgspec.to_builtins(actor)
        try:
            line = orjson.dumps(request) + b"\n"
        except orjson.JSONEncodeError:  # of a number that is no 64-bit one, or of broken text
            raise Refused(UNSENDABLE, _("correct them")) from None
        if len(line) > LINE_BYTES_MAX:
            raise Refused(_("this is more than 16 MB"), _("send it in parts"))
        try:
            async with asyncio.timeout(QUEUE_SECONDS_MAX):
                await self._gate.acquire()
        except TimeoutError:
            raise KeeperGoneError(BUSY, TRY_AGAIN, perhaps_done=False) from None
        try:
            answer = orjson.loads(await self._exchange(line))
        finally:
            self._gate.release()
        if answer.get("unavailable"):
            refused = _refused(answer)
            raise KeeperGoneError(refused.message, refused.remedy, perhaps_done=True)
        if not answer["ok"]:
            raise _refused(answer)
        result: object = answer["result"]
        return result

    async def close(self) -> None:
        """End the connections that rest; safe to call twice."""
        idle, self._idle = self._idle, []
        for _since, connection in idle:
            connection.close()

    async def _exchange(self, line: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        connection = self._rested(loop.time()) or await self._connected()
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                with contextlib.suppress(ConnectionError):  # who closes may have said why before
                    await loop.sock_sendall(connection, line)
                answer = await _receive_line(connection)
        except (OSError, TimeoutError):
            connection.close()
            raise KeeperGoneError(LOST, LOOK_FIRST, perhaps_done=True) from None
        except BaseException:
            connection.close()  # its answer is still to come, and must meet nobody
            raise
        self._idle.append((loop.time(), connection))
        return answer

    def _rested(self, now: float) -> socket.socket | None:
        """Take the connection used last, if it can be used again."""
        while self._idle:
            since, connection = self._idle.pop()
            if now - since < IDLE_SECONDS_MAX and _is_quiet(connection):
                return connection
            connection.close()
        return None

    async def _connected(self) -> socket.socket:
        """Connect; wait a little for somebody to listen, since nothing has been sent yet."""
        loop = asyncio.get_running_loop()
        until = loop.time() + RETURN_SECONDS_MAX
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.setblocking(False)  # noqa: FBT003 - the signature of the library
            try:
                await loop.sock_connect(connection, self._path)
            except OSError:
                connection.close()
                if loop.time() >= until:
                    raise KeeperGoneError(GONE, TRY_AGAIN, perhaps_done=False) from None
            except BaseException:
                connection.close()
                raise
            else:
                return connection
            await asyncio.sleep(RETURN_PAUSE_SECONDS)


def _refused(answer: Mapping[str, Any]) -> Refused:
    """What the keeper said, as sentences where it says of which pattern they are."""
    said = answer.get("patterns") or {}
    fields = said.get("fields") or {}
    return Refused(
        from_wire(said.get("error")) or answer["error"],
        from_wire(said.get("remedy")) or answer["remedy"],
        {
            name: from_wire(fields.get(name)) or text
            for name, text in (answer.get("fields") or {}).items()
        },
    )


def _is_quiet(connection: socket.socket) -> bool:
    """Whether the other side is there and has said nothing that nobody asked for."""
    with contextlib.suppress(OSError):
        try:
            connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
    return False


async def _receive_line(connection: socket.socket) -> bytes:
    """Read one line. Raises OSError if the connection ends before it, or it is too long."""
    loop = asyncio.get_running_loop()
    parts: list[bytes] = []
    size = 0
    while not parts or not parts[-1].endswith(b"\n"):
        part = await loop.sock_recv(connection, READ_BYTES)
        size += len(part)
        if not part or size > LINE_BYTES_MAX:
            raise ConnectionResetError("no complete answer")
        parts.append(part)
    return b"".join(parts)
