"""What an answer tells of itself in its head: the verdict, what it cost, what is left.

Rules: amounts are nano-USD, and USD beside them with nine decimals, exact. The head of a plain
answer leaves before its charge is posted, so what it names is the price of the answer: posted is
the same, or less where the wallet cannot give it. The balance is the one the call was admitted
with, less that price; calls that ended meanwhile are not in it. `GET /v1/generation` has what
was posted. This module must not know sockets.
"""

from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from proxy.core.asks import (
    NOTHING,
    Asks,
    CacheMode,
    asks_for_usage,
    read_asks,
    taken_out,
    with_report,
)
from proxy.core.entities import Key, Verdict
from proxy.core.money import NANO
from proxy.core.requests import CallRequest, parse_call
from proxy.edge.downstream import Downstream

if TYPE_CHECKING:
    from proxy.edge.open_call import AnyCall

_COMPLETE_LINE = f"x-sluice-verdict: {Verdict.COMPLETE._value_}"
_Rows: TypeAlias = tuple[tuple[str, str], ...]


def asked(client: Downstream, key: Key, request: CallRequest) -> Asks:
    """Return what a call asks of the relay itself, and what its key asks for all of them.

    `NOTHING` itself where that is nothing. Raises RelayError INVALID_REQUEST.
    """
    asks = asked_in_head(client, key)
    if "usage" in request.layout.members and asks_for_usage(request.layout.members) is not None:
        return replace(asks, usage=asks.usage or bool(asks_for_usage(request.layout.members)))
    return asks


def asked_in_head(client: Downstream, key: Key) -> Asks:
    """The same by headers and key alone. Raises RelayError INVALID_REQUEST."""
    asks = read_asks(client.head.values) if client.visit.asking else NOTHING
    if key.cache_seconds is None or asks.cache is not None:
        return asks
    seconds = asks.cache_seconds or key.cache_seconds
    return replace(asks, cache=CacheMode.USE, cache_seconds=seconds)


def as_asked(body: bytes, request: CallRequest, asks: Asks) -> tuple[bytes, CallRequest]:
    """Take what was meant for us out of a body, and ask for the usage that is to be told."""
    before = body
    if asks_for_usage(request.layout.members) is not None:
        body = taken_out(body, request)
        request = _read(body, request)
    if asks.usage and request.stream:
        body = with_report(body, request)
    return body, request if body is before else _read(body, request)


def _read(body: bytes, before: CallRequest) -> CallRequest:
    return parse_call(body, before.dialect, before.wire, before.model, before.stream)


def cost_rows(verdict: str, cost: int, balance: int | None = None) -> _Rows:
    """Header rows that tell how a call ended, what it costs, and what the wallet then has."""
    # One branch and no list: every plain answer has them.
    usd = f"0.{cost:09d}" if cost < NANO else f"{cost // NANO}.{cost % NANO:09d}"
    told = (
        ("x-sluice-verdict", verdict),
        ("x-sluice-cost", f"{cost}"),
        ("x-sluice-cost-usd", usd),
    )
    return told if balance is None else (*told, ("x-sluice-balance", f"{balance}"))


def price_told(call: "AnyCall", price: int) -> tuple[int, int]:
    """Return what a whole plain answer costs its caller, and the balance that leaves."""
    limit = call.offer.cost_max
    cost = price if limit is None else min(price, limit)
    balance = call.admission.balance
    return cost, balance - cost if balance > cost else 0


def foretell(call: "AnyCall", price: int) -> None:
    """Put the price of a whole plain answer into its head."""
    cost, balance = price_told(call, price)
    digits = str(cost)
    # As `cost_rows` has it, in one piece: every plain answer says it. And a format with a
    # width costs 1,500 instructions more.
    usd = f"0.{digits.zfill(9)}" if cost < NANO else f"{cost // NANO}.{cost % NANO:09d}"
    call.client.add_lines(
        f"{_COMPLETE_LINE}\r\nx-sluice-cost: {digits}\r\nx-sluice-cost-usd: {usd}\r\n"
        f"x-sluice-balance: {balance}"
    )
