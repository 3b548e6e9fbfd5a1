"""The life of a call, end to end: both dialects, both shapes, every way to leave, exact bills."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.core.limits import LimitState
from proxy.edge import relay as relay_module
from proxy.storage.ports import KeeperUnavailableError
from tests.edge import harness
from tests.edge.harness import (
    ANN,
    CHAT,
    CONTENT,
    DONE,
    MESSAGES,
    ROLE,
    STOP,
    WORDS,
    Relay,
    answer,
    anthropic_channel,
    body,
    channel,
    error_of,
    message,
    plain_answer,
    price_of,
)
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script, stream_script


def test_a_stream_of_the_openai_dialect_is_forwarded_event_for_event_and_billed(
    tmp_path: Path,
) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body())
        assert response.status == 200
        assert response.whole
        assert response.body == b"".join([ROLE, *CONTENT, STOP, DONE])
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert call["charge"] == price_of(9, len(WORDS))
        assert call["finish_reason"] == "stop"
        assert upstream.requests[0].header("authorization") == "Bearer sk-upstream-main-0001"
        assert b'"include_usage":true' in upstream.requests[0].body.replace(b" ", b"")
    assert relay_module.relay.__doc__


def test_the_usage_event_stays_when_the_caller_asked_for_it(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        asked = body(stream_options={"include_usage": True})
        assert relay.ask(asked).body == b"".join(answer())
        assert upstream.requests[0].body == asked.replace(b'"m"', b'"up-m"')


def test_a_stream_of_the_anthropic_dialect(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(message())) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(max_tokens=100), MESSAGES)
        assert response.body == b"".join(message())
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert call["charge"] == price_of(9, len(WORDS))
        assert upstream.requests[0].header("x-api-key") == "sk-upstream-main-0001"
        assert upstream.requests[0].header("anthropic-version") == "2023-06-01"


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_plain_answer_is_passed_on_byte_for_byte(tmp_path: Path, dialect: str) -> None:
    anthropic = (
        b'{"id":"msg_1","type":"message","content":[{"type":"text","text":"Hello there"}],'
        b'"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":2}}'
    )
    said = plain_answer() if dialect == "openai" else anthropic
    with (
        ScriptedUpstream(plain_script(said)) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect=dialect)) as relay,
    ):
        target = CHAT if dialect == "openai" else MESSAGES
        response = relay.ask(body(stream=False, max_tokens=50), target)
        assert (response.status, response.body) == (200, said)
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("complete", price_of(9, 2))


def test_the_second_call_uses_the_kept_connection_on_both_sides(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        for _ in range(3):
            client.received.clear()
            client.send(request_bytes(CHAT, body(), key=ANN))
            response = client.read_response()
            assert response.whole
            assert response.rest == b""
            relay.until(lambda: relay.world.pool.idle_count() == 1)
        assert len(upstream.visits) == 1
        assert [call["verdict"] for call in relay.calls()] == ["complete"] * 3


def test_usage_nobody_reported_is_counted_exactly(tmp_path: Path) -> None:
    events = [ROLE, *CONTENT, STOP, DONE]
    with (
        ScriptedUpstream(stream_script(events)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        relay.ask(body())
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "counted")
        assert call["output"] == len(WORDS)


def test_an_http_1_0_client_reads_to_the_end(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), key=ANN).replace(b"HTTP/1.1", b"HTTP/1.0"))
        client.read_all()
        head, _, sent = bytes(client.received).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert sent == b"".join([ROLE, *CONTENT, STOP, DONE])
        assert [call["verdict"] for call in relay.calls()] == ["complete"]


def test_an_empty_wallet_is_402_with_the_limit_that_would_fit(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), credit=100_000) as relay,
    ):
        response = relay.ask(body(stream=False, max_tokens=2_000))
        assert response.status == 402
        assert error_of(response)["code"] == "insufficient_quota"
        assert "max_tokens" in str(error_of(response)["message"])
        assert response.header("x-should-retry") == "false"
        assert not upstream.visits
        assert not relay.calls()


def test_a_refused_call_names_its_limits(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        for asked in (b"{", body(model="nothing"), body(stream=False, max_tokens=-1)):
            response = relay.ask(asked)
            assert response.status in {400, 404}
            assert response.header("x-ratelimit-limit-requests") == "600"
            assert response.header("anthropic-ratelimit-requests-limit") == "600"
        assert relay.ask(body(), key="sk-wrong").header("x-ratelimit-limit-requests") is None
        assert relay.do(lambda: relay.keeper.balance(1)) == harness.USD


def test_a_refusal_waits_for_no_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(key_id: int) -> LimitState:
        raise KeeperUnavailableError("the keeper is away")

    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        monkeypatch.setattr(relay.keeper, "limits", nobody)
        response = relay.ask(body(model="nothing"))
        assert response.status == 404
        assert error_of(response)["code"] == "model_not_found"
        assert response.header("x-ratelimit-limit-requests") is None


def test_a_draining_relay_refuses_new_calls(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        relay.world.draining = True
        response = relay.ask(body())
        assert response.status == 503
        assert error_of(response)["code"] == "server_restarting"
        assert response.header("retry-after") == "1"


@pytest.mark.parametrize(("asked", "told"), [(500, "64"), (None, "64"), (10, None)])
def test_a_lowered_token_limit_is_sent_upstream_and_announced(
    tmp_path: Path, asked: int | None, told: str | None
) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group={"output_tokens_max": 64}) as relay,
    ):
        more: dict[str, Any] = {} if asked is None else {"max_tokens": asked}
        response = relay.ask(body(**more))
        assert response.header("x-sluice-max-tokens") == told
        sent = json.loads(upstream.requests[0].body)
        assert {sent.get("max_tokens"), sent.get("max_completion_tokens")} - {None} == {
            int(told or 10)
        }
