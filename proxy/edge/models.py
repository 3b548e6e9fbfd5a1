"""The model list, in the shape of each dialect, as JSON bytes.

Rules: a key sees the models its group serves and its allowlist admits, and the price it would
pay. A model without a price is listed with `pricing: null`; calling it is refused elsewhere.
Release dates are not known here, so they are the epoch, as Anthropic's specification allows. This
module must not know HTTP beyond a parsed query.

Sources: `Model` and `ModelInfo` of the OpenAI and Anthropic SDKs; FEATURES.md row 8.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from proxy.core.catalog import Catalog
from proxy.core.entities import WIRE_ENDPOINTS, Key, Model, Wire
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.names import similar
from proxy.core.urls import CANONICAL, Endpoint
from proxy.edge.prices import shown_price

PAGE_MODELS_MAX = 1_000
"""Largest `limit` of Anthropic's list."""
PAGE_MODELS_DEFAULT = 20

_OWNER = "sluice"
_EPOCH = "1970-01-01T00:00:00Z"
_NAME_CHARS_MAX = 256
_WIRES: dict[str, Wire] = {endpoint: wire for wire, endpoint in WIRE_ENDPOINTS.items()}
_WIRES[Endpoint.GEMINI_STREAM] = Wire.GEMINI
"""Endpoints of conversations, which channels of another form may serve by translation."""
_CONVERSATIONS = frozenset(_WIRES) - {Endpoint.COMPLETIONS} | {
    Endpoint.COUNT_TOKENS,
    Endpoint.GEMINI_COUNT_TOKENS,
}


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of Anthropic's list is asked for; ids exclude the model they name."""

    limit: int = PAGE_MODELS_DEFAULT
    after_id: str | None = None
    before_id: str | None = None


def page_of(query: Mapping[str, str]) -> Page:
    """Read `limit`, `after_id` and `before_id`. Raises RelayError INVALID_REQUEST."""
    text = query.get("limit", str(PAGE_MODELS_DEFAULT))
    limit = int(text) if len(text) <= 4 and text.isascii() and text.isdigit() else 0
    if not 1 <= limit <= PAGE_MODELS_MAX:
        raise _invalid("limit", f"must be an integer from 1 to {PAGE_MODELS_MAX}")
    after_id, before_id = query.get("after_id"), query.get("before_id")
    if after_id is not None and before_id is not None:
        raise _invalid("after_id", "cannot be combined with `before_id`: send one of them")
    return Page(limit, after_id, before_id)


def openai_list(catalog: Catalog, key: Key) -> bytes:
    """Render every model the key may call as OpenAI's list, which has no pages."""
    rows = [_openai_row(catalog, key, model) for model in visible(catalog, key)]
    return orjson.dumps({"object": "list", "data": rows})


def openai_model(catalog: Catalog, key: Key, name: str) -> bytes:
    """Render one model in OpenAI's shape. Raises RelayError MODEL_NOT_FOUND or _IN_GROUP."""
    return orjson.dumps(_openai_row(catalog, key, model_named(catalog, key, name)))


def anthropic_list(catalog: Catalog, key: Key, page: Page) -> bytes:
    """Render one page of Anthropic's list. Raises RelayError for an id that is not listed."""
    models = visible(catalog, key)
    names = [model.name for model in models]
    if page.before_id is not None:
        end = _position(names, page.before_id, "before_id")
        start = max(0, end - page.limit)
        has_more = start > 0
    else:
        start = 0
        if page.after_id is not None:
            start = _position(names, page.after_id, "after_id") + 1
        end = min(start + page.limit, len(models))
        has_more = end < len(models)
    shown = models[start:end]
    return orjson.dumps(
        {
            "data": [_anthropic_row(catalog, key, model) for model in shown],
            "has_more": has_more,
            "first_id": shown[0].name if shown else None,
            "last_id": shown[-1].name if shown else None,
        }
    )


