"""What a caller asks of the relay itself, beside its call: our own request headers.

Rules: a header that cannot be read is refused, never passed over, because each of them decides
about money: a dry run that was misread would be charged. Names are lower case. `x-max-cost` is
an amount in USD (`0.05`, `$0.05`), or in nano-USD with its unit (`50000000 nano`). OpenRouter's
member `usage: {"include": true}` in a body asks for the same as `x-sluice-usage: include`. This
module must not know prices, calls or who is asking.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.core.bodies import cut
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.money import NANO, USD_MAX, parse_usd
from proxy.core.requests import CallRequest, edit_body

HEADERS: Final = (
    "x-max-cost",
    "x-dry-run",
    "x-sluice-usage",
    "x-sluice-cache",
    "x-sluice-cache-ttl",
)
CACHE_SECONDS_MAX: Final = 7 * 86_400
"""The longest time to live that may be asked for."""
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_NANO: Final = re.compile(r"([0-9]{1,18}) ?(?:n|nano|nano-?usd)", re.ASCII | re.IGNORECASE)


class CacheMode(StrEnum):
    """What a call does with kept answers: take and keep, keep anew, or neither."""

    USE = "use"
    REFRESH = "refresh"
    OFF = "off"


class Asks(Struct, frozen=True, gc=False):
    """What one request asks. `cost_max` nano-USD; None leaves a matter to the key's settings."""

    cost_max: int | None = None
    dry_run: bool = False
    usage: bool = False
    cache: CacheMode | None = None
    cache_seconds: int | None = None


NOTHING: Final = Asks()


class _Usage(Struct, forbid_unknown_fields=True):
    include: bool


_USAGE: Final = msgspec.json.Decoder(_Usage)


def asks_anything(values: Mapping[str, str]) -> bool:
    """Whether any of our headers is there; asked once for all requests that look the same."""
    return not values.keys().isdisjoint(HEADERS)


def read_asks(values: Mapping[str, str]) -> Asks:
    """Read our headers. Raises RelayError INVALID_REQUEST that names the header."""
    cache = values.get("x-sluice-cache")
    seconds = values.get("x-sluice-cache-ttl")
    usage = values.get("x-sluice-usage")
    limit = values.get("x-max-cost")
    if usage is not None and usage.lower() != "include":
        raise _invalid("x-sluice-usage", "must be `include`")
    return Asks(
        cost_max=None if limit is None else _amount(limit),
        dry_run=_flag("x-dry-run", values.get("x-dry-run")),
        usage=usage is not None,
        cache=None if cache is None else _mode(cache),
        cache_seconds=None if seconds is None else _seconds(seconds),
    )


def asks_for_usage(members: Mapping[str, Raw]) -> bool | None:
    """Read a body's own `usage: {"include": ...}`; None for anything else, which is not ours."""
    try:
        return _USAGE.decode(members["usage"]).include
    except (msgspec.ValidationError, KeyError):
        return None


def taken_out(body: bytes, request: CallRequest) -> bytes:
    """Return `body` without its member `usage`, which was for us; every other byte stays.

    `request` must be read from `body`.
    """
    start, end = cut(body, request.layout.spans(), "usage")
    return body[:start] + body[end:]


def with_report(body: bytes, request: CallRequest) -> bytes:
    """Return `body` asking the stream for its usage event, where its form leaves that open."""
    return edit_body(
        body,
        request,
        upstream_model=request.model,
        include_usage=True,
        output_tokens_max=None,
    )


def _amount(text: str) -> int:
    nano = _NANO.fullmatch(text)
    try:
        amount = int(nano[1]) if nano else parse_usd(text.removeprefix("$"))
    except ValueError as error:
        raise _invalid("x-max-cost", f"is not an amount: {error}") from None
    if not 0 < amount <= USD_MAX * NANO:
        raise _invalid("x-max-cost", "must be above 0, in USD, or in nano-USD as `50000 nano`")
    return amount


def _flag(name: str, text: str | None) -> bool:
    if text is None:
        return False
    value = _FLAGS.get(text.lower())
    if value is None:
        raise _invalid(name, "must be `true` or `false`")
    return value


def _mode(text: str) -> CacheMode:
    try:
        return CacheMode(text.lower())
    except ValueError:
        raise _invalid("x-sluice-cache", f"must be one of {', '.join(CacheMode)}") from None


def _seconds(text: str) -> int:
    seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 0 < seconds <= CACHE_SECONDS_MAX:
        raise _invalid("x-sluice-cache-ttl", f"must be seconds from 1 to {CACHE_SECONDS_MAX}")
    return seconds


def _invalid(header: str, problem: str) -> RelayError:
    return RelayError(ErrorCode.INVALID_REQUEST, f"The header `{header}` {problem}.", param=header)
