"""Answers about admission that hold no money: what a call would come to, and requests without one.

Rules: to weigh asks what an admission asks, in the same order, of the same ledger and limits, and
nothing is held, charged or counted; a request that costs nothing is counted as any other and has
no tokens. This module must not know who asks.
"""

from proxy.core.catalog import Catalog
from proxy.core.entities import NOTHING_USED
from proxy.core.ledger import Ledger
from proxy.core.limits import Limiter
from proxy.storage.ports import KeeperUnavailableError, Opening, Refusal, RefusalReason, Weighed


def weigh(
    catalog: Catalog,
    ledger: Ledger,
    limiter: Limiter,
    expense_max: int,
    opening: Opening,
    now: float,
) -> Weighed:
    """Say what would be held, or why nothing; `now` is monotonic. KeeperUnavailableError."""
    key_id, user_id = opening.key_id, opening.user_id
    limits = catalog.limits_by_key.get(key_id)
    if limits is None:
        raise KeeperUnavailableError(f"this catalog has no key {key_id}")
    model = catalog.models.get(opening.model)
    careful = (model is not None and model.hidden_output) or (
        ledger.expense(key_id, opening.started_at) >= expense_max
    )
    amount = max(opening.hold, opening.ceiling) if careful else opening.hold
    denial = ledger.weigh(user_id, key_id, amount, opening.started_at)
    decision = limiter.weigh(key_id, user_id, limits, opening.tokens, now)
    state = limiter.state(key_id, user_id, limits, now)
    refusal: Refusal | None = None
    if denial is not None:
        reason = RefusalReason(denial.shortage.value)
        refusal = Refusal(reason, state, available=denial.available)
    elif decision.kind is not None:
        refusal = Refusal(
            RefusalReason(decision.kind.value),
            state,
            retry_after=decision.retry_after,
            limit=decision.limit,
        )
    return Weighed(amount, careful, ledger.wallet(user_id).balance, state, refusal)


def count(catalog: Catalog, limiter: Limiter, key_id: int, now: float) -> Refusal | None:
    """Charge the limits with a request that costs nothing; `now` is monotonic.

    Raises KeeperUnavailableError.
    """
    limits = catalog.limits_by_key.get(key_id)
    if limits is None:
        raise KeeperUnavailableError(f"this catalog has no key {key_id}")
    user_id = catalog.keys_by_id[key_id].user_id
    decision = limiter.decide(key_id, user_id, limits, 0, now)
    if decision.kind is None:
        limiter.release(key_id, user_id, 0, NOTHING_USED, now)
        return None
    return Refusal(
        RefusalReason(decision.kind.value),
        limiter.state(key_id, user_id, limits, now),
        retry_after=decision.retry_after,
        limit=decision.limit,
    )
