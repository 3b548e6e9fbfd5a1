"""What protects a page and its reader: headers, the origin of forms, and tokens.

Rules: nothing but our own files may run or be loaded; a change is made only by a form of our own
pages: browsers say where a form came from, and a request that does not say is refused; besides,
each form carries a token that belongs to its reader. This module must not know pages or storage.

Sources: RFC 6454 (origins), W3C Content Security Policy Level 3, Fetch Metadata Request Headers.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from proxy.edge.console.languages import later as _
from proxy.edge.console.surroundings import Options

_TOKEN_CHARS: Final = 43
FOREIGN_ORIGIN: Final = _("This form was not sent from a page of this console.")
BAD_TOKEN: Final = _("This form has expired. Go back, load the page again and send it once more.")


def headers(options: Options) -> Mapping[str, str]:
    """What every answer says. The playground's script may call the relay, and nothing else."""
    relay = urlsplit(options.public_url)
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "font-src": "'self'",
        "connect-src": f"'self' {relay.scheme}://{relay.netloc}",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    said = {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
        "cache-control": "no-store",
        "server": "sluice",
    }
    if options.secure:
        said["strict-transport-security"] = "max-age=31536000"
    return said


def origin_fault(request: web.Request) -> str | None:
    """Why a request that changes something did not come from a page of ours; None if it did."""
    origin = request.headers.get("origin") or request.headers.get("referer")
    if origin is None:
        return FOREIGN_ORIGIN
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in {"same-origin", "none"}:
        return FOREIGN_ORIGIN
    try:
        where = urlsplit(origin)
    except ValueError:
        return FOREIGN_ORIGIN
    same = where.scheme in {"http", "https"} and where.netloc == request.host
    return None if same else FOREIGN_ORIGIN


def token_for(secret: bytes, reader: str) -> str:
    """The token of whoever has this session, or this visitor's cookie."""
    return signature(secret, b"csrf", reader)


def signature(secret: bytes, use: bytes, text: str) -> str:
    """Sign a text for one use: a reader chooses the name their token is of, and must not get the
    signature of anything else by that. `use` has no space.
    """
    signed = use + b" " + text.encode(errors="surrogateescape")
    return hmac.new(secret, signed, hashlib.sha256).hexdigest()[:_TOKEN_CHARS]


def token_is(given: object, wanted: str) -> bool:
    """Whether a form's token is the reader's."""
    return isinstance(given, str) and hmac.compare_digest(
        given.encode(errors="surrogateescape"), wanted.encode()
    )
