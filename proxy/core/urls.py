"""Which endpoint a request path means, for every base URL that users really paste.

Rules: an SDK appends its own suffix to whatever was pasted, so a path is read as words from
left to right: any run of base words (`v1`, `api`, Azure's `deployments/{name}`, ...) and of whole
endpoints is a base, the last endpoint is meant. Words compare without case; empty words (double
and trailing slashes) do not count; names keep their case. A path that is none of this resolves to
None, and `hint` names the URL to use. This module must not know hosts, queries or handlers.

Sources: DESIGN.md promise 7, FEATURES.md rows 3, 9 and 10, WIRE.md section 5 (SDK suffixes).
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

from proxy.core.entities import Dialect

PATH_CHARS_MAX = 2_048
WORDS_MAX = 64
ECHO_CHARS_MAX = 120
GUESS_CHARS_MAX = 64
"""What of an unknown path is compared with the known ones: a 404 must stay cheap."""
_SIMILARITY_MIN = 0.7


class Endpoint(StrEnum):
    """What a path asks for. `UNSUPPORTED` is a known API that Sluice does not serve."""

    CHAT = "chat"
    MESSAGES = "messages"
    RESPONSES = "responses"
    RESPONSE = "response"
    RESPONSE_CANCEL = "response_cancel"
    RESPONSE_INPUT_ITEMS = "response_input_items"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    IMAGES_GENERATIONS = "images_generations"
    IMAGES_EDITS = "images_edits"
    IMAGES_VARIATIONS = "images_variations"
    TRANSCRIPTIONS = "transcriptions"
    TRANSLATIONS = "translations"
    SPEECH = "speech"
    MODERATIONS = "moderations"
    RERANK = "rerank"
    COUNT_TOKENS = "count_tokens"
    GEMINI_GENERATE = "gemini_generate"
    GEMINI_STREAM = "gemini_stream"
    GEMINI_COUNT_TOKENS = "gemini_count_tokens"
    GEMINI_MODELS = "gemini_models"
    REALTIME = "realtime"
    GENERATION = "generation"
    OPENAPI = "openapi"
    MODELS = "models"
    MODEL = "model"
    UNSUPPORTED = "unsupported"

    # Enum hashes in Python code; this one is looked up for every new head.
    __hash__ = str.__hash__


CANONICAL: Final = {
    Endpoint.CHAT: "/v1/chat/completions",
    Endpoint.MESSAGES: "/v1/messages",
    Endpoint.RESPONSES: "/v1/responses",
    Endpoint.RESPONSE: "/v1/responses/{id}",
    Endpoint.RESPONSE_CANCEL: "/v1/responses/{id}/cancel",
    Endpoint.RESPONSE_INPUT_ITEMS: "/v1/responses/{id}/input_items",
    Endpoint.COMPLETIONS: "/v1/completions",
    Endpoint.EMBEDDINGS: "/v1/embeddings",
    Endpoint.IMAGES_GENERATIONS: "/v1/images/generations",
    Endpoint.IMAGES_EDITS: "/v1/images/edits",
    Endpoint.IMAGES_VARIATIONS: "/v1/images/variations",
    Endpoint.TRANSCRIPTIONS: "/v1/audio/transcriptions",
    Endpoint.TRANSLATIONS: "/v1/audio/translations",
    Endpoint.SPEECH: "/v1/audio/speech",
    Endpoint.MODERATIONS: "/v1/moderations",
    Endpoint.RERANK: "/v1/rerank",
    Endpoint.COUNT_TOKENS: "/v1/messages/count_tokens",
    Endpoint.GEMINI_GENERATE: "/v1beta/models/{model}:generateContent",
    Endpoint.GEMINI_STREAM: "/v1beta/models/{model}:streamGenerateContent",
    Endpoint.GEMINI_COUNT_TOKENS: "/v1beta/models/{model}:countTokens",
    Endpoint.GEMINI_MODELS: "/v1beta/models",
    Endpoint.REALTIME: "/v1/realtime",
    Endpoint.GENERATION: "/v1/generation",
    Endpoint.OPENAPI: "/openapi.json",
    Endpoint.MODELS: "/v1/models",
    Endpoint.MODEL: "/v1/models/{model}",
}
"""The one path each endpoint is documented under."""

_READ = ("GET", "HEAD")
_OTHER_METHODS: Final[Mapping[Endpoint, tuple[str, ...]]] = {
    Endpoint.RESPONSE: ("GET", "DELETE"),
    Endpoint.RESPONSE_INPUT_ITEMS: ("GET",),
    Endpoint.GEMINI_MODELS: _READ,
    Endpoint.REALTIME: ("GET",),
    Endpoint.GENERATION: ("GET",),
    Endpoint.OPENAPI: _READ,
    Endpoint.MODELS: _READ,
    Endpoint.MODEL: _READ,
    Endpoint.UNSUPPORTED: (),
}
METHODS: Final[Mapping[Endpoint, tuple[str, ...]]] = {
    endpoint: _OTHER_METHODS.get(endpoint, ("POST",)) for endpoint in Endpoint
}
"""The methods each endpoint answers, besides `OPTIONS`, which every path answers."""

_BASE_WORDS = frozenset({"v1", "api", "openai", "anthropic"})
_GEMINI_BASE_WORDS = frozenset({"v1beta", "v1alpha"})

_VERBS = {
    "generatecontent": Endpoint.GEMINI_GENERATE,
    "streamgeneratecontent": Endpoint.GEMINI_STREAM,
    "counttokens": Endpoint.GEMINI_COUNT_TOKENS,
}
_OTHER_VERBS = frozenset(
    {
        "asyncbatchembedcontent", "batchembedcontents", "batchgeneratecontent", "embedcontent",
        "embedtext", "generateanswer", "predict", "predictlongrunning", "rawpredict",
        "streamrawpredict",
    }
)  # fmt: skip
"""What may follow a model's colon at Gemini and Vertex and is not served."""

