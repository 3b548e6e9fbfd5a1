"""The head of a request to an upstream: where it goes, the channel's key, what is let through.

Rules: everything is our own but for the few headers the allow-list forwards; heads that are alike
are made once. This module must not know what is asked.
"""

from typing import Final

import msgspec

from proxy.core.entities import Channel, ChannelKey
from proxy.core.http1 import request_head, request_prefix
from proxy.core.targets import credential, target
from proxy.core.urls import Endpoint
from proxy.edge.upstream import Origin
from proxy.edge.world import Ready, World

HEADS_MAX: Final = 4_096
"""Upstream request heads kept ready, one for each model; each is a few hundred bytes."""
HEAD_KEPT_BYTES_MAX: Final = 2_048
"""A longer one is made anew each time: what is let through is the callers' to choose."""
ANTHROPIC_VERSION_DEFAULT: Final = "2023-06-01"
_ANTHROPIC: Final = (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS)

Forwarded = tuple[tuple[str, str], ...]


def known_head(
    world: World,
    channel: Channel,
    key: ChannelKey,
    endpoint: Endpoint,
    upstream_model: str,
    forwarded: Forwarded,
    stream: bool,  # noqa: FBT001 - by position, as all arguments of what each call asks
) -> Ready:
    """Return where a conversation goes, its head but for the length, and its model as JSON."""
    alike = (channel.id, key.id, stream, forwarded, upstream_model, endpoint)
    known = world.heads.get(alike)
    if known is not None and known[0] is channel:
        return known
    origin, prefix = world.origin(channel)
    head = request_prefix(
        "POST",
        prefix + target(channel, endpoint, upstream_model, stream=stream),
        origin.host_header,
        _headers(
            channel,
            key,
            endpoint,
            forwarded,
            content_type="application/json",
            accept="text/event-stream" if stream else "application/json",
        ),
    )
    made = (channel, origin, head, msgspec.json.encode(upstream_model))
    if len(head) <= HEAD_KEPT_BYTES_MAX:
        if len(world.heads) >= HEADS_MAX:
            world.heads.clear()
        world.heads[alike] = made
    return made


def new_head(
    world: World,
    channel: Channel,
    key: ChannelKey,
    endpoint: Endpoint,
    upstream_model: str,
    forwarded: Forwarded,
    *,
    content_type: str,
    accept: str,
) -> tuple[Origin, bytes]:
    """Return the same for a body of any type: a multipart boundary is another every time."""
    origin, prefix = world.origin(channel)
    head = request_prefix(
        "POST",
        prefix + target(channel, endpoint, upstream_model, stream=False),
        origin.host_header,
        _headers(channel, key, endpoint, forwarded, content_type=content_type, accept=accept),
    )
    return origin, head


def item_head(
    world: World,
    channel: Channel,
    key: ChannelKey,
    endpoint: Endpoint,
    upstream_model: str,
    method: str,
    item: str,
    query: str,
) -> tuple[Origin, bytes]:
    """Return where a request about one kept thing goes, and the whole of it: it has no body."""
    origin, prefix = world.origin(channel)
    path = prefix + target(channel, endpoint, upstream_model, stream=False, item=item)
    if query:
        path += ("&" if "?" in path else "?") + query
    rows = _headers(
        channel, key, endpoint, (), content_type="application/json", accept="application/json"
    )
    # A body is not expected of GET and DELETE; a POST without one says so (RFC 9110 section 8.6).
    return origin, request_head(method, path, origin.host_header, rows, 0)


def _headers(
    channel: Channel,
    key: ChannelKey,
    endpoint: Endpoint,
    forwarded: Forwarded,
    *,
    content_type: str,
    accept: str,
) -> Forwarded:
    """Our own headers, the channel's credential, and what the allow-list let through."""
    rows = [
        ("content-type", content_type),
        ("accept", accept),
        ("accept-encoding", "identity"),
        ("user-agent", "sluice"),
    ]
    if key.secret:
        rows.append(credential(channel, key.secret))
    rows.extend(forwarded)
    if endpoint in _ANTHROPIC and "anthropic-version" not in dict(forwarded):
        rows.append(("anthropic-version", ANTHROPIC_VERSION_DEFAULT))
    return tuple(rows)
