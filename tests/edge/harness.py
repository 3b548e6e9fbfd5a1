"""A relay on a real socket and a real ledger file, in a thread of its own, for tests that block.

`with Relay(path, channel(upstream)) as relay:` gives two users with one key each. The test talks
raw HTTP to `relay.port` and looks at the ledger through `relay.calls()`, which waits until every
call has ended and is committed. What the loop or aiohttp complains about fails the test. This
module must not know any one feature.
"""

import asyncio
import dataclasses
import gc
import json
import logging
import socket
import sqlite3
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest
import uvloop

from proxy.core import tokenizers
from proxy.core.entities import Tokenizer
from proxy.core.ids import IdSource
from proxy.edge import sweep
from proxy.edge.call import Call
from proxy.edge.client import ClientServer
from proxy.edge.health import ChannelHealth
from proxy.edge.metrics import Metrics
from proxy.edge.open_call import AnyCall
from proxy.edge.server import Server
from proxy.edge.sweep import Sweep
from proxy.edge.upstream import UpstreamPool
from proxy.edge.world import Bounds, World
from proxy.storage.accounts import add_user
from proxy.storage.billing import Keeper
from proxy.storage.imports import apply_catalog
from proxy.storage.keys import NewKey, add_key
from proxy.storage.records import LedgerRecords
from proxy.storage.secrets import key_digest, new_key
from proxy.storage.verify import verify
from tests.integration.raw_client import RawClient, RawResponse, request_bytes

USD = 10**9
MASTER = bytes(range(32))
PEPPER = bytes(range(32, 64))
NOW = 1_800_000_000.0
ANN = new_key(b"a" * 23)
BOB = new_key(b"b" * 23)
SECONDS_MAX = 20.0
TICK_SECONDS = 0.01
"""A sweep of the tests: deadlines are short there, and nothing is asserted about time."""
CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
INPUT_NANO = 1_000
OUTPUT_NANO = 2_000
"""The price of one token of every model here, nano-USD."""

Result = TypeVar("Result")


def channel(url: str, name: str = "main", **changes: Any) -> dict[str, Any]:
    """One channel of the OpenAI dialect, as a catalog document has it."""
    table: dict[str, Any] = {
        "name": name, "dialect": "openai", "base_url": url, "keys": [f"sk-upstream-{name}-0001"],
        "groups": ["default"], "allow_private": True, "connect_seconds_max": 5.0,
        "models": {"m": "up-m", "thinker": "up-thinker", "guess": "up-guess"},
    }  # fmt: skip
    return table | changes


def anthropic_channel(url: str, name: str = "main", **changes: Any) -> dict[str, Any]:
    """The same of the Anthropic dialect."""
    return channel(url, name, **({"dialect": "anthropic"} | changes))


