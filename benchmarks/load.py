"""The load generator: open-loop streams and plain requests, every answer verified.

Rules: raw Protocols; while a job runs nothing is done per read but to keep the bytes and the
time; checking comes after the last answer. One JSON job per line on standard input, for each a
line `{"phase": "sent"}` when the last answer is complete (the driver reads CPU then) and a line
with the findings. Connects to loopback addresses only.

Jobs: {"kind": "streams" | "plain_paced" | "plain_saturated" | "sequence", ...}; see `Job`.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

import uvloop

from benchmarks.figures import percentiles
from benchmarks.script import ANTHROPIC, OPENAI, Script, request_body
from benchmarks.verify import (
    Answer,
    Finding,
    check_plain,
    check_stream,
    check_translated,
    response_end,
)

ERRORS_SHOWN_MAX = 3
LOOPBACK = "127.0.0.1"
_CHUNKED_END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement as the driver orders it. Paces per second; durations in seconds.

    `streams` start evenly over `ramp_seconds`; `sequence` runs them one after the other on one
    connection. Plain jobs last `seconds` over `connections` keep-alive connections.
    """

    kind: str
    port: int
    key: str
    path: str = "/v1/chat/completions"
    model: str = "gpt-4o"
    dialect: str = OPENAI
    upstream: str = ""
    """The mock's dialect, where the relay has to translate."""
    streams: int = 200
    events: int = 100
    size: int = 300
    pace: float = 50.0
    batch: int = 1
    hold: int = 0
    fault: str = ""
    include_usage: bool = False
    ramp_seconds: float = 0.5
    seconds: float = 1.5
    rate: float = 500.0
    connections: int = 64
    timeout_seconds: float = 60.0
    first_call: int = 1


class Client(asyncio.Protocol):
    """One connection; at most one call in flight, whose answer it keeps."""

    def __init__(self) -> None:
        """Not connected yet."""
        self.transport: asyncio.Transport
        self.answer: Answer | None = None
        self.done: Callable[[Client], None] | None = None
        self.expected: int | None = None
        self.received = 0
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # asyncio types it as its base

    def call(self, request: bytes, answer: Answer, done: "Callable[[Client], None]") -> None:
        """Send one request; `done(self)` once the answer is complete or the connection is lost."""
        self.answer = answer
        self.done = done
        self.expected = None
        self.received = 0
        answer.sent_at = time.monotonic_ns()
        if self.closed:
            self.connection_lost(None)
        else:
            self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Keep the bytes and the time; look only for the end."""
        now = time.monotonic_ns()
        answer = self.answer
        if answer is None:
            return
        answer.arrivals.append(now)
        answer.pieces.append(data)
        self.received += len(data)
        expected = self.expected
        if expected is None:
            expected = self.expected = response_end(b"".join(answer.pieces))
            if expected is None:
                return
        if expected < 0:
            tail = data
            if len(tail) < len(_CHUNKED_END):
                tail = b"".join(answer.pieces[-5:])
            if not tail.endswith(_CHUNKED_END):
                return
        elif self.received < expected:
            return
        self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer cut off is an error."""
        self.closed = True
        if self.answer is not None:
            self.answer.error = f"connection lost after {self.received} bytes: {exc}"
            self._finish()

    def _finish(self) -> None:
        done = self.done
        self.answer = None
        self.done = None
        if done is not None:
            done(self)