_UNSUPPORTED_WORDS = frozenset(
    {
        "assistants", "audio", "batches", "cachedcontents", "chatkit", "complete", "containers",
        "conversations", "corpora", "dashboard", "deployments", "edits", "engines", "evals",
        "files", "fine-tunes", "fine_tuning", "images", "organization", "organizations", "skills",
        "threads", "tunedmodels", "upload", "uploads", "vector_stores", "videos",
    }
)  # fmt: skip
"""First words of OpenAI, Anthropic, Azure and Gemini endpoints that are not served."""

_ANSWER_WORDS = {
    "cancel": Endpoint.RESPONSE_CANCEL,
    "input_items": Endpoint.RESPONSE_INPUT_ITEMS,
}
_NO_ANSWER_IDS = frozenset({"compact", "input_tokens"})
"""What may follow `responses` and is an endpoint of OpenAI's, not an answer's id."""

_WITH_MODEL = (
    Endpoint.MODEL,
    Endpoint.GEMINI_GENERATE,
    Endpoint.GEMINI_STREAM,
    Endpoint.GEMINI_COUNT_TOKENS,
    Endpoint.GEMINI_MODELS,
)
_WITH_ANSWER = (Endpoint.RESPONSE, Endpoint.RESPONSE_CANCEL, Endpoint.RESPONSE_INPUT_ITEMS)
_ANTHROPIC_CALLS = (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS)
_GEMINI = _WITH_MODEL[1:]
_EITHER = (None, Endpoint.UNSUPPORTED, Endpoint.MODELS, Endpoint.MODEL, Endpoint.GENERATION)
"""Endpoints whose dialect the path does not tell."""


def _phrases() -> dict[str, tuple[tuple[tuple[str, ...], Endpoint], ...]]:
    """Endpoints that are words and nothing else, by first word, the longest first."""
    known: dict[tuple[str, ...], Endpoint] = {
        tuple(path.removeprefix("/v1").strip("/").split("/")): endpoint
        for endpoint, path in CANONICAL.items()
        if "{" not in path and endpoint not in (Endpoint.MODELS, Endpoint.GEMINI_MODELS)
    }
    known["reranking",] = known["v2", "rerank"] = Endpoint.RERANK  # llama.cpp's, Cohere's
    found: dict[str, tuple[tuple[tuple[str, ...], Endpoint], ...]] = {}
    for phrase in sorted(known, key=len, reverse=True):
        found[phrase[0]] = (*found.get(phrase[0], ()), (phrase, known[phrase]))
    return found


_PHRASES: Final = _phrases()

_REASONS = (
    ({"responses"}, "send the whole conversation to POST /v1/responses"),
    ({"files", "upload", "uploads"}, "no files are kept: send the content in the request itself"),
    ({"batches"}, "there are no batches: send the requests one by one, many at a time if you like"),
    ({"fine_tuning", "fine-tunes", "tunedmodels"}, "models are trained at their providers"),
    ({"assistants", "threads", "conversations", "chatkit"},
     "no conversation is kept: send the whole of it each time"),
    ({"vector_stores", "containers", "skills"}, "nothing is kept between two requests"),
    ({"organization", "organizations", "dashboard"},
     "usage, balance and keys are in the console of whoever gave you your key"),
)  # fmt: skip
"""Why some APIs are not served, by a word of their path."""


def resolve(path: str) -> Endpoint | None:
    """Tell which endpoint `path` (decoded, with or without its query) means, or None."""
    return _resolve(path)[0]


