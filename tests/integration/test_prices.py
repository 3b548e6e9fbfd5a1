"""Prices of more than text, from what providers report to what wallets pay."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.edge.harness import (
    ANN,
    MESSAGE_START,
    MESSAGE_STOP,
    MESSAGES,
    SAID,
    USD,
    Relay,
    anthropic_channel,
    body,
    channel,
    named,
)
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import Script, plain_script, stream_script
from tests.integration.test_recompute import recomputed

PRICE = {
    "input": "1", "cache_read": "0.1", "output": "2", "image_input": "5", "audio_input": "10",
    "search": "0.01",
    "tiers": [{"over": 1_000, "input": "2", "cache_read": "0.2", "output": "3",
               "image_input": "5", "audio_input": "10"}],
}  # fmt: skip
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 4}
CENT = USD // 100


def relay(path: Path, *channels: dict[str, Any], **more: Any) -> Relay:
    """A relay whose model `m` costs `PRICE`."""
    made = Relay(path, *channels, **more)
    made._catalog["model"][0] |= {"price": PRICE}
    return made


def plain(usage: dict[str, Any]) -> Script:
    message = {"role": "assistant", "content": "Hello there"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    document = {"id": "c1", "object": "chat.completion", "choices": [choice], "usage": usage}
    return plain_script(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        ({"prompt_tokens": 1_000, "completion_tokens": 2}, 1_000 * 1_000 + 2 * 2_000),
        ({"prompt_tokens": 1_001, "completion_tokens": 2}, 1_001 * 2_000 + 2 * 3_000),
        (
            {
                "prompt_tokens": 500,
                "completion_tokens": 2,
                "prompt_tokens_details": {
                    "cached_tokens": 100, "image_tokens": 200, "audio_tokens": 50,
                },
            },
            150 * 1_000 + 100 * 100 + 200 * 5_000 + 50 * 10_000 + 2 * 2_000,
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 2, "num_search_queries": 3},
            10 * 1_000 + 2 * 2_000 + 3 * CENT,
        ),
    ],
)  # fmt: skip
def test_a_plain_answer_costs_what_its_kinds_cost(
    tmp_path: Path, usage: dict[str, Any], nano: int
) -> None:
    with (
        ScriptedUpstream(plain(usage)) as upstream,
        relay(tmp_path, channel(upstream.base_url)) as made,
    ):
        assert made.ask(body(stream=False, max_tokens=50)).status == 200
        (call,) = made.calls()
        assert (call["charge"], call["overrun"], call["anomalies"]) == (nano, 0, None)
    assert recomputed(made.path) == ["1 charges recomputed"]


def searched(times: int) -> Script:
    usage = {"output_tokens": 5, "server_tool_use": {"web_search_requests": times}}
    delta = named({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage})
    return stream_script([MESSAGE_START, *SAID, delta, MESSAGE_STOP])


@pytest.mark.parametrize(
    ("times", "charged", "anomalies"), [(0, 0, None), (3, 3, None), (9, 4, "searches_bounded")]
)
def test_searches_are_held_for_and_charged_within_what_was_allowed(
    tmp_path: Path, times: int, charged: int, anomalies: str | None
) -> None:
    ask = request_bytes(MESSAGES, body(max_tokens=50, tools=[SEARCH]), key=ANN)
    with (
        ScriptedUpstream(searched(times)) as upstream,
        relay(tmp_path, anthropic_channel(upstream.base_url)) as made,
        made.client() as client,
    ):
        client.send(ask)
        assert client.read_response().status == 200
        (call,) = made.calls()
        assert call["charge"] == 9 * 1_000 + 5 * 2_000 + charged * CENT
        assert (call["searches"], call["overrun"]) == (charged, 0)
        assert call["anomalies"] == anomalies
    assert recomputed(made.path) == ["1 charges recomputed"]


def test_a_wallet_that_cannot_pay_for_the_searches_is_told_before(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(searched(1)) as upstream,
        relay(tmp_path, anthropic_channel(upstream.base_url), credit=3 * CENT) as made,
    ):
        refused = made.ask(body(max_tokens=50, tools=[SEARCH]), MESSAGES)
        assert refused.status == 402
        assert b"0.04" in refused.body
        once = made.ask(body(max_tokens=50, tools=[SEARCH | {"max_uses": 1}]), MESSAGES)
        assert once.status == 200
        (call,) = made.calls()
        assert call["searches"] == 1


def test_a_key_sees_every_price_it_pays(tmp_path: Path) -> None:
    with relay(tmp_path, channel("http://127.0.0.1:1/v1")) as made:
        shown = json.loads(made.get("/v1/models/m").body)["pricing"]
    assert shown == {
        "currency": "USD", "input": "1.00", "output": "2.00", "cache_read": "0.10",
        "image_input": "5.00", "audio_input": "10.00", "search": "0.01",
        "tiers": [{"over": 1_000, "input": "2.00", "output": "3.00", "cache_read": "0.20",
                   "image_input": "5.00", "audio_input": "10.00"}],
    }  # fmt: skip
