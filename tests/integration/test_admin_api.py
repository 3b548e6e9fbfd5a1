"""The admin API of a relay as its operator runs it: its document, the command line over it, keys.

Schemathesis makes requests from the document, such as it allows and such as it forbids; no answer
may be a fault of ours or one that the document does not have.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from proxy import __version__
from proxy.app.control import ask
from proxy.core.openapi.admin import PREFIX, document
from tests.integration.relay_process import (
    OPENAI_MODEL,
    SLUICE,
    RelayProcess,
    UpstreamAt,
    free_ports,
)

DOCUMENT: dict[str, Any] = json.loads(document(__version__))
CONFIG = {"seed": 1, "cache": {"enabled": False}, "generation": {"deterministic": True}}
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config.from_dict(CONFIG))
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]
TOKENS = 16
FAULTS = {"page failed", "an action failed"}
EXAMPLES_MAX = 12
CALL_SECONDS_MAX = 20.0
COMMAND_SECONDS_MAX = 30.0
CONSOLE_SECONDS_MAX = 15.0
CUT_SECONDS_MAX = 10.0


@dataclass(frozen=True)
class Bench:
    relay: RelayProcess
    tokens: tuple[str, ...]
    """Several that may do everything, because each may only ask so often."""

    @property
    def token(self) -> str:
        return self.tokens[0]

    def ask(self, action: str, token: str | None = None, /, **arguments: Any) -> requests.Response:
        return requests.post(
            f"{self.relay.console_url}{PREFIX}{action}",
            json=arguments,
            headers={"authorization": f"Bearer {token or self.token}"},
            timeout=CALL_SECONDS_MAX,
        )

    def elsewhere(
        self, *arguments: str, token: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command against the relay, knowing nothing but its address and a token."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")
        }
        return subprocess.run(
            [*SLUICE, *arguments],
            env={
                **environment,
                "SLUICE_URL": self.relay.console_url,
                "SLUICE_TOKEN": self.token if token is None else token,
            },
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def running(folder: Path, workers: int) -> Iterator[Bench]:
    """A relay with a console and a demo upstream; its catalog is the actions' to change."""
    (port,) = free_ports(1)
    demo = subprocess.Popen(
        [sys.executable, "-m", "proxy.app.demo", "--listen", f"127.0.0.1:{port}", "--rate", "20"],
        stdout=subprocess.PIPE,
    )
    try:
        assert demo.stdout is not None
        assert demo.stdout.readline()
        upstream = UpstreamAt("demo", "openai", f"http://127.0.0.1:{port}/v1", {OPENAI_MODEL: "d"})
        settings = {"catalog_file": "", "workers": workers}
        with RelayProcess(folder, [upstream], settings=settings, console=True) as relay:
            relay.command("catalog", "apply", str(relay.catalog_file), "--yes")
            control = relay.data / "control.sock"
            everything = {"name": "all", "scopes": ["*:confirmed"]}
            made = [ask(control, "token add", everything) for _ in range(TOKENS)]
            wait_for_console(relay)
            yield Bench(relay, tuple(one["token"] for one in made if isinstance(one, dict)))
            assert relay.verify()["clean"]
            assert not [line for line in relay.log_lines() if line["event"] in FAULTS]
    finally:
        demo.kill()
        demo.communicate()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(tmp_path_factory.mktemp("admin"), 2) as started:
        yield started