def model_name(path: str) -> str:
    """Return the model a path names, case kept; it may contain slashes.

    For `MODEL` and Gemini's endpoints; "" for Gemini's list of all models.
    """
    endpoint, name = _resolve(path)
    if endpoint not in _WITH_MODEL:
        raise AssertionError(f"not a model path: {endpoint}")
    return _named(name)


def deployment_name(path: str) -> str:
    """Return the model that an Azure client's path names as its deployment, "" if none.

    It may contain slashes.
    """
    endpoint, name = _resolve(path)
    return "" if endpoint in _WITH_MODEL or endpoint in _WITH_ANSWER else _named(name)


def answer_id(path: str) -> str:
    """Return the id of the kept answer that a path of `RESPONSE` and its kin names."""
    endpoint, name = _resolve(path)
    if endpoint not in _WITH_ANSWER:
        raise AssertionError(f"not the path of an answer: {endpoint}")
    return _named(name)


def _named(name: str) -> str:
    """Undo what keeps a question mark in a name apart from a query (core/http1_request.py)."""
    return name.replace("%3F", "?")


def dialect_of(path: str, *, anthropic_version: bool, google_key: bool = False) -> Dialect:
    """Choose the dialect of an answer, errors included, before anything else is known.

    Each call endpoint speaks its own; elsewhere a header decides that every SDK of Anthropic's
    (`anthropic-version`) or of Google's sends (`x-goog-api-key`): whether it was there.
    """
    endpoint, _ = _resolve(path)
    if endpoint in _ANTHROPIC_CALLS:
        return Dialect.ANTHROPIC
    if endpoint in _GEMINI:
        return Dialect.GEMINI
    if endpoint not in _EITHER:
        return Dialect.OPENAI
    if anthropic_version:
        return Dialect.ANTHROPIC
    if google_key:
        return Dialect.GEMINI
    if endpoint in (None, Endpoint.UNSUPPORTED):
        words = _words(path.lower())
        if "messages" in words:
            return Dialect.ANTHROPIC
        if not _GEMINI_BASE_WORDS.isdisjoint(words) and "openai" not in words:
            return Dialect.GEMINI
    return Dialect.OPENAI


def dialect_of_line(line: bytes) -> Dialect:
    """Guess the dialect of an answer from a request line, or from the part of it that came."""
    target = line.decode("latin-1").partition(" ")[2].partition(" ")[0]
    return dialect_of(target, anthropic_version=False)


def hint(path: str, method: str) -> str:
    """Say in one or two sentences what is wrong with this URL and which one to use."""
    endpoint, _ = _resolve(path)
    shown = _echo(path)
    if endpoint is None:
        return (
            f"Unknown URL {method[:16]} {shown}. {_guess(path)} The base URL of an OpenAI SDK is "
            "this host with /v1, of an Anthropic SDK this host alone."
        )
    if endpoint is Endpoint.UNSUPPORTED:
        return (
            f"{shown} is not supported here{_reason(path)}. Use POST /v1/chat/completions or "
            "/v1/responses (OpenAI), POST /v1/messages (Anthropic), "
            "POST /v1beta/models/{model}:generateContent (Gemini) or GET /v1/models."
        )
    allowed = METHODS[endpoint]
    if method in allowed:
        return f"Use {method} {CANONICAL[endpoint]}."
    return f"{shown} does not answer {method[:16]}. Use {allowed[0]} {CANONICAL[endpoint]}."


def _reason(path: str) -> str:
    words = set(_words(path.lower()))
    return next((f": {reason}" for known, reason in _REASONS if words & known), "")


def _guess(path: str) -> str:
    """Name the endpoint whose path is most like an unknown one, or the main ones."""
    tails = {path.removeprefix("/v1/"): endpoint for endpoint, path in CANONICAL.items()}
    words = [word for word in _words(path.lower()) if word not in _BASE_WORDS]
    tail = "/".join(words)[:GUESS_CHARS_MAX]
    close = get_close_matches(tail, tails, 1, _SIMILARITY_MIN)
    if not close:
        close = [one for one in tails if words and one.split("/")[0] == words[0]][:1]
    if close:
        meant = tails[close[0]]
        return f"Use {METHODS[meant][0]} {CANONICAL[meant]}."
    return (
        "Use POST /v1/chat/completions or /v1/responses (OpenAI), POST /v1/messages (Anthropic), "
        "POST /v1beta/models/{model}:generateContent (Gemini) or GET /v1/models."
    )


def _echo(path: str) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in path[:ECHO_CHARS_MAX])
    return text.partition("?")[0] or "/"


