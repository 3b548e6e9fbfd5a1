"""What an answer tells of itself in its head: the verdict, what it cost, what is left.

Rules: amounts are nano-USD, and USD beside them with nine decimals, exact. The head of a plain
answer leaves before its charge is posted, so what it names is the price of the answer: posted is
the same, or less where the wallet cannot give it. The balance is the one the call was admitted
with, less that price; calls that ended meanwhile are not in it. `GET /v1/generation` has what
was posted. This module must not know sockets.
"""

from typing import TYPE_CHECKING

from proxy.core.asks import NOTHING, Asks, read_asks
from proxy.core.entities import Verdict
from proxy.edge.downstream import Downstream

if TYPE_CHECKING:
    from proxy.edge.call import Call

_COMPLETE = Verdict.COMPLETE._value_


def asked(client: Downstream) -> Asks:
    """Return what a request asks of the relay itself. Raises RelayError INVALID_REQUEST."""
    return read_asks(client.head.values) if client.visit.asking else NOTHING


def cost_rows(verdict: str, cost: int, balance: int | None = None) -> list[tuple[str, str]]:
    """Header rows that tell how a call ended, what it costs, and what the wallet then has."""
    digits = f"{cost:010d}"
    rows = [
        ("x-sluice-verdict", verdict),
        ("x-sluice-cost", str(cost)),
        ("x-sluice-cost-usd", f"{digits[:-9]}.{digits[-9:]}"),
    ]
    if balance is not None:
        rows.append(("x-sluice-balance", str(balance)))
    return rows


def foretell(call: "Call", price: int) -> None:
    """Put the price of a whole plain answer into its head."""
    limit = call.offer.cost_max
    cost = price if limit is None else min(price, limit)
    call.client.add_headers(cost_rows(_COMPLETE, cost, max(0, call.admission.balance - cost)))
