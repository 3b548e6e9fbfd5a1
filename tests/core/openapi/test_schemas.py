import pytest

from proxy.core.openapi import schemas
from proxy.core.openapi.schemas import ANSWERS, REQUESTS, errors, obj, ref


def test_objects_are_open_unless_they_are_ours() -> None:
    assert obj(["a"], {"a": {}}) == {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {}},
        "additionalProperties": True,
    }
    assert obj([], {}, closed=True)["additionalProperties"] is False


def test_references_are_to_what_there_is() -> None:
    assert ref("ChatRequest") == {"$ref": "#/components/schemas/ChatRequest"}
    assert not set(REQUESTS) & set(ANSWERS)


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_required_of_a_request_is_described(name: str) -> None:
    schema = REQUESTS[name]
    required, described = schema["required"], schema["properties"]
    assert isinstance(required, list)
    assert isinstance(described, dict)
    assert set(required) <= set(described)
    assert schema["additionalProperties"] is True


def test_errors_name_every_code_there_is() -> None:
    made = errors(["a", "b"], ["A", "B"])
    assert list(made) == ["OpenAIError", "AnthropicError", "GeminiError"]
    assert str(made).count("['a', 'b']") == 2
    assert str(made).count("['A', 'B']") == 1
    assert schemas.MODEL["maxLength"] == 256
