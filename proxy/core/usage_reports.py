"""The usage objects of providers: which of their members mean what, and their plain shapes.

Rules: facts only. A figure that is part of another is read under a name of its own and taken out
of it by core/usage.py; what is named twice is read under its second name where the first says
nothing. This module must not know what a usage vector is, nor what anything costs.

Sources: WIRE.md sections 1, 3, 5 and 6 rule 5; the types of the openai package (CompletionUsage,
ResponseUsage, ImagesResponse), of the anthropic package (Usage, ServerToolUsage); Google's
UsageMetadata; OpenRouter's and Perplexity's own members of a chat's usage.
"""

from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct

Names: TypeAlias = Mapping[str, "str | Names"]
"""Reported name to field, nested objects as tables of their own."""

TOKENS_MAX: Final = 1_000_000_000
"""No call has so many tokens of a kind; a larger figure is a lie and counts as absent."""

SEARCHES: Final = "num_search_queries"
"""Perplexity's member of a chat's usage."""
_READ: Final[Names] = {
    "cached_tokens": "cache_read",
    "cache_write_tokens": "cache_write",
    "audio_tokens": "audio_input",
    "image_tokens": "image_input",
    "cached_tokens_details": {"audio_tokens": "audio_cached", "image_tokens": "image_cached"},
}
_WRITTEN: Final[Names] = {
    "reasoning_tokens": "reasoning",
    "audio_tokens": "audio_output",
    "image_tokens": "image_output",
}
OPENAI: Final[Names] = {
    "prompt_tokens": "input",
    "completion_tokens": "output",
    "total_tokens": "total",
    "prompt_tokens_details": _READ,
    "completion_tokens_details": _WRITTEN,
    "server_tool_use": {"web_search_requests": "searches"},
    SEARCHES: "searches",
}
# Relays send both, and zeroes under the second name.
OPENAI_ALIASES: Final[Names] = {
    "input_tokens": "input",
    "output_tokens": "output",
    "input_tokens_details": _READ,
    "output_tokens_details": _WRITTEN,
    "input_token_details": _READ,
    "output_token_details": _WRITTEN,
    "prompt_cache_hit_tokens": "cache_read",
    "cached_tokens": "cache_read",
}
ANTHROPIC: Final[Names] = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation_input_tokens": "cache_write",
    "cache_creation": {
        "ephemeral_5m_input_tokens": "cache_write_5m",
        "ephemeral_1h_input_tokens": "cache_write_1h",
    },
    "output_tokens_details": {"thinking_tokens": "reasoning"},
    "server_tool_use": {"web_search_requests": "searches"},
}
GEMINI: Final[Names] = {
    "promptTokenCount": "prompt",
    "toolUsePromptTokenCount": "tool_prompt",
    "cachedContentTokenCount": "cache_read",
    "candidatesTokenCount": "candidates",
    "thoughtsTokenCount": "reasoning",
    "totalTokenCount": "sum",
    SEARCHES: "searches",
    "promptTokensDetails": {"AUDIO": "audio_input", "IMAGE": "image_input"},
    "cacheTokensDetails": {"AUDIO": "audio_cached", "IMAGE": "image_cached"},
    "candidatesTokensDetails": {"AUDIO": "audio_output", "IMAGE": "image_output"},
}
NO_ALIASES: Final[Names] = {}

_Tokens = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]


class _PromptDetails(Struct, frozen=True, gc=False):
    cached_tokens: _Tokens | None = None
    cache_write_tokens: _Tokens | None = None
    audio_tokens: _Tokens | None = None
    image_tokens: _Tokens | None = None
    cached_tokens_details: object = None


class _CompletionDetails(Struct, frozen=True, gc=False):
    reasoning_tokens: _Tokens | None = None
    audio_tokens: _Tokens | None = None
    image_tokens: _Tokens | None = None


class OpenAIReport(Struct, frozen=True, gc=False):
    """A usage object as OpenAI documents it, for a typed decode of whole answers.

    A decoder refuses every figure that cannot be a token count, and every member that has to be
    weighed against one of these.
    """

    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    total_tokens: _Tokens | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    input_tokens: None = None
    output_tokens: None = None
    input_tokens_details: None = None
    output_tokens_details: None = None
    prompt_cache_hit_tokens: None = None
    cached_tokens: None = None
    server_tool_use: None = None
    num_search_queries: None = None

    @property
    def plain(self) -> bool:
        """Whether all there is is of text and audio alone."""
        given, made = self.prompt_tokens_details, self.completion_tokens_details
        return (given is None or not (given.image_tokens or given.cached_tokens_details)) and (
            made is None or not made.image_tokens
        )


class _CacheCreation(Struct, frozen=True, gc=False):
    ephemeral_5m_input_tokens: _Tokens | None = None
    ephemeral_1h_input_tokens: _Tokens | None = None


class _OutputDetails(Struct, frozen=True, gc=False):
    thinking_tokens: _Tokens | None = None


class _ServerTools(Struct, frozen=True, gc=False):
    web_search_requests: _Tokens | None = None


class AnthropicReport(Struct, frozen=True, gc=False):
    """A usage object as Anthropic documents it, for a typed decode of whole answers."""

    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    cache_read_input_tokens: _Tokens | None = None
    cache_creation_input_tokens: _Tokens | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
