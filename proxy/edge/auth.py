"""Who is calling: from request headers to a `Key`, or to an error that yields no principal.

Rules: `Authorization: Bearer`, `x-api-key`, Azure's `api-key` and Google's `x-goog-api-key` count
on every path, and on Google's own also `?key=`, which is never logged; the slips that people paste
(doubled scheme, quotes, no scheme) are forgiven, two different keys are not. What does not have
the form of a key is refused by its checksum, before any cryptography or look-up. A missing
snapshot or an unreadable row is 503, never 401, and never a caller. Nothing here logs, and no
message repeats what was sent. This module must not know aiohttp: headers are any mapping-like
object whose `items` may repeat names.

Sources: DESIGN.md promise 7, FAULTS.md's security baseline, WIRE.md section 5.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

from proxy.core.catalog import Catalog
from proxy.core.entities import Key
from proxy.core.errors import ErrorCode, RelayError
from proxy.storage.secrets import key_digest, key_well_formed

CREDENTIAL_CHARS_MAX = 512
"""Longest header value that is looked at; a key has fewer than 64 characters."""
CREDENTIALS_MAX = 8
"""Credential headers looked at in one request."""
WRAPPINGS_MAX = 4
"""Schemes and quotes taken off one value."""

_HEADERS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key"})
"""What the SDKs of OpenAI, Anthropic, Azure and Google put a key into."""
_HEADER_SIZES = frozenset(len(name) for name in _HEADERS)
_HOW = "Send `Authorization: Bearer sk-...`, `x-api-key: sk-...` or `x-goog-api-key: sk-...`."
_QUOTES = ('"', "'", "`")


class Headers(Protocol):
    """The part of a header mapping that is used; `CIMultiDictProxy` and `dict` have it."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Name and value of every header, repeated names included."""
        ...


class Caller(Protocol):
    """Who calls, as far as a key may ask: that costs a system call, and few keys do."""

    @property
    def peer_address(self) -> str | None:
        """The network address; None when nobody knows it."""
        ...


class QueryKey:
    """Headers beside which the query has a key, as Google's own examples send it."""

    def __init__(self, headers: Headers, key: str) -> None:
        self._headers = headers
        self._key = key

    def items(self) -> Iterable[tuple[str, str]]:
        """The headers, and the key under Google's own name for it."""
        yield from self._headers.items()
        yield "x-goog-api-key", self._key


def authenticate(
    headers: Headers,
    catalog: Catalog | None,
    pepper: bytes,
    now: float,
    caller: Caller,
) -> Key:
    """Return the key that calls, valid at `now` (Unix seconds) and where the `caller` is.

    Raises RelayError: INVALID_API_KEY, KEY_DISABLED, KEY_EXPIRED (401), ADDRESS_NOT_ALLOWED
    (403), SERVICE_UNAVAILABLE (503) when there is no `catalog` to decide with.
    """
    if catalog is None:
        raise _undecided()
    return recognise(identify(headers, pepper), catalog, now, caller)


def identify(headers: Headers, pepper: bytes) -> bytes:
    """Return the digest of the key that `headers` carry. Raises RelayError INVALID_API_KEY.

    A function of the head alone, so the answer may be kept with a head that comes again.
    """
    sent = credential(headers)
    if sent is None:
        raise RelayError(ErrorCode.INVALID_API_KEY, f"No API key was sent. {_HOW}")
    if not key_well_formed(sent):
        raise _malformed(sent)
    return key_digest(pepper, sent)


def recognise(digest: bytes, catalog: Catalog, now: float, caller: Caller) -> Key:
    """Return the key with `digest` if it may be used now and from there; see `authenticate`."""
    key = catalog.key(digest)
    if key is None:
        raise RelayError(
            ErrorCode.INVALID_API_KEY,
            "This API key is not known here: it was deleted, or belongs to another service.",
        )
    user = catalog.users.get(key.user_id)
    if user is None:
        raise _undecided()
    if not key.enabled or not user.enabled:
        whose = "API key" if not key.enabled else "account"
        raise RelayError(
            ErrorCode.KEY_DISABLED,
            f"This {whose} is disabled. Use another key, or ask for it back.",
        )
    if key.expires_at is not None and now >= key.expires_at:
        raise RelayError(ErrorCode.KEY_EXPIRED, "This API key has expired. Create a new one.")
    if key.networks is not None and not _is_inside(caller.peer_address, key.networks):
        raise RelayError(
            ErrorCode.ADDRESS_NOT_ALLOWED,
            "This API key may not be used from your network address. Use it from an address in "
            "its allowed ranges, or change them.",
        )
    if key.expires_at is None and key.networks is None:
        catalog.unbound[digest] = key
    return key


def credential(headers: Headers) -> str | None:
    """Return the key that `headers` carry, bare, well-formed or not; None when there is none.

    Among several, a well-formed one wins. Raises RelayError INVALID_API_KEY when two different
    well-formed ones were sent: guessing would bill somebody who did not mean it.
    """
    found: list[str] = []
    for name, value in headers.items():
        if len(name) in _HEADER_SIZES and name.lower() in _HEADERS:
            key = _bare(value)
            if key and key not in found and len(found) < CREDENTIALS_MAX:
                found.append(key)
    if len(found) < 2:
        return found[0] if found else None
    keys = [key for key in found if key_well_formed(key)]
    if len(keys) > 1:
        raise RelayError(
            ErrorCode.INVALID_API_KEY,
            "Two different API keys were sent in one request. Send one of them.",
        )
    return keys[0] if keys else found[0]


def _bare(value: str) -> str:
    """Take schemes, quotes and white space off a header value."""
    text = value[: CREDENTIAL_CHARS_MAX + 1].strip()
    for _ in range(WRAPPINGS_MAX):
        if text[:6].lower() == "bearer" and (len(text) == 6 or text[6] in " \t:"):
            text = text[6:].lstrip(" \t:")
        elif len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0]:
            text = text[1:-1].strip()
        else:
            break
    return text


def _malformed(sent: str) -> RelayError:
    if sent[:6].lower() == "basic ":
        problem = "Basic authentication is not supported."
    elif sent[0] in "$%<{[" or sent.endswith(("...", "…")):
        problem = "The API key looks like a placeholder or a variable that was not filled in."
    elif sent.startswith("sk-"):
        problem = (
            "This is not a key of this service, or some of its characters are missing or wrong."
        )
    else:
        problem = "This is not an API key of this service; those start with sk-."
    return RelayError(ErrorCode.INVALID_API_KEY, f"{problem} {_HOW}")


def _undecided() -> RelayError:
    return RelayError(
        ErrorCode.SERVICE_UNAVAILABLE,
        "API keys cannot be checked at the moment. Try again shortly.",
        retry_after=1.0,
    )


@lru_cache(maxsize=4_096)
def _is_inside(address: str | None, networks: tuple[str, ...]) -> bool:
    """Whether `address` is in one of `networks`. Raises RelayError when those are unreadable."""
    try:
        ranges = [ipaddress.ip_network(network, strict=False) for network in networks]
    except ValueError:
        raise _undecided() from None
    try:
        peer = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return False
    mapped = peer.ipv4_mapped if isinstance(peer, ipaddress.IPv6Address) else None
    return any((peer if mapped is None else mapped) in network for network in ranges)
