import json
from typing import Any

import pytest

from proxy.core.errors import ErrorCode
from proxy.core.openapi import document as module
from proxy.core.openapi.document import ANSWER_HEADERS, REQUEST_HEADERS, document
from proxy.core.openapi.operations import OPERATIONS
from proxy.core.urls import CANONICAL


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [one for item in value for one in references(item)]
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [one for item in value.values() for one in references(item)]
    return []


@pytest.fixture
def whole() -> Any:
    return json.loads(document("1.2.3"))


def test_it_has_what_is_served_and_nothing_more() -> None:
    made = json.loads(document("1.2.3"))
    assert made["info"]["version"] == "1.2.3"
    served_paths = {*CANONICAL.values()}
    assert set(made["paths"]) == served_paths == {CANONICAL[key[0]] for key in OPERATIONS}


def test_nothing_refers_to_what_is_not_there(whole: Any) -> None:
    assert set(whole["paths"]) == set(CANONICAL.values())
    found = references(whole)
    assert len(found) > 100
    for name in found:
        place = whole
        for part in name.removeprefix("#/").split("/"):
            place = place[part]
    used = {name.rpartition("/")[2] for name in found}
    assert set(whole["components"]["schemas"]) <= used
    assert set(ANSWER_HEADERS) <= used
    assert set(REQUEST_HEADERS) <= used


def test_every_error_is_where_its_status_is(whole: Any) -> None:
    for row in whole["paths"]["/v1/chat/completions"]["post"]["responses"].values():
        assert "$ref" in row or row["description"] == "The answer."
    refusals = whole["components"]["responses"]
    for code in ErrorCode:
        assert f"`{code.code}`" in refusals[f"OpenAI{code.status}"]["description"]
        assert f"`{code.code}`" in refusals[f"Anthropic{code.status}"]["description"]
    either = refusals["OpenAIAnthropicGemini404"]["content"]["application/json"]["schema"]["oneOf"]
    assert len(either) == 3
    assert refusals["OpenAI422"]["description"] == "`invalid_request`"


def test_paths_queries_and_headers_are_parameters(whole: Any) -> None:
    gemini = whole["paths"]["/v1beta/models/{model}:streamGenerateContent"]["post"]
    names = [row.get("name", row.get("$ref")) for row in gemini["parameters"]]
    assert names[:2] == ["model", "alt"]
    assert gemini["parameters"][0]["required"]
    assert "#/components/parameters/x-max-cost" in names
    models = whole["paths"]["/v1/models"]["get"]
    assert [row["name"] for row in models["parameters"]][-1] == "anthropic-version"
    receipt = whole["paths"]["/v1/generation"]["get"]
    assert (receipt["parameters"][0]["name"], receipt["parameters"][0]["required"]) == ("id", True)


def test_bodies_have_an_example_where_there_is_a_program(whole: Any) -> None:
    chat = whole["paths"]["/v1/chat/completions"]["post"]
    content = chat["requestBody"]["content"]["application/json"]
    assert content["example"]["model"] == module.MODEL_SHOWN
    edits = whole["paths"]["/v1/images/edits"]["post"]["requestBody"]["content"]
    assert set(edits) == {"application/json", "multipart/form-data"}
    assert not any("example" in row for row in edits.values())
    counting = whole["paths"]["/v1/messages/count_tokens"]["post"]
    assert "example" not in counting["requestBody"]["content"]["application/json"]
    audio = whole["paths"]["/v1/audio/speech"]["post"]["responses"]["200"]["content"]
    assert audio["audio/mpeg"]["schema"]["format"] == "binary"
    assert audio["text/event-stream"] == {}
    heard = whole["paths"]["/v1/audio/transcriptions"]["post"]["responses"]["200"]["content"]
    assert heard["text/plain"]["schema"] == {"type": "string"}


def test_what_needs_no_key_says_so(whole: Any) -> None:
    assert whole["paths"]["/openapi.json"]["get"]["security"] == []
    assert "security" not in whole["paths"]["/v1/models"]["get"]
    assert whole["paths"]["/v1/realtime"]["get"]["responses"]["101"]
    assert {name for row in whole["security"] for name in row} == set(
        whole["components"]["securitySchemes"]
    )