class Run:
    """One job in progress: makes calls, collects answers, counts what is still open."""

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing is sent before `perform`."""
        self.job = job
        self.loop = loop
        self.answers: list[Answer] = []
        self.open = 0
        self.starting = True
        self.idle = asyncio.Event()
        self.clients: list[Client] = []
        self.starts_late: list[int] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.problems: list[str] = []
        self.first = Script(
            job.first_call,
            job.events,
            job.size,
            job.pace,
            job.batch,
            job.hold,
            job.fault,
            job.upstream or job.dialect,
            job.dialect if job.upstream else "",
        )
        self.before, self.after = _request(job, replace(self.first, call=0))

    def prepare(self) -> tuple[bytes, Answer]:
        """The next call's request bytes and the place for its answer."""
        script = replace(self.first, call=self.first.call + len(self.answers))
        answer = Answer(script, usage_asked=self.job.include_usage)
        self.answers.append(answer)
        return b"%b%012d%b" % (self.before, script.call, self.after), answer

    async def connect(self) -> Client:
        """A new connection to the target."""
        _, client = await self.loop.create_connection(Client, LOOPBACK, self.job.port)
        self.clients.append(client)
        return client

    def finished(self, _client: Client | None) -> None:
        """One call is complete."""
        self.open -= 1
        if not self.open and not self.starting:
            self.idle.set()

    def at(self, moment: float, start: Callable[[], None]) -> None:
        """Run `start` at loop time `moment` and note how late it was."""

        def begin() -> None:
            self.starts_late.append(int((self.loop.time() - moment) * 1e9))
            start()

        self.loop.call_at(moment, begin)

    async def streams(self) -> None:
        """Open-loop streams, each on a connection of its own."""
        job = self.job
        origin = self.loop.time() + 0.01
        self.open = job.streams
        self.starting = False
        calls = [self.prepare() for _ in range(job.streams)]
        for position, (request, answer) in enumerate(calls):
            moment = origin + position * job.ramp_seconds / job.streams
            self.at(moment, partial(self._spawn, request, answer))
        await self.idle.wait()

    def _spawn(self, request: bytes, answer: Answer) -> None:
        async def begin() -> None:
            try:
                client = await self.connect()
            except OSError as error:
                answer.error = f"connect: {error}"
                self.finished(None)
                return
            client.call(request, answer, self.finished)

        task = self.loop.create_task(begin())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def sequence(self) -> None:
        """Streams one after the other: concurrency 1, one keep-alive connection."""
        client = await self.connect()
        for _ in range(self.job.streams):
            request, answer = self.prepare()
            done: asyncio.Future[Client] = self.loop.create_future()
            client.call(request, answer, done.set_result)
            await done

    async def plain_saturated(self) -> None:
        """Closed loop: every connection sends its next request as soon as it may."""
        job = self.job
        deadline = time.monotonic_ns() + int(job.seconds * 1e9)
        clients = [await self.connect() for _ in range(job.connections)]
        self.open = len(clients)
        self.starting = False

        def again(client: Client) -> None:
            if time.monotonic_ns() > deadline or client.closed:
                self.finished(client)
                return
            client.call(*self.prepare(), again)

        for client in clients:
            again(client)
        await self.idle.wait()

    async def plain_paced(self) -> None:
        """Open loop: one request every 1 / rate seconds on an idle connection."""
        job = self.job
        total = int(job.seconds * job.rate)
        idle = [await self.connect() for _ in range(job.connections)]
        self.open = total
        self.starting = False
        origin = self.loop.time() + 0.01

        def done(client: Client) -> None:
            if not client.closed:
                idle.append(client)
            self.finished(client)

        def start() -> None:
            request, answer = self.prepare()
            if idle:
                idle.pop().call(request, answer, done)
            else:
                self._spawn(request, answer)

        for position in range(total):
            self.at(origin + position / job.rate, start)
        await self.idle.wait()

    async def perform(self) -> None:
        """Run the job to its end or its timeout; answers still open are errors then."""
        try:
            async with asyncio.timeout(self.job.timeout_seconds):
                await getattr(self, self.job.kind)()
        except ConnectionError as error:
            self.problems.append(f"connect: {error}")
        except TimeoutError:
            if not self.answers:
                self.problems.append("nothing was sent in time")
            for client in self.clients:
                if client.answer is not None:
                    client.answer.error = f"no end after {client.received} bytes (timeout)"
        for task in tuple(self.tasks):
            task.cancel()

    def findings(self) -> dict[str, object]:
        """Check every answer. Times in microseconds."""
        streaming = self.job.kind in STREAMING
        check = check_stream if streaming else check_plain
        if self.job.upstream:
            check = check_translated
        results: list[Finding] = [check(answer) for answer in self.answers]
        errors = self.problems + [finding.error for finding in results if finding.error]
        found: dict[str, object] = {
            "requests": len(results),
            "errors": len(errors),
            "error_samples": errors[:ERRORS_SHOWN_MAX],
            "events": sum(finding.events for finding in results),
            "heartbeats": sum(finding.heartbeats for finding in results),
            "seconds": self._seconds(),
            "bytes": sum(len(piece) for a in self.answers for piece in a.pieces),
            "reads": sum(len(a.pieces) for a in self.answers),
            "start_late_us": percentiles(self.starts_late),
            "total_us": percentiles([f.total_ttft for f in results if not f.error]),
        }
        if streaming:
            gaps = [late for finding in results for late in finding.lateness[1:]]
            found["gap_us"] = percentiles(gaps)
            found["ttft_us"] = percentiles([f.lateness[0] for f in results if f.lateness])
            found["terminal_us"] = percentiles([f.terminal_wait for f in results if f.lateness])
        return found

    def _seconds(self) -> float:
        begun = [answer.sent_at for answer in self.answers if answer.sent_at]
        ended = [answer.arrivals[-1] for answer in self.answers if answer.arrivals]
        return (max(ended) - min(begun)) / 1e9 if begun and ended else 0.0


STREAMING = ("streams", "sequence")


def _request(job: Job, script: Script) -> tuple[bytes, bytes]:
    """A request's bytes before and after the twelve digits of its call number."""
    body = request_body(
        script, stream=job.kind in STREAMING, model=job.model, include_usage=job.include_usage
    )
    credential = f"authorization: Bearer {job.key}"
    if job.dialect == ANTHROPIC:
        credential = f"x-api-key: {job.key}\r\nanthropic-version: 2023-06-01"
    head = (
        f"POST {job.path} HTTP/1.1\r\nhost: {LOOPBACK}:{job.port}\r\naccept: */*\r\n"
        f"user-agent: benchmark\r\n{credential}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    before, _, after = (head.encode() + body).partition(b"call=000000000000")
    return before + b"call=", after


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


async def work(line: str, names: frozenset[str]) -> None:
    """One job line from the driver."""
    wanted = json.loads(line)
    job = Job(**{name: value for name, value in wanted.items() if name in names})
    gc.disable()
    run = Run(job, asyncio.get_running_loop())
    await run.perform()
    _say({"phase": "sent", "requests": len(run.answers)})
    _say(run.findings())
    for client in run.clients:
        client.transport.abort()
    await asyncio.sleep(0)
    del run
    gc.enable()
    gc.collect()


async def serve() -> None:
    """Jobs from standard input until it closes."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    names = frozenset(field.name for field in fields(Job))
    _say({"phase": "ready"})
    while line := await reader.readline():
        await work(line.decode(), names)


if __name__ == "__main__":
    uvloop.run(serve())
