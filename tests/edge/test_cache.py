"""Answers kept and given again: to whom, at what price, byte for byte, and never half of one."""

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from proxy.core.cache import Limits
from proxy.edge import cache
from proxy.storage.keys import NewKey, add_key
from proxy.storage.secrets import key_digest, new_key
from tests.edge.harness import (
    ANN,
    BOB,
    CHAT,
    CONTENT,
    DONE,
    MESSAGES,
    NOW,
    PEPPER,
    ROLE,
    STOP,
    USD,
    WORDS,
    Relay,
    answer,
    body,
    channel,
    error_of,
    message,
    plain_answer,
    price_of,
)
from tests.integration import test_gemini_channel as gemini
from tests.integration.raw_client import RawResponse, request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script, stream_script

USE = {"x-sluice-cache": "use"}
RESPONSES = "/v1/responses"
PLAIN = body(stream=False, max_tokens=50)
PLAIN_COST = price_of(9, 2)
OTHER = new_key(b"o" * 23)


def told(relay: Relay, response: RawResponse) -> dict[str, Any]:
    name = response.header("x-request-id") or response.header("request-id")
    found = json.loads(relay.get(f"/v1/generation?id={name}").body)["data"]
    assert isinstance(found, dict)
    return found


def set_key(relay: Relay, seconds: int) -> None:
    statement = f"UPDATE key SET cache_seconds = {seconds} WHERE id = 1"
    relay.run(relay.keeper.change(lambda connection: connection.execute(statement)))


def sent(target: str, *, stream: bool) -> bytes:
    if target == RESPONSES:
        return b'{"model":"m","input":"Say hello.","max_output_tokens":50,"stream":%b}' % (
            b"true" if stream else b"false"
        )
    return body(stream=stream, max_tokens=50)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("target", [CHAT, MESSAGES, RESPONSES])
def test_a_stream_is_given_again_event_for_event(tmp_path: Path, target: str, dialect: str) -> None:
    with (
        ScriptedUpstream(stream_script(answer() if dialect == "openai" else message())) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect=dialect)) as relay,
    ):
        first = relay.ask(sent(target, stream=True), target, headers=USE)
        assert (first.status, first.header("x-sluice-cache")) == (200, "miss")
        again = relay.ask(sent(target, stream=True), target, headers=USE)
        assert again.whole
        assert again.body == first.body
        assert (again.header("x-sluice-cache"), again.header("age")) == ("hit", "0")
        for name in ("content-type", "x-sluice-channel", "x-sluice-model", "transfer-encoding"):
            assert again.header(name) == first.header(name)
        assert len(upstream.requests) == 1
        before, row = relay.calls()
        assert (row["verdict"], row["source"], row["channel_id"]) == ("complete", "cached", None)
        assert (row["charge"], row["multiplier"], row["balance_after"]) == (
            0, 0, before["balance_after"],
        )  # fmt: skip
        assert (row["input_uncached"], row["output"]) == (9, len(WORDS))
        assert row["finish_reason"] == before["finish_reason"] is not None
        assert relay.rows("SELECT count(*) AS n FROM attempt") == [{"n": 1}], "nobody was asked"


