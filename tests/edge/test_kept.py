"""Answers that a provider keeps: fetched, deleted and gone on from where they were made.

By who made them alone, through the channel and the key that the ledger has with the call.
"""

import json
import sqlite3
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.edge.kept import PASSED_QUERY
from tests.edge.harness import ANN, BOB, INPUT_NANO, Relay, channel, error_of, price_of
from tests.integration.raw_client import RawResponse, request_bytes
from tests.integration.relay_process import RelayProcess, UpstreamAt
from tests.integration.response_streams import ResponsesWriter
from tests.integration.scripted import ScriptedUpstream, refused_port
from tests.integration.scripts import Close, Pause, Script, plain_script, stream_script
from tests.integration.test_native_responses import ANSWER, ask, body, native

KEPT = f"/v1/responses/{ANSWER['id']}"
PLAIN = json.dumps(ANSWER).encode()
KEYS = ["sk-upstream-one-000001", "sk-upstream-two-000002"]


def request(
    relay: Relay, target: str = KEPT, method: str = "GET", *, key: str = ANN
) -> RawResponse:
    with relay.client() as client:
        client.send(request_bytes(target, key=key, method=method))
        return client.read_response(method)


def change(relay: Relay, statement: str, *values: str) -> None:
    """Change the catalog as an operator would."""

    def work(connection: sqlite3.Connection) -> None:
        connection.execute(statement, values)

    relay.run(relay.keeper.change(work))


def made(relay: Relay, upstream: ScriptedUpstream, said: bytes = PLAIN, **more: Any) -> None:
    """Let a call of Ann's make the answer."""
    upstream.play(plain_script(said))
    response = ask(relay, body(stream=False, **more))
    assert response.status == 200, response.body


def test_a_plain_answer_is_fetched_as_it_came(tmp_path: Path) -> None:
    fetched = json.dumps(ANSWER | {"metadata": {"a": "b"}}, indent=1).encode()
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        made(relay, upstream)
        upstream.play(plain_script(fetched))
        assert PASSED_QUERY.isdisjoint({"key", "stream"})
        response = request(relay, f"{KEPT}?include=x&include=y&key=hush&stream=false")
        assert (response.status, response.body) == (200, fetched)
        assert response.header("content-type") == "application/json"
        assert response.header("x-sluice-channel") == "main"
        assert response.header("x-ratelimit-limit-requests") is not None
        sent = upstream.requests[-1]
        assert (sent.method, sent.target) == (
            "GET", f"/v1/responses/{ANSWER['id']}?include=x&include=y",
        )  # fmt: skip
        assert sent.body == b""
        assert sent.header("authorization") == "Bearer sk-upstream-main-0001"
        assert len(relay.calls()) == 1, "to fetch is free"


