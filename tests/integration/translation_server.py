"""A server on loopback that translates between a real SDK and a provider's scripted answers."""

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import anthropic
import openai

from proxy.core.entities import Dialect
from proxy.core.errors import RelayError, error_body
from proxy.core.translation.conversation import Wire
from proxy.core.translation.translator import Translator
from tests.integration.provider_answers import MODEL, PROVIDERS, SCENARIOS

ROUTES = {
    "completions": Wire.CHAT,
    "messages": Wire.MESSAGES,
    "responses": Wire.RESPONSES,
    "generateContent": Wire.GEMINI,
    "streamGenerateContent": Wire.GEMINI,
}


class Handler(BaseHTTPRequestHandler):
    """`/{scenario}/{upstream}/...`: the rest of the path names the caller's protocol."""

    protocol_version = "HTTP/1.1"
    sent: ClassVar[deque[bytes]] = deque(maxlen=8)
    """What the provider was asked last."""

    def log_message(self, *_: Any) -> None:
        return

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        _, name, upstream, *rest = self.path.partition("?")[0].split("/")
        (scenario,) = (one for one in SCENARIOS if one.name == name)
        asked = json.loads(body)
        verb = rest[-1].rpartition(":")[2]
        stream = bool(asked.get("stream")) or verb == "streamGenerateContent"
        wanted = bool((asked.get("stream_options") or {}).get("include_usage"))
        caller, provider = ROUTES[verb], Wire(upstream)
        translator = Translator(caller, provider, 1_700_000_000, include_usage=wanted)
        try:
            request, _ = translator.request(
                body, model=MODEL, output_tokens_max=None, limit=4096, stream=stream
            )
        except RelayError as error:
            dialect = Dialect.ANTHROPIC if caller is Wire.MESSAGES else Dialect.OPENAI
            told = error_body(error, dialect, "req_1")
            self._answer(error.status, "application/json", told)
            return
        self.sent.append(request)
        sent = json.loads(request)
        if provider is Wire.GEMINI:  # which is told both in its path
            sent |= {"model": MODEL, "stream": stream, **sent["tools"][0]}
            sent["tools"] = sent["functionDeclarations"]
        if (sent["model"], bool(sent.get("stream")), len(sent["tools"])) != (MODEL, stream, 2):
            raise AssertionError(sent)
        said = PROVIDERS[provider](scenario)
        if stream:
            answer = translator.feed(said.events)
            if said.plain:
                answer += translator.finish(said.terminal)
            if (translator.failure is None) != (scenario.error is None):
                raise AssertionError(translator.failure)
            answer += translator.end()
        else:
            answer = translator.answer(said.plain)
        self._answer(200, "text/event-stream" if stream else "application/json", answer)

    def _answer(self, status: int, content_type: str, answer: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


@dataclass(frozen=True, slots=True)
class Bench:
    url: str
    openai: openai.OpenAI
    anthropic: anthropic.Anthropic

    def client(self, caller: Wire, upstream: Wire, name: str) -> Any:
        """The caller's SDK, for the scenario `name` at a provider that speaks `upstream`."""
        url = f"{self.url}/{name}/{upstream.value}"
        if caller is Wire.MESSAGES:
            return self.anthropic.with_options(base_url=url)
        return self.openai.with_options(base_url=f"{url}/v1")


@contextmanager
def served() -> Iterator[Bench]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    with (
        openai.OpenAI(base_url="http://unset", api_key="k", max_retries=0, timeout=20) as first,
        anthropic.Anthropic(base_url="http://unset", api_key="k", max_retries=0, timeout=20) as two,
    ):
        yield Bench(f"http://127.0.0.1:{server.server_address[1]}", first, two)
    server.shutdown()
    server.server_close()
    thread.join(20)