@pytest.mark.parametrize("target", [CHAT, MESSAGES, RESPONSES])
def test_a_plain_answer_is_given_again_at_the_groups_share_of_its_price(
    tmp_path: Path, target: str
) -> None:
    group = {"multiplier": "2", "cache_multiplier": "0.25"}
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group=group) as relay,
    ):
        first = relay.ask(sent(target, stream=False), target, headers=USE)
        assert first.header("x-sluice-cache") == "stored"
        again = relay.ask(sent(target, stream=False), target, headers=USE)
        assert (again.header("x-sluice-cache"), again.body) == ("hit", first.body)
        share = PLAIN_COST * 2 // 4
        assert again.header("x-sluice-cost") == str(share)
        assert again.header("x-sluice-verdict") == "complete"
        found = told(relay, again)
        assert (found["charge_nano_usd"], found["source"]) == (share, "cached")
        assert found["multiplier_millionths"] == 500_000
        price, used = found["price_nano_usd"], found["used"]
        units = price["input"] * used["input_uncached"] + price["output"] * used["output"]
        assert -(-found["multiplier_millionths"] * units // 10**12) == share
        assert again.header("x-sluice-balance") == str(found["balance_after_nano_usd"])
        assert found["attempts"] == []
        assert len(upstream.requests) == 1


def test_without_the_ask_nothing_is_kept_nor_told(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        for headers in ({}, {"x-sluice-cache": "off"}, {"x-sluice-cache-ttl": "60"}):
            response = relay.ask(PLAIN, headers=headers)
            assert response.header("x-sluice-cache") is None
        assert len(upstream.requests) == 3
        assert len(relay.world.cache) == 0


def test_a_key_may_wish_for_it_always_and_a_call_say_no(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        set_key(relay, 60)
        assert relay.ask(PLAIN).header("x-sluice-cache") == "stored"
        assert relay.ask(PLAIN).header("x-sluice-cache") == "hit"
        assert relay.ask(PLAIN, headers={"x-sluice-cache": "off"}).header("x-sluice-cache") is None
        assert relay.ask(PLAIN, key=BOB).header("x-sluice-cache") is None
        assert len(upstream.requests) == 3


def test_time_is_over_when_it_is_over_and_refreshing_asks_anew(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), cache_seconds=100) as relay,
    ):
        began = time.time()

        def after(seconds: int) -> None:
            relay.world.now = lambda: began + seconds

        def ask(**headers: str) -> tuple[str | None, str | None]:
            response = relay.ask(PLAIN, headers=USE | headers)
            return response.header("x-sluice-cache"), response.header("age")

        after(0)
        assert ask() == ("stored", None)
        after(99)
        assert ask() == ("hit", "99")
        assert ask(**{"x-sluice-cache": "refresh"}) == ("stored", None)
        after(198)
        assert ask() == ("hit", "99")
        after(199)
        assert ask(**{"x-sluice-cache-ttl": "5"}) == ("stored", None)
        after(204)
        assert ask() == ("stored", None)
        assert len(upstream.requests) == 4


@pytest.mark.parametrize(
    ("scope", "hits"),
    [("key", [True, False, False]), ("user", [True, True, False]), ("group", [True, True, True])],
)
def test_among_whose_calls_is_the_operators_to_say(
    tmp_path: Path, scope: str, hits: list[bool]
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group={"cache_scope": scope}) as relay,
    ):
        digest = key_digest(PEPPER, OTHER)
        second = NewKey("ann", "second", "default", digest, OTHER[:6], OTHER[-4:])
        relay.run(relay.keeper.change(lambda connection: add_key(connection, second, NOW)))
        relay.ask(PLAIN, headers=USE)
        found = [
            relay.ask(PLAIN, headers=USE, key=key).header("x-sluice-cache") == "hit"
            for key in (ANN, OTHER, BOB)
        ]
        assert found == hits


@pytest.mark.parametrize(
    "other",
    [
        {"sent": PLAIN + b" "},
        {"sent": PLAIN.replace(b"hello", b"goodbye")},
        {"headers": {"openai-beta": "assistants=v2"}},
        {"headers": {"x-sluice-usage": "include"}},
        {"target": "/openai/deployments/m/chat/completions"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_may_make_it_another_answer_makes_it_another_request(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        relay.ask(PLAIN, headers=USE)
        response = relay.ask(
            other.get("sent", PLAIN),
            other.get("target", CHAT),
            headers=USE | other.get("headers", {}),
        )
        assert (response.status, response.header("x-sluice-cache")) == (200, "stored")
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("target", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize("stream", [True, False])
def test_what_is_given_again_tells_its_own_cost(tmp_path: Path, target: str, stream: bool) -> None:
    script = stream_script(answer()) if stream else plain_script(plain_answer())
    both = USE | {"x-sluice-usage": "include"}
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group={"cache_multiplier": "0.5"}) as relay,
    ):
        first = relay.ask(sent(target, stream=stream), target, headers=both)
        again = relay.ask(sent(target, stream=stream), target, headers=both)
        assert again.header("x-sluice-cache") == "hit"
        charged, half = (call["charge"] for call in relay.calls())
        assert b'"cost_nano_usd":%d,' % charged in first.body
        assert b'"cost_nano_usd":%d,' % half in again.body
        assert half == -(-charged // 2)
        assert again.body.replace(b"%d" % half, b"%d" % charged).count(b"cost") == 2


def test_an_answer_that_broke_off_is_not_kept(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script([ROLE, *CONTENT])) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        for _ in range(2):
            relay.ask(body(), headers=USE)
        assert len(upstream.requests) == 2
        assert len(relay.world.cache) == 0


def test_an_error_is_not_kept(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b'{"error":{"message":"no"}}', status=400)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        for _ in range(2):
            assert relay.ask(PLAIN, headers=USE).header("x-sluice-cache") is None
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("stream", [True, False])
def test_what_is_too_large_is_not_kept_and_says_so(tmp_path: Path, stream: bool) -> None:
    script = stream_script(answer()) if stream else plain_script(plain_answer())
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), cache_entry_bytes_max=1_100) as relay,
    ):
        large = sent(CHAT, stream=stream)
        assert [relay.ask(large, headers=USE).header("x-sluice-cache") for _ in range(2)] == [
            "miss", "miss",
        ]  # fmt: skip
        assert len(upstream.requests) == 2
        relay.quiet()
        assert len(relay.world.cache) == 0


def test_an_operator_may_have_none_of_it(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), cache_bytes_max=0) as relay,
    ):
        for _ in range(2):
            assert relay.ask(PLAIN, headers=USE).header("x-sluice-cache") is None
        assert cache.limits(relay.world) == Limits(0, 1 << 20, 10_000)


