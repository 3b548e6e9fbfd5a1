from typing import Any

import msgspec
import orjson
import pytest
from msgspec import Raw

from proxy.core import prompts
from proxy.core.bodies import layout_of, names_size, read_members
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.gemini import (
    IMAGE_TOKENS,
    asked_inside,
    check,
    choices,
    hidden_output,
    lowered,
    output_tokens_max,
    read_prompt,
)
from proxy.core.prompts import Prompt


def members(**fields: Any) -> dict[str, Raw]:
    return msgspec.json.decode(orjson.dumps(fields), type=dict[str, Raw])


def prompt(*parts: dict[str, Any], **fields: Any) -> Prompt:
    found = read_prompt(members(contents=[{"role": "user", "parts": list(parts)}], **fields), "m")
    return Prompt(found.pieces, found.fixed_tokens - 2 * prompts.MESSAGE_TOKENS)


def test_every_text_is_a_piece() -> None:
    found = prompt(
        {"text": "a"},
        {"text": ""},
        {"functionCall": {"name": "f"}},
        {"function_response": {"name": "g"}},
        {"executableCode": {"code": "1"}},
        {"code_execution_result": {"output": "1"}},
        systemInstruction={"parts": [{"text": "s"}]},
        generation_config={"topK": 1},
        tools=[1],
    )
    assert found == Prompt(
        ("a", '{"name":"f"}', '{"name":"g"}', '{"code":"1"}', '{"output":"1"}', "s", '{"topK":1}',
         "[1]"),
        prompts.TOOLS_TOKENS,
    )  # fmt: skip
    assert read_prompt(members(contents=[{}]), "m") == Prompt((), 2 * prompts.MESSAGE_TOKENS)


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"inlineData": {"mimeType": "image/png", "data": "A" * 9_000}}, IMAGE_TOKENS),
        ({"inline_data": {"mime_type": "image/png"}}, IMAGE_TOKENS),
        ({"fileData": {"mimeType": "image/png", "fileUri": "u"}}, IMAGE_TOKENS),
        ({"inlineData": {"mimeType": "audio/wav", "data": "A" * 9_000}}, 60),
        ({"inlineData": {"mimeType": "video/mp4", "data": "A"}}, prompts.AUDIO_TOKENS_MIN),
        ({"file_data": {"mimeType": "video/mp4"}}, prompts.DOCUMENT_TOKENS_MAX),
        ({"inlineData": {"mimeType": "application/pdf"}}, prompts.DOCUMENT_TOKENS_MIN),
        ({"fileData": {}}, prompts.DOCUMENT_TOKENS_MIN),
    ],
)
def test_media_have_fixed_figures(part: dict[str, Any], tokens: int) -> None:
    assert prompt(part) == Prompt((), tokens)


def test_what_is_not_understood_counts_as_text() -> None:
    found = read_prompt(members(contents=[7], system_instruction="s"), "m")
    assert found == Prompt(("[7]", '"s"'), prompts.MESSAGE_TOKENS)
    assert read_prompt({}, "m") == Prompt(("null",), prompts.MESSAGE_TOKENS)


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [
        ({}, False),
        ({"generationConfig": {"temperature": 1}}, False),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}, False),
        ({"generationConfig": {"thinkingConfig": {"thinkingBudget": -1}}}, True),
        ({"generation_config": {"thinking_config": {"thinking_budget": 0}}}, False),
        ({"generationConfig": {"thinkingConfig": {"thinkingLevel": "LOW"}}}, True),
        ({"generationConfig": {"responseModalities": ["TEXT"]}}, False),
        ({"generationConfig": {"response_modalities": ["TEXT", "IMAGE"]}}, True),
        ({"generationConfig": 7}, True),
        ({"tools": None}, False),
        ({"tools": []}, False),
        ({"tools": [{"functionDeclarations": []}]}, False),
        ({"tools": [{"googleSearch": {}}]}, True),
        ({"tools": 7}, True),
        ({"tools": [{"functionDeclarations": "x" * prompts.SEARCHED_BYTES_MAX}]}, True),
    ],
)
def test_what_nobody_sees(fields: dict[str, Any], *, hidden: bool) -> None:
    assert hidden_output(members(**fields)) is hidden


