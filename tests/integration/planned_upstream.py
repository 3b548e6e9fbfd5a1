"""An upstream process on raw sockets that answers each request with the plan it names.

`python -m tests.integration.planned_upstream LOG` prints its port and serves until killed. LOG
gets a line when a request has arrived, with everything that will be answered, and one when the
answer was written or its connection was lost. A line is one write, so kill -9 tears none.
This module must not know the relay.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import uvloop

from tests.integration.workload import Plan, tokens

ROOT = Path(__file__).parents[2]
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class PlannedUpstream:
    """`with PlannedUpstream(log) as upstream: upstream.base_url`."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def process_id(self) -> int:
        if self._process is None:
            raise AssertionError("the upstream is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start, on the same port as before if there was one, and wait until it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.log), str(self.port)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        if self._process.stdout is None:
            raise AssertionError("no pipe")
        self.port = int(self._process.stdout.readline())
        return self

    def kill(self) -> None:
        """End it with SIGKILL; does nothing if it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


class _Connection(asyncio.Protocol):
    """One connection: a request at a time, answered write by write."""

    def __init__(self, log: int) -> None:
        self._log = log
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._plan: Plan | None = None
        self._written = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, rest = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not blank or length is None or len(rest) < int(length[1]):
            return
        self._received.clear()
        plan = self._plan = Plan.asked_by(bytes(rest))
        self._note(
            plan,
            "asked",
            text=plan.text,
            tokens=tokens(plan.text),
            input=plan.input_tokens,
            reports=plan.reports,
        )
        loop = asyncio.get_running_loop()
        self._written = 0
        loop.call_later(plan.first_pause, self._step, plan, iter(plan.answer()))

    def _step(self, plan: Plan, writes: Iterator[bytes]) -> None:
        transport = self._transport
        if transport is None:
            return
        loop = asyncio.get_running_loop()
        for write in writes:
            transport.write(write)
            self._written += 1
            if plan.pause:
                loop.call_later(plan.pause, self._step, plan, writes)
                return
        self._note(plan, "sent", writes=self._written)
        self._plan = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._plan is not None:
            self._note(self._plan, "lost", writes=self._written)

    def _note(self, plan: Plan, state: str, **fields: Any) -> None:
        line = json.dumps({"name": plan.name, "state": state, **fields})
        os.write(self._log, line.encode() + b"\n")


async def _serve(log: int, port: int) -> None:
    tokens("")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Connection(log), "127.0.0.1", port, backlog=1024, reuse_address=True
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(
        _serve(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), int(sys.argv[2]))
    )
