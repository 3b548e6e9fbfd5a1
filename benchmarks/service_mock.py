"""An upstream for calls that are no conversation, embeddings and transcriptions, of any size.

Rules: an answer says the SHA-256 of the body that came, so that every byte of an upload is checked;
an embedding answer is as large as its request. No body is kept. Loopback only.

    python -m benchmarks.service_mock --port 9003
"""

import argparse
import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator

import uvloop

READ_BYTES = 65_536
HEAD_BYTES_MAX = 65_536
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)


def embedding_answer(digest: str, size: int) -> bytes:
    """An answer of about `size` bytes."""
    numbers = ",".join(["-0.0123456"] * max(1, size // 11))
    return (
        f'{{"object":"list","sha256":"{digest}","data":[{{"object":"embedding","index":0,'
        f'"embedding":[{numbers}]}}],"model":"text-embedding-3-small",'
        f'"usage":{{"prompt_tokens":9,"total_tokens":9}}}}'
    ).encode()


async def _body(reader: asyncio.StreamReader, head: bytes) -> AsyncIterator[bytes]:
    if _CHUNKED.search(head):
        while size := int((await reader.readline()).split(b";")[0], 16):
            left = size
            while left:
                piece = await reader.read(min(left, READ_BYTES))
                left -= len(piece)
                yield piece
            await reader.readline()
        await reader.readline()
        return
    found = _LENGTH.search(head)
    left = int(found[1]) if found else 0
    while left:
        piece = await reader.read(min(left, READ_BYTES))
        if not piece:
            return
        left -= len(piece)
        yield piece


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            digest, size = hashlib.sha256(), 0
            async for piece in _body(reader, head):
                digest.update(piece)
                size += len(piece)
            if b"/embeddings" in head.split(b"\r\n", 1)[0]:
                body = embedding_answer(digest.hexdigest(), size)
            else:
                body = json.dumps({"text": "heard", "sha256": digest.hexdigest()}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body)
            )
            writer.write(body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve(port: int) -> None:
    """Listen until the process is ended."""
    server = await asyncio.start_server(answer, "127.0.0.1", port, limit=HEAD_BYTES_MAX)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
