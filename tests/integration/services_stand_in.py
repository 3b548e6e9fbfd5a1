"""A stand-in for a provider of embeddings, pictures and sound: a real HTTP server, and no model.

It answers in the shapes of OpenAI, Cohere and Anthropic with what it was sent (sizes, names,
fields), so that a test sees what went through; every JSON answer says `"stand_in": true`. Forms
are parsed by Python's own mail parser. This module must not know the relay.
"""

import base64
import hashlib
import json
import struct
import threading
from collections.abc import Mapping
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

PICTURE = base64.b64encode(b"\x89PNG stand-in").decode()
SOUND = b"ID3 stand-in " * 1_000
Answer = tuple[str, bytes]
JSON = "application/json"
EVENTS = "text/event-stream"


def told(value: Mapping[str, Any]) -> Answer:
    """A JSON answer."""
    return JSON, json.dumps({"stand_in": True} | dict(value)).encode()


def events(*values: Mapping[str, Any]) -> Answer:
    """A stream of events."""
    lines = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in values]
    return EVENTS, "".join(lines).encode()


def embeddings(asked: dict[str, Any]) -> Answer:
    """One vector a text; of three numbers, the first its length."""
    texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    vectors = [[float(len(str(text))), 0.5, -0.25] for text in texts]
    packed = asked.get("encoding_format") == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(struct.pack("<3f", *vector)).decode()
            if packed
            else vector,
        }
        for index, vector in enumerate(vectors)
    ]
    used = {"prompt_tokens": 5 * len(texts), "total_tokens": 5 * len(texts)}
    return told({"object": "list", "data": data, "model": asked["model"], "usage": used})


def moderations(asked: dict[str, Any]) -> Answer:
    """Nothing is ever wrong."""
    del asked
    return told({"id": "modr-1", "model": "stand-in", "results": [{"flagged": False}]})


def rerank(asked: dict[str, Any]) -> Answer:
    """In the order they came, billed by the unit as Cohere does."""
    results = [{"index": at, "relevance_score": 0.5} for at in range(len(asked["documents"]))]
    return told({"id": "r-1", "results": results, "meta": {"billed_units": {"search_units": 1}}})


def pictures(asked: dict[str, Any]) -> Answer:
    """As many as were asked for; whole, or as a stream."""
    count = int(asked.get("n") or 1)
    used = {"input_tokens": 11, "output_tokens": 272 * count, "total_tokens": 11 + 272 * count}
    if str(asked.get("stream")).lower() == "true":
        kind = "image_edit" if "image" in asked else "image_generation"
        some = {"b64_json": PICTURE, "size": "1024x1024", "quality": "low"}
        return events(
            {"type": f"{kind}.partial_image", "partial_image_index": 0, **some},
            {"type": f"{kind}.completed", "usage": used, **some},
        )
    data = [{"b64_json": PICTURE} for _ in range(count)]
    return told({"created": 1, "data": data, "usage": used, "background": json.dumps(asked)})


def speech(asked: dict[str, Any]) -> Answer:
    """The same sound whatever is said."""
    if asked.get("stream_format") == "sse":
        used = {"input_tokens": 3, "output_tokens": 101, "total_tokens": 104}
        audio = base64.b64encode(SOUND).decode()
        return events(
            {"type": "speech.audio.delta", "audio": audio},
            {"type": "speech.audio.done", "usage": used},
        )
    return "audio/mpeg", SOUND


def transcription(asked: dict[str, Any]) -> Answer:
    """What is heard is the digest of the file."""
    heard = str(asked["file"])
    kind = asked.get("response_format", "json")
    if kind in {"text", "srt", "vtt"}:
        return "text/plain; charset=utf-8", heard.encode() + b"\n"
    if str(asked.get("stream")).lower() == "true":
        used = {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59}
        return events(
            {"type": "transcript.text.delta", "delta": heard},
            {"type": "transcript.text.done", "text": heard, "usage": used},
        )
    if kind == "verbose_json":
        return told({"text": heard, "language": "english", "duration": 2.5, "segments": []})
    used = {"type": "duration", "seconds": 3}
    return told({"text": heard, "usage": used, "logprobs": None, "asked": json.dumps(asked)})


def count(asked: dict[str, Any]) -> Answer:
    """Anthropic's count of tokens."""
    return told({"input_tokens": 7 * len(asked["messages"])})


ROUTES = {
    "/embeddings": embeddings,
    "/moderations": moderations,
    "/rerank": rerank,
    "/images/generations": pictures,
    "/images/edits": pictures,
    "/images/variations": pictures,
    "/audio/speech": speech,
    "/audio/transcriptions": transcription,
    "/audio/translations": transcription,
    "/messages/count_tokens": count,
}


def form(content_type: str, body: bytes) -> dict[str, Any]:
    """Read a form; of a file, its name, type, size and digest in one line."""
    head = f"Content-Type: {content_type}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    parsed = BytesParser(policy=HTTP).parsebytes(head + body)
    fields: dict[str, Any] = {}
    for part in parsed.iter_parts():
        payload = part.get_payload(decode=True)
        if not isinstance(payload, bytes):
            raise AssertionError("a part without a body")
        name = str(part.get_param("name", header="content-disposition"))
        if part.get_filename() is None:
            fields[name] = payload.decode()
        else:
            digest = hashlib.sha256(payload).hexdigest()[:16]
            told = f"{part.get_filename()} {part.get_content_type()} {len(payload)} {digest}"
            fields[name.removesuffix("[]")] = told
    return fields


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "stand-in"
    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        content_type = self.headers["content-type"]
        is_form = content_type.startswith("multipart/form-data")
        asked = form(content_type, body) if is_form else json.loads(body)
        self.server.asked.append((self.path, asked))
        path = self.path.partition("?")[0]
        answer = next(made for tail, made in ROUTES.items() if path.endswith(tail))
        kind, content = answer(asked)
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.send_header("x-request-id", "stand-in-1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class StandIn:
    """`with StandIn() as provider: provider.base_url`; `asked`: paths and fields, in order."""

    def __init__(self) -> None:
        self._server = _Server()
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def base_url(self) -> str:
        """As a channel names it."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def asked(self) -> list[tuple[str, dict[str, Any]]]:
        """What came: the path, and the fields of the body."""
        return self._server.asked

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join(20)
        self._server.server_close()
