"""A dry run tells what a call would come to, and leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.edge import dry_run
from proxy.storage.ports import KeeperUnavailableError
from tests.edge.harness import (
    CHAT,
    MESSAGES,
    USD,
    Relay,
    anthropic_channel,
    body,
    channel,
    error_of,
    plain_answer,
    price_of,
)
from tests.integration.raw_client import RawResponse
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script

DRY = {"x-dry-run": "true"}


def told(response: RawResponse) -> dict[str, Any]:
    assert response.status == 200, response.body
    assert response.header("x-sluice-dry-run") == "true"
    found = json.loads(response.body)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("target", [CHAT, MESSAGES])
def test_everything_known_before_a_call_is_told_and_nothing_is_done(
    tmp_path: Path, target: str
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(
            tmp_path,
            channel(upstream.base_url, "second", priority=1),
            anthropic_channel(upstream.base_url, "first", priority=9),
            group={"multiplier": "2"},
        ) as relay,
    ):
        for _ in range(2):
            response = relay.ask(body(max_tokens=1_000), target, headers=DRY)
            found = told(response)
            assert found["admitted"]
            assert found["refusal"] is None
            estimate = found["input_tokens_estimate"]
            assert found["hold_nano_usd"] == found["ceiling_nano_usd"]
            assert found["ceiling_nano_usd"] == 2 * price_of(estimate, 1_000)
            assert found["ceiling_usd"] == f"{2 * price_of(estimate, 1_000) / USD:.6f}"
            assert (found["price_version"], found["multiplier_millionths"]) == (1, 2_000_000)
            assert found["price"]["output"] == "4.00"
            assert (found["output_tokens_max"], found["max_tokens_lowered"]) == (1_000, None)
            assert found["balance_nano_usd"] == USD
            own = "second" if target == CHAT else "first"
            assert found["channels"][0] == {
                "name": own, "upstream_model": "up-m", "priority": 1 if target == CHAT else 9,
                "weight": 1, "usable": True, "translated": False,
            }  # fmt: skip
            # Limits are announced, and not taken from.
            assert response.header("x-ratelimit-remaining-requests") == "100"
        assert relay.calls() == []
        assert not upstream.visits
        assert relay.keeper.statistics().holds_open == 0
        assert relay.ask(body(), target).header("x-sluice-dry-run") is None


def test_a_stream_would_hold_its_first_slice_and_a_translated_channel_says_so(
    tmp_path: Path,
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(
            tmp_path,
            anthropic_channel(upstream.base_url),
            slice_tokens=100,
            group={"output_tokens_max": 500},
        ) as relay,
    ):
        found = told(relay.ask(body(), headers=DRY))
        assert found["hold_nano_usd"] == price_of(found["input_tokens_estimate"], 100)
        assert found["ceiling_nano_usd"] == price_of(found["input_tokens_estimate"], 500)
        assert (found["output_tokens_max"], found["max_tokens_lowered"]) == (500, 500)
        assert found["channels"][0]["translated"] is True


@pytest.mark.parametrize("target", [CHAT, MESSAGES])
def test_a_refusal_to_come_is_told_in_the_words_it_would_have(tmp_path: Path, target: str) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), credit=price_of(50, 40)) as relay,
    ):
        sent = body(stream=False, max_tokens=1_000)
        found = told(relay.ask(sent, target, headers=DRY))
        assert not found["admitted"]
        real = relay.ask(sent, target)
        assert found["refusal"]["status"] == real.status == 402
        assert found["refusal"]["body"]["error"] == error_of(real)
        assert "`max_tokens` of at most" in error_of(real)["message"]


def test_a_channel_at_rest_comes_last(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(
            tmp_path,
            channel(upstream.base_url, "rests", priority=9),
            channel(upstream.base_url, "works"),
        ) as relay,
    ):
        rests = next(one for one in relay.keeper.catalog.channels.values() if one.name == "rests")

        def cool() -> None:
            pool = relay.world.health.of(rests).keys
            now = relay.world.loop.time()
            key = pool.acquire(now)
            assert key is not None
            pool.cool(key, 429, 30.0, now)

        relay.do(cool)
        found = told(relay.ask(body(), headers=DRY))
        shown = [(one["name"], one["usable"]) for one in found["channels"]]
        assert shown == [("works", True), ("rests", False)]


def test_what_is_refused_sooner_is_refused_as_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(opening: object) -> None:
        raise KeeperUnavailableError("away")

    with Relay(tmp_path, channel("http://127.0.0.1:9")) as relay:
        assert relay.ask(b"{", headers=DRY).status == 400
        assert error_of(relay.ask(body(model="n"), headers=DRY))["code"] == "model_not_found"
        little = relay.ask(body(), headers=DRY | {"x-max-cost": "1 nano"})
        assert error_of(little)["code"] == "max_cost_exceeded"
        monkeypatch.setattr(relay.keeper, "weigh", away)
        response = relay.ask(body(), headers=DRY)
        assert (response.status, response.header("retry-after")) == (503, "2")
    assert dry_run.__doc__
