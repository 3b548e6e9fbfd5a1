"""What the head of an answer tells, against what the ledger then has."""

from pathlib import Path

import pytest

from proxy.core.asks import HEADERS
from proxy.edge.downstream import EXPOSED_HEADERS
from proxy.edge.server import CORS_ALLOW_HEADERS
from proxy.edge.telling import cost_rows
from tests.edge.harness import (
    CHAT,
    MESSAGES,
    USD,
    Relay,
    answer,
    body,
    channel,
    error_of,
    plain_answer,
    price_of,
)
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script, stream_script


def test_an_amount_is_told_in_nano_and_in_dollars() -> None:
    assert dict(cost_rows("complete", 23_000, 5)) == {
        "x-sluice-verdict": "complete",
        "x-sluice-cost": "23000",
        "x-sluice-cost-usd": "0.000023000",
        "x-sluice-balance": "5",
    }
    assert dict(cost_rows("rejected", 12 * USD))["x-sluice-cost-usd"] == "12.000000000"
    assert dict(cost_rows("rejected", 0))["x-sluice-cost-usd"] == "0.000000000"


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("target", [CHAT, MESSAGES, "/v1/responses"])
def test_a_plain_answer_tells_its_verdict_cost_and_what_is_left(
    tmp_path: Path, target: str, dialect: str
) -> None:
    anthropic = (
        b'{"id":"msg_1","type":"message","role":"assistant","model":"up-m",'
        b'"content":[{"type":"text","text":"Hello there"}],'
        b'"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":2}}'
    )
    said = plain_answer() if dialect == "openai" else anthropic
    asked = body(stream=False, max_tokens=50)
    if target == "/v1/responses":
        asked = b'{"model":"m","input":"Say hello.","max_output_tokens":50}'
    with (
        ScriptedUpstream(plain_script(said)) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect=dialect)) as relay,
    ):
        for number in (1, 2):
            response = relay.ask(asked, target)
            assert response.status == 200, response.body
            call = relay.calls()[-1]
            assert call["charge"] == price_of(9, 2)
            assert response.header("x-sluice-verdict") == call["verdict"] == "complete"
            assert response.header("x-sluice-cost") == str(call["charge"])
            assert response.header("x-sluice-cost-usd") == f"{call['charge'] / USD:.9f}"
            assert response.header("x-sluice-balance") == str(call["balance_after"])
            assert call["balance_after"] == USD - number * price_of(9, 2)


def test_usage_that_was_counted_costs_what_the_head_said(tmp_path: Path) -> None:
    silent = b'{"choices":[{"message":{"content":"Hello there"},"finish_reason":"stop"}]}'
    with (
        ScriptedUpstream(plain_script(silent)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(stream=False, max_tokens=50))
        (call,) = relay.calls()
        assert call["source"] == "counted"
        assert response.header("x-sluice-cost") == str(call["charge"]) != "0"


def test_a_price_above_the_callers_limit_is_told_as_what_is_charged(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer(prompt=9_000))) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        most = price_of(100, 100)
        headers = {"x-max-cost": f"{most} nano"}
        response = relay.ask(body(stream=False, max_tokens=50), headers=headers)
        (call,) = relay.calls()
        assert response.header("x-sluice-cost") == str(most) == str(call["charge"])
        assert response.header("x-sluice-balance") == str(call["balance_after"])


def test_a_failed_call_tells_how_it_ended_and_that_it_cost_nothing(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}", status=500)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body())
        assert (response.status, error_of(response)["code"]) == (502, "upstream_error")
        (call,) = relay.calls()
        assert response.header("x-sluice-verdict") == call["verdict"] == "upstream_error"
        assert response.header("x-sluice-cost") == str(call["charge"]) == "0"


def test_a_refused_call_tells_so(tmp_path: Path) -> None:
    with Relay(tmp_path, channel("http://127.0.0.1:9")) as relay:
        response = relay.ask(body(model="nothing"), MESSAGES)
        assert response.status == 400
        assert response.header("x-sluice-verdict") == "rejected"
        response = relay.ask(body(), key=None)
        assert (response.status, response.header("x-sluice-cost")) == (401, "0")


def test_the_head_of_a_stream_names_no_price(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body()).header("x-sluice-cost") is None


@pytest.mark.parametrize(
    "headers",
    [{"x-max-cost": "a lot"}, {"x-dry-run": "perhaps"}, {"x-sluice-usage": "no"},
     {"x-sluice-cache": "maybe"}, {"x-sluice-cache-ttl": "-5"}],
)  # fmt: skip
def test_a_header_of_ours_that_cannot_be_read_is_refused(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(), headers=headers)
        assert response.status == 400
        assert error_of(response)["param"] == next(iter(headers))
        assert not upstream.visits


def test_browsers_may_send_and_read_all_of_it() -> None:
    assert {*HEADERS} <= {*CORS_ALLOW_HEADERS.split(", ")}
    told = {name for name, _ in cost_rows("complete", 1, 2)}
    told |= {"x-sluice-cache", "age", "x-sluice-dry-run", "x-sluice-channel", "x-sluice-model"}
    assert told <= {*EXPOSED_HEADERS.split(", ")}
