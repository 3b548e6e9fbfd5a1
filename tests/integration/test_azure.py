"""Azure OpenAI on both sides: as an upstream by its own paths and quirks, and its SDK's client.

The upstream here is a stand-in written by hand: it plays what Microsoft's reference and users'
reports say of Azure (the first chunk without choices, filter results beside the text, its own error
bodies and headers), and proves nothing about the service itself. The client is the real one.
"""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.edge.harness import (
    ANN,
    CHAT,
    CONTENT,
    DONE,
    ROLE,
    STOP,
    WORDS,
    Relay,
    answer,
    body,
    channel,
    data,
    error_of,
    plain_answer,
    price_of,
    usage,
)
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ReceivedRequest, ScriptedUpstream
from tests.integration.scripts import Script, Send, plain_script, stream_head, stream_script

DATED = "2024-10-21"
APIM_ID = "6c1f9a52-0000-4000-8000-000000000001"
SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "violence")}
PROMPT_FILTER = data(
    {
        "choices": [], "created": 0, "id": "", "model": "", "object": "",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}],
    }
)  # fmt: skip
LATE_FILTER = data(
    {
        "choices": [
            {"content_filter_offsets": {"check_offset": 44, "start_offset": 44, "end_offset": 198},
             "content_filter_results": SAFE, "finish_reason": None, "index": 0}
        ],
        "created": 0, "id": "", "model": "", "object": "",
    }
)  # fmt: skip
"""What the asynchronous filter says of text that is long gone, at times after the finish reason."""
STREAM = [PROMPT_FILTER, ROLE, *CONTENT, LATE_FILTER, STOP, LATE_FILTER]
FILTERED = {
    "error": {
        "message": "The response was filtered due to the prompt triggering the content policy.",
        "type": None, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": SAFE},
    }
}  # fmt: skip


def azure(origin: str, name: str = "main", version: str = DATED, **changes: Any) -> dict[str, Any]:
    """A channel to the stand-in; `my gpt` is its deployment."""
    models = {"m": "my gpt"}
    return channel(origin, name, **({"api_version": version, "models": models} | changes))


def told(status: int, value: object, **headers: str) -> Script:
    """An error of Azure's."""
    rows = [(name.replace("_", "-"), text) for name, text in headers.items()]
    return plain_script(json.dumps(value).encode(), status, [("apim-request-id", APIM_ID), *rows])


@pytest.mark.parametrize(
    ("version", "base", "target"),
    [
        (DATED, "", f"/openai/deployments/my%20gpt/chat/completions?api-version={DATED}"),
        (DATED, "/openai/", f"/openai/deployments/my%20gpt/chat/completions?api-version={DATED}"),
        ("v1", "", "/openai/v1/chat/completions"),
        ("preview", "/llm", "/llm/openai/v1/chat/completions?api-version=preview"),
    ],
)
def test_a_stream_goes_to_the_deployment_and_comes_back_byte_for_byte(
    tmp_path: Path, version: str, base: str, target: str
) -> None:
    head = [Send(stream_head(("apim-request-id", APIM_ID), ("x-request-id", "other")))]
    events = [*STREAM, usage(9, 7), DONE]
    with (
        ScriptedUpstream(stream_script(events, headers=head)) as upstream,
        Relay(tmp_path, azure(upstream.origin + base, version=version)) as relay,
    ):
        response = relay.ask(body())
        assert response.body == b"".join([*STREAM, DONE]), "the usage nobody asked for is left out"
        (asked,) = upstream.requests
        assert asked.target == target
        assert asked.header("api-key") == "sk-upstream-main-0001"
        assert asked.header("authorization") is None
        assert json.loads(asked.body)["model"] == "my gpt", "Azure ignores it, or reads it by v1"
        assert json.loads(asked.body)["stream_options"] == {"include_usage": True}
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("complete", "reported")
        assert call["charge"] == price_of(9, 7)
        (attempt,) = relay.attempts()
        assert attempt["upstream_request_id"] == APIM_ID
        assert attempt["upstream_model"] == "my gpt"


def test_two_deployments_of_a_channel_have_a_head_each(tmp_path: Path) -> None:
    models = {"m": "one", "guess": "two"}
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, azure(upstream.origin, models=models)) as relay,
    ):
        for model in ("m", "guess", "m"):
            assert relay.ask(body(stream=False, model=model)).status == 200
        named = [request.target.split("/")[3] for request in upstream.requests]
        assert named == ["one", "two", "one"]


