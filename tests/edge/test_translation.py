"""Calls whose upstream speaks the other dialect: carried over, and billed by what it said."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.core.catalog import build_catalog
from proxy.core.entities import Channel, Dialect, Group, Key, Model, Plan, Price, User, Wire
from proxy.core.errors import RelayError
from proxy.core.exchange import Exchange, Expectation
from proxy.core.metering import Meter
from proxy.core.requests import parse_call
from proxy.core.usage import UsageTally
from proxy.edge import translation as module
from proxy.edge.offer import Offer, make_offer, route_of
from proxy.edge.translation import Translation
from tests.edge.harness import (
    ANN,
    CHAT,
    MESSAGES,
    ROLE,
    SAID,
    STOP,
    WORDS,
    Relay,
    answer,
    anthropic_channel,
    body,
    channel,
    chunk_event,
    error_of,
    message,
    named,
    plain_answer,
    price_of,
)
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    AwaitGone,
    Send,
    chunk,
    plain_script,
    stream_head,
    stream_script,
)

PLAIN_MESSAGE = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "up-m",
        "content": [{"type": "text", "text": "Hello there"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 9, "output_tokens": 2},
    }
).encode()


def events(response: Any) -> list[Any]:
    """The data of every event of a stream, `[DONE]` as it is."""
    found = [
        part.split(b"data: ", 1)[1] for part in response.body.split(b"\n\n") if b"data: " in part
    ]
    return [part if part == b"[DONE]" else json.loads(part) for part in found]


def test_chat_asked_and_messages_answered_as_a_stream(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(message())) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
    ):
        asked = body(max_tokens=50, seed=7, stream_options={"include_usage": True})
        response = relay.ask(asked)
        assert (response.status, response.whole) == (200, True)
        *chunks, done = events(response)
        assert done == b"[DONE]"
        said = [one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"]]
        assert "".join(said) == "".join(WORDS)
        assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
        assert chunks[-1]["usage"]["total_tokens"] == 9 + len(WORDS)
        assert response.header("x-sluice-left-out") == "seed"
        assert response.header("x-sluice-model") == "up-m"
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert call["charge"] == price_of(9, len(WORDS))
        sent = json.loads(upstream.requests[0].body)
        assert (sent["model"], sent["max_tokens"], sent["stream"]) == ("up-m", 50, True)
        assert upstream.requests[0].target.endswith("/messages")
        assert upstream.requests[0].header("x-api-key") == "sk-upstream-main-0001"


def test_messages_asked_and_chat_answered_as_a_stream(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        asked = request_bytes(
            MESSAGES, body(max_tokens=50), key=ANN, headers={"anthropic-beta": "x"}
        )
        with relay.client() as client:
            client.send(asked)
            response = client.read_response()
        assert response.status == 200
        kinds = [one["type"] for one in events(response)]
        assert kinds[0] == "message_start"
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert events(response)[-2]["usage"]["output_tokens"] == len(WORDS)
        assert upstream.requests[0].header("anthropic-beta") is None
        (call,) = relay.calls()
        assert call["charge"] == price_of(9, len(WORDS))


def test_plain_calls_both_ways(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(PLAIN_MESSAGE)) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(stream=False))
        found = json.loads(response.body)
        assert found["choices"][0]["message"]["content"] == "Hello there"
        assert json.loads(upstream.requests[0].body)["max_tokens"] == 2_000
        (call,) = relay.calls()
        assert (call["charge"], call["source"]) == (price_of(9, 2), "reported")
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path / "2", channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(stream=False, max_tokens=5), MESSAGES)
        assert json.loads(response.body)["content"] == [{"type": "text", "text": "Hello there"}]


@pytest.fixture(autouse=True)
def _second(tmp_path: Path) -> None:
    (tmp_path / "2").mkdir()


def test_the_callers_own_dialect_is_preferred(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as own,
        ScriptedUpstream(stream_script(message())) as other,
        Relay(
            tmp_path,
            anthropic_channel(other.base_url, "other", priority=9),
            channel(own.base_url, "own"),
        ) as relay,
    ):
        assert relay.ask(body()).header("x-sluice-channel") == "own"
        assert not other.requests


def test_what_no_channel_can_say_is_refused_before_anything_is_held(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(message())) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(n=2))
        assert response.status == 400
        assert (error_of(response)["code"], error_of(response)["param"]) == ("invalid_request", "n")
        assert relay.calls() == []
        assert not upstream.requests


def test_an_error_of_the_upstream_comes_in_the_callers_dialect(tmp_path: Path) -> None:
    refusal = b'{"type":"error","error":{"type":"invalid_request_error","message":"bad picture"}}'
    with (
        ScriptedUpstream(plain_script(refusal, status=400)) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body())
        assert response.status == 400
        assert error_of(response)["message"] == "bad picture"
        assert set(error_of(response)) == {"message", "type", "param", "code"}


def test_an_error_in_the_stream_is_told_in_band_and_what_came_before_is_billed(
    tmp_path: Path,
) -> None:
    error = named({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}})
    with (
        ScriptedUpstream(stream_script([*message()[:5], error])) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body())
        assert error_of(response)["message"] == "busy"
        assert b"[DONE]" not in response.body
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("upstream_error", "counted")
        assert call["charge"] > 0


def test_an_answer_that_cannot_be_carried_is_the_upstreams_failure(tmp_path: Path) -> None:
    def call_of(index: int, text: str) -> bytes:
        function = {"name": "f", "arguments": text}
        return chunk_event({"tool_calls": [{"index": index, "id": "c", "function": function}]})

    mixed = [ROLE, call_of(0, "{"), call_of(1, "{"), call_of(0, "}"), STOP]
    with (
        ScriptedUpstream(stream_script([*mixed, b"data: [DONE]\n\n"])) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(max_tokens=50), MESSAGES)
        assert b"message_stop" not in response.body
        assert error_of(response)["type"] == "api_error"
        (call,) = relay.calls()
        assert call["verdict"] == "upstream_error"


def test_a_plain_answer_that_is_not_understood_is_no_charge(tmp_path: Path) -> None:
    odd = json.dumps({"content": [{"type": "text", "text": 7}], "usage": {"output_tokens": 2}})
    with (
        ScriptedUpstream(plain_script(odd.encode())) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(stream=False))
        assert response.status == 502
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("upstream_error", 0)


def test_a_client_that_left_pays_what_was_carried_over_to_it(tmp_path: Path) -> None:
    begun = [Send(stream_head()), *[Send(chunk(event)) for event in message()[:5]], AwaitGone()]
    with (
        ScriptedUpstream(begun) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), key=ANN))
        client.read_until(b'"content":","')
        call_now = relay.call()
        client.leave()
        relay.until(lambda: call_now.gone)
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("client_gone", "counted")
        assert call["charge"] == price_of(9, 3)


# The translation of one attempt by itself


def offer(upstream: Dialect, **fields: Any) -> tuple[Offer, Channel]:
    one = Channel(
        id=1,
        name="main",
        dialect=upstream,
        base_url="https://x.test",
        keys=(),
        models={"m": "up"},
        groups=frozenset({"default"}),
    )
    price = Price("m", 1, input=10**9, output=2 * 10**9)
    model = Model("m", context_window=100_000, output_tokens_max=2_000, price=price)
    key = Key(1, 1, b"k", "first", "default", "sk-a", "wxyz")
    catalog = build_catalog(
        1,
        users=[User(1, "ann", "free")],
        plans=[Plan("free")],
        groups=[Group("default")],
        models=[model],
        channels=[one],
        keys=[key],
    )
    request = parse_call(body(**fields), Dialect.OPENAI)
    return make_offer(key, route_of(catalog, key, request), request, 100), one


def test_bytes_that_have_not_left_are_told_in_the_upstreams_own() -> None:
    made = Translation(*offer(Dialect.ANTHROPIC), 0)
    written = [made.feed(event) for event in message()[:5]]
    assert made.unsent(0) == 0
    assert made.unsent(len(written[-1])) == len(SAID[2])
    assert made.unsent(len(written[-1]) + 1) == len(SAID[2]) + len(SAID[1])
    assert made.unsent(10**9) == sum(len(event) for event in message()[:5])


def test_what_is_remembered_of_a_stream_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_BYTES_MAX", 1_000)
    made = Translation(*offer(Dialect.ANTHROPIC), 0)
    for event in (*message()[:2], *SAID * 20):
        made.feed(event)
    assert 0 < made.unsent(10**9) < 1_000


def test_names_of_what_is_left_out_are_fit_for_a_header() -> None:
    made = Translation(*offer(Dialect.ANTHROPIC), 0)
    assert made.header() == []
    made.left_out = ("seed", "bad\r\nname", "é", "x" * 65)
    assert made.header() == [("x-sluice-left-out", "seed, (other)")]
    made.left_out = tuple(f"n{number}" for number in range(30))
    assert made.header()[0][1].count(",") == module.NAMES_SHOWN_MAX - 1


def test_nothing_of_a_broken_stream_passes() -> None:
    made = Translation(*offer(Dialect.ANTHROPIC), 0)
    assert made.feed(b"data: nonsense\n\n") == b""
    assert made.failure is not None
    exchange = Exchange(Expectation(Wire.MESSAGES, stream=True), Meter(len), UsageTally())
    with pytest.raises(RelayError):
        made.conclude(exchange)
