"""The receipt of a call, asked for the moment its answer has ended, from whatever worker serves it.

With several workers the one that is asked is seldom the one that served, and the database is
behind what was promised; both must not be seen.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.edge.harness import answer, body, plain_answer
from tests.integration.raw_client import RawClient, RawResponse, request_bytes
from tests.integration.relay_process import OPENAI_MODEL, Account, RelayProcess, UpstreamAt
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script, stream_script

CALLS = 24


@pytest.fixture(scope="module", params=[1, 2])
def relay(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RelayProcess]:
    with (
        ScriptedUpstream(stream_script(answer())) as streams,
        ScriptedUpstream(plain_script(plain_answer())) as plain,
    ):
        upstreams = [
            UpstreamAt("streams", "openai", streams.base_url, {OPENAI_MODEL: "up-m"}),
            UpstreamAt("plain", "openai", plain.base_url, {"plain": "up-m"}),
        ]
        directory = tmp_path_factory.mktemp("receipts")
        settings = {"workers": request.param}
        with RelayProcess(directory, upstreams, settings=settings) as process:
            yield process


def ask(relay: RelayProcess, account: Account, target: str, sent: bytes = b"") -> RawResponse:
    """One request on a new connection: any worker may get it."""
    with RawClient(relay.port) as client:
        method = "POST" if sent else "GET"
        client.send(request_bytes(target, sent, key=account.key, method=method))
        return client.read_response()


def receipt(relay: RelayProcess, account: Account, answered: RawResponse) -> dict[str, Any]:
    name = answered.header("x-request-id")
    response = ask(relay, account, f"/v1/generation?id={name}")
    assert response.status == 200, response.body
    found = json.loads(response.body)["data"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("stream", [True, False])
def test_the_receipt_is_there_when_the_answer_has_ended(relay: RelayProcess, stream: bool) -> None:
    account = relay.account()
    before: int | None = None
    told: dict[str, Any] = {}
    sent = body(stream=stream, model=OPENAI_MODEL if stream else "plain", max_tokens=50)
    for _ in range(CALLS):
        answered = ask(relay, account, "/v1/chat/completions", sent)
        assert answered.status == 200, answered.body
        told = receipt(relay, account, answered)
        assert told["verdict"] == "complete"
        charge, after = told["charge_nano_usd"], told["balance_after_nano_usd"]
        assert charge > 0
        assert before is None or after == before - charge, "one after the other"
        before = after
        if not stream:
            assert answered.header("x-sluice-cost") == str(charge)
            assert answered.header("x-sluice-balance") == str(after)
    other = relay.account()
    assert ask(relay, other, f"/v1/generation?id={told['id']}").status == 404
    assert relay.verify()["clean"]


def test_receipts_sum_to_what_the_wallet_lost(relay: RelayProcess) -> None:
    account = relay.account(credit="1.00")
    sent = body(stream=True, model=OPENAI_MODEL, max_tokens=50)
    told = [
        receipt(relay, account, ask(relay, account, "/v1/chat/completions", sent)) for _ in range(5)
    ]
    spent = sum(one["charge_nano_usd"] for one in told)
    assert min(one["balance_after_nano_usd"] for one in told) == 10**9 - spent
    assert Path(relay.database).exists()