def anthropic_model(catalog: Catalog, key: Key, name: str) -> bytes:
    """Render one model in Anthropic's shape. Raises RelayError like `openai_model`."""
    return orjson.dumps(_anthropic_row(catalog, key, model_named(catalog, key, name)))


def visible(catalog: Catalog, key: Key) -> list[Model]:
    """The models the key may call."""
    served = catalog.models_for(key.group)
    return [model for model in served if key.models is None or model.name in key.models]


def model_named(catalog: Catalog, key: Key, name: str) -> Model:
    """Return a model the key may call. Raises RelayError MODEL_NOT_FOUND, _IN_GROUP, _ALLOWED."""
    listed = visible(catalog, key)
    for model in listed:
        if model.name == name:
            return model
    shown = name[:_NAME_CHARS_MAX]
    groups = catalog.groups_with(name)
    if key.group in groups:
        raise RelayError(
            ErrorCode.MODEL_NOT_ALLOWED,
            f"This API key may not use the model `{shown}`. Use one that GET /v1/models lists.",
            param="model",
        )
    if groups:
        raise RelayError(
            ErrorCode.MODEL_NOT_IN_GROUP,
            f"The model `{shown}` is not available in group `{key.group}`, "
            f"but in: {', '.join(groups)}.",
            param="model",
        )
    raise RelayError(
        ErrorCode.MODEL_NOT_FOUND,
        f"The model `{shown}` does not exist. {_meant(catalog, key, name, listed)}",
        param="model",
    )


def _meant(catalog: Catalog, key: Key, name: str, listed: Sequence[Model]) -> str:
    """Ask whether a near miss was meant: what the key may call, else what other groups have."""
    close = similar(name, [model.name for model in listed])
    if close:
        return f"Did you mean {_either(close)}?"
    elsewhere = similar(name, catalog.groups_by_model) if key.models is None else ()
    if elsewhere:
        groups = ", ".join(catalog.groups_with(elsewhere[0]))
        return (
            f"Did you mean `{elsewhere[0]}`? It is not available in group `{key.group}`, "
            f"but in: {groups}."
        )
    return "GET /v1/models lists the models."


def _either(names: Iterable[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _position(names: Sequence[str], name: str, param: str) -> int:
    if name not in names:
        raise _invalid(param, "must be the id of a listed model")
    return names.index(name)


def _openai_row(catalog: Catalog, key: Key, model: Model) -> dict[str, object]:
    row: dict[str, object] = {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": _OWNER,
    }
    return row | facts(catalog, key, model)


def _anthropic_row(catalog: Catalog, key: Key, model: Model) -> dict[str, object]:
    row: dict[str, object] = {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": _EPOCH,
        "lifecycle": "active",
        "max_input_tokens": model.context_window,
        "max_tokens": model.output_tokens_max,
    }
    return row | facts(catalog, key, model)


def endpoints_of(catalog: Catalog, group: str, model: Model) -> list[Endpoint]:
    """Where callers of `group` can use `model`, natively or by translation.

    One that does not say what it is for is taken to be for conversations: what else a channel
    serves, it serves with other models.
    """
    meant = _CONVERSATIONS if model.endpoints is None else model.endpoints
    return [
        endpoint
        for endpoint in Endpoint
        if endpoint in meant
        and (
            catalog.channels_serving(group, model.name, wire)
            if (wire := _WIRES.get(endpoint))
            else catalog.channels_for_endpoint(group, model.name, endpoint)
        )
    ]


def facts(catalog: Catalog, key: Key, model: Model) -> dict[str, object]:
    """Return the extra fields of every shape."""
    multiplier = catalog.groups[key.group].multiplier
    return {
        "context_window": model.context_window,
        "max_output_tokens": model.output_tokens_max,
        "endpoints": [CANONICAL[each] for each in endpoints_of(catalog, key.group, model)],
        "pricing": None if model.price is None else shown_price(model.price, multiplier),
    }


def _invalid(param: str, problem: str) -> RelayError:
    return RelayError(ErrorCode.INVALID_REQUEST, f"`{param}` {problem}.", param=param)
