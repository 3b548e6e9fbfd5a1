"""What Azure's clients and addresses look like: a deployment in the path, a version in the query.

Rules: a deployment that a caller's path names is a model's public name; a body that names a model
wins, because that is what an SDK's `model` is. An address somebody pasted is cut to the part that
is a channel's base URL. This module must not know sockets, nor where a channel's requests go.

Sources: `lib/azure.py` of the OpenAI SDK; Microsoft's REST reference of Azure OpenAI.
"""

from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Raw

from proxy.core.deltas import UNREADABLE

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])


def with_model(body: bytes, model: str) -> bytes:
    """Return a JSON object with `model` in it; as it is where it names one, or is no object."""
    try:
        members = _MEMBERS.decode(body)
    except UNREADABLE:
        return body  # whoever reads it says what is wrong with it
    if "model" in members:
        return body
    brace = body.index(b"{") + 1
    comma = b"," if members else b""
    return b'%b"model":%b%b%b' % (body[:brace], msgspec.json.encode(model), comma, body[brace:])


def azure_address(pasted: str) -> tuple[str, str | None]:
    """Return a channel's base URL and the `api-version` of its query, from a pasted address.

    A base URL of Azure's ends before the `/openai` that its paths begin with, whatever stood
    behind it: a deployment, an endpoint, `v1`.
    """
    parts = urlsplit(pasted.strip())
    versions = parse_qs(parts.query).get("api-version")
    head, found, _ = f"{parts.path.rstrip('/')}/".partition("/openai/")
    path = head if found else parts.path
    base_url = urlunsplit((parts.scheme, parts.netloc, path.rstrip("/"), "", ""))
    return base_url, versions[0] if versions else None


def azure_deployment(pasted: str) -> str | None:
    """Return the deployment that a pasted address of Azure's names, or None."""
    path = urlsplit(pasted.strip()).path
    _, found, behind = path.partition("/openai/deployments/")
    return unquote(behind.partition("/")[0]) or None if found else None