def test_a_version_before_stream_options_is_asked_without_them_from_then_on(tmp_path: Path) -> None:
    refusal = {"error": {"message": "Unrecognized request argument supplied: stream_options",
                         "type": "invalid_request_error", "param": None, "code": None}}  # fmt: skip

    def script(request: ReceivedRequest) -> Script:
        if b"stream_options" in request.body:
            return told(400, refusal)
        return stream_script([*STREAM, DONE])

    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, azure(upstream.origin, version="2023-05-15")) as relay,
    ):
        assert relay.ask(body()).body == b"".join([*STREAM, DONE])
        assert relay.ask(body()).whole
        assert len(upstream.requests) == 3
        calls = relay.calls()
        assert {call["source"] for call in calls} == {"counted"}
        assert {call["output"] for call in calls} == {len(WORDS)}


def test_an_answer_that_is_filtered_midway_is_complete_and_says_so(tmp_path: Path) -> None:
    stop = data({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter",
                                          "content_filter_results": SAFE}]})  # fmt: skip
    events = [PROMPT_FILTER, ROLE, *CONTENT[:3], stop, usage(9, 3), DONE]
    with (
        ScriptedUpstream(stream_script(events)) as upstream,
        Relay(tmp_path, azure(upstream.origin)) as relay,
    ):
        assert b"content_filter" in relay.ask(body()).body
        (call,) = relay.calls()
        assert (call["verdict"], call["finish_reason"]) == ("complete", "content_filter")


@pytest.mark.parametrize(
    ("answered", "status", "code", "words"),
    [
        (told(400, FILTERED), 400, "invalid_request", "triggering the content policy"),
        (
            told(401, {"statusCode": 401, "message": "Unauthorized. Access token is missing."}),
            503,
            "upstream_unavailable",
            "nothing was charged",
        ),
        (
            told(401, {"error": {"code": "401", "message": "Access denied due to invalid key"}}),
            503,
            "upstream_unavailable",
            "nothing was charged",
        ),
        (
            told(404, {"error": {"code": "DeploymentNotFound", "message": "No such deployment."}}),
            404,
            "model_not_found",
            "No such deployment.",
        ),
        (
            told(404, {"statusCode": 404, "message": "Resource not found"}),
            404,
            "model_not_found",
            "R",
        ),
    ],
)
def test_its_errors_are_told_in_the_callers_dialect(
    tmp_path: Path, answered: Script, status: int, code: str, words: str
) -> None:
    with (
        ScriptedUpstream(answered) as upstream,
        Relay(tmp_path, azure(upstream.origin)) as relay,
    ):
        response = relay.ask(body())
        assert response.status == status
        assert error_of(response)["code"] == code
        assert words in error_of(response)["message"]
        (attempt,) = relay.attempts()
        assert attempt["upstream_request_id"] == APIM_ID
        assert relay.calls()[0]["charge"] == 0


def test_a_token_limit_lets_the_key_rest_as_long_as_azure_says(tmp_path: Path) -> None:
    limited = {"error": {"code": "429", "message": "Requests have exceeded the token rate limit."}}
    busy = told(429, limited, retry_after="12", retry_after_ms="11500", x_ms_region="West US")
    with (
        ScriptedUpstream(busy) as full,
        ScriptedUpstream(stream_script(answer())) as free,
        Relay(
            tmp_path, azure(full.origin, "full", priority=1), azure(free.origin, "free")
        ) as relay,
    ):
        assert relay.ask(body()).status == 200
        assert relay.ask(body()).status == 200
        assert len(full.requests) == 1, "its key rests"
        (health,) = [one for one in relay.world.catalog.channels.values() if one.name == "full"]
        status, seconds = relay.do(
            lambda: relay.world.health.of(health).keys.blocked(relay.world.loop.time())
        ) or (0, 0.0)
        assert status == 429
        assert 0 < seconds <= 11.5


# Azure's own client, with our base URL and key


def client(relay: Relay, **options: Any) -> openai.AzureOpenAI:
    """As a user of Azure makes it."""
    at = {"azure_endpoint": f"http://127.0.0.1:{relay.port}"} if "base_url" not in options else {}
    made: dict[str, Any] = {"api_key": ANN, "api_version": DATED, "max_retries": 0} | at | options
    return openai.AzureOpenAI(**made)


ASK: Any = [{"role": "user", "content": "Say hello."}]


