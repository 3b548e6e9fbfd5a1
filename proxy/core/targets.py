"""Where a request goes below a channel's base URL, and how it shows the channel's key.

Rules: a channel's base URL ends where the API's version does (`https://host/v1`, Gemini's
`/v1beta`); what follows is here and nowhere else. With an `api_version` the channel is Azure
OpenAI: its base URL is the resource's host, with or without `/openai`; a dated version names the
deployment (the upstream model) in the path, `v1` and `preview` name it in the body alone. Names
are percent-encoded. This module must not know bodies, hosts or the caller's path.

Sources: the path suffixes and `lib/azure.py` of the OpenAI SDK, the Anthropic SDK, Google's REST
reference (`models/{model}:generateContent`), Microsoft's API version life cycle.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from proxy.core.entities import Channel
from proxy.core.urls import Endpoint

_PATHS: Final[Mapping[str, str]] = {
    "chat": "/chat/completions",
    "messages": "/messages",
    "count_tokens": "/messages/count_tokens",
    "responses": "/responses",
    "response": "/responses/{item}",
    "response_cancel": "/responses/{item}/cancel",
    "response_input_items": "/responses/{item}/input_items",
    "completions": "/completions",
    "embeddings": "/embeddings",
    "images_generations": "/images/generations",
    "images_edits": "/images/edits",
    "images_variations": "/images/variations",
    "transcriptions": "/audio/transcriptions",
    "translations": "/audio/translations",
    "speech": "/audio/speech",
    "moderations": "/moderations",
    "rerank": "/rerank",
    "realtime": "/realtime",
    "gemini_generate": "/{model}:generateContent",
    "gemini_stream": "/{model}:streamGenerateContent",
    "gemini_count_tokens": "/{model}:countTokens",
}
"""By the value of an `Endpoint`."""
_HEADERS: Final[Mapping[str, str]] = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
"""By the value of a `Dialect`; others show a bearer token."""
_UNDATED: Final = {"v1": "", "latest": "", "preview": "?api-version=preview"}
"""Azure's versions without a date, which need no deployment in the path, and their query."""
_BODY_NAMES_MODEL: Final = ("response", "responses", "response_cancel", "response_input_items")
"""What Azure serves beside its deployments also under a dated version (and realtime, below)."""


def target(
    channel: Channel, endpoint: Endpoint, upstream_model: str, *, stream: bool, item: str = ""
) -> str:
    """Return the path, and query if need be, that follows the channel's base URL.

    `item` is the id of what the path names below an endpoint (`/responses/{item}`).
    """
    path = _PATHS[endpoint]
    if channel.api_version is not None:
        return _azure(channel, endpoint, path, upstream_model, item)
    if "{" not in path:
        return path
    if "{item}" in path:
        return path.replace("{item}", _name(item))
    if stream and endpoint == "gemini_generate":
        path = _PATHS["gemini_stream"]
    name = upstream_model if "/" in upstream_model else f"models/{upstream_model}"
    query = "?alt=sse" if path == _PATHS["gemini_stream"] else ""
    return path.replace("{model}", quote(name, safe="/")) + query


def credential(channel: Channel, secret: str) -> tuple[str, str]:
    """Return the header (name, value) that shows one of the channel's keys to its upstream."""
    if channel.api_version is not None:
        return "api-key", secret
    name = _HEADERS.get(channel.dialect)
    return ("authorization", f"Bearer {secret}") if name is None else (name, secret)


def _azure(channel: Channel, endpoint: Endpoint, path: str, deployment: str, item: str) -> str:
    """Return Azure's form of an OpenAI path: dated below a deployment, else below `/openai/v1`."""
    version = channel.api_version or ""
    root = "" if channel.base_url.rstrip("/").endswith("/openai") else "/openai"
    path = path.replace("{item}", _name(item))
    if version in _UNDATED:
        return f"{root}/v1{path}{_UNDATED[version]}"
    query = f"?api-version={_name(version)}"
    if endpoint == "realtime":
        return f"{root}{path}{query}&deployment={_name(deployment)}"
    if endpoint in _BODY_NAMES_MODEL:
        return f"{root}{path}{query}"
    return f"{root}/deployments/{_name(deployment)}{path}{query}"


def _name(text: str) -> str:
    return quote(text, safe="")
