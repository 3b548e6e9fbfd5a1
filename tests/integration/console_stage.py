"""A relay with its console as real processes, people who are signed in, and books with something in.

`with stage(directory) as found:` starts relay, console and an upstream; `found.person(...)` makes a
person by the actions the command line has, and signs them in with a session of the keeper's.
`found.furnish()` fills every page: calls that went well and badly, money that came and went, codes,
a team, plans. This module knows the relay by its command line, its control socket and its listeners.
"""

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

from playwright._impl._api_structures import SetCookieParam

from proxy.app.directory import DataDirectory
from proxy.edge.console import sessions, visit
from proxy.storage.secret_files import read_secret
from tests.edge.harness import answer, plain_answer
from tests.edge.harness import body as chat
from tests.integration.browser import Visitor
from tests.integration.raw_client import RawClient, RawResponse, request_bytes
from tests.integration.relay_process import (
    COMMAND_SECONDS_MAX,
    OPENAI_MODEL,
    RelayProcess,
    UpstreamAt,
)
from tests.integration.scripted import ReceivedRequest, ScriptedUpstream
from tests.integration.scripts import Script, plain_script, stream_script

STATUS_OF_ILL = 500
ILL_MODEL = "z-ill"
"""Served by a channel that is out of order; behind the other one in every list."""


def _answer(request: ReceivedRequest) -> Script:
    """A provider that answers whatever it is asked, streamed if that is wanted."""
    if b'"stream":true' in request.body.replace(b" ", b""):
        return stream_script(answer())
    return plain_script(plain_answer())


def _ill(_request: ReceivedRequest) -> Script:
    return plain_script(b'{"error":{"message":"out of order"}}', status=STATUS_OF_ILL)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in. `wallet` is the name of their own."""

    id: int
    email: str
    wallet: str
    cookie: SetCookieParam


@dataclass(slots=True)
class Stage:
    """See the module docstring. `known`: things to show pages with, by name."""

    relay: RelayProcess
    upstream: ScriptedUpstream
    known: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Where the console is."""
        return self.relay.console_url

    @property
    def relay_host(self) -> str:
        """Host and port of the relay, which the playground calls."""
        return f"127.0.0.1:{self.relay.port}"

    def do(self, command: str, **arguments: object) -> Any:
        """Do an action as the command line does; fails if it is refused."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(COMMAND_SECONDS_MAX)
            connection.connect(str(DataDirectory(self.relay.data).control))
            line = json.dumps({"command": command, "arguments": arguments})
            connection.sendall(line.encode() + b"\n")
            with connection.makefile("rb") as answered:
                said = json.loads(answered.readline())
        assert said["ok"], (command, said)
        return said["result"]

    def person(self, email: str, role: str = "user", credit: str | None = "10.00") -> Person:
        """Make a person and sign them in."""
        made = self.do("person add", email=email, role=role, credit=credit)
        number = next(row["id"] for row in self.do("person list", text=email))
        opened = self.do("session open", person=number, agent="Chromium", address="127.0.0.1")
        session = opened["session"] if isinstance(opened, dict) else opened
        secret = read_secret(self.relay.data / "secrets" / "console")
        cookie: SetCookieParam = {
            "name": visit.SESSION,
            "value": sessions.issue(secret, session, number, time()),
            "url": self.url,
        }
        return Person(number, email, made["user"], cookie)

    def call(self, key: str, model: str = OPENAI_MODEL, *, stream: bool = True) -> RawResponse:
        """Make one call through the relay."""
        with RawClient(self.relay.port) as client:
            sent = chat(stream=stream, model=model)
            client.send(request_bytes("/v1/chat/completions", sent, key=key))
            return client.read_response()

    def code(self, amount: str) -> str:
        """A redeem code worth so many US dollars."""
        (made,) = self.do("code make", amount=amount)["codes"]
        return str(made["code"] if isinstance(made, dict) else made)

    def furnish(self, owner: Person) -> None:
        """Put something on every page, most of it of one person's wallet."""
        made = self.do("key add", user=owner.wallet, name="production", budget="5.00")
        spare = self.do("key add", user=owner.wallet, name="laptop", expires="2099-01-01")
        self.do("key disable", user=owner.wallet, key=str(spare["id"]))
        for number in range(4):
            self.call(made["key"], stream=bool(number % 2))
        self.call(made["key"], ILL_MODEL)
        self.call(made["key"], "no-such-model")
        call = self.do("usage", user=owner.wallet)[-1]
        self.do("wallet refund", call=call["request_id"], reason="as agreed")
        self.do("wallet adjust", user=owner.wallet, amount="-0.5", reason="typing error")
        self.do("code redeem", user=owner.wallet, code=self.code("2"))
        self.do("code make", amount="25", count=3, batch="autumn", note="for the talk")
        invited = self.do("team invite", user=owner.wallet, email="new@example.com")
        self.do("invitation add", email="other@example.com")
        fresh = self.do(
            "person register", email="fresh@example.com", password_hash=None, prove=True
        )
        link = self.do("person link", email="fresh@example.com")
        changing = self.do("email change", person=fresh["person"], email="later@example.com")
        begun = self.do(
            "payment begin",
            user=owner.wallet,
            provider="stripe",
            currency="usd",
            minor=500,
            rate="1",
        )
        self.known |= {
            "key": str(made["id"]),
            "request_id": call["request_id"],
            "channel": "main",
            "model": OPENAI_MODEL,
            "group": "default",
            "plan": "default",
            "user": owner.wallet,
            "payment": str(begun["payment"]),
            "invitation": invited["link"].rpartition("=")[2],
            "password_token": link["link"].rpartition("=")[2],
            "verify_token": fresh["token"],
            "email_token": changing["token"],
            "member": "fresh@example.com",
        }


def _payments(directory: Path) -> dict[str, object]:
    """Settings with which cards are taken, by a provider that is not there."""
    rows: dict[str, object] = {"stripe_api_base": "http://127.0.0.1:9"}
    for name, secret in (("key", "sk_test_of_a_stage"), ("webhook_secret", "whsec_of_a_stage")):
        file = directory / f"stripe_{name}"
        file.write_text(secret)
        file.chmod(0o600)
        rows[f"stripe_{name}_file"] = str(file)
    return rows


@contextlib.contextmanager
def stage(directory: Path, **settings: object) -> Iterator[Stage]:
    """Start everything; it ends with the block."""
    directory.mkdir(parents=True, exist_ok=True)
    with ScriptedUpstream(_answer) as well, ScriptedUpstream(_ill) as ill:
        upstreams = [
            UpstreamAt("main", "openai", well.base_url, {OPENAI_MODEL: "up-model"}),
            UpstreamAt("out-of-order", "openai", ill.base_url, {ILL_MODEL: "up-ill"}),
        ]
        rows = {**_payments(directory), **settings}
        with RelayProcess(directory, upstreams, console=True, settings=rows) as relay:
            yield Stage(relay, well)


def sign_in(reader: Visitor, person: Person) -> Visitor:
    """Give a browser the session of a person."""
    reader.page.context.add_cookies([person.cookie])
    return reader