@pytest.fixture(scope="module")
def mistreated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Another one, whose wallets and catalog are whatever was asked for."""
    with running(tmp_path_factory.mktemp("mistreated"), 1) as started:
        yield started


def wait_for_console(relay: RelayProcess) -> None:
    deadline = time.monotonic() + CONSOLE_SECONDS_MAX
    while True:
        try:
            requests.get(f"{relay.console_url}/api/openapi.json", timeout=CALL_SECONDS_MAX)
        except requests.ConnectionError:
            assert time.monotonic() < deadline, relay.log()
            time.sleep(0.05)  # it has no push
        else:
            return


def test_the_document_is_served_to_everybody(bench: Bench) -> None:
    answer = requests.get(f"{bench.relay.console_url}/api/openapi.json", timeout=CALL_SECONDS_MAX)
    assert answer.json() == DOCUMENT
    assert not answer.cookies


@SCHEMA.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES_MAX,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_generated_requests_are_answered_as_documented(
    case: schemathesis.Case, mistreated: Bench
) -> None:
    if case.path.endswith("token-revoke"):  # it would be its own
        return
    token = mistreated.tokens[1 + len(str(case.body) + str(case.query) + case.path) % (TOKENS - 1)]
    response = case.call(
        base_url=mistreated.relay.console_url,
        headers={"authorization": f"Bearer {token}"},
        timeout=CALL_SECONDS_MAX,
    )
    case.validate_response(response, checks=CHECKS)
    # It takes the token out of some, or puts another in.
    kept = response.request.headers.get("authorization") == f"Bearer {token}"
    turned_away = response.status_code in {401, 403, 429}
    assert turned_away is not kept, (response.status_code, response.text)


def test_the_command_line_works_from_elsewhere(bench: Bench) -> None:
    def done(*arguments: str) -> Any:
        ran = bench.elsewhere(*arguments, "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    assert done("user", "add", "far", "--credit", "5")["balance_usd"] == "5.00"
    made = done("key", "add", "k", "--user", "far")
    assert done("key", "set", made["name"], "--budget", "2")["budget_usd"] == "2.00"
    assert done("user", "list") == bench.relay.command("user", "list")
    exported = bench.elsewhere("catalog", "export")
    assert "[[plan]]" in exported.stdout
    refused = bench.elsewhere("wallet", "show", "nobody")
    here = ["--config", str(bench.relay.settings_file)]
    same = subprocess.run(
        [*SLUICE, "wallet", "show", "nobody", *here],
        capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False,
    )  # fmt: skip
    assert (refused.returncode, refused.stderr) == (same.returncode, same.stderr)
    table = bench.elsewhere("key", "list", "--user", "far")
    assert "far" in table.stdout
    verify = bench.elsewhere("ledger", "verify")
    assert (verify.returncode, "reads files of the machine" in verify.stderr) == (1, True)
    unknown = bench.elsewhere("user", "list", token="sa-wrong")
    assert (unknown.returncode, "not known" in unknown.stderr) == (1, True)
    nobody = bench.elsewhere("user", "list", token="")
    assert "there is no token" in nobody.stderr


def test_a_report_is_the_same_here_and_elsewhere(bench: Bench) -> None:
    bench.ask("user-add", name="counted", credit="5").raise_for_status()
    key = bench.ask("key-add", user="counted", name="k").json()["result"]["key"]
    requests.post(
        f"{bench.relay.url}/v1/chat/completions",
        json={"model": OPENAI_MODEL, "messages": [{"role": "user", "content": "count"}]},
        headers={"authorization": f"Bearer {key}"},
        timeout=CALL_SECONDS_MAX,
    ).raise_for_status()
    here = bench.relay.command("report", "margin", "--by", "model")
    assert [row["name"] for row in here["names"]] == [OPENAI_MODEL]
    assert here["total"]["charged_nano"] > 0
    ran = bench.elsewhere("report", "margin", "--by", "model", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == here
    asked = bench.ask("report-margin", by="model").json()["result"]
    assert asked == here
    changes = bench.relay.command("audit", "list", "--action", "key add")
    assert {row["action"] for row in changes} == {"key add"}
    assert bench.ask("audit-list", action="key add").json()["result"] == changes
    sums = bench.relay.command("call", "sums", "counted")
    assert (sums["total"]["calls"], sums["total"]["charge_nano"] > 0) == (1, True)
    assert bench.ask("call-sums", user="counted").json()["result"] == sums
    (call,) = bench.ask("call-list", user="counted", key="k").json()["result"]["calls"]
    receipt = bench.ask("call-show", call=call["request_id"]).json()["result"]
    assert receipt == bench.relay.command("call", "show", call["request_id"])
    assert receipt["charge_nano"] == call["charge_nano"] == sums["total"]["charge_nano"]
    # Two workers: nobody knows all of them but the keeper's port, which both ways lead to.
    for found in (
        bench.relay.command("report", "overview"),
        bench.ask("report-overview").json()["result"],
    ):
        assert found["relay"].items() >= {"keeper": True, "ready": True, "workers": 2}.items()
        assert [row["health"] for row in found["channels"]] == ["healthy"]


@pytest.mark.parametrize("way", ["key-disable", "key-remove", "key-rotate"])
def test_a_key_that_is_taken_back_opens_nothing_and_its_streams_end(bench: Bench, way: str) -> None:
    wallet = f"wallet-{way}"
    bench.ask("user-add", name=wallet, credit="5").raise_for_status()
    key = bench.ask("key-add", user=wallet, name="k").json()["result"]["key"]

    def call(*, stream: bool, most: int = 1) -> requests.Response:
        question = [{"role": "user", "content": "count"}]
        body: Any = {
            "model": OPENAI_MODEL,
            "messages": question,
            "stream": stream,
            "max_tokens": most,
        }
        return requests.post(
            f"{bench.relay.url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key}"},
            stream=stream,
            timeout=CALL_SECONDS_MAX,
        )

    assert call(stream=False).status_code == 200
    with call(stream=True, most=4_000) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith(b"data:")
        began = time.monotonic()
        bench.ask(way, user=wallet, key="k").raise_for_status()
        # From here on the answer holds: no moment is left in which the key is good.
        assert call(stream=False).status_code == 401
        if way != "key-rotate":
            rest = b"\n".join(lines)
            assert time.monotonic() - began < CUT_SECONDS_MAX
            assert b"[DONE]" not in rest
    if way == "key-disable":
        bench.ask("key-enable", user=wallet, key="k").raise_for_status()
        assert call(stream=False).status_code == 200


def test_what_a_token_does_is_in_the_audit_log(bench: Bench, tmp_path: Path) -> None:
    made = bench.relay.command("token", "add", "narrow", "--scope", "keys:read")
    refused = bench.ask("user-add", made["token"], name="x")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "scope_missing"
    bench.relay.command("token", "revoke", str(made["id"]))
    assert bench.ask("key-list", made["token"]).status_code == 401
    secrets = tmp_path / "secrets"
    secrets.write_text(bench.token + "\n")
    ran = subprocess.run(
        [*SLUICE, "user", "list", "--json", "--url", bench.relay.console_url,
         "--token-file", str(secrets)],
        capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert bench.token not in bench.relay.log()
