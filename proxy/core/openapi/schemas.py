"""The bodies of the API as JSON Schema: loose where they pass through, strict where we refuse.

Rules: a request's schema says what the relay itself checks and what everybody sends, and lets
everything else through; an answer's says what a reader can count on whoever the provider is. Errors
are ours, so theirs are exact. This module must not know paths, methods or statuses.

Sources: core/requests.py and core/services for what is refused; the API references of OpenAI,
Anthropic and Google for the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from proxy.core.openai import CHOICES_MAX
from proxy.core.requests import MODEL_CHARS_MAX, OUTPUT_TOKENS_MAX

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json] | None"
Schema: TypeAlias = Mapping[str, Json]

TEXT: Final[Schema] = {"type": "string"}
OBJECT: Final[Schema] = {"type": "object", "additionalProperties": True}
MAYBE_FLAG: Final[Schema] = {"type": ["boolean", "null"]}
BINARY: Final[Schema] = {"type": "string", "format": "binary"}
MODEL: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": MODEL_CHARS_MAX,
    "description": "The name of a model as GET /v1/models lists it.",
}


def ref(name: str) -> Schema:
    """Return a reference to a schema of this module."""
    return {"$ref": f"#/components/schemas/{name}"}


def obj(required: Sequence[str], properties: Mapping[str, Json], *, closed: bool = False) -> Schema:
    """Return the schema of an object; `closed`: nothing else may be in it."""
    return {
        "type": "object",
        "required": list(required),
        "properties": properties,
        "additionalProperties": not closed,
    }


def _limit(maximum: int) -> Schema:
    return {"type": ["integer", "null"], "minimum": 1, "maximum": maximum}


ANY: Final[Schema] = {}
"""What passes through, to be judged by whoever serves the model."""
_MESSAGES: Final[Schema] = {
    "type": "array",
    "items": {"type": "object"},
    "minItems": 1,
    "description": "The whole conversation; nothing of it is kept between calls.",
}
_TOKENS: Final = _limit(OUTPUT_TOKENS_MAX)
_FILE: Final[Schema] = {**BINARY, "description": "The file itself."}
_TEXT_OR_LIST: Final[Schema] = {"oneOf": [TEXT, {"type": "array", "minItems": 1}]}

REQUESTS: Final[Mapping[str, Schema]] = {
    "ChatRequest": obj(
        ["model", "messages"],
        {
            "model": MODEL,
            "messages": _MESSAGES,
            "stream": MAYBE_FLAG,
            "stream_options": ANY,
            "max_completion_tokens": _TOKENS,
            "max_tokens": _TOKENS,
            "n": _limit(CHOICES_MAX),
            "tools": ANY,
        },
    ),
    "MessagesRequest": obj(
        ["model", "max_tokens", "messages"],
        {
            "model": MODEL,
            "max_tokens": {"type": "integer", "minimum": 1, "maximum": OUTPUT_TOKENS_MAX},
            "messages": _MESSAGES,
            "stream": MAYBE_FLAG,
            "system": ANY,
            "tools": ANY,
        },
    ),
    "ResponsesRequest": obj(
        ["model", "input"],
        {
            "model": MODEL,
            "input": _TEXT_OR_LIST,
            "instructions": ANY,
            "stream": MAYBE_FLAG,
            "max_output_tokens": _TOKENS,
            "tools": ANY,
        },
    ),
    "CompletionsRequest": obj(
        ["model", "prompt"],
        {"model": MODEL, "prompt": ANY, "stream": MAYBE_FLAG, "max_tokens": _TOKENS, "n": ANY},
    ),
    "EmbeddingsRequest": obj(
        ["model", "input"],
        {
            "model": MODEL,
            "input": {"oneOf": [{**TEXT, "minLength": 1}, {"type": "array", "minItems": 1}]},
            "dimensions": _limit(1_000_000),
            "encoding_format": ANY,
        },
    ),
    "ImagesRequest": obj(
        ["prompt"],
        {
            "model": MODEL,
            "prompt": TEXT,
            "n": _limit(10),
            "size": ANY,
            "quality": ANY,
            "stream": MAYBE_FLAG,
        },
    ),
    "ImagesEditRequest": obj(
        ["prompt"],
        {"model": MODEL, "prompt": TEXT, "images": ANY, "n": _limit(10), "stream": MAYBE_FLAG},
    ),
    "ImagesEditForm": obj(
        ["prompt", "image"],
        {"model": MODEL, "prompt": TEXT, "image": _FILE, "mask": _FILE, "size": TEXT},
    ),
    "ImagesVariationForm": obj(["image"], {"model": MODEL, "image": _FILE, "size": TEXT}),
    "TranscriptionForm": obj(
        ["model", "file"],
        {"model": MODEL, "file": _FILE, "language": TEXT, "prompt": TEXT, "response_format": TEXT},
    ),
    "SpeechRequest": obj(
        ["model", "input"],
        {"model": MODEL, "input": {**TEXT, "minLength": 1}, "voice": ANY, "response_format": ANY},
    ),
    "ModerationsRequest": obj(["input"], {"model": MODEL, "input": _TEXT_OR_LIST}),
    "RerankRequest": obj(
        ["model", "query", "documents"],
        {
            "model": MODEL,
            "query": TEXT,
            "documents": {
                "type": "array",
                "items": {"type": ["string", "object"]},
                "minItems": 1,
            },
            "top_n": _limit(1_000_000),
        },
    ),
    "CountTokensRequest": obj(["model", "messages"], {"model": MODEL, "messages": _MESSAGES}),
    "GeminiRequest": obj(["contents"], {"contents": {"type": "array"}}),
    "GeminiCountRequest": obj([], {"contents": ANY, "generateContentRequest": ANY}),
}

_USAGE: Final[Schema] = {"type": ["object", "null"]}
_WORDS: Final[Schema] = {"type": "array", "items": OBJECT}
_PRICES: Final[Schema] = {
    "type": ["object", "null"],
    "description": "What the key pays, USD as decimal text per 1M tokens; null: refused.",
}
_ENDPOINTS: Final[Schema] = {"type": "array", "items": TEXT}

ANSWERS: Final[Mapping[str, Schema]] = {
    "ChatCompletion": obj(["choices"], {"choices": _WORDS, "usage": _USAGE}),
    "Message": obj(["content"], {"content": _WORDS, "usage": _USAGE, "stop_reason": {}}),
    "Response": obj(["output"], {"id": TEXT, "status": TEXT, "output": _WORDS, "usage": _USAGE}),
    "Completion": obj(["choices"], {"choices": _WORDS, "usage": _USAGE}),
    "Embeddings": obj(["data"], {"data": _WORDS, "usage": _USAGE}),
    "Images": obj(["data"], {"data": _WORDS, "usage": _USAGE}),
    "Transcription": obj(["text"], {"text": TEXT, "usage": _USAGE}),
    "Moderation": obj(["results"], {"results": _WORDS}),
    "Rerank": obj(["results"], {"results": _WORDS}),
    "TokenCount": obj(["input_tokens"], {"input_tokens": {"type": "integer", "minimum": 0}}),
    "GeminiAnswer": obj([], {"candidates": _WORDS, "usageMetadata": OBJECT}),
    "GeminiTokenCount": obj(["totalTokens"], {"totalTokens": {"type": "integer", "minimum": 0}}),
    "GeminiModels": obj(
        ["models"],
        {"models": {"type": "array", "items": ref("GeminiModel")}, "nextPageToken": TEXT},
    ),
    "DryRun": obj(["object"], {"object": {"const": "dry_run"}}),
    "Generation": obj(["data"], {"data": OBJECT}),
    "Document": obj(["openapi", "info", "paths"], {"openapi": TEXT, "info": OBJECT}),
    "Deleted": obj(["id", "deleted"], {"id": TEXT, "deleted": {"type": "boolean"}}),
    "Items": obj(["data"], {"data": _WORDS, "has_more": {"type": "boolean"}}),
    "GeminiAnswers": {"type": "array", "items": ref("GeminiAnswer")},
    "Models": {"oneOf": [ref("OpenAIModels"), ref("AnthropicModels"), ref("GeminiModels")]},
    "Model": {"oneOf": [ref("OpenAIModel"), ref("AnthropicModel"), ref("GeminiModel")]},
    "GeminiModel": obj(["name", "displayName"], {"name": TEXT, "displayName": TEXT}),
    "OpenAIModel": obj(
        ["id", "object", "created", "owned_by", "context_window", "endpoints", "pricing"],
        {
            "id": TEXT,
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": TEXT,
            "context_window": {"type": "integer"},
            "max_output_tokens": {"type": "integer"},
            "endpoints": _ENDPOINTS,
            "pricing": _PRICES,
        },
    ),
    "AnthropicModel": obj(
        ["id", "type", "display_name", "created_at", "context_window", "endpoints", "pricing"],
        {
            "id": TEXT,
            "type": {"const": "model"},
            "display_name": TEXT,
            "created_at": {"type": "string", "format": "date-time"},
            "context_window": {"type": "integer"},
            "endpoints": _ENDPOINTS,
            "pricing": _PRICES,
        },
    ),
    "OpenAIModels": obj(
        ["object", "data"],
        {"object": {"const": "list"}, "data": {"type": "array", "items": ref("OpenAIModel")}},
    ),
    "AnthropicModels": obj(
        ["data", "has_more", "first_id", "last_id"],
        {
            "data": {"type": "array", "items": ref("AnthropicModel")},
            "has_more": {"type": "boolean"},
            "first_id": {"type": ["string", "null"]},
            "last_id": {"type": ["string", "null"]},
        },
    ),
}


def errors(codes: Sequence[str], reasons: Sequence[str]) -> dict[str, Schema]:
    """Return the three shapes of an error; `codes` and `reasons` are all there are, in order."""
    code: Schema = {"enum": list(codes)}
    return {
        "OpenAIError": obj(
            ["error"],
            {
                "error": obj(
                    ["message", "type", "param", "code"],
                    {
                        "message": TEXT,
                        "type": TEXT,
                        "param": {"type": ["string", "null"]},
                        "code": code,
                    },
                    closed=True,
                )
            },
            closed=True,
        ),
        "AnthropicError": obj(
            ["type", "error", "request_id"],
            {
                "type": {"const": "error"},
                "error": obj(
                    ["type", "message", "code"],
                    {"type": TEXT, "message": TEXT, "code": code, "details": OBJECT},
                    closed=True,
                ),
                "request_id": TEXT,
            },
            closed=True,
        ),
        "GeminiError": obj(
            ["error"],
            {
                "error": obj(
                    ["code", "message", "status"],
                    {
                        "code": {"type": "integer"},
                        "message": TEXT,
                        "status": TEXT,
                        "details": {
                            "type": "array",
                            "items": obj(["@type"], {"reason": {"enum": list(reasons)}}),
                        },
                    },
                    closed=True,
                )
            },
            closed=True,
        ),
    }
