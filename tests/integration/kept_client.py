"""A client that keeps its connections, as SDKs do: the next request takes one that rests.

A connection is used again unless the answer said `connection: close`. What went wrong is told
apart: refused (no connection), reset (RST while an answer was due), closed (FIN while one was
due). This module must not know the relay beyond HTTP.
"""

import asyncio
from collections import Counter, deque
from typing import cast

from tests.integration.planned_client import CALL_SECONDS_MAX, Outcome, read_into
from tests.integration.raw_client import parse_response
from tests.integration.workload import Plan


class _Line(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = False
        self.answered: asyncio.Future[None] | None = None
        self._length: int | None = None
        self._chunked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes) -> bytes:
        self.received.clear()
        self._length, self._chunked = None, False
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        async with asyncio.timeout(CALL_SECONDS_MAX):
            await self.answered
        self.answered = None
        return bytes(self.received)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self._length is None and not self._chunked:
            head, blank, _ = self.received.partition(b"\r\n\r\n")
            if not blank:
                return
            lower = head.lower()
            self._chunked = b"transfer-encoding: chunked" in lower
            at = lower.find(b"content-length: ")
            if at >= 0:
                self._length = len(head) + 4 + int(lower[at + 16 :].split(b"\r\n")[0])
        whole = (self._chunked and self.received.endswith(b"\r\n0\r\n\r\n")) or (
            self._length is not None and len(self.received) >= self._length
        )
        if whole and self.answered is not None and not self.answered.done():
            self.answered.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(exc or EOFError("closed before the answer"))


class KeptClient:
    """Calls over kept connections; `trouble` counts what went wrong below HTTP."""

    def __init__(self, port: int, key: str) -> None:
        self.trouble: Counter[str] = Counter()
        self.used_again = 0
        """Requests on a connection that had carried one before."""
        self._port = port
        self._key = key
        self._resting: deque[_Line] = deque()

    async def call(self, plan: Plan) -> Outcome:
        """Make one call; nothing is tried twice."""
        outcome = Outcome(plan.name, "main", plan.dialect, plan.stream)
        try:
            line = await self._line()
        except OSError:
            self.trouble["refused"] += 1
            return outcome
        try:
            received = await line.ask(plan.request(self._key))
        except (ConnectionError, EOFError, TimeoutError) as error:
            kind = {ConnectionResetError: "reset", EOFError: "closed"}.get(type(error), "other")
            self.trouble[kind] += 1
            line.transport.abort()
            return outcome
        response = parse_response(received, ended=True)
        if response is None:
            raise AssertionError("an answer without a head")
        read_into(outcome, response)
        if response.header("connection") == "close":
            line.transport.close()
        else:
            self._resting.append(line)
        return outcome

    def close(self) -> None:
        """Hang up."""
        for line in self._resting:
            line.transport.abort()

    async def _line(self) -> _Line:
        while self._resting:
            line = self._resting.popleft()
            if not line.lost:
                self.used_again += 1
                return line
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(_Line, "127.0.0.1", self._port)
        return line
