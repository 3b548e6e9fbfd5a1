"""Commands to a running relay: JSON lines over a unix socket that only its owner may open.

Rules: one request line `{"command", "arguments", "actor"}`, one answer line
`{"ok": true, "result"}` or `{"ok": false, "error", "remedy", "fields"?, "patterns"?}`, the last
for who says it in another language (core/sentences.py); every line, wait and
connection is bounded, and a fault of ours answers one too. What a command does is decided by the
function given to the server; who asks may be told by `actor` (core/actions/action.py), which is
believed: whoever may open the socket may do anything. This module must not know any command.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
import orjson

from proxy.core.actions.action import LOCAL, Actor
from proxy.core.sentences import Sentence, to_wire
from proxy.edge import log
from proxy.storage.work import FAULTS

LINE_BYTES_MAX = 16 << 20
CONNECTIONS_MAX = 64
"""The console keeps up to 16 (edge/console/keeper_line.py); the others are for the command line."""
IDLE_SECONDS_MAX = 60.0
ANSWER_SECONDS_MAX = 120.0
CONNECT_SECONDS_MAX = 5.0
PATH_BYTES_MAX = 107
"""What `sockaddr_un` holds on Linux, less the closing NUL (unix(7))."""

Run = Callable[[str, Mapping[str, object], Actor], Awaitable[object]]


class CommandError(Exception):
    """A command cannot be done: `message` says why, `remedy` what to do (may be empty).

    `fields`: what is wrong with single arguments, by their names. `unavailable`: nobody said no,
    the relay cannot do it now.
    """

    def __init__(
        self,
        message: str,
        remedy: str = "",
        fields: Mapping[str, str] | None = None,
        *,
        unavailable: bool = False,
    ) -> None:
        super().__init__(message)
        self.unavailable = unavailable
        self.message = message
        self.remedy = remedy
        self.fields = dict(fields or {})


class NotRunningError(Exception):
    """Nobody listens on the socket."""


class ControlServer:
    """Answers commands until `stop`; `run` does them and may raise CommandError."""

    def __init__(self, path: Path, run: Run) -> None:
        self._path = path
        self._run = run
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. The caller holds the directory's lock, so an old socket is a dead one's.

        Raises OSError, CommandError for a path too long for a socket.
        """
        check_path(self._path)
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # From its first moment on nobody else may connect: chmod afterwards would be late.
            before = os.umask(0o177)
            try:
                listener.bind(str(self._path))
            finally:
                os.umask(before)
            self._server = await asyncio.start_unix_server(
                self._accept, sock=listener, limit=LINE_BYTES_MAX
            )
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        """Stop listening, end open connections, remove the socket. Safe to call twice."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await server.wait_closed()
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= CONNECTIONS_MAX:
            writer.write(_failed("too many commands at once", "try again"))
            writer.close()
            return
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Not wait_for, which before Python 3.12 loses a cancel that comes as its wait ends.
            while True:
                async with asyncio.timeout(IDLE_SECONDS_MAX):
                    line = await _read_line(reader)
                if not line:
                    break
                writer.write(await self._answer(line))
                async with asyncio.timeout(IDLE_SECONDS_MAX):
                    await writer.drain()
        except CommandError as error:
            writer.write(_failed(error.message, error.remedy))
        except (TimeoutError, ConnectionError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
            await writer.wait_closed()

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = orjson.loads(line)
        except orjson.JSONDecodeError:
            return _failed("the request is not JSON", "")
        command = request.get("command") if isinstance(request, dict) else None
        arguments = request.get("arguments", {}) if isinstance(request, dict) else None
        if not isinstance(command, str) or not isinstance(arguments, dict):
            return _failed("a request needs a command and an object of arguments", "")
        try:
            actor = msgspec.convert(request["actor"], Actor) if "actor" in request else LOCAL
        except msgspec.ValidationError as error:
            return _failed(f"actor: {error}", "")
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                result = await self._run(command, arguments, actor)
            return orjson.dumps({"ok": True, "result": result}) + b"\n"
        except CommandError as error:
            return _failed(error.message, error.remedy, error.fields, unavailable=error.unavailable)
        except TimeoutError:
            log.get().error("command took too long", reason=command, seconds=ANSWER_SECONDS_MAX)
            return _failed("the command took too long; it may still happen", "look before retrying")
        except (*FAULTS, AssertionError) as error:
            log.get().error(
                "an action failed", reason=command, error=repr(error), where=log.place_of(error)
            )
            return _failed(
                "this met a fault of the relay; it may have happened or not",
                "look before retrying, and tell whoever runs it: its log says more",
                unavailable=True,
            )


def check_path(path: Path) -> None:
    """Raise CommandError if `path` is too long to be a socket's."""
    if len(os.fsencode(path)) > PATH_BYTES_MAX:
        raise CommandError(
            f"{path} is too long for a unix socket (more than {PATH_BYTES_MAX} bytes)",
            "use a data directory with a shorter path",
        )


def ask(path: Path, command: str, arguments: Mapping[str, object]) -> object:
    """Send one command and wait for its result; blocking, for the command line.

    Raises CommandError (the relay said no), NotRunningError (nobody listens).
    """
    check_path(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_SECONDS_MAX)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunningError from None
        except OSError as error:
            raise CommandError(
                f"cannot reach the relay at {path}: {error.strerror or error}",
                "run the command as the user the relay runs as",
            ) from None
        connection.settimeout(ANSWER_SECONDS_MAX + CONNECT_SECONDS_MAX)
        try:
            connection.sendall(orjson.dumps({"command": command, "arguments": arguments}) + b"\n")
            line = _receive_line(connection)
        except OSError as error:
            raise CommandError(
                f"the relay went away before it answered: {error}", "look before retrying"
            ) from None
    answer = orjson.loads(line)
    if not answer["ok"]:
        raise CommandError(answer["error"], answer["remedy"], answer.get("fields"))
    result: object = answer["result"]
    return result


def _receive_line(connection: socket.socket) -> bytes:
    parts: list[bytes] = []
    size = 0
    while not parts or not parts[-1].endswith(b"\n"):
        part = connection.recv(65_536)
        size += len(part)
        if not part or size > LINE_BYTES_MAX:
            raise ConnectionResetError("no complete answer")
        parts.append(part)
    return b"".join(parts)


async def _read_line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readline()
    except ValueError:  # asyncio's word for a line above the limit
        raise CommandError("the request is above 16 MiB", "apply the catalog in parts") from None
    return line


def _failed(
    message: str,
    remedy: str,
    fields: Mapping[str, str] | None = None,
    *,
    unavailable: bool = False,
) -> bytes:
    answer: dict[str, object] = {"ok": False, "error": message, "remedy": remedy}
    if fields:
        answer["fields"] = fields
    if unavailable:
        answer["unavailable"] = True
    # The command line and the admin API read English; who speaks another language needs the rest.
    if any(isinstance(text, Sentence) for text in (message, remedy, *(fields or {}).values())):
        answer["patterns"] = {
            "error": to_wire(message),
            "remedy": to_wire(remedy),
            "fields": {name: to_wire(text) for name, text in (fields or {}).items()},
        }
    return orjson.dumps(answer) + b"\n"
