"""What an OpenAI chat body says about its prompt and its hidden output."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.core import openai, prompts
from proxy.core.errors import RelayError

MEMBERS = msgspec.json.Decoder(dict[str, Raw])
FRAMING = 2 * prompts.MESSAGE_TOKENS
"""Fixed tokens of one message and the reply."""


def read(messages: object, model: str = "gpt-4o", **others: object) -> prompts.Prompt:
    body = json.dumps({"messages": messages, **others}).encode()
    return openai.read_prompt(MEMBERS.decode(body), model)


def of_parts(*parts: object, model: str = "gpt-4o") -> prompts.Prompt:
    return read([{"role": "user", "content": list(parts)}], model)


@pytest.mark.parametrize("body", ["{}", '{"messages":[]}', '{"messages":{}}', '{"messages":7}'])
def test_a_body_without_messages_is_refused(body: str) -> None:
    with pytest.raises(RelayError) as caught:
        openai.check(MEMBERS.decode(body))
    assert caught.value.param == "messages"
    openai.check(MEMBERS.decode('{"messages":[{}]}'))


WEIGHED = st.text(max_size=9) | st.sampled_from(["plain", "\\ü", "\n"])
MESSAGE = st.fixed_dictionaries(
    {"content": WEIGHED},
    optional={"role": st.sampled_from(["user", "assistant", "tool", ""])},
) | st.dictionaries(
    st.sampled_from(["content", "role", "name", "tool_calls", "refusal"]),
    st.none() | WEIGHED | st.just([]) | st.just([{"type": "text", "text": "x"}]) | st.just(5),
    max_size=3,
)


@given(st.lists(MESSAGE, max_size=4) | st.sampled_from(["text", None, {}, 7, [None], ["a"]]))
def test_messages_of_text_alone_are_read_as_all_others_are(messages: object) -> None:
    members = MEMBERS.decode(json.dumps({"messages": messages}))
    found = openai.read_texts(members)
    alone = isinstance(messages, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("content"), str)
        and isinstance(one.get("role", ""), str)
        and one.keys() <= {"content", "role"}
        for one in messages
    )
    assert (found is not None) == (alone and bool(messages))
    if found is not None:
        openai.check(members)
        prompt = openai.read_prompt(members, "gpt-4o")
        assert found == (prompt, prompts.estimate(prompt))


def test_a_body_without_messages_has_no_texts() -> None:
    assert openai.read_texts({}) is None


def test_how_many_answers_are_asked_for() -> None:
    assert openai.choices({}) == 1
    assert openai.choices({"n": Raw(b"null")}) == 1
    assert openai.choices({"n": Raw(b"128")}) == openai.CHOICES_MAX
    with pytest.raises(RelayError, match="from 1 to 128"):
        openai.choices({"n": Raw(b"129")})


def test_texts_come_apart_and_in_order() -> None:
    prompt = read(
        [
            {"role": "system", "content": "s"},
            {"role": "user", "name": "bob", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": None, "refusal": "no", "reasoning_content": "hm"},
        ]
    )
    assert prompt.pieces == ("s", "a", "bob", "no", "hm")
    assert prompt.fixed_tokens == 4 * prompts.MESSAGE_TOKENS


def test_calls_and_tools_count_as_their_json() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "c"}], "function_call": {"name": "f"}}
    prompt = read([call], tools=[{"type": "function"}], response_format={"type": "json_object"})
    assert prompt.pieces == (
        '[{"id": "c"}]',
        '{"name": "f"}',
        '[{"type": "function"}]',
        '{"type": "json_object"}',
    )
    assert prompt.fixed_tokens == FRAMING + prompts.TOOLS_TOKENS
    assert read([call], functions=[]).fixed_tokens == FRAMING + prompts.TOOLS_TOKENS
    assert read([call], response_format={}).fixed_tokens == FRAMING


@pytest.mark.parametrize(
    ("image", "model", "tokens"),
    [
        ({"url": "data:image/png;base64," + "A" * 9_000}, "gpt-4o", prompts.OPENAI_IMAGE_TOKENS),
        ({"url": "u", "detail": "high"}, "gpt-4o", prompts.OPENAI_IMAGE_TOKENS),
        ({"url": "u", "detail": "low"}, "gpt-4o", prompts.OPENAI_IMAGE_TOKENS_LOW),
        ("https://example.org/a.png", "gpt-4o", prompts.OPENAI_IMAGE_TOKENS),
        ({"url": "u"}, "openai/gpt-4o-mini-2024-07-18", prompts.MINI_IMAGE_TOKENS),
        ({"url": "u", "detail": "low"}, "gpt-4o-mini", prompts.MINI_IMAGE_TOKENS_LOW),
    ],
)
def test_an_image_is_a_fixed_figure_and_never_text(image: object, model: str, tokens: int) -> None:
    prompt = of_parts({"type": "image_url", "image_url": image}, model=model)
    assert prompt == prompts.Prompt((), FRAMING + tokens)


def test_other_media_have_figures_of_their_own() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "A" * 100_000, "format": "mp3"}}
    assert 200 <= of_parts(audio).fixed_tokens - FRAMING <= 201
    file = {"type": "file", "file": {"file_id": "f"}}
    assert of_parts(file).fixed_tokens == FRAMING + prompts.DOCUMENT_TOKENS_MIN
    video = {"type": "video_url", "video_url": {"url": "u"}}
    assert of_parts(video).fixed_tokens == FRAMING + prompts.OPENAI_IMAGE_TOKENS


def test_parts_of_text() -> None:
    parts = ({"type": "text"}, {"type": "text", "text": "t"}, {"type": "refusal", "refusal": "r"})
    assert of_parts(*parts) == prompts.Prompt(("", "t", "r"), FRAMING)


@pytest.mark.parametrize("messages", [["hi"], [{"content": 7}], [{"content": ["x"]}], {}, None])
def test_an_unknown_shape_counts_as_its_json(messages: object) -> None:
    assert read(messages).pieces == (json.dumps(messages),)


def test_half_read_messages_are_not_counted_twice() -> None:
    messages = [{"content": "first"}, {"content": 7}]
    assert read(messages).pieces == (json.dumps(messages),)


@pytest.mark.parametrize(
    ("members", "hidden"),
    [
        ({}, False),
        ({"reasoning_effort": "high"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": None}, False),
        ({"reasoning": {"effort": "low"}}, True),
        ({"web_search_options": {}}, True),
        ({"prediction": {"type": "content", "content": "x"}}, True),
        ({"plugins": []}, False),
        ({"plugins": [{"id": "web"}]}, True),
        ({"thinking": {"type": "enabled"}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": None}, False),
        ({"thinking": True}, True),
        ({"audio": {"voice": "alloy"}}, True),
        ({"audio": None}, False),
        ({"modalities": ["text"]}, False),
        ({"modalities": ["text", "audio"]}, True),
        ({"modalities": None}, False),
        ({"modalities": 7}, True),
        ({"tools": [{"type": "function"}, {"type": "custom"}, {}]}, False),
        ({"tools": [{"type": "function"}, {"type": "web_search"}]}, True),
        ({"tools": None}, False),
        ({"tools": "x"}, True),
    ],
)
def test_hidden_output(members: dict[str, object], hidden: bool) -> None:
    assert openai.hidden_output(MEMBERS.decode(json.dumps(members))) is hidden


@pytest.mark.parametrize("name", [b"tools", b"modalities"])
def test_what_is_too_large_to_search_is_taken_to_be_hidden(name: bytes) -> None:
    largest = b'{"%s":[%s]}' % (name, b" " * (prompts.SEARCHED_BYTES_MAX - 2))
    assert openai.hidden_output(MEMBERS.decode(largest)) is False
    larger = largest.replace(b"[", b"[ ")
    assert openai.hidden_output(MEMBERS.decode(larger)) is True
