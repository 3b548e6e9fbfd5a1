"""The name somebody may have meant, whatever was done to it on the way here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.names import CANDIDATES_MAX, SUGGESTIONS_MAX, similar

KNOWN = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4.1",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5.1",
    "o3",
    "o3-mini",
    "claude-sonnet-4-5",
    "claude-opus-4-1",
    "claude-3-5-sonnet-20241022",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "deepseek-chat",
    "deepseek-reasoner",
    "llama-3.3-70b-instruct",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "whisper-1",
    "tts-1",
    "gpt-image-1",
    "dall-e-3",
    "kimi-k2",
    "grok-4",
    "qwen3-235b-a22b",
]


@pytest.mark.parametrize(
    ("wrong", "likely"),
    [
        ("GPT-4O", "gpt-4o"),
        ("gpt4o", "gpt-4o"),
        ("gtp-4o", "gpt-4o"),
        ("gpt-4o-min", "gpt-4o-mini"),
        ("gpt-51", "gpt-5.1"),
        ("gpt5", "gpt-5"),
        ("03", "o3"),
        ("O3", "o3"),
        ("o3mini", "o3-mini"),
        ("dalle-3", "dall-e-3"),
        ("whisper", "whisper-1"),
        ("tts-1-hd", "tts-1"),
        ("text_embedding_3_small", "text-embedding-3-small"),
        # dots for dashes, and the other way round
        ("claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("gemini-2-5-pro", "gemini-2.5-pro"),
        ("gemini 2.5 pro", "gemini-2.5-pro"),
        # a vendor before it
        ("openai/gpt-4o", "gpt-4o"),
        ("openai/o3", "o3"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("us.anthropic.claude-sonnet-4-5-v1:0", "claude-sonnet-4-5"),
        ("meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-instruct"),
        ("moonshotai/kimi-k2", "kimi-k2"),
        # a date, a label or a variant behind it
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-opus-4-1@20250805", "claude-opus-4-1"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("claude-3.5-sonnet", "claude-3-5-sonnet-20241022"),
        ("kimi-k2-0905-preview", "kimi-k2"),
        ("google/gemini-2.5-flash:free", "gemini-2.5-flash"),
        ("calude-sonnet-4-5", "claude-sonnet-4-5"),
        ("claud-opus-4-1", "claude-opus-4-1"),
    ],
)
def test_the_likeliest_comes_first(wrong: str, likely: str) -> None:
    found = similar(wrong, KNOWN)
    assert found[0] == likely
    assert len(found) <= SUGGESTIONS_MAX


@pytest.mark.parametrize("wrong", ["", "zzzzzz", "hello-world", "mistral-large", "-", "x" * 10**6])
def test_nonsense_is_like_nothing(wrong: str) -> None:
    assert similar(wrong, KNOWN) == ()


def test_what_is_equally_close_comes_by_name_and_only_so_many() -> None:
    names = [f"model-family-{letter}" for letter in "hgfedcba"]
    assert similar("model-family", names) == ("model-family-a", "model-family-b", "model-family-c")


def test_names_in_any_script_are_compared() -> None:
    assert similar("\u00d6", ["\u00f6", "u"]) == ("\u00f6",)


def test_only_so_many_are_compared() -> None:
    many = [f"a-model-{number}" for number in range(CANDIDATES_MAX)]
    assert similar("quite-another", [*many, "quite-another"]) == ()


@given(st.text(max_size=300), st.lists(st.text(max_size=40), max_size=8))
def test_any_text_is_answered_from_what_is_known(wanted: str, known: list[str]) -> None:
    assert set(similar(wanted, known)) <= set(known)
