"""`usage.cost` where a caller asks for it, in every form, equal to what the ledger has."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from proxy.edge.told_call import Retelling
from tests.edge.harness import (
    BLOCK_START,
    BLOCK_STOP,
    CHAT,
    CONTENT,
    DONE,
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    MESSAGES,
    ROLE,
    SAID,
    STOP,
    USD,
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
from tests.integration.raw_client import RawResponse, request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    Flood,
    Pause,
    Send,
    chunk,
    plain_script,
    stream_head,
    stream_script,
)

INCLUDE = {"x-sluice-usage": "include"}
RESPONSES = "/v1/responses"
ASKED = b'{"model":"m","input":"Say hello.","max_output_tokens":50,"stream":%s}'
PLAIN_MESSAGE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"up-m",'
    b'"content":[{"type":"text","text":"Hello there"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":2}}'
)


def events(response: RawResponse) -> list[dict[str, Any]]:
    """The data of every event, but for [DONE]."""
    lines = [line[6:] for line in response.body.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line, parse_float=Decimal) for line in lines if line != b"[DONE]"]


def usage_told(response: RawResponse) -> dict[str, Any]:
    """The last usage object that names a cost."""
    found = [
        usage
        for event in events(response)
        for usage in (event.get("usage"), (event.get("response") or {}).get("usage"))
        if usage and "cost" in usage
    ]
    assert len(found) == 1, response.body
    assert isinstance(found[0], dict)
    return found[0]


def assert_posted(usage: dict[str, Any], relay: Relay) -> None:
    call = relay.calls()[-1]
    assert call["verdict"] == "complete"
    assert usage["cost_nano_usd"] == call["charge"] > 0
    assert Decimal(usage["cost"]) == Decimal(call["charge"]) / USD
    assert usage["balance_nano_usd"] == call["balance_after"]


@pytest.mark.parametrize("how", ["header", "body", "both", "asked for anyway"])
def test_a_stream_of_chunks_ends_with_what_it_cost(tmp_path: Path, how: str) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        more: dict[str, Any] = {}
        if how in {"body", "both"}:
            more["usage"] = {"include": True}
        if how == "asked for anyway":
            more["stream_options"] = {"include_usage": True}
        response = relay.ask(body(**more), headers={} if how == "body" else INCLUDE)
        usage = usage_told(response)
        assert_posted(usage, relay)
        assert usage["prompt_tokens"] == 9
        assert response.body.startswith(b"".join([ROLE, *CONTENT, STOP]))
        assert response.body.endswith(DONE)
        assert len(events(response)) == 2 + len(CONTENT) + 1
        sent = json.loads(upstream.requests[0].body)
        assert sent["stream_options"] == {"include_usage": True}
        assert "usage" not in sent, "it was for us"


@pytest.mark.parametrize("asked", [{"usage": {"include": False}}, {"usage": {"other": 1}}, {}])
def test_without_the_ask_nothing_is_touched(tmp_path: Path, asked: dict[str, Any]) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body(**asked)).body == b"".join([ROLE, *CONTENT, STOP, DONE])
        sent = json.loads(upstream.requests[0].body)
        assert ("usage" in sent) is ("other" in asked.get("usage", {})), "what is not ours passes"


def test_a_message_tells_in_its_last_delta(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(message())) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(max_tokens=100), MESSAGES, headers=INCLUDE)
        usage = usage_told(response)
        assert_posted(usage, relay)
        assert usage["output_tokens"] == len(WORDS)
        unchanged = [MESSAGE_START, BLOCK_START, *SAID, BLOCK_STOP]
        assert response.body.startswith(b"".join(unchanged))
        assert response.body.endswith(MESSAGE_STOP)
        assert events(response)[-2]["delta"] == {"stop_reason": "end_turn"}
        assert MESSAGE_DELTA not in response.body


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("target", [CHAT, MESSAGES, RESPONSES])
@pytest.mark.parametrize("stream", [True, False])
def test_every_form_tells_whatever_its_channel_speaks(
    tmp_path: Path, target: str, dialect: str, stream: bool
) -> None:
    if stream:
        script = stream_script(answer() if dialect == "openai" else message())
    else:
        script = plain_script(plain_answer() if dialect == "openai" else PLAIN_MESSAGE)
    sent = body(stream=stream, max_tokens=50)
    if target == RESPONSES:
        sent = ASKED % (b"true" if stream else b"false")
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect=dialect)) as relay,
    ):
        response = relay.ask(sent, target, headers=INCLUDE)
        assert response.status == 200, response.body
        if stream:
            usage = usage_told(response)
        else:
            usage = json.loads(response.body, parse_float=Decimal)["usage"]
            assert str(usage["cost_nano_usd"]) == response.header("x-sluice-cost")
        assert_posted(usage, relay)


def test_a_stream_nobody_reports_on_tells_what_was_counted(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script([ROLE, *CONTENT, STOP, DONE])) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        usage = usage_told(relay.ask(body(), headers=INCLUDE))
        assert_posted(usage, relay)
        assert usage["completion_tokens"] == len(WORDS)


def test_another_channel_may_serve_it(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}", status=500)) as broken,
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(
            tmp_path,
            channel(broken.base_url, "first", priority=2),
            channel(upstream.base_url, "second"),
        ) as relay,
    ):
        assert_posted(usage_told(relay.ask(body(), headers=INCLUDE)), relay)


@pytest.mark.parametrize("target", [CHAT, RESPONSES])
def test_a_stream_that_fails_says_so_and_names_no_cost(tmp_path: Path, target: str) -> None:
    with (
        ScriptedUpstream(stream_script([ROLE, *CONTENT])) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        sent = body() if target == CHAT else ASKED % b"true"
        response = relay.ask(sent, target, headers=INCLUDE)
        assert b"upstream_truncated" in response.body
        assert b"cost_nano_usd" not in response.body
        (call,) = relay.calls()
        assert call["charge"] > 0


def test_a_limit_of_cost_cuts_a_stream_that_tells(tmp_path: Path) -> None:
    script = [Send(stream_head()), Flood(chunk(CONTENT[1]), 100_000)]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), slice_tokens=16) as relay,
    ):
        limit = {"x-max-cost": f"{price_of(100, 200)} nano"}
        response = relay.ask(body(), headers=INCLUDE | limit)
        assert error_of(response)["code"] == "max_cost_exceeded"
        (call,) = relay.calls()
        assert call["output"] == response.body.count(CONTENT[1])


@pytest.mark.parametrize("asks", [{}, INCLUDE, {"x-sluice-cache": "use"}])
def test_who_leaves_in_the_middle_pays_the_same_whatever_was_asked_for(
    tmp_path: Path, asks: dict[str, str]
) -> None:
    head, rest = [ROLE, *CONTENT[:3]], [*CONTENT[3:], STOP, DONE]
    script = [
        Send(stream_head()),
        *[Send(chunk(event)) for event in head],
        Pause("rest"),
        *[Send(chunk(event)) for event in rest],
    ]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        with relay.client() as client:
            client.send(request_bytes(CHAT, body(), key=harness_key(), headers=asks))
            client.read_until(CONTENT[2])
        relay.until(relay.handler.lost)
        upstream.release("rest")
        (call,) = relay.calls()
        assert (call["verdict"], call["output"]) == ("client_gone", 3)
        assert len(relay.world.cache) == 0


def test_usage_comes_with_a_cost_also_over_http_1_0(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        sent = body()
        client.send(
            b"POST /v1/chat/completions HTTP/1.0\r\nx-sluice-usage: include\r\n"
            b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
            % (harness_key().encode(), len(sent), sent)
        )
        client.read_all()
        assert b'"cost_nano_usd":' in bytes(client.received)
    assert Retelling.__doc__


def harness_key() -> str:
    from tests.edge.harness import ANN

    return ANN