def test_azures_client_streams_and_lists_and_is_refused(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        client(relay) as ours,
    ):
        stream = ours.chat.completions.create(model="m", messages=ASK, stream=True)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert said == "".join(WORDS)
        assert upstream.requests[0].target == "/v1/chat/completions", "the channel's own form"
        assert "m" in {model.id for model in ours.models.list()}
        with pytest.raises(openai.NotFoundError) as refused:
            ours.chat.completions.create(model="none", messages=ASK)
        assert refused.value.code == "model_not_found"
        (call,) = relay.calls()
        assert (call["model"], call["verdict"]) == ("m", "complete")


@pytest.mark.parametrize("deployment", ["m", "another-name"])
def test_a_client_made_for_a_deployment_names_the_model_in_its_body(
    tmp_path: Path, deployment: str
) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        client(relay, azure_deployment=deployment) as ours,
    ):
        made = ours.chat.completions.create(model="m", messages=ASK)
        assert made.choices[0].message.content == "Hello there"
        assert ours.responses.create(model="m", input="Say hello.").output_text == "Hello there"


@pytest.mark.parametrize("name", ["m", "org/model x"])
def test_the_path_names_the_model_where_the_body_does_not(tmp_path: Path, name: str) -> None:
    price = {"input": "1", "output": "2"}
    model = {
        "name": "org/model x",
        "context_window": 9_000,
        "output_tokens_max": 900,
        "price": price,
    }
    models = {"m": "up-m", "org/model x": "up-x"}
    relay = Relay(tmp_path, channel("http://127.0.0.1:9/v1", models=models))
    relay._catalog["model"].append(model)
    with ScriptedUpstream(plain_script(plain_answer())) as upstream:
        relay._catalog["channel"][0]["base_url"] = upstream.base_url
        path = (
            f"/openai/deployments/{name.replace('/', '%2F').replace(' ', '%20')}/chat/completions"
        )
        bare = json.dumps({"messages": ASK}).encode()
        with relay, relay.client() as raw:
            raw.send(request_bytes(f"{path}?api-version={DATED}", bare, key=ANN))
            response = raw.read_response()
            assert response.status == 200, response.body
            sent = json.loads(upstream.requests[0].body)
            assert sent == {"model": models[name], "messages": ASK}
            (call,) = relay.calls()
            assert call["model"] == name


def test_a_body_without_a_model_elsewhere_is_refused_as_before(tmp_path: Path) -> None:
    with Relay(tmp_path, channel("http://127.0.0.1:9/v1")) as relay:
        response = relay.ask(json.dumps({"messages": ASK}).encode(), CHAT)
        assert (response.status, error_of(response)["param"]) == (400, "model")
        broken = relay.ask(b"{", "/openai/deployments/m/chat/completions")
        assert error_of(broken)["code"] == "invalid_json"


# Services


VECTORS = json.dumps(
    {"object": "list", "model": "up-m", "data": [{"index": 0, "embedding": [0.5, -0.5]}],
     "usage": {"prompt_tokens": 3, "total_tokens": 3}}
).encode()  # fmt: skip


@pytest.mark.parametrize(
    ("version", "target"),
    [
        (DATED, f"/openai/deployments/my%20gpt/embeddings?api-version={DATED}"),
        ("v1", "/openai/v1/embeddings"),
    ],
)
def test_a_service_goes_to_the_deployment_too(tmp_path: Path, version: str, target: str) -> None:
    answered = plain_script(VECTORS, 200, [("apim-request-id", APIM_ID)])
    with (
        ScriptedUpstream(answered) as upstream,
        Relay(tmp_path, azure(upstream.origin, version=version)) as relay,
        client(relay) as ours,
    ):
        made = ours.embeddings.create(model="m", input="three words here")
        assert made.data[0].embedding == [0.5, -0.5]
        (asked,) = upstream.requests
        assert (asked.target, asked.header("api-key")) == (target, "sk-upstream-main-0001")
        assert json.loads(asked.body)["model"] == "my gpt"
        (call,) = relay.calls()
        assert (call["verdict"], call["endpoint"]) == ("complete", "embeddings")
        assert call["charge"] == price_of(3, 0)
        assert relay.attempts()[0]["upstream_request_id"] == APIM_ID


def test_the_path_names_the_model_of_a_service_too(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(VECTORS)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        path = f"/openai/deployments/m/embeddings?api-version={DATED}"
        response = relay.ask(b'{"input": "three words here"}', path)
        assert response.status == 200, response.body
        (asked,) = upstream.requests
        assert asked.target == "/v1/embeddings"
        assert json.loads(asked.body) == {"model": "up-m", "input": "three words here"}
