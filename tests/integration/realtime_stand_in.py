"""A realtime upstream that says it is a stand-in: it plays a script per session over WebSocket.

`with RealtimeStandIn(script) as upstream:`; `script(session)` is a coroutine that is run for every
session with the `websockets` connection and what it asked for; `upstream.opened` are the requests.
It waits for nothing but what the script waits for. This module must not know the relay.
"""

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

NAME = "stand-in"
USAGE = {
    "total_tokens": 40,
    "input_tokens": 30,
    "output_tokens": 10,
    "input_token_details": {
        "text_tokens": 20,
        "audio_tokens": 10,
        "cached_tokens": 8,
        "cached_tokens_details": {"text_tokens": 5, "audio_tokens": 3},
    },
    "output_token_details": {"text_tokens": 4, "audio_tokens": 6},
}


class Session:
    """One session as a script sees it."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.received: list[dict[str, Any]] = []

    async def say(self, kind: str, **members: Any) -> None:
        """Send one event."""
        await self.connection.send(json.dumps({"type": kind, "event_id": "e"} | members))

    async def hear(self) -> dict[str, Any]:
        """Receive one event."""
        event: dict[str, Any] = json.loads(await self.connection.recv())
        self.received.append(event)
        return event

    async def respond(
        self,
        words: tuple[str, ...] = ("Hello", " there"),
        usage: Any = USAGE,
        status: str = "completed",
    ) -> None:
        """Play one whole response of text."""
        await self.say("response.created", response={"id": "resp_1", "status": "in_progress"})
        for word in words:
            await self.say("response.output_text.delta", response_id="resp_1", delta=word)
        response = {"id": "resp_1", "object": "realtime.response", "status": status}
        await self.say("response.done", response=response | {"usage": usage})


Script = Callable[[Session], Awaitable[None]]


async def greet_and_answer(session: Session) -> None:
    """Greet, then answer every `response.create` until the client leaves."""
    await session.say("session.created", session={"type": "realtime", "model": NAME})
    async for message in session.connection:
        event = json.loads(message)
        session.received.append(event)
        if event["type"] == "response.create":
            await session.respond()


class RealtimeStandIn:
    """See the module docstring."""

    def __init__(
        self,
        script: Script = greet_and_answer,
        *,
        tls: ssl.SSLContext | None = None,
        refuse: Callable[[Request], tuple[int, bytes] | None] = lambda _: None,
    ) -> None:
        self.opened: list[Request] = []
        self.sessions: list[Session] = []
        self.closed: list[tuple[int | None, str]] = []
        self._script = script
        self._refuse = refuse
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Server | None = None
        self.port = 0

    @property
    def base_url(self) -> str:
        """Where a channel finds it."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._server = await serve(
            self._play,
            "127.0.0.1",
            0,
            process_request=self._process,
            compression=None,
            ssl=self._tls,
            max_size=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        self.opened.append(request)
        refused = self._refuse(request)
        if refused is None:
            return None
        status, body = refused
        response = connection.respond(status, "")
        response.body = body
        del response.headers["content-length"]
        response.headers["content-length"] = str(len(body))
        return response

    async def _play(self, connection: ServerConnection) -> None:
        session = Session(connection)
        self.sessions.append(session)
        try:
            await self._script(session)
        finally:
            await connection.close()
            self.closed.append((connection.close_code, connection.close_reason or ""))