def configured(*fields: bytes) -> dict[str, Raw]:
    body = b'{"contents":[{}],"generationConfig":{%b}}' % b",".join(fields)
    return read_members(body)


@pytest.mark.parametrize(
    ("fields", "limit", "wanted"),
    [
        ((), None, 1),
        ((b'"maxOutputTokens":9', b'"candidateCount":2'), 9, 2),
        ((b'"max_output_tokens":"9"', b'"candidate_count":"2"'), 9, 2),
        ((b'"maxOutputTokens":null', b'"candidateCount":null'), None, 1),
    ],
)
def test_what_bounds_an_answer(fields: tuple[bytes, ...], limit: int | None, wanted: int) -> None:
    found = configured(*fields)
    assert (output_tokens_max(found), choices(found)) == (limit, wanted)
    assert output_tokens_max(members(generation_config=None)) is None
    assert output_tokens_max({}) is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"generationConfig":7}',
        b'{"generationConfig":{},"generation_config":{}}',
        b'{"generationConfig":{"maxOutputTokens":0}}',
        b'{"generationConfig":{"maxOutputTokens":1.5}}',
        b'{"generationConfig":{"maxOutputTokens":"many"}}',
        b'{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":2}}',
        b'{"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":2}}',
    ],
)
def test_a_bound_that_is_not_understood_is_refused(body: bytes) -> None:
    with pytest.raises(RelayError) as caught:
        output_tokens_max(read_members(body))
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert "eneration" in str(caught.value.param) or "max" in str(caught.value.param)


def test_too_many_candidates_are_refused() -> None:
    with pytest.raises(RelayError):
        choices(configured(b'"candidateCount":9'))


def test_a_body_has_contents() -> None:
    check(members(contents=[{}]))
    bodies: list[dict[str, Any]] = [{}, {"contents": []}, {"contents": "hi"}]
    for body in bodies:
        with pytest.raises(RelayError):
            check(members(**body))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{ "contents":[1]}', b'{"generationConfig":{"maxOutputTokens":7}, "contents":[1]}'),
        (
            b'{"contents":[1],"generation_config": null}',
            b'{"contents":[1],"generation_config": {"maxOutputTokens":7}}',
        ),
        (
            b'{"contents":[1],"generationConfig":{ }}',
            b'{"contents":[1],"generationConfig":{"maxOutputTokens":7 }}',
        ),
        (
            b'{"contents":[1],"generationConfig":{"topK":1}}',
            b'{"contents":[1],"generationConfig":{"maxOutputTokens":7,"topK":1}}',
        ),
        (
            b'{"generationConfig":{"topK":1, "maxOutputTokens": 8 },"contents":[1]}',
            b'{"generationConfig":{"topK":1, "maxOutputTokens": 7 },"contents":[1]}',
        ),
        (
            b'{"generationConfig":{"max_output_tokens":"8"},"contents":[1]}',
            b'{"generationConfig":{"max_output_tokens":7},"contents":[1]}',
        ),
        (
            b'{"generationConfig":{"maxOutputTokens":null},"contents":[1]}',
            b'{"generationConfig":{"maxOutputTokens":7},"contents":[1]}',
        ),
        (b'{"generationConfig":{"maxOutputTokens":6},"contents":[1]}', None),
    ],
)
def test_a_limit_is_lowered_and_nothing_else_changed(body: bytes, wanted: bytes | None) -> None:
    members = read_members(body)
    found = lowered(body, layout_of(body, members, names_size(members)), 7)
    assert found == (body if wanted is None else wanted)


@pytest.mark.parametrize(
    ("body", "inside"),
    [
        (b'{"contents":[]}', None),
        (b'{"generateContentRequest":{"contents":[1]}}', b'{"contents":[1]}'),
        (b'{"generate_content_request":{"contents":[1]}}', b'{"contents":[1]}'),
        (b'{"generateContentRequest":7}', None),
        (b"nonsense", None),
        (b'{"x":' + b"[" * 100_000, None),
    ],
)
def test_a_count_may_be_asked_of_a_whole_request(body: bytes, inside: bytes | None) -> None:
    assert asked_inside(body) == (body if inside is None else inside)