def catalog(
    channels: tuple[dict[str, Any], ...],
    group: dict[str, Any],
    models: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    """The catalog of these tests; `models` beside its own."""
    price = {"input": "1", "output": "2"}
    size = {"context_window": 100_000, "output_tokens_max": 2_000, "price": price}
    return {
        "plan": [{"name": "free"}, {"name": "limited", "requests_per_minute": 600,
                                    "tokens_per_minute": 6_000_000, "concurrency": 5}],
        "group": [{"name": "default"} | group],
        "model": [
            {"name": "m", "tokenizer": "o200k"} | size,
            {"name": "thinker", "hidden_output": True, "tokenizer": "o200k"} | size,
            {"name": "guess", "tokenizer": "estimate"} | size,
            *({"context_window": 100_000, "output_tokens_max": 2_000} | model for model in models),
        ],
        "channel": list(channels),
    }  # fmt: skip


class OpenCalls(set[AnyCall]):
    """The calls of a world; `empty` is set while there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.empty = asyncio.Event()
        self.empty.set()

    def add(self, call: AnyCall, /) -> None:
        super().add(call)
        self.empty.clear()

    def discard(self, call: object, /) -> None:
        super().discard(call)
        if not self:
            self.empty.set()


class CountedHandler:
    """The server's handler; knows when no request is being handled."""

    def __init__(self, handle: Callable[[Any], Awaitable[Any]]) -> None:
        self.handle = handle
        self.idle = asyncio.Event()
        self.idle.set()
        self.begun = 0
        self._active = 0
        self._request: Any = None

    def lost(self) -> bool:
        """Whether the client of the last request has left."""
        return bool(self._request.protocol.lost)

    async def __call__(self, request: Any) -> Any:
        self.begun += 1
        self._active += 1
        self._request = request
        self.idle.clear()
        try:
            return await self.handle(request)
        finally:
            self._active -= 1
            if not self._active:
                self.idle.set()


class _Complaints(logging.Handler):
    def __init__(self, found: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(self.format(record))


class _Watch:
    quiet_until = 0.0

    def __init__(self, reached: Callable[[], bool]) -> None:
        self.seen = asyncio.Event()
        self._reached = reached

    def tick(self, now: float) -> None:
        del now
        if self._reached():
            self.seen.set()


class Relay:
    """See the module docstring. `complaints` must be empty at the end unless a test empties it."""

    keeper: Keeper
    world: World
    server: ClientServer
    handler: CountedHandler

    def __init__(
        self,
        path: Path,
        *channels: dict[str, Any],
        group: dict[str, Any] | None = None,
        models: tuple[dict[str, Any], ...] = (),
        credit: int = USD,
        plan: str = "limited",
        tls: ssl.SSLContext | None = None,
        redo: bool = False,
        **bounds: Any,
    ) -> None:
        self.path = path / "relay.db"
        self.port = 0
        self.complaints: list[str] = []
        self.fatal: list[BaseException] = []
        self._catalog = catalog(channels, group or {}, models)
        self._credit = credit
        self._plan = plan
        self._tls = tls or ssl.create_default_context()
        self._redo = redo
        self._bounds = Bounds(**bounds)
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._handler = _Complaints(self.complaints)
        self._tick_seconds = sweep.TICK_SECONDS

    def __enter__(self) -> Self:
        logging.getLogger("aiohttp").addHandler(self._handler)
        logging.getLogger("asyncio").addHandler(self._handler)
        setattr(sweep, "TICK_SECONDS", TICK_SECONDS)  # noqa: B010 - it is Final, but not here
        self._thread.start()
        self.run(self._start())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.run(self._stop())
        finally:
            setattr(sweep, "TICK_SECONDS", self._tick_seconds)  # noqa: B010
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(SECONDS_MAX)
            logging.getLogger("aiohttp").removeHandler(self._handler)
            logging.getLogger("asyncio").removeHandler(self._handler)
        if error is None:
            assert not self.complaints, "\n".join(self.complaints)
            if not self.fatal:
                report = verify(self.path, quiet=True)
                assert report.clean, report.problems

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the relay's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS_MAX)

    def do(self, function: Callable[[], Result]) -> Result:
        """Call a function on the relay's loop."""

        async def work() -> Result:
            return function()

        return self.run(work())

    def bound(self, **changes: Any) -> None:
        """Change bounds for requests to come."""
        self.world.bounds = dataclasses.replace(self.world.bounds, **changes)

    # Talking to it

    def client(self, **options: Any) -> RawClient:
        """A new raw connection."""
        return RawClient(self.port, **options)

    def ask(
        self,
        body: bytes,
        target: str = CHAT,
        *,
        key: str | None = ANN,
        headers: dict[str, str] | None = None,
    ) -> RawResponse:
        """One request on a connection of its own, answered to its end."""
        with self.client() as client:
            client.send(request_bytes(target, body, key=key, headers=headers))
            return client.read_response()

    def get(self, target: str, *, key: str | None = ANN, **headers: str) -> RawResponse:
        """The same without a body."""
        with self.client() as client:
            client.send(request_bytes(target, key=key, method="GET", headers=headers))
            return client.read_response()

    def hold_commits(self, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
        """Let no further commit begin until the event returned is set."""
        writer, held = self.keeper._writer, threading.Event()
        write = writer._write

        def late(*work: Any) -> None:
            held.wait(SECONDS_MAX)
            write(*work)

        monkeypatch.setattr(writer, "_write", late)
        return held

    def fail_commits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every further commit fail as on a full disk."""
        writer = self.keeper._writer

        def fail(batch: Any, commit: Any, work: Any) -> None:
            error = sqlite3.OperationalError("database or disk is full")
            self._loop.call_soon_threadsafe(writer._fail, error, commit, work)

        monkeypatch.setattr(writer, "_write", fail)

    # Looking at it

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait until `reached()` holds on the loop, looking at every tick of the sweep."""

        async def wait() -> None:
            watch = _Watch(reached)
            self.world.sweep.add(watch)
            try:
                await asyncio.wait_for(watch.seen.wait(), SECONDS_MAX)
            finally:
                self.world.sweep.remove(watch)

        self.run(wait())

    def until_begun(self, before: int) -> None:
        """Wait until more requests are being handled, or were, than `before`."""
        self.until(lambda: self.handler.begun > before)

    def call(self) -> Call:
        """The one conversation being served; look at it with `do`."""
        self.until(lambda: len(self.world.calls) == 1)
        (call,) = self.world.calls
        assert isinstance(call, Call)
        return call

    def quiet(self) -> None:
        """Wait until no request is handled and everything decided is in the file."""

        async def wait() -> None:
            await self.handler.idle.wait()
            await self.calls_open().empty.wait()
            if not self.fatal:
                await self.keeper.change(lambda connection: None)

        self.run(asyncio.wait_for(wait(), SECONDS_MAX))

    def calls_open(self) -> OpenCalls:
        """The calls being served."""
        calls = self.world.calls
        assert isinstance(calls, OpenCalls)
        return calls

    def calls(self) -> list[dict[str, Any]]:
        """Every ended call in order, once all have ended."""
        self.quiet()
        return self.rows("SELECT * FROM call ORDER BY id")

    def attempts(self) -> list[dict[str, Any]]:
        """Every attempt in order, once all calls have ended."""
        self.quiet()
        return self.rows("SELECT * FROM attempt ORDER BY call_id, number")

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Rows of the ledger file, as another process sees them."""
        connection = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(query)]
        finally:
            connection.close()

    # On the relay's own thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(self._complain)
        self._loop.run_forever()
        gc.collect()
        self._loop.close()

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def _start(self) -> None:
        loop = self._loop
        self.keeper = await Keeper.start(
            self.path, master=MASTER, on_fatal=self.fatal.append, redo=self._redo
        )
        self.records = LedgerRecords(self.path, self.keeper.catch_up)
        await self.keeper.change(self._seed)
        for user in (1, 2):
            if self._credit:
                await self.keeper.credit(user, self._credit, "test", f"first {user}")
        self.world = World(
            loop=loop,
            billing=self.keeper,
            records=self.records,
            source=self.keeper,
            pool=UpstreamPool(loop, idle_seconds_max=10.0, tls=self._tls),
            health=ChannelHealth(),
            metrics=Metrics(),
            sweep=Sweep(loop),
            ids=IdSource(worker=0, after=self.keeper.last_id),
            pepper=PEPPER,
            bounds=self._bounds,
            calls=OpenCalls(),
        )
        self.handler = CountedHandler(Server(self.world).handle)
        self.server = ClientServer(self.handler)
        listening = socket.create_server(("127.0.0.1", 0))
        self._listener = await loop.create_server(self.server.on(listening), sock=listening)
        self.port = listening.getsockname()[1]
        tokenizers.preload(Tokenizer.O200K)
        self.world.sweep.start()

    def _seed(self, connection: sqlite3.Connection) -> None:
        apply_catalog(connection, self._catalog, master=MASTER, now=NOW)
        for name, key in (("ann", ANN), ("bob", BOB)):
            add_user(connection, name, self._plan, NOW)
            digest = key_digest(PEPPER, key)
            add_key(connection, NewKey(name, "first", "default", digest, key[:6], key[-4:]), NOW)

    async def _stop(self) -> None:
        self._listener.close()
        await self.server.shutdown(1.0)
        self.world.sweep.stop()
        self.world.pool.close()
        await self.records.close()
        await self.keeper.close()


# What callers send and upstreams answer


def body(content: str = "Say hello.", *, stream: bool = True, **more: Any) -> bytes:
    """A request body of either dialect."""
    fields: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": content}]}
    if stream:
        fields["stream"] = True
    return json.dumps(fields | more).encode()


def data(value: object) -> bytes:
    """One event of the OpenAI dialect."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def chunk_event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """One chunk of choice 0."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "c1", "object": "chat.completion.chunk", "model": "up-m"}
    return data(head | {"choices": [choice]} | more)


def text(content: str) -> bytes:
    """A content chunk."""
    return chunk_event({"content": content})


def usage(prompt: int, completion: int) -> bytes:
    """The usage chunk that `include_usage` asks for."""
    figures = {"prompt_tokens": prompt, "completion_tokens": completion,
               "total_tokens": prompt + completion}  # fmt: skip
    return data({"id": "c1", "choices": [], "usage": figures})


ROLE = chunk_event({"role": "assistant", "content": ""})
STOP = chunk_event({}, "stop")
DONE = b"data: [DONE]\n\n"
WORDS = ("Hello", " there", ",", " how", " are", " you", "?")
"""One o200k token each."""
CONTENT = tuple(text(word) for word in WORDS)


def answer(prompt: int = 9, completion: int = len(WORDS)) -> list[bytes]:
    """A whole stream of the OpenAI dialect."""
    return [ROLE, *CONTENT, STOP, usage(prompt, completion), DONE]


def price_of(prompt: int, completion: int) -> int:
    """What so many tokens cost, nano-USD."""
    return prompt * INPUT_NANO + completion * OUTPUT_NANO


def plain_answer(content: str = "Hello there", prompt: int = 9, completion: int = 2) -> bytes:
    """A whole plain answer of the OpenAI dialect."""
    message = {"role": "assistant", "content": content}
    return json.dumps(
        {"id": "c1", "object": "chat.completion", "model": "up-m",
         "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": prompt, "completion_tokens": completion,
                   "total_tokens": prompt + completion}}
    ).encode()  # fmt: skip


def named(value: dict[str, Any]) -> bytes:
    """One event of the Anthropic dialect."""
    payload = json.dumps(value, separators=(",", ":"))
    return f"event: {value['type']}\ndata: {payload}\n\n".encode()


def said(content: str) -> bytes:
    """A text delta of block 0."""
    delta = {"type": "text_delta", "text": content}
    return named({"type": "content_block_delta", "index": 0, "delta": delta})


MESSAGE_START = named({"type": "message_start", "message": {
    "id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "up-m",
    "usage": {"input_tokens": 9, "output_tokens": 1}}})  # fmt: skip
BLOCK_START = named({"type": "content_block_start", "index": 0,
                     "content_block": {"type": "text", "text": ""}})  # fmt: skip
BLOCK_STOP = named({"type": "content_block_stop", "index": 0})
MESSAGE_DELTA = named({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                       "usage": {"output_tokens": len(WORDS)}})  # fmt: skip
MESSAGE_STOP = named({"type": "message_stop"})
SAID = tuple(said(word) for word in WORDS)


def message() -> list[bytes]:
    """A whole stream of the Anthropic dialect."""
    return [MESSAGE_START, BLOCK_START, *SAID, BLOCK_STOP, MESSAGE_DELTA, MESSAGE_STOP]


def error_of(response: RawResponse) -> dict[str, Any]:
    """The error object of a JSON body or of the last event of a stream."""
    if response.header("content-type") == "application/json":
        found = json.loads(response.body)["error"]
    else:
        last = response.body.removesuffix(b"\n\n").rsplit(b"\n\n", 1)[-1]
        found = json.loads(last[last.index(b"data: ") + 6 :])["error"]
    assert isinstance(found, dict)
    return found