def test_to_fetch_is_a_request_like_any_other(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        made(relay, upstream)
        upstream.play(plain_script(PLAIN))
        change(relay, "UPDATE key SET requests_per_minute = 2 WHERE user_id = 1")
        left = relay.run(relay.keeper.limits(1)).requests_remaining
        assert left is not None
        answers = [request(relay) for _ in range(left + 1)]
        assert [each.status for each in answers] == [200] * left + [429]
        said = [each.header("x-ratelimit-remaining-requests") for each in answers]
        assert said == [str(left - number - 1) for number in range(left)] + ["0"]
        assert error_of(answers[-1])["code"] == "rate_limit_exceeded"
        assert answers[-1].header("retry-after") is not None
        assert len(upstream.requests) == 1 + left


def test_a_streamed_answer_is_found_by_the_name_it_began_with(tmp_path: Path) -> None:
    stream = ResponsesWriter("kept").start().text("Hi").end(9, 2)
    with (
        ScriptedUpstream(stream_script(stream.events)) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        assert ask(relay, body()).status == 200
        upstream.play(plain_script(PLAIN))
        assert request(relay, "/v1/responses/resp_kept").body == PLAIN


@pytest.mark.parametrize(
    ("method", "suffix"), [("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]
)
def test_the_other_requests_go_on_too(tmp_path: Path, method: str, suffix: str) -> None:
    said = b'{"object":"list","data":[]}'
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        made(relay, upstream)
        upstream.play(plain_script(said))
        response = request(relay, KEPT + suffix + "?limit=2&after=item_1", method)
        assert (response.status, response.body) == (200, said)
        sent = upstream.requests[-1]
        assert (sent.method, sent.target) == (method, f"{KEPT}{suffix}?limit=2&after=item_1")
        assert sent.header("content-length") == "0"


@pytest.mark.parametrize(
    ("key", "target"),
    [
        (BOB, KEPT),
        (BOB, f"{KEPT}/input_items"),
        (ANN, "/v1/responses/resp_other"),
    ],
)
def test_what_somebody_else_made_is_not_there(tmp_path: Path, key: str, target: str) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        made(relay, upstream)
        before = len(upstream.requests)
        response = request(relay, target, key=key)
        assert response.status == 404
        assert error_of(response)["code"] == "response_not_found"
        assert response.header("x-ratelimit-limit-requests") is not None
        assert len(upstream.requests) == before


@pytest.mark.parametrize("stored", [True, False])
def test_what_is_not_kept_is_not_there(tmp_path: Path, stored: bool) -> None:
    """Not stored at the caller's wish, or never complete."""
    broken = ResponsesWriter("theirs").start().text("Hi").events
    with (
        ScriptedUpstream(stream_script(broken)) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        if stored:
            assert ask(relay, body()).status == 200
        else:
            made(relay, upstream, store=False)
        response = request(relay)
        assert error_of(response)["code"] == "response_not_found"


def test_a_translated_answer_is_kept_by_nobody(tmp_path: Path) -> None:
    said = json.dumps({
        "id": "x", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1},
    }).encode()  # fmt: skip
    with (
        ScriptedUpstream(plain_script(said)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        told = json.loads(ask(relay, body(stream=False)).body)
        response = request(relay, f"/v1/responses/{told['id']}")
        assert error_of(response)["code"] == "response_not_found"
        assert "serve /v1/responses themselves" in error_of(response)["message"]


def test_an_upstream_that_has_it_no_more_says_so(tmp_path: Path) -> None:
    gone = b'{"error":{"message":"Response with id resp_theirs not found.","type":"x"}}'
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        made(relay, upstream)
        upstream.play(plain_script(gone, 404))
        response = request(relay)
        assert response.status == 404
        assert error_of(response)["message"] == "Response with id resp_theirs not found."
        upstream.play(plain_script(b"{}", 401))
        assert request(relay).status == 503
        upstream.play([Close()])
        assert error_of(request(relay))["code"] == "upstream_truncated"
        assert len(relay.calls()) == 1


def test_an_upstream_that_is_silent_or_away_is_not_waited_for(tmp_path: Path) -> None:
    with ScriptedUpstream(plain_script(b"{}")) as upstream:
        table = native(upstream.base_url, first_byte_seconds_max=0.2)
        with Relay(tmp_path, table) as relay:
            made(relay, upstream)
            upstream.play([Pause("never")])
            response = request(relay)
            assert (response.status, error_of(response)["code"]) == (504, "upstream_timeout")
            upstream.release("never")
            with refused_port() as port:
                change(relay, "UPDATE channel SET base_url = ?", f"http://127.0.0.1:{port}/v1")
                assert request(relay).status == 503


def test_a_connection_that_went_stale_is_replaced(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        made(relay, upstream)
        kept: Script = [*plain_script(PLAIN), Close()]
        upstream.play(kept)
        assert request(relay).status == 200
        assert request(relay).status == 200


@pytest.mark.parametrize(
    ("query", "param"), [("?stream=true", "stream"), ("?limit=2&stream=true", "stream")]
)
def test_a_stream_is_not_taken_up_again(tmp_path: Path, query: str, param: str) -> None:
    with Relay(tmp_path, native("http://127.0.0.1:9")) as relay:
        response = request(relay, KEPT + query)
        assert (response.status, error_of(response)["param"]) == (400, param)


def test_a_channel_that_is_switched_off_keeps_its_answers_to_itself(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
    ):
        made(relay, upstream)
        change(relay, "UPDATE channel SET enabled = 0")
        assert error_of(request(relay))["code"] == "response_not_found"


# Going on from an answer


def test_a_call_goes_on_where_its_answer_is_kept(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}")) as other,
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(
            tmp_path,
            native(upstream.base_url, "keeps", keys=KEYS),
            native(other.base_url, "other", enabled=False, priority=9),
        ) as relay,
    ):
        made(relay, upstream)
        secret = upstream.requests[-1].header("authorization")
        change(relay, "UPDATE channel SET enabled = 1")
        for _ in range(3):
            made(relay, upstream, previous_response_id=ANSWER["id"])
            sent = upstream.requests[-1]
            assert sent.header("authorization") == secret, "the key that made it"
            assert json.loads(sent.body)["previous_response_id"] == ANSWER["id"]
        assert other.requests == []
        assert len(relay.calls()) == 4


def test_what_was_said_before_is_held_for_and_counted(tmp_path: Path) -> None:
    silent = json.dumps(ANSWER | {"id": "resp_next", "usage": None}).encode()
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        made(relay, upstream)
        upstream.play([Pause("late"), *plain_script(silent)])
        asked = body(stream=False, previous_response_id=ANSWER["id"], max_output_tokens=5)
        client.send(request_bytes("/v1/responses", asked, key=ANN))
        offer = relay.call().offer
        alone = 3 + 2 * 3
        assert offer.request.input_tokens_estimate >= alone + 11
        assert offer.hold == offer.quote(offer.request.input_tokens_estimate, 5)
        upstream.release("late")
        assert client.read_response().status == 200
        first, second = relay.calls()
        assert first["charge"] == price_of(9, 2)
        assert second["source"] == "counted"
        assert second["input_uncached"] > 11
        assert second["charge"] >= 11 * INPUT_NANO


def test_an_answer_nobody_knows_is_told_before_anything_is_held(tmp_path: Path) -> None:
    with Relay(tmp_path, native("http://127.0.0.1:9")) as relay:
        response = ask(relay, body(previous_response_id="resp_unknown"))
        assert response.status == 400
        error = error_of(response)
        assert (error["code"], error["param"]) == (
            "previous_response_not_found", "previous_response_id",
        )  # fmt: skip
        assert relay.calls() == []


def test_another_model_may_not_go_on_where_it_is_not_served(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}")) as upstream,
        Relay(
            tmp_path,
            native(upstream.base_url, "keeps", models={"m": "up-m"}),
            native("http://127.0.0.1:9", "other", models={"guess": "up-guess"}),
        ) as relay,
    ):
        made(relay, upstream)
        asked = {"model": "guess", "input": "x", "previous_response_id": ANSWER["id"]}
        error = error_of(ask(relay, json.dumps(asked).encode()))
        assert error["code"] == "previous_response_not_found"
        assert "does not serve `guess`" in error["message"]


def test_the_sdk_fetches_and_goes_on(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(PLAIN)) as upstream,
        Relay(tmp_path, native(upstream.base_url)) as relay,
        openai.OpenAI(
            base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=ANN, max_retries=0
        ) as client,
    ):
        first = client.responses.create(model="m", input="Say hello.")
        again = client.responses.retrieve(first.id)
        assert again.output_text == first.output_text == "Hi there"
        client.responses.create(model="m", input="And?", previous_response_id=first.id)
        client.responses.cancel(first.id)
        client.responses.delete(first.id)
        upstream.play(plain_script(b'{"object":"list","data":[],"has_more":false}'))
        assert client.responses.input_items.list(first.id).data == []


def test_any_worker_knows_what_another_made(tmp_path: Path) -> None:
    table = {"endpoints": ["responses"]}
    with ScriptedUpstream(plain_script(PLAIN)) as upstream:
        up = UpstreamAt("main", "openai", upstream.base_url, {"m": "m"}, settings=table)
        with RelayProcess(tmp_path, [up], settings={"workers": 2}) as relay:
            account, other = relay.account(), relay.account()
            with openai.OpenAI(
                base_url=f"{relay.url}/v1", api_key=account.key, max_retries=0
            ) as client:
                first = client.responses.create(model="m", input="Say hello.")
            for _ in range(8):
                # A connection of its own, which the kernel gives to either worker.
                with openai.OpenAI(
                    base_url=f"{relay.url}/v1", api_key=account.key, max_retries=0
                ) as client:
                    assert client.responses.retrieve(first.id).output_text == "Hi there"
            with (
                openai.OpenAI(
                    base_url=f"{relay.url}/v1", api_key=other.key, max_retries=0
                ) as client,
                pytest.raises(openai.NotFoundError),
            ):
                client.responses.retrieve(first.id)


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    table = {"endpoints": ["responses"]}
    with ScriptedUpstream(plain_script(PLAIN)) as upstream:
        up = UpstreamAt("main", "openai", upstream.base_url, {"m": "m"}, settings=table)
        with RelayProcess(tmp_path, [up]) as relay:
            account = relay.account()
            with openai.OpenAI(
                base_url=f"{relay.url}/v1", api_key=account.key, max_retries=0
            ) as client:
                first = client.responses.create(model="m", input="Say hello.")
            relay.kill()
            relay.start()
            with openai.OpenAI(
                base_url=f"{relay.url}/v1", api_key=account.key, max_retries=0
            ) as client:
                assert client.responses.retrieve(first.id).output_text == "Hi there"
