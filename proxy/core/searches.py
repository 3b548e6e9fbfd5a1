"""How often a request lets its provider search the web, by what it says of tools.

Rules: asked only where searches have a price; leans to the larger figure, because a hold that is
too large is given back and one that is too small is the operator's. What cannot be read counts as
a search without a limit. This module must not know prices.

Sources: Anthropic's web search tool (`web_search_*`, `max_uses`); OpenAI's Responses
(`web_search*`, `max_tool_calls`) and chat (`web_search_options`); OpenRouter's `plugins`; xAI's
`search_parameters`; Gemini's `googleSearch`.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from proxy.core.prompts import SEARCHED_BYTES_MAX

SEARCHES_MAX: Final = 1_000
"""No call searches more often, whatever it or its provider says."""
SEARCHES_HELD: Final = 10
"""What is held where a request sets no limit: most calls search less."""

_ASKING: Final = ("web_search_options", "plugins", "search_parameters")
_NOTHING: Final = (b"null", b"[]")


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None
    max_uses: int | None = None
    google_search: Raw | None = None
    google: Raw | None = msgspec.field(default=None, name="googleSearch")
    retrieval: Raw | None = msgspec.field(default=None, name="googleSearchRetrieval")

    @property
    def searches(self) -> bool:
        """Whether it is a search of the provider's."""
        if self.type is None:
            return any((self.google_search, self.google, self.retrieval))
        return "search" in self.type and self.type != "file_search"


_TOOLS: Final = msgspec.json.Decoder(list[_Tool])
_COUNT: Final = msgspec.json.Decoder(int)


def searches_max(members: Mapping[str, Raw]) -> int | None:
    """Return the most searches the body with these members allows; None: it sets no limit.

    0 where it offers the provider none.
    """
    if any(bytes(members[name]) not in _NOTHING for name in _ASKING if name in members):
        return None
    if "tools" not in members:
        return 0
    tools = members["tools"]
    if len(tools) > SEARCHED_BYTES_MAX:
        return None
    try:
        found = [tool.max_uses for tool in _TOOLS.decode(tools) if tool.searches]
    except msgspec.ValidationError:
        return None if b"earch" in bytes(tools) else 0
    if not found:
        return 0
    allowed = _limit(members.get("max_tool_calls"))
    if allowed is None and None not in found:
        allowed = sum([max(0, uses) for uses in found if uses is not None])
    return None if allowed is None else min(allowed, SEARCHES_MAX)


def _limit(raw: Raw | None) -> int | None:
    if raw is None:
        return None
    try:
        return max(0, _COUNT.decode(raw))
    except msgspec.ValidationError:
        return None
