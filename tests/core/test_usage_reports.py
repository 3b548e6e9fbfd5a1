import msgspec
import pytest

from proxy.core.usage_reports import (
    ANTHROPIC,
    GEMINI,
    NO_ALIASES,
    OPENAI,
    OPENAI_ALIASES,
    TOKENS_MAX,
    AnthropicReport,
    Names,
    OpenAIReport,
)

BOTH = {"prompt_tokens": 1, "completion_tokens": 2}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 1, "image_tokens": 0}},
        {"completion_tokens_details": {"reasoning_tokens": 1, "image_tokens": 0}},
        {"prompt_tokens_details": None, "completion_tokens_details": {}, "cost": 0.5},
    ],
)
def test_a_plain_report_says_all_under_its_first_names(more: dict[str, object]) -> None:
    assert msgspec.convert(BOTH | more, OpenAIReport).plain


@pytest.mark.parametrize(
    "more",
    [
        {"prompt_tokens_details": {"image_tokens": 1}},
        {"prompt_tokens_details": {"cached_tokens_details": {"audio_tokens": 1}}},
        {"completion_tokens_details": {"image_tokens": 1}},
    ],
)
def test_what_needs_weighing_is_not_plain(more: dict[str, object]) -> None:
    assert not msgspec.convert(BOTH | more, OpenAIReport).plain


@pytest.mark.parametrize(
    "more",
    [
        {"input_tokens": 0},
        {"output_tokens": 1},
        {"prompt_cache_hit_tokens": 1},
        {"input_tokens_details": {}},
        {"output_tokens_details": {}},
        {"cached_tokens": 1},
        {"server_tool_use": {"web_search_requests": 1}},
        {"num_search_queries": 1},
    ],
)
def test_what_is_said_twice_is_no_typed_report(more: dict[str, object]) -> None:
    nothing = dict.fromkeys(more)
    assert msgspec.convert(BOTH | nothing, OpenAIReport).plain
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(BOTH | more, OpenAIReport)


@pytest.mark.parametrize("figure", [-1, 1.5, "7", True, TOKENS_MAX + 1])
def test_a_typed_report_takes_no_figure_that_cannot_be_a_count(figure: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"prompt_tokens": figure}, OpenAIReport)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"server_tool_use": {"web_search_requests": figure}}, AnthropicReport)


@pytest.mark.parametrize("names", [OPENAI, OPENAI_ALIASES, ANTHROPIC, GEMINI, NO_ALIASES])
def test_tables_name_fields_by_words(names: Names) -> None:
    for name, field in names.items():
        assert name
        if isinstance(field, str):
            assert field.replace("_", "").isalnum()
        else:
            assert field
            test_tables_name_fields_by_words(field)
