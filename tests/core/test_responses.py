"""What a Responses body says about its prompt and its hidden output."""

import json

import msgspec
import pytest
from msgspec import Raw

from proxy.core import prompts, responses
from proxy.core.errors import RelayError

MEMBERS = msgspec.json.Decoder(dict[str, Raw])
FRAMING = 2 * prompts.MESSAGE_TOKENS
"""Fixed tokens of one item and the reply."""


def read(wire: object, model: str = "gpt-5", **others: object) -> prompts.Prompt:
    body = json.dumps({"input": wire, **others}).encode()
    return responses.read_prompt(MEMBERS.decode(body), model)


def members(**fields: object) -> dict[str, Raw]:
    return MEMBERS.decode(json.dumps({"input": "hi", **fields}))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"background": True}, "background"),
        ({"background": "yes"}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
    ],
)
def test_what_cannot_be_answered_or_billed_is_refused(
    fields: dict[str, object], param: str
) -> None:
    with pytest.raises(RelayError) as caught:
        responses.check(members(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "item_reference"},
        {"type": None, "id": "msg_1"},
        {"id": "msg_1"},
        {"id": "msg_1", "content": None},
    ],
)
def test_an_item_that_is_named_and_not_sent_is_refused(item: dict[str, object]) -> None:
    said = {"role": "user", "content": "hi"}
    shot = {"type": "computer_call_output", "output": {"type": "computer_screenshot"}}
    with pytest.raises(RelayError, match="previous_response_id"):
        read([said, shot, item])


def test_a_screenshot_counts_as_an_image() -> None:
    shot = {"type": "computer_call_output", "output": {"type": "computer_screenshot"}}
    image = {"role": "user", "content": [{"type": "input_image"}]}
    assert read([shot]).fixed_tokens == read([image]).fixed_tokens > FRAMING


def test_a_body_without_input_is_refused() -> None:
    with pytest.raises(RelayError, match="`input` is required"):
        responses.check({})
    responses.check(members(background=False, conversation=None))
    responses.check(members(input=[{"role": "user", "content": "hi"}], background=None))


@pytest.mark.parametrize(
    ("fields", "previous", "stored", "server_tools"),
    [
        ({}, None, True, False),
        ({"previous_response_id": "resp_1"}, "resp_1", True, False),
        ({"previous_response_id": None, "store": None}, None, True, False),
        ({"store": False}, None, False, False),
        ({"store": "odd"}, None, True, False),
        ({"tools": [{"type": "function"}, {"type": "custom"}, {}]}, None, True, False),
        ({"tools": [{"type": "web_search"}]}, None, True, True),
        ({"tools": "odd"}, None, True, True),
        ({"tools": [{"x": "y" * prompts.SEARCHED_BYTES_MAX}]}, None, True, True),
        ({"tools": None}, None, True, False),
    ],
)
def test_what_lives_at_the_provider(
    fields: dict[str, object], previous: str | None, stored: bool, server_tools: bool
) -> None:
    found = responses.kept(members(**fields))
    assert found == responses.Kept(previous, stored, server_tools)


@pytest.mark.parametrize("odd", [7, "", "r" * 999, ["resp_1"]])
def test_an_id_that_is_none_is_refused(odd: object) -> None:
    with pytest.raises(RelayError) as caught:
        responses.kept(members(previous_response_id=odd))
    assert caught.value.param == "previous_response_id"


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
