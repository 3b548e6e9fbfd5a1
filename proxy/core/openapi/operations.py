"""The table the document is made of: what each endpoint is, takes, answers and may be refused for.

Rules: every endpoint that has a path has its row for each method but HEAD, served or not, so that
whoever begins to serve one need not come here; what is not served is left out by document.py. This
module must not know how OpenAPI writes things down.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.urls import Endpoint

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"
EVENTS: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. Schemas are names of schemas.py, media types as HTTP writes them."""

    name: str
    """Unique, as generators name the function that calls it."""
    summary: str
    tag: str
    dialects: tuple[str, ...] = ("OpenAI",)
    """Whose errors it answers with."""
    takes: Mapping[str, str] | None = None
    """Schema of the body by media type; None: no body."""
    answers: Mapping[str, str | None] | None = None
    """Schema of a 200 by media type, None for bytes or events; no answers: 101, no body."""
    query: Mapping[str, str] | None = None
    """Parameters of the query and what they say."""
    needed: tuple[str, ...] = ()
    """Those of the query that must be there."""
    is_call: bool = True
    """Whether it reaches an upstream and costs something."""
    keyless: bool = False
    """Whether it answers without a key."""


def _openai(
    name: str,
    summary: str,
    tag: str,
    takes: str,
    answers: str,
    *,
    stream: bool = False,
    form: str | None = None,
) -> Operation:
    bodies = ({JSON: takes} if takes else {}) | ({FORM: form} if form else {})
    events: dict[str, str | None] = {EVENTS: None} if stream else {}
    return Operation(name, summary, tag, takes=bodies, answers={JSON: answers, **events})


_AUDIO: Final[Mapping[str, str | None]] = {
    "audio/mpeg": None,
    "audio/wav": None,
    "audio/flac": None,
    "audio/aac": None,
    "audio/opus": None,
    "audio/pcm": None,
    "application/octet-stream": None,
    EVENTS: None,
}
_ANTHROPIC: Final = ("Anthropic",)
_GEMINI: Final = ("Gemini",)
_ANY: Final = ("OpenAI", "Anthropic", "Gemini")

_GOOGLE_PAGES: Final[Mapping[str, str]] = {
    "pageSize": "Google's list: models a page.",
    "pageToken": "Google's list: the `nextPageToken` of the page before.",
}

