"""The least a Python relay can do: raw uvloop Protocols on both sides, bytes passed verbatim.

Rules: no parsing of events, no metering, no billing, no limits. It is the floor to compare with,
not a relay to use. It knows where a request and a response end, and nothing else.

    python -m benchmarks.baseline --port 9101 --upstream-port 9001
"""

import argparse
import asyncio
import gc
import re
import signal

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED_END = b"0\r\n\r\n"


class Upstream(asyncio.Protocol):
    """One pooled connection to the upstream."""

    def __init__(self, pool: "list[Upstream]") -> None:
        """`pool` takes it back between calls."""
        self.pool = pool
        self.client: Downstream | None = None
        self.remaining: int | None = None
        self.chunked = False
        self.closed = False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # asyncio types it as its base

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the Protocol's signature
        """Take the client down with it."""
        self.closed = True
        if self in self.pool:
            self.pool.remove(self)
        if self.client is not None:
            self.client.transport.abort()

    def begin(self, client: "Downstream", request: bytes) -> None:
        """Carry one request."""
        self.client = client
        self.remaining = None
        self.chunked = False
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Pass the bytes on and see whether the response is over."""
        client = self.client
        if client is None:
            self.transport.abort()
            return
        client.transport.write(data)
        if not self.chunked:
            if self.remaining is None:
                head_end = data.find(b"\r\n\r\n")
                found = _LENGTH.search(data, 0, head_end + 2)
                if found is None:
                    self.chunked = True
                else:
                    self.remaining = int(found[1]) + head_end + 4
            if self.remaining is not None:
                self.remaining -= len(data)
                if self.remaining > 0:
                    return
        if self.chunked and not data.endswith(_CHUNKED_END):
            return
        self.client = None
        client.upstream = None
        self.pool.append(self)


class Downstream(asyncio.Protocol):
    """One client connection."""

    def __init__(self, pool: list[Upstream], port: int) -> None:
        """`port` of the upstream."""
        self.pool = pool
        self.port = port
        self.buffer = b""
        self.upstream: Upstream | None = None
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # asyncio types it as its base

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the Protocol's signature
        """Cut the call upstream."""
        if self.upstream is not None:
            self.upstream.client = None
            self.upstream.transport.abort()

    def pause_writing(self) -> None:
        """A slow reader stops a fast writer."""
        if self.upstream is not None:
            self.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        """The reader has caught up."""
        if self.upstream is not None:
            self.upstream.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Forward a complete request."""
        self.buffer = data = self.buffer + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        found = _LENGTH.search(data, 0, head_end + 2)
        if len(data) < head_end + 4 + (int(found[1]) if found else 0):
            return
        self.buffer = b""
        if self.pool:
            self.upstream = self.pool.pop()
            self.upstream.begin(self, data)
        else:
            self.task = asyncio.get_running_loop().create_task(self._connect(data))

    async def _connect(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(
            lambda: Upstream(self.pool), "127.0.0.1", self.port
        )
        self.upstream = upstream
        upstream.begin(self, request)


async def serve(options: argparse.Namespace) -> None:
    """Listen until SIGTERM."""
    loop = asyncio.get_running_loop()
    pool: list[Upstream] = []
    server = await loop.create_server(
        lambda: Downstream(pool, options.upstream_port), "127.0.0.1", options.port, backlog=4096
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream-port", type=int, required=True)
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
