"""Client, nginx, relay and upstream put together, for the tests behind the real nginx."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.core.entities import Dialect
from proxy.core.errors import ErrorCode, RelayError, error_body
from tests import programs
from tests.edge.harness import CHAT, MESSAGES, answer, body, message, plain_answer
from tests.integration.nginx_process import NginxProcess
from tests.integration.raw_client import RawClient, RawResponse, request_bytes
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt
from tests.integration.scripted import ReceivedRequest, ScriptedUpstream, Visit
from tests.integration.scripts import Script, plain_script, stream_script
from tests.integration.test_gemini_channel import answer as gemini_answer
from tests.integration.test_gemini_channel import whole

GENERATE = "/v1beta/models/m:generateContent"
STREAM = "/v1beta/models/m:streamGenerateContent?alt=sse"
TARGETS = {Dialect.OPENAI: CHAT, Dialect.ANTHROPIC: MESSAGES, Dialect.GEMINI: GENERATE}
LIST = request_bytes("/v1/models", method="GET")


@dataclass(frozen=True, slots=True)
class Site:
    """Client, nginx, relay, upstream; `account` is fresh for each test."""

    nginx: NginxProcess
    relay: RelayProcess
    upstream: ScriptedUpstream
    account: Account

    def client(self) -> RawClient:
        """A new connection by TLS."""
        return RawClient(self.nginx.port, tls=self.nginx.trust())

    def ask(self, sent: bytes) -> RawResponse:
        """One request on a connection of its own."""
        with self.client() as client:
            return client.send(sent).read_response()

    def call(
        self, dialect: Dialect, *, model: str = "m", stream: bool = True, content: Any = None
    ) -> bytes:
        """A well-formed call with the account's key; it says the account's name by default."""
        said = content or self.account.user
        if dialect is Dialect.GEMINI:
            asked = {
                "contents": [{"role": "user", "parts": [{"text": said}]}],
                "generationConfig": {"maxOutputTokens": 50},
            }
            target = (STREAM if stream else GENERATE).replace("/m:", f"/{model}:")
            return request_bytes(target, json.dumps(asked).encode(), key=self.account.key)
        sent = body(said, stream=stream, model=model, max_tokens=50)
        return request_bytes(TARGETS[dialect], sent, key=self.account.key)

    def until_asked(self) -> None:
        """Wait until the upstream has the account's call."""
        self.upstream.wait_until(lambda up: bool(self._visits(up)))

    def until_cancelled(self) -> None:
        """Wait until the connection of the account's call is gone at the upstream."""
        self.upstream.wait_until(lambda up: [one.gone for one in self._visits(up)] != [None])

    def _visits(self, upstream: ScriptedUpstream) -> list[Visit]:
        name = self.account.user.encode()
        return [one for one in upstream.visits if name in one.received]

    def bill(self) -> dict[str, Any]:
        """The account's one call, once it is on the bill."""
        for _ in range(50):
            rows = self.relay.usage(self.account)
            if rows:
                (row,) = rows
                return dict(row)
        raise AssertionError("the call is not on the bill")


def channels(upstream: ScriptedUpstream) -> list[UpstreamAt]:
    return [
        UpstreamAt("o", "openai", upstream.base_url, {"m": "up-m"}),
        UpstreamAt("a", "anthropic", upstream.base_url, {"m": "up-m"}),
        UpstreamAt("g", "gemini", f"{upstream.base_url}beta", {"m": "up-m"}),
    ]


@contextlib.contextmanager
def open_site(path: Path) -> Iterator[Site]:
    """All of it, without an account. Skips the calling test where nginx is not installed."""
    programs.need("nginx")
    with (
        ScriptedUpstream(scripted_answer) as upstream,
        RelayProcess(path / "relay", channels(upstream)) as relay,
        NginxProcess(path / "nginx", relay.port) as nginx,
    ):
        yield Site(nginx, relay, upstream, Account("", ""))


def check_error(response: RawResponse, code: ErrorCode, dialect: Dialect, status: int) -> None:
    """Whether this is an answer of nginx itself that looks like one of the relay's."""
    assert response.status == status, response
    assert response.header("content-type") == "application/json"
    assert response.header("access-control-allow-origin") == "*"
    told = json.loads(response.body)
    request_id = response.header("request-id")
    assert request_id is not None
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    assert response.header("x-request-id") == request_id
    error = told["error"]
    message = error.pop("message")
    assert message
    if dialect is Dialect.GEMINI:
        assert error.pop("code") == status
        ours = json.loads(error_body(RelayError(code, message), dialect, ""))["error"]
        assert error == {"status": ours["status"], "details": ours["details"]}
        assert told.keys() == {"error"}
    elif dialect is Dialect.ANTHROPIC:
        assert error == {"type": code.value.anthropic_type, "code": code.code}
        assert (told["type"], told["request_id"]) == ("error", request_id)
    else:
        assert error == {"type": code.value.openai_type, "param": None, "code": code.code}
        assert told.keys() == {"error"}


def scripted_answer(request: ReceivedRequest) -> Script:
    """A whole answer in the shape and dialect asked for."""
    if ":streamGenerateContent" in request.target:
        return stream_script(gemini_answer())
    if ":generateContent" in request.target:
        return plain_script(whole())
    if not json.loads(request.body).get("stream"):
        return plain_script(plain_answer())
    return stream_script(answer() if request.target == CHAT else message())
