"""Which endpoint a request path means, for every base URL that users really paste.

Rules: an SDK appends its own suffix to whatever was pasted, so a path is read as words from
left to right: any run of base words (`v1`, `api`, ...) and of whole endpoints is a base, the
last endpoint is meant. Words compare without case; empty words (double and trailing slashes)
do not count; model names keep their case. A path that is none of this resolves to None, and
`hint` names the URL to use. This module must not know hosts, queries or handlers.

Sources: DESIGN.md promise 7, FEATURES.md rows 3, 9 and 10, WIRE.md section 5 (SDK suffixes).
"""

from collections.abc import Sequence
from enum import StrEnum

from proxy.core.entities import Dialect

PATH_CHARS_MAX = 2_048
WORDS_MAX = 64
ECHO_CHARS_MAX = 120


class Endpoint(StrEnum):
    """What a path asks for. `UNSUPPORTED` is a known API that Sluice does not serve."""

    CHAT = "chat"
    MESSAGES = "messages"
    RESPONSES = "responses"
    MODELS = "models"
    MODEL = "model"
    UNSUPPORTED = "unsupported"


CANONICAL = {
    Endpoint.CHAT: "/v1/chat/completions",
    Endpoint.MESSAGES: "/v1/messages",
    Endpoint.RESPONSES: "/v1/responses",
    Endpoint.MODELS: "/v1/models",
    Endpoint.MODEL: "/v1/models/{model}",
}
"""The one path each served endpoint is documented under."""

METHODS: dict[Endpoint, tuple[str, ...]] = {
    Endpoint.CHAT: ("POST",),
    Endpoint.MESSAGES: ("POST",),
    Endpoint.RESPONSES: ("POST",),
    Endpoint.MODELS: ("GET", "HEAD"),
    Endpoint.MODEL: ("GET", "HEAD"),
    Endpoint.UNSUPPORTED: (),
}
"""The methods each endpoint answers, besides `OPTIONS`, which every path answers."""

_UNSERVED = (None, Endpoint.UNSUPPORTED)
_OPENAI_CALLS = (Endpoint.CHAT, Endpoint.RESPONSES)

_BASE_WORDS = frozenset({"v1", "api", "openai", "anthropic"})

_UNSUPPORTED_WORDS = frozenset(
    {
        "assistants", "audio", "batches", "chatkit", "complete", "completions", "containers",
        "conversations", "dashboard", "edits", "embeddings", "engines", "evals", "files",
        "fine-tunes", "fine_tuning", "images", "moderations", "organization", "organizations",
        "realtime", "rerank", "skills", "threads", "uploads", "v1beta", "vector_stores", "videos",
    }
)  # fmt: skip
"""First words of OpenAI, Anthropic and Gemini endpoints that are not served."""

_WHOLE = {"messages": Endpoint.MESSAGES, "responses": Endpoint.RESPONSES}
_ENDPOINTS = (["messages"], ["responses"], ["chat", "completions"])
"""What may follow `models` as a path of its own; anything else there is a model's name."""


def resolve(path: str) -> Endpoint | None:
    """Tell which endpoint `path` (decoded, with or without its query) means, or None."""
    return _resolve(path)[0]


def model_name(path: str) -> str:
    """Return the model a `MODEL` path names, case kept; it may contain slashes."""
    endpoint, name = _resolve(path)
    if endpoint is not Endpoint.MODEL:
        raise AssertionError(f"not a model path: {endpoint}")
    return name


def dialect_of(path: str, *, anthropic_version: bool) -> Dialect:
    """Choose the dialect of an answer, errors included, before anything else is known.

    Each call endpoint speaks its own; elsewhere the `anthropic-version` header,
    which every Anthropic SDK sends, decides (`anthropic_version`: it was there).
    """
    endpoint, _ = _resolve(path)
    if endpoint in _OPENAI_CALLS:
        return Dialect.OPENAI
    if endpoint is Endpoint.MESSAGES or anthropic_version:
        return Dialect.ANTHROPIC
    if endpoint in _UNSERVED and "messages" in _words(path.lower()):
        return Dialect.ANTHROPIC
    return Dialect.OPENAI