OPERATIONS: Final[Mapping[tuple[Endpoint, str], Operation]] = {
    (Endpoint.CHAT, "POST"): _openai(
        "createChatCompletion",
        "OpenAI chat completions",
        "Conversations",
        "ChatRequest",
        "ChatCompletion",
        stream=True,
    ),
    (Endpoint.MESSAGES, "POST"): Operation(
        "createMessage",
        "Anthropic messages",
        "Conversations",
        _ANTHROPIC,
        takes={JSON: "MessagesRequest"},
        answers={JSON: "Message", EVENTS: None},
    ),
    (Endpoint.RESPONSES, "POST"): _openai(
        "createResponse",
        "OpenAI responses",
        "Conversations",
        "ResponsesRequest",
        "Response",
        stream=True,
    ),
    (Endpoint.RESPONSE, "GET"): Operation(
        "getResponse",
        "A response that its provider keeps",
        "Conversations",
        answers={JSON: "Response"},
        is_call=False,
    ),
    (Endpoint.RESPONSE, "DELETE"): Operation(
        "deleteResponse",
        "Forget a response that its provider keeps",
        "Conversations",
        answers={JSON: "Deleted"},
        is_call=False,
    ),
    (Endpoint.RESPONSE_CANCEL, "POST"): Operation(
        "cancelResponse",
        "Cancel a response that runs at its provider",
        "Conversations",
        answers={JSON: "Response"},
        is_call=False,
    ),
    (Endpoint.RESPONSE_INPUT_ITEMS, "GET"): Operation(
        "listInputItems",
        "The input of a response that its provider keeps",
        "Conversations",
        answers={JSON: "Items"},
        is_call=False,
    ),
    (Endpoint.COMPLETIONS, "POST"): _openai(
        "createCompletion",
        "OpenAI text completions",
        "Conversations",
        "CompletionsRequest",
        "Completion",
        stream=True,
    ),
    (Endpoint.GEMINI_GENERATE, "POST"): Operation(
        "generateContent",
        "Gemini generateContent",
        "Conversations",
        _GEMINI,
        takes={JSON: "GeminiRequest"},
        answers={JSON: "GeminiAnswer"},
    ),
    (Endpoint.GEMINI_STREAM, "POST"): Operation(
        "streamGenerateContent",
        "Gemini streamGenerateContent, with `alt=sse` as events",
        "Conversations",
        _GEMINI,
        takes={JSON: "GeminiRequest"},
        answers={EVENTS: None, JSON: "GeminiAnswers"},
        query={"alt": "`sse`: the answer comes as server-sent events."},
    ),
    (Endpoint.EMBEDDINGS, "POST"): _openai(
        "createEmbedding", "Embeddings", "Services", "EmbeddingsRequest", "Embeddings"
    ),
    (Endpoint.IMAGES_GENERATIONS, "POST"): _openai(
        "createImage", "Make images", "Images", "ImagesRequest", "Images", stream=True
    ),
    (Endpoint.IMAGES_EDITS, "POST"): _openai(
        "createImageEdit",
        "Change images",
        "Images",
        "ImagesEditRequest",
        "Images",
        stream=True,
        form="ImagesEditForm",
    ),
    (Endpoint.IMAGES_VARIATIONS, "POST"): _openai(
        "createImageVariation", "Vary an image", "Images", "", "Images", form="ImagesVariationForm"
    ),
    (Endpoint.TRANSCRIPTIONS, "POST"): Operation(
        "createTranscription",
        "Speech to text",
        "Audio",
        takes={FORM: "TranscriptionForm"},
        answers={JSON: "Transcription", "text/plain": None, EVENTS: None},
    ),
    (Endpoint.TRANSLATIONS, "POST"): Operation(
        "createTranslation",
        "Speech to English text",
        "Audio",
        takes={FORM: "TranscriptionForm"},
        answers={JSON: "Transcription", "text/plain": None},
    ),
    (Endpoint.SPEECH, "POST"): Operation(
        "createSpeech",
        "Text to speech",
        "Audio",
        takes={JSON: "SpeechRequest"},
        answers=_AUDIO,
    ),
    (Endpoint.MODERATIONS, "POST"): _openai(
        "createModeration", "Moderations", "Services", "ModerationsRequest", "Moderation"
    ),
    (Endpoint.RERANK, "POST"): _openai(
        "rerank", "Order documents by a query", "Services", "RerankRequest", "Rerank"
    ),
    (Endpoint.COUNT_TOKENS, "POST"): Operation(
        "countTokens",
        "Anthropic count_tokens",
        "Services",
        _ANTHROPIC,
        takes={JSON: "CountTokensRequest"},
        answers={JSON: "TokenCount"},
    ),
    (Endpoint.GEMINI_COUNT_TOKENS, "POST"): Operation(
        "countGeminiTokens",
        "Gemini countTokens",
        "Services",
        _GEMINI,
        takes={JSON: "GeminiCountRequest"},
        answers={JSON: "GeminiTokenCount"},
    ),
    (Endpoint.REALTIME, "GET"): Operation(
        "connectRealtime",
        "A realtime session over a WebSocket",
        "Conversations",
        query={"model": "The model to talk to."},
        needed=("model",),
    ),
    (Endpoint.MODELS, "GET"): Operation(
        "listModels",
        "The models the key can use, with price and context window, in the caller's dialect",
        "Models",
        _ANY,
        answers={JSON: "Models"},
        query={
            "limit": "Anthropic's list: models a page.",
            "after_id": "Anthropic's list: those after this one.",
            "before_id": "Anthropic's list: those before this one.",
            **_GOOGLE_PAGES,
        },
        is_call=False,
    ),
    (Endpoint.MODEL, "GET"): Operation(
        "getModel",
        "One of them",
        "Models",
        _ANY,
        answers={JSON: "Model"},
        is_call=False,
    ),
    (Endpoint.GEMINI_MODELS, "GET"): Operation(
        "listGeminiModels",
        "The models the key can use, as Gemini lists them",
        "Models",
        _GEMINI,
        answers={JSON: "GeminiModels"},
        query=_GOOGLE_PAGES,
        is_call=False,
    ),
    (Endpoint.GENERATION, "GET"): Operation(
        "getGeneration",
        "What one call was and cost",
        "Models",
        dialects=_ANY,
        answers={JSON: "Generation"},
        query={"id": "The call's id, as its answer's headers name it."},
        needed=("id",),
        is_call=False,
    ),
    (Endpoint.OPENAPI, "GET"): Operation(
        "getOpenapi",
        "This document",
        "Models",
        answers={JSON: "Document"},
        is_call=False,
        keyless=True,
    ),
}
