"""What an Anthropic messages body says about its prompt and its hidden output."""

import json

import msgspec
import pytest
from msgspec import Raw

from proxy.core import anthropic, prompts
from proxy.core.errors import ErrorCode, RelayError

MEMBERS = msgspec.json.Decoder(dict[str, Raw])
FRAMING = 2 * prompts.MESSAGE_TOKENS
"""Fixed tokens of one message and the reply."""
IMAGE = {"type": "image", "source": {"type": "base64", "data": "A" * 9_000}}


def read(messages: object, **others: object) -> prompts.Prompt:
    body = json.dumps({"messages": messages, **others}).encode()
    return anthropic.read_prompt(MEMBERS.decode(body), "claude-sonnet-4-5")


def of_blocks(*blocks: object) -> prompts.Prompt:
    return read([{"role": "user", "content": list(blocks)}])


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"thread": {"id": "t"}}, "thread"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_cannot_be_answered_is_refused(change: dict[str, object], param: str) -> None:
    body: dict[str, object] = {"max_tokens": 5, "messages": [{}]}
    anthropic.check(MEMBERS.decode(json.dumps(body)))
    with pytest.raises(RelayError) as caught:
        anthropic.check(MEMBERS.decode(json.dumps(body | change)))
    assert caught.value.param == param


def test_texts_come_apart_and_in_order() -> None:
    prompt = read(
        [{"role": "user", "content": "u"}, {"content": None}, {"content": [{"text": "b"}]}],
        system="s",
    )
    assert prompt.pieces == ("u", "b", "s")
    assert prompt.fixed_tokens == 4 * prompts.MESSAGE_TOKENS


@pytest.mark.parametrize(
    ("system", "pieces"),
    [("s", ("s",)), ([{"type": "text", "text": "a"}, {"text": "b"}], ("a", "b")), (7, ("7",))],
)
def test_system_prompt(system: object, pieces: tuple[str, ...]) -> None:
    assert read([], system=system).pieces == pieces


def test_tools_and_formats_count_as_their_json() -> None:
    prompt = read([], tools=[{"name": "f"}], output_format={"a": 1}, output_config={"b": 2})
    assert prompt.pieces == ('[{"name": "f"}]', '{"a": 1}', '{"b": 2}')
    assert prompt.fixed_tokens == prompts.MESSAGE_TOKENS + prompts.TOOLS_TOKENS


def test_an_image_is_a_fixed_figure_and_never_text() -> None:
    assert of_blocks(IMAGE) == prompts.Prompt((), FRAMING + prompts.ANTHROPIC_IMAGE_TOKENS_OLD)


@pytest.mark.parametrize(
    ("model", "old"),
    [
        ("claude-2.1", True),
        ("claude-3-5-haiku-latest", True),
        ("claude-3.5-sonnet", True),
        ("claude-sonnet-4", True),
        ("claude-opus-4-20250514", True),
        ("anthropic/claude-opus-4.1", True),
        ("claude-haiku-4-5-20251001", True),
        ("claude-opus-4-6", True),
        ("claude-opus-4-7", False),
        ("claude-opus-4-10", False),
        ("claude-sonnet-5", False),
        ("fast", False),
    ],
)
def test_the_figure_of_an_image_depends_on_the_model(model: str, old: bool) -> None:
    body = json.dumps({"messages": [{"content": [IMAGE]}]}).encode()
    prompt = anthropic.read_prompt(MEMBERS.decode(body), model)
    figure = prompts.ANTHROPIC_IMAGE_TOKENS_OLD if old else prompts.ANTHROPIC_IMAGE_TOKENS
    assert prompt.fixed_tokens == FRAMING + figure


def test_blocks_of_an_agent() -> None:
    prompt = of_blocks(
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "redacted_thinking", "data": "A" * 400},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        {"type": "tool_result", "tool_use_id": "t", "content": "42"},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"text": "x"}, IMAGE]},
        {"type": "tool_result", "tool_use_id": "t", "content": {"odd": 1}},
    )
    assert prompt.pieces == ("hm", "f", '{"a": 1}', "42", "x", '{"odd": 1}')
    assert prompt.fixed_tokens == FRAMING + 100 + prompts.ANTHROPIC_IMAGE_TOKENS_OLD


@pytest.mark.parametrize(
    ("source", "pieces", "tokens"),
    [
        ({"type": "base64", "data": "A" * 80_000}, (), 10_000),
        ({"type": "url", "url": "u"}, (), prompts.DOCUMENT_TOKENS_MIN),
        ({"type": "text", "data": "plain"}, ("plain",), 0),
        ({"type": "text"}, (), prompts.DOCUMENT_TOKENS_MIN),
        ({"type": "content", "content": "c"}, ("c",), 0),
        ({"type": "content", "content": [{"text": "d"}]}, ("d",), 0),
        (7, (), prompts.DOCUMENT_TOKENS_MIN),
    ],
)
def test_documents(source: object, pieces: tuple[str, ...], tokens: int) -> None:
    prompt = of_blocks({"type": "document", "title": "t", "context": "x", "source": source})
    assert prompt == prompts.Prompt(("t", "x", *pieces), FRAMING + tokens)


def test_nesting_beyond_the_bound_counts_as_text() -> None:
    block: object = {"text": "deep"}
    for _ in range(anthropic.NESTING_MAX - 1):
        block = {"content": [block]}
    assert of_blocks(block).pieces == ("deep",)
    assert of_blocks({"content": [block]}).pieces == ('[{"text": "deep"}]',)


@pytest.mark.parametrize("messages", [["hi"], [{"content": 7}], {}, None])
def test_an_unknown_shape_counts_as_its_json(messages: object) -> None:
    assert read(messages).pieces == (json.dumps(messages),)


@pytest.mark.parametrize(
    ("members", "hidden"),
    [
        ({}, False),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "adaptive"}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": None}, False),
        ({"thinking": "yes"}, True),
        ({"mcp_servers": []}, False),
        ({"mcp_servers": [{"url": "u"}]}, True),
        ({"container": "c"}, True),
        ({"container": None}, False),
        ({"tools": None}, False),
        ({"tools": [{"name": "f"}, {"type": "custom"}, {"type": "bash_20250124"}]}, False),
        ({"tools": [{"type": "web_search_20250305"}]}, True),
        ({"tools": 7}, True),
    ],
)
def test_hidden_output(members: dict[str, object], hidden: bool) -> None:
    assert anthropic.hidden_output(MEMBERS.decode(json.dumps(members))) is hidden


@pytest.mark.parametrize("name", [b"tools"])
def test_what_is_too_large_to_search_is_taken_to_be_hidden(name: bytes) -> None:
    largest = b'{"%s":[%s]}' % (name, b" " * (prompts.SEARCHED_BYTES_MAX - 2))
    assert anthropic.hidden_output(MEMBERS.decode(largest)) is False
    larger = largest.replace(b"[", b"[ ")
    assert anthropic.hidden_output(MEMBERS.decode(larger)) is True


def test_a_conversation_that_the_provider_keeps_is_refused_in_words_the_sdks_act_on() -> None:
    for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "msg_1"}, 7):
        with pytest.raises(RelayError) as caught:
            anthropic.check_thread(MEMBERS.decode(json.dumps({"thread": thread}).encode()))
        assert (caught.value.code, caught.value.param) == (ErrorCode.INVALID_REQUEST, "thread")
        assert caught.value.details == {"error_code": "thread_unsupported_request"}
    anthropic.check_thread(MEMBERS.decode(b'{"thread": null}'))
    anthropic.check_thread({})