def hint(path: str, method: str) -> str:
    """Say in one or two sentences what is wrong with this URL and which one to use."""
    endpoint, _ = _resolve(path)
    shown = _echo(path)
    if endpoint is None:
        return (
            f"Unknown URL {method[:16]} {shown}. Use POST /v1/chat/completions or /v1/responses "
            "(OpenAI), POST /v1/messages (Anthropic) or GET /v1/models; the base URL of an OpenAI "
            "SDK is this host with /v1, of an Anthropic SDK this host alone."
        )
    if endpoint is Endpoint.UNSUPPORTED:
        if "responses" in _words(path.lower()):
            return (
                f"{shown} is not supported here: answers are not kept, so none can be fetched, "
                "cancelled or gone on from. Use POST /v1/responses with the whole conversation."
            )
        return (
            f"{shown} is not supported here. Use POST /v1/chat/completions or /v1/responses "
            "(OpenAI), POST /v1/messages (Anthropic) or GET /v1/models."
        )
    allowed = METHODS[endpoint]
    if method in allowed:
        return f"Use {method} {CANONICAL[endpoint]}."
    return f"{shown} does not answer {method[:16]}. Use {allowed[0]} {CANONICAL[endpoint]}."


def _echo(path: str) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in path[:ECHO_CHARS_MAX])
    return text.partition("?")[0] or "/"


def _words(path: str) -> list[str]:
    return [word for word in path[:PATH_CHARS_MAX].partition("?")[0].split("/") if word]


def _resolve(path: str) -> tuple[Endpoint | None, str]:
    """Return the endpoint and, for `MODEL`, the model's name."""
    if path == "/v1/chat/completions":  # Nearly every request: one comparison.
        return Endpoint.CHAT, ""
    if len(path) > PATH_CHARS_MAX or not path.startswith("/"):
        return None, ""
    words = _words(path)
    return _resolve_words(words) if len(words) <= WORDS_MAX else (None, "")


def _resolve_words(words: Sequence[str]) -> tuple[Endpoint | None, str]:
    found: Endpoint | None = None
    index = 0
    while index < len(words):
        word = words[index].lower()
        rest = words[index + 1 :]
        index += 1
        if word in _BASE_WORDS:
            continue
        if word == "chat" and rest and rest[0].lower() == "completions":
            found = Endpoint.CHAT
            index += 1
        elif word in _WHOLE:
            found = _WHOLE[word]
        elif word == "models":
            return _resolve_model(rest)
        elif word in _UNSUPPORTED_WORDS:
            # A whole unsupported endpoint may itself be a pasted base: /v1/embeddings/models.
            # Not Gemini's own list, though: /v1beta/models/{model}:generateContent.
            is_gemini = word == "v1beta" and [name.lower() for name in rest[:1]] == ["models"]
            after, name = (None, "") if is_gemini else _resolve_words(rest)
            return (after, name) if after is not None else (Endpoint.UNSUPPORTED, "")
        else:
            # /v1/messages/batches, /v1/responses/{id}: known there, not served here.
            return (Endpoint.UNSUPPORTED if found is not None else None), ""
    return found, ""


def _resolve_model(rest: Sequence[str]) -> tuple[Endpoint | None, str]:
    """Read what follows `models`: nothing, another endpoint's path, or a model's name."""
    lowered = [word.lower() for word in rest]
    if not rest or lowered in (["v1"], ["models"]):
        return Endpoint.MODELS, ""
    if lowered[0] in _BASE_WORDS or lowered in _ENDPOINTS:
        after, name = _resolve_words(rest)
        if after not in _UNSERVED:
            return after, name
    return Endpoint.MODEL, "/".join(rest)
