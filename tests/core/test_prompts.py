"""The estimate leans up for real text, and the fixed figures for media stay inside their bounds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import prompts
from proxy.core.entities import Tokenizer
from proxy.core.prompts import Prompt
from proxy.core.tokenizers import exact_count

ENGLISH = (
    "A relay forwards what it is given and counts what it forwards. When the client leaves, the "
    "upstream is cancelled, and the bill says what had been delivered until then.\n"
)
CODE = (
    "def walk(body: bytes, position: int) -> dict[str, tuple[int, int]]:\n"
    "    while (found := match(body, position)) is not None:\n"
    "        position = found.end() + len(members[found[1].decode()])\n"
)
ROWS = json.dumps([{"id": n, "name": f"user {n}", "score": n * 1.25} for n in range(50)], indent=1)
CHINESE = "人工智能是计算机科学的一个分支，它企图了解智能的实质。"
RUSSIAN = "Все счастливые семьи похожи друг на друга."


@pytest.mark.filterwarnings("ignore:open_binary is deprecated:DeprecationWarning")  # bpe-openai
@pytest.mark.parametrize("tokenizer", [Tokenizer.O200K, Tokenizer.CL100K])
@pytest.mark.parametrize("text", [ENGLISH, CODE, ROWS, CHINESE, RUSSIAN, "0123456789" * 9])
def test_estimate_covers_real_text(text: str, tokenizer: Tokenizer) -> None:
    tokens = exact_count(tokenizer)(text * 4)
    estimate = prompts.estimate(Prompt((text * 4,), 0))
    assert tokens <= estimate <= 4 * tokens


@given(st.lists(st.text(max_size=50), max_size=5), st.integers(0, 10_000))
def test_estimate_is_half_the_bytes_and_the_fixed_figure(texts: list[str], fixed: int) -> None:
    half = sum((len(text.encode()) + 1) // 2 for text in texts)
    assert prompts.estimate(Prompt(tuple(texts), fixed)) == max(1, half + fixed)


def test_an_empty_prompt_is_one_token() -> None:
    assert prompts.estimate(Prompt((), 0)) == 1


@pytest.mark.parametrize(
    ("chars", "tokens"),
    [
        (0, prompts.DOCUMENT_TOKENS_MIN),
        (8 * prompts.DOCUMENT_TOKENS_MIN + 8, prompts.DOCUMENT_TOKENS_MIN + 1),
        (8_000_000_000, prompts.DOCUMENT_TOKENS_MAX),
    ],
)
def test_document_figure(chars: int, tokens: int) -> None:
    assert prompts.document_tokens(chars) == tokens


@pytest.mark.parametrize(("chars", "tokens"), [(0, 10), (5_000, 10), (64_000 * 60, 7_680)])
def test_audio_figure(chars: int, tokens: int) -> None:
    assert prompts.audio_tokens(chars) == tokens