def test_another_attempt_is_kept_alone(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script([ROLE])) as broken,
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(
            tmp_path,
            channel(broken.base_url, "first", priority=2),
            channel(upstream.base_url, "second"),
        ) as relay,
    ):
        relay.ask(body(), headers=USE)
        again = relay.ask(body(), headers=USE)
        assert again.body == b"".join([ROLE, *CONTENT, STOP, DONE])
        assert again.header("x-sluice-channel") == "second"


@pytest.mark.parametrize("verb", ["generateContent", "streamGenerateContent?alt=sse"])
def test_a_path_that_names_the_model_is_part_of_the_request(tmp_path: Path, verb: str) -> None:
    sse = "alt=sse" in verb
    script = stream_script(gemini.answer()) if sse else plain_script(gemini.whole())
    asked = b'{"contents":[{"parts":[{"text":"Say hello."}]}]}'
    both = USE | {"x-sluice-usage": "include"}
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, gemini.google(upstream.base_url)) as relay,
    ):
        first, again = (
            relay.ask(asked, f"/v1beta/models/m:{verb}", headers=both) for _ in range(2)
        )
        assert again.header("x-sluice-cache") == "hit"
        assert again.body == first.body == (b"".join(gemini.answer()) if sse else gemini.whole())
        other = relay.ask(asked, f"/v1beta/models/guess:{verb}", headers=both)
        assert (other.status, other.header("x-sluice-cache")) == (
            200,
            first.header("x-sluice-cache"),
        )
        array = relay.ask(asked, "/v1beta/models/m:streamGenerateContent", headers=USE)
        assert array.header("x-sluice-cache") is None
        assert len(upstream.requests) == 3


def test_limits_of_cost_and_empty_wallets_hold_here_too(tmp_path: Path) -> None:
    group = {"cache_multiplier": "1"}
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(
            tmp_path, channel(upstream.base_url), group=group, credit=price_of(100, 100)
        ) as relay,
    ):
        relay.ask(PLAIN, headers=USE)
        little = relay.ask(PLAIN, headers=USE | {"x-max-cost": f"{PLAIN_COST - 1} nano"})
        assert error_of(little)["code"] == "max_cost_exceeded"
        enough = relay.ask(PLAIN, headers=USE | {"x-max-cost": f"{PLAIN_COST} nano"})
        assert enough.header("x-sluice-cache") == "hit", "far below what the call might cost"
        dry = json.loads(relay.ask(PLAIN, headers=USE | {"x-dry-run": "true"}).body)
        assert (dry["cache"], dry["hold_nano_usd"]) == ("hit", PLAIN_COST)
        while (response := relay.ask(PLAIN, headers=USE)).status == 200:
            assert response.header("x-sluice-cache") == "hit"
        assert (response.status, error_of(response)["code"]) == (402, "insufficient_quota")
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_nothing_of_it_ends_before_its_charge_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    script = stream_script(answer()) if stream else plain_script(plain_answer())
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        asked = sent(CHAT, stream=stream)
        relay.ask(asked, headers=USE)
        relay.quiet()
        held = relay.hold_commits(monkeypatch)
        relay.bound(commit_wait_ms_max=50)
        with relay.client() as client:
            client.send(request_bytes(CHAT, asked, key=ANN, headers=USE))
            response = client.read_response()
        # Not even the open row is there.
        assert (response.status, error_of(response)["code"]) == (503, "service_unavailable")
        held.set()
        call = relay.calls()[-1]
        assert (call["verdict"], call["charge"], call["source"]) == ("internal_error", 0, "none")


