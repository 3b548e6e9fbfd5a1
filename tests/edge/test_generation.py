"""What `GET /v1/generation` tells of every kind of end, and to whom."""

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.core.entities import Formula, Price, Tier, Usage
from proxy.edge.generation import _attempt, _price
from proxy.storage.ports import KeeperUnavailableError, Tried
from tests.edge.harness import (
    BOB,
    CHAT,
    CONTENT,
    MESSAGES,
    ROLE,
    USD,
    WORDS,
    Relay,
    answer,
    body,
    channel,
    error_of,
    plain_answer,
    price_of,
)
from tests.integration.raw_client import RawResponse
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script, stream_script

PATH = "/v1/generation"


def recomputed(told: dict[str, Any]) -> int:
    """The charge, from the answer alone, for a price per token."""
    used, price = told["used"], told["price_nano_usd"]
    kinds = {"input_uncached": "input", "output": "output", "cache_read": "cache_read"}
    units = sum(used.get(kind, 0) * price[name] for kind, name in kinds.items())
    return -(-told["multiplier_millionths"] * units // 10**12)


def told(relay: Relay, response: RawResponse, **options: Any) -> dict[str, Any]:
    name = response.header("x-request-id") or response.header("request-id")
    found = relay.get(f"{PATH}?id={name}", **options)
    assert found.status == 200, found.body
    data = json.loads(found.body, parse_float=Decimal)["data"]
    assert data["id"] == name
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize("target", [CHAT, MESSAGES])
def test_a_stream_is_told_as_soon_as_it_has_ended(tmp_path: Path, target: str) -> None:
    group = {"multiplier": "1.5"}
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group=group) as relay,
    ):
        response = relay.ask(body(max_tokens=50), target)
        data = told(relay, response)
        cost = price_of(9, len(WORDS)) * 3 // 2
        assert data["charge_nano_usd"] == recomputed(data) == cost
        assert data["total_cost"] == data["usage"] == Decimal(cost) / USD
        assert Decimal(data["charge_usd"]) == Decimal(cost) / USD
        assert data["balance_after_nano_usd"] == USD - cost
        assert (data["overrun_nano_usd"], data["forgiven_nano_usd"]) == (0, 0)
        assert data["refunded_nano_usd"] == 0
        assert (data["verdict"], data["source"]) == ("complete", "reported")
        assert (data["tokens_prompt"], data["tokens_completion"]) == (9, len(WORDS))
        assert data["used"] == {"input_uncached": 9, "output": len(WORDS), "calls": 1}
        assert (data["model"], data["upstream_model"]) == ("m", "up-m")
        assert data["channel"] == data["provider_name"] == "main"
        assert data["finish_reason"] == "stop"
        assert (data["streamed"], data["cancelled"], data["is_byok"]) == (True, False, False)
        assert (data["price_version"], data["price_nano_usd"]["version"]) == (1, 1)
        # Not compared with each other: one is of the wall clock, the other of the loop's.
        assert min(data["duration_ms"], data["ttft_ms"]) >= 0
        (tried,) = data["attempts"]
        assert (tried["channel"], tried["outcome"], tried["status"]) == ("main", "served", 200)
        assert "cost" not in tried, "what the operator pays is the operator's"


def test_a_plain_answer_costs_what_its_head_said(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer(), headers=[("x-request-id", "up-7")])) as up,
        Relay(tmp_path, channel(up.base_url)) as relay,
    ):
        response = relay.ask(body(stream=False, max_tokens=50))
        data = told(relay, response)
        assert str(data["charge_nano_usd"]) == response.header("x-sluice-cost")
        assert str(data["balance_after_nano_usd"]) == response.header("x-sluice-balance")
        assert data["upstream_id"] == "up-7"
        assert data["streamed"] is False


def test_what_broke_off_says_how_and_what_was_delivered(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script([ROLE, *CONTENT])) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        data = told(relay, relay.ask(body()))
        assert (data["verdict"], data["error_code"]) == ("upstream_truncated", "upstream_truncated")
        assert data["source"] == "counted"
        assert data["charge_nano_usd"] == recomputed(data) > 0
        assert data["finish_reason"] is None


