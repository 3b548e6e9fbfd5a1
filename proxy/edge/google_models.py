"""The model list in Gemini's shape, as JSON bytes.

Rules: the same models and prices as in the other shapes (edge/models.py); names begin with
`models/` and are taken with it and without. This module must not know HTTP beyond a parsed query.

Sources: `Model` and `ListModelsResponse` of Google's Python SDK google-genai 3.x (`models.py`,
`_Model_from_mldev`), and its pager (`pageSize`, `pageToken`).
"""

from collections.abc import Mapping
from typing import Final

import orjson

from proxy.core.catalog import Catalog
from proxy.core.entities import Key, Model
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.urls import Endpoint
from proxy.edge.models import endpoints_of, facts, model_named, visible

PAGE_MODELS_MAX: Final = 1_000
PAGE_MODELS_DEFAULT: Final = 50
"""As Google's own list has it."""
PREFIX: Final = "models/"
_METHODS: Final = {
    Endpoint.GEMINI_GENERATE: "generateContent",
    Endpoint.GEMINI_STREAM: "streamGenerateContent",
    Endpoint.GEMINI_COUNT_TOKENS: "countTokens",
}
_VERSION: Final = "1"


def google_list(catalog: Catalog, key: Key, query: Mapping[str, str]) -> bytes:
    """Render a page of the models the key may call. Raises RelayError INVALID_REQUEST."""
    text = query.get("pageSize", query.get("page_size", "")) or str(PAGE_MODELS_DEFAULT)
    size = int(text) if len(text) <= 9 and text.isascii() and text.isdigit() else -1
    if size < 0:
        raise _invalid("pageSize", "must be an integer")
    limit = min(size or PAGE_MODELS_DEFAULT, PAGE_MODELS_MAX)
    models = visible(catalog, key)
    names = [model.name for model in models]
    token = query.get("pageToken", query.get("page_token", ""))
    if token and token not in names:
        raise _invalid("pageToken", "must be the `nextPageToken` of the page before")
    start = names.index(token) if token else 0
    shown = models[start : start + limit]
    found: dict[str, object] = {"models": [_row(catalog, key, model) for model in shown]}
    if start + limit < len(models):
        found["nextPageToken"] = names[start + limit]
    return orjson.dumps(found)


def google_model(catalog: Catalog, key: Key, name: str) -> bytes:
    """Render one model. Raises RelayError MODEL_NOT_FOUND, _IN_GROUP, _ALLOWED."""
    return orjson.dumps(_row(catalog, key, model_named(catalog, key, name)))


def _row(catalog: Catalog, key: Key, model: Model) -> dict[str, object]:
    served = endpoints_of(catalog, key.group, model)
    return {
        "name": f"{PREFIX}{model.name}",
        "version": _VERSION,
        "displayName": model.name,
        "inputTokenLimit": model.context_window,
        "outputTokenLimit": model.output_tokens_max,
        "supportedGenerationMethods": [
            method for endpoint, method in _METHODS.items() if endpoint in served
        ],
        "pricing": facts(catalog, key, model)["pricing"],
    }


def _invalid(param: str, problem: str) -> RelayError:
    return RelayError(ErrorCode.INVALID_REQUEST, f"`{param}` {problem}.", param=param)