def _words(path: str) -> list[str]:
    return [word for word in path[:PATH_CHARS_MAX].partition("?")[0].split("/") if word]


def _resolve(path: str) -> tuple[Endpoint | None, str]:
    """Return the endpoint and what its path names: a model, or an answer's id."""
    if path == "/v1/chat/completions":  # Nearly every request: one comparison.
        return Endpoint.CHAT, ""
    if len(path) > PATH_CHARS_MAX or not path.startswith("/"):
        return None, ""
    words = _words(path)
    return _resolve_words(words) if len(words) <= WORDS_MAX else (None, "")


def _resolve_words(words: Sequence[str]) -> tuple[Endpoint | None, str]:
    found: Endpoint | None = None
    name = deployment = ""
    index, size = 0, len(words)
    while index < size:
        word = words[index].lower()
        rest = words[index + 1 :]
        phrase, meant = _phrase(words[index:])
        if word in _BASE_WORDS:
            index += 1
        elif word in _GEMINI_BASE_WORDS:
            return _resolve_gemini(rest)
        elif word == "deployments" and (size_of := _deployment(rest)):
            deployment = "/".join(rest[:size_of])
            index += 1 + size_of
        elif meant is not None:
            found, name = meant, ""
            index += phrase
        elif word == "models":
            return _resolve_model(rest)
        elif word in _UNSUPPORTED_WORDS:
            # A whole unsupported endpoint may itself be a pasted base: /v1/files/models.
            after, name = _resolve_words(rest)
            return (after, name) if after is not None else (Endpoint.UNSUPPORTED, "")
        elif found is Endpoint.RESPONSES and word not in _NO_ANSWER_IDS:
            found, name = Endpoint.RESPONSE, words[index]
            index += 1
        elif found is Endpoint.RESPONSE and word in _ANSWER_WORDS:
            found = _ANSWER_WORDS[word]
            index += 1
        else:
            # /v1/messages/batches, /v1/chat/completions/{id}: known there, not served here.
            return (Endpoint.UNSUPPORTED if found is not None else None), ""
    return found, name or deployment


def _deployment(rest: Sequence[str]) -> int:
    """How many words name the deployment in `deployments/{deployment}/chat/completions`."""
    for size in range(1, len(rest)):
        if _phrase(rest[size:])[0] or rest[size].lower() in ("models", "deployments"):
            return size
    return 0


def _phrase(words: Sequence[str]) -> tuple[int, Endpoint | None]:
    """How many of the leading words are a whole endpoint, and which."""
    for phrase, endpoint in _PHRASES.get(words[0].lower(), ()):
        if tuple(word.lower() for word in words[: len(phrase)]) == phrase:
            return len(phrase), endpoint
    return 0, None


def _resolve_model(rest: Sequence[str]) -> tuple[Endpoint | None, str]:
    """Read what follows `models`: nothing, another endpoint's path, or a model's name."""
    lowered = [word.lower() for word in rest]
    if not rest or lowered in (["v1"], ["models"]):
        return Endpoint.MODELS, ""
    is_base = lowered[0] in _BASE_WORDS or lowered[0] in _GEMINI_BASE_WORDS
    if is_base or _phrase(rest)[0] == len(rest):
        after, name = _resolve_words(rest)
        if after not in (None, Endpoint.UNSUPPORTED):
            return after, name
    verb = _verb(rest)
    return verb if verb is not None else (Endpoint.MODEL, "/".join(rest))


def _resolve_gemini(rest: Sequence[str]) -> tuple[Endpoint | None, str]:
    """Read what follows `v1beta`: Gemini's own paths, or those it has in OpenAI's form."""
    if [word.lower() for word in rest[:1]] != ["models"]:
        after, name = _resolve_words(rest)
        return (after, name) if after is not None else (Endpoint.UNSUPPORTED, "")
    names = rest[1:]
    while names and names[0].lower() == "models":  # a model given as `models/{model}`
        names = names[1:]
    for index, word in enumerate(names):
        again = word.lower()
        if again in _GEMINI_BASE_WORDS or (again in _BASE_WORDS and _verb(names[:index])):
            return _resolve_gemini(names[index + 1 :])  # all before was a pasted base
    verb = _verb(names)
    return verb if verb is not None else (Endpoint.GEMINI_MODELS, "/".join(names))


def _verb(names: Sequence[str]) -> tuple[Endpoint, str] | None:
    """Read `{model}:{verb}`, the model's name possibly with slashes; None without a verb."""
    name, colon, verb = "/".join(names).replace("%3A", ":").rpartition(":")
    verb = verb.lower()
    if not colon or not name or (verb not in _VERBS and verb not in _OTHER_VERBS):
        return None
    return _VERBS.get(verb, Endpoint.UNSUPPORTED), name