def test_every_attempt_is_told(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}", status=500)) as broken,
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(
            tmp_path,
            channel(broken.base_url, "first", priority=2),
            channel(upstream.base_url, "second"),
        ) as relay,
    ):
        data = told(relay, relay.ask(body()))
        tries = [(one["channel"], one["outcome"], one["status"]) for one in data["attempts"]]
        assert tries == [("first", "upstream_error", 500), ("second", "served", 200)]
        assert data["channel"] == "second"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "invalid_request"),
        ("?id=", 404, "generation_not_found"),
        ("?id=gen-123", 404, "generation_not_found"),
        ("?id=req_0000000000000", 404, "generation_not_found"),
        ("?id=req_zzzzzzzzzzzzz", 404, "generation_not_found"),
    ],
)
@pytest.mark.parametrize("anthropic", [False, True])
def test_what_is_no_call_of_yours_is_told_so_in_the_dialect(
    tmp_path: Path, query: str, status: int, code: str, anthropic: bool
) -> None:
    headers = {"anthropic-version": "2023-06-01"} if anthropic else {}
    with Relay(tmp_path, channel("http://127.0.0.1:9")) as relay:
        response = relay.get(f"{PATH}{query}", **headers)
        assert response.status == status
        found = json.loads(response.body)
        assert found["error"]["code"] == code
        assert ("type" in found) is anthropic
        assert response.header("x-ratelimit-limit-requests") == "600"


def test_another_users_call_does_not_exist(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        name = relay.ask(body(stream=False, max_tokens=50)).header("x-request-id")
        response = relay.get(f"{PATH}?id={name}", key=BOB)
        assert (response.status, error_of(response)["code"]) == (404, "generation_not_found")
        assert relay.get(f"{PATH}?id={name}", key=None).status == 401
        assert relay.get(f"/api/v1/generation?id={name}").status == 200, "OpenRouter's own path"


def test_a_ledger_that_cannot_be_read_is_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(user_id: int, call_id: int) -> bool:
        raise KeeperUnavailableError("away")

    async def still(user_id: int, call_id: int) -> bool:
        return True

    with Relay(tmp_path, channel("http://127.0.0.1:9")) as relay:
        monkeypatch.setattr(relay.records, "find", away)
        response = relay.get(f"{PATH}?id=req_0000000000001")
        assert (response.status, response.header("retry-after")) == (503, "1")
        monkeypatch.setattr(relay.records, "find", still)
        response = relay.get(f"{PATH}?id=req_0000000000001")
        assert response.status == 404
        assert "still open" in error_of(response)["message"]


def test_every_figure_of_a_price_is_told_and_nothing_neutral() -> None:
    plain = Price("m", 3, input=5, output=6, tiers=(Tier(over=100, input=7, output=8),))
    shown = _price(plain)
    assert shown["tiers"] == [
        {name: getattr(plain.tiers[0], name) for name in Tier.__dataclass_fields__}
    ]
    assert shown | {"tiers": 0} == {
        "model": "m", "version": 3, "formula": Formula.TOKENS, "input": 5, "output": 6, "tiers": 0,
    }  # fmt: skip
    ratios = _price(Price("m", 1, Formula.RATIO, model_ratio=5, completion_ratio=2_000_000))
    assert ratios == {
        "model": "m", "version": 1, "formula": "ratio", "model_ratio": 5,
        "completion_ratio": 2_000_000,
    }  # fmt: skip
    free = _price(Price("m", 1, Formula.RATIO, model_ratio=5, cache_ratio=0))
    assert free["cache_ratio"] == 0, "left out it would be read as one"
    assert _price(Price("m", 1, image_variants={"hd": 4}))["image_variants"] == {"hd": 4}


@pytest.mark.parametrize(("after", "told_ms"), [(-0.000275, 0.0), (0.0015, 1.5)])
def test_no_attempt_begins_before_its_call(after: float, told_ms: float) -> None:
    call: Any = SimpleNamespace(started_at=1_795_000_000.0)
    tried = Tried("main", call.started_at + after, 200, "served", None, "up", Usage(), 3.0)
    shown: Any = _attempt(tried, call)["began_ms"]
    assert shown == pytest.approx(told_ms, abs=0.001)
    assert shown >= 0.0
