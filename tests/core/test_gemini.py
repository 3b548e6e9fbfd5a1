from typing import Any

import msgspec
import orjson
import pytest
from msgspec import Raw

from proxy.core import prompts
from proxy.core.gemini import IMAGE_TOKENS, hidden_output, read_prompt
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
