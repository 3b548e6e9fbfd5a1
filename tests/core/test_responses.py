"""What a Responses body says about its prompt and its hidden output."""

import json

import msgspec
import pytest
from msgspec import Raw

from proxy.core import prompts, responses

MEMBERS = msgspec.json.Decoder(dict[str, Raw])
FRAMING = 2 * prompts.MESSAGE_TOKENS
"""Fixed tokens of one item and the reply."""


def read(wire: object, model: str = "gpt-5", **others: object) -> prompts.Prompt:
    body = json.dumps({"input": wire, **others}).encode()
    return responses.read_prompt(MEMBERS.decode(body), model)


def test_a_string_is_one_message() -> None:
    assert read("hello") == prompts.Prompt(("hello",), FRAMING)


def test_texts_of_all_items_come_apart_and_in_order() -> None:
    prompt = read(
        [
            {"role": "developer", "content": "a"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "c"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "d"}],
             "encrypted_content": "x" * 40},
            {"type": "function_call", "call_id": "1", "name": "e", "arguments": "f"},
            {"type": "function_call_output", "call_id": "1", "output": "g"},
            {"type": "custom_tool_call", "call_id": "2", "name": "h", "input": "i"},
            {"type": "custom_tool_call_output", "call_id": "2",
             "output": [{"type": "input_text", "text": "j"}]},
        ],
        instructions="k",
        tools=[{"type": "function"}],
        text={"format": {"type": "json_object"}},
    )  # fmt: skip
    assert prompt.pieces == (
        *"abcdefghijk",
        '[{"type": "function"}]',
        '{"format": {"type": "json_object"}}',
    )
    assert prompt.fixed_tokens == 10 * prompts.MESSAGE_TOKENS + 10 + prompts.TOOLS_TOKENS


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "input_image", "image_url": "u"}, prompts.OPENAI_IMAGE_TOKENS),
        ({"type": "input_image", "detail": "low"}, prompts.OPENAI_IMAGE_TOKENS_LOW),
        ({"type": "input_hologram"}, prompts.OPENAI_IMAGE_TOKENS),
        ({"type": "input_file", "file_url": "u"}, prompts.DOCUMENT_TOKENS_MIN),
        ({"type": "input_file", "file_data": "A" * 80_000, "filename": "f"}, 10_000),
    ],
)
def test_media_have_fixed_figures(part: dict[str, object], tokens: int) -> None:
    assert read([{"role": "user", "content": [part]}]).fixed_tokens == FRAMING + tokens


def test_shapes_nobody_knows_count_as_their_json() -> None:
    assert read([{"content": 7}], instructions=[1]).pieces == ('[{"content": 7}]', "[1]")
    assert responses.read_prompt({}, "m").pieces == ("null",)
    assert read("a", instructions=None).pieces == ("a",)


@pytest.mark.parametrize(
    ("members", "hidden"),
    [
        ({}, False),
        ({"reasoning": None}, False),
        ({"reasoning": {}}, False),
        ({"reasoning": {"summary": "auto"}}, False),
        ({"reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"effort": "low"}}, True),
        ({"reasoning": "much"}, True),
    ],
)
def test_reasoning_is_output_nobody_sees(members: dict[str, object], hidden: bool) -> None:
    body = json.dumps(members).encode()
    assert responses.hidden_output(MEMBERS.decode(body)) is hidden