@pytest.mark.parametrize("stream", [True, False])
def test_an_end_whose_charge_is_late_is_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    script = stream_script(answer()) if stream else plain_script(plain_answer())
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group={"cache_multiplier": "1"}) as relay,
    ):
        asked = sent(CHAT, stream=stream)
        whole = relay.ask(asked, headers=USE).body
        relay.quiet()
        settle = relay.keeper.settle
        held: list[Any] = []

        def late(closing: Any) -> Any:
            held.append(relay.hold_commits(monkeypatch))
            return settle(closing)

        monkeypatch.setattr(relay.keeper, "settle", late)
        relay.bound(commit_wait_ms_max=50)
        with relay.client() as client:
            client.send(request_bytes(CHAT, asked, key=ANN, headers=USE))
            if stream:
                client.read_response()
            else:
                client.read_all()
            received = bytes(client.received)
        if stream:
            assert b"settlement_unavailable" in received
            assert b"[DONE]" not in received
        else:
            assert received.endswith(whole[:-1])
        held[0].set()
        assert relay.calls()[-1]["charge"] > 0, "it was given, but for its end"


def test_whoever_leaves_before_anything_left_pays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group={"cache_multiplier": "1"}) as relay,
    ):
        relay.ask(PLAIN, headers=USE)
        relay.quiet()
        held = relay.hold_commits(monkeypatch)
        with relay.client() as client:
            before = relay.handler.begun
            client.send(request_bytes(CHAT, PLAIN, key=ANN, headers=USE))
            relay.until_begun(before)
            relay.until(lambda: relay.keeper.statistics().holds_open == 1)
        relay.until(relay.handler.lost)
        held.set()
        call = relay.calls()[-1]
        assert (call["verdict"], call["charge"], call["status"]) == ("client_gone", 0, 499)


def test_a_client_that_takes_nothing_is_cut_and_billed_for_what_left(tmp_path: Path) -> None:
    long = plain_answer("x" * 3_000_000)
    with (
        ScriptedUpstream(plain_script(long)) as upstream,
        Relay(
            tmp_path,
            channel(upstream.base_url),
            group={"cache_multiplier": "1"},
            cache_entry_bytes_max=8 << 20,
        ) as relay,
    ):
        assert relay.ask(PLAIN, headers=USE).header("x-sluice-cache") == "stored"
        relay.bound(write_stall_seconds_max=0.05)
        with relay.client(receive_buffer_bytes=4_096) as client:
            client.send(request_bytes(CHAT, PLAIN, key=ANN, headers=USE))
            relay.until(lambda: len(relay.keeper.open_calls()) == 0 and relay.handler.begun > 1)
            call = relay.calls()[-1]
        assert (call["verdict"], call["source"]) == ("client_gone", "cached")
        assert call["charge"] == PLAIN_COST


def test_what_a_shutdown_breaks_off_is_not_charged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer("x" * 3_000_000))) as upstream,
        Relay(
            tmp_path,
            channel(upstream.base_url),
            group={"cache_multiplier": "1"},
            cache_entry_bytes_max=8 << 20,
        ) as relay,
    ):
        relay.ask(PLAIN, headers=USE)
        with relay.client(receive_buffer_bytes=4_096) as client:
            client.send(request_bytes(CHAT, PLAIN, key=ANN, headers=USE))
            relay.until(lambda: len(relay.keeper.open_calls()) == 1)

            def cancel() -> None:
                for connection in tuple(relay.server._connections):
                    if connection.task is not None:
                        connection.task.cancel()

            relay.do(cancel)
            call = relay.calls()[-1]
        assert (call["verdict"], call["charge"], call["source"]) == ("internal_error", 0, "none")


def test_what_is_kept_is_a_call_like_any_other(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group={"cache_multiplier": "0.1"}) as relay,
    ):
        relay.ask(PLAIN, headers=USE)
        remaining = []
        for _ in range(3):
            response = relay.ask(PLAIN, headers=USE)
            remaining.append(int(response.header("x-ratelimit-remaining-requests") or 0))
        assert remaining[0] >= remaining[1] >= remaining[2]
        assert remaining[0] < 100, "counted against the limits"
        requests = relay.world.metrics.counted.requests
        assert requests["chat", "other", "none", "200"] == 3
        spent = sum(call["charge"] for call in relay.calls())
        assert spent == PLAIN_COST + 3 * -(-PLAIN_COST // 10)
        assert Decimal(spent) / USD < 1
