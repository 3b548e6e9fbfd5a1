"""What is compared: lines of a provider's export, attempts of ours, and what came of it.

Rules: token counts as providers bill them, `input` with everything that was read, cached tokens
among it; None is what an export does not say, and is never a zero. Money in nano-USD. This module
must not know how an export is written.
"""

from enum import StrEnum
from typing import Final

from msgspec import Struct

from proxy.core.entities import Usage, UsageSource
from proxy.core.ids import format_id

TOKEN_KINDS: Final = ("input", "cached", "written", "output")
"""What can differ; `written` are tokens put into a cache."""


class Their(Struct, frozen=True, gc=False):
    """One line of an export, or several that say the same id. `day` is UTC, since 1970."""

    line: int
    request_id: str | None
    day: int | None
    model: str
    input: int | None = None
    cached: int | None = None
    written: int | None = None
    output: int | None = None
    cost: int | None = None
    requests: int = 1


class Our(Struct, frozen=True, gc=False):
    """One attempt, as the ledger has it. `at` Unix seconds.

    `usage` and `source`: what the provider reported; where it did not and the call was billed all
    the same, what we counted. `cost` is what we booked for it, 0 where we knew of none.
    """

    call_id: int
    number: int
    at: float
    status: int | None
    outcome: str
    request_id: str | None
    model: str
    """The upstream's own name for it."""
    public_model: str
    usage: Usage
    source: UsageSource
    cost: int
    charge: int
    """Of the whole call, to its user; an attempt that was not the last one has earned nothing."""
    verdict: str


class State(StrEnum):
    """How a line and an attempt stand to each other."""

    MATCHED = "matched"
    DIFFERING = "differing"
    ONLY_THEIRS = "only_theirs"
    ONLY_OURS = "only_ours"


class Reason(StrEnum):
    """What explains a difference."""

    NONE = ""
    CUT_SHORT = "cut_short"
    """The stream ended before the provider told its usage; ours was counted."""
    NOT_SERVED = "not_served"
    """The attempt failed or was left, nothing was reported, and the provider bills it."""
    CACHE = "cache"
    """The same tokens, of which another part came from a cache."""
    TOKENS = "tokens"
    """The provider billed other counts than it reported with the answer."""
    PRICE = "price"
    """The same tokens at another price than the channel's cost says."""
    NO_COST = "no_cost"
    """The same tokens; the channel has no cost for the model."""
    NOT_OURS = "not_ours"
    """No attempt has this id: the key is used elsewhere, or the detail is no longer kept."""
    NO_ID = "no_id"
    """Ours has no request id: no answer came, or none that named one."""
    UNBILLED = "unbilled"
    """Ours failed, and the provider does not bill it."""
    MISSING = "missing"
    """Ours was served, and the export does not have it."""


class Row(Struct, frozen=True, gc=False):
    """One comparison. `differences`: theirs less ours by token kind, those that are not 0.

    `money`: theirs less ours; `priced`: theirs was not in the export but reckoned from its tokens.
    `attempts`: how many of ours stand against it; `unsaid`: those whose usage we had to count.
    """

    state: State
    reason: Reason
    their: Their | None
    our: Our | None
    differences: dict[str, int]
    money: int | None
    priced: bool = False
    attempts: int = 1
    unsaid: int = 0

    @property
    def asked(self) -> int | None:
        """What the provider asks for it; None where nobody knows, or it has no such line."""
        if self.money is None or self.their is None:
            return None
        return (0 if self.our is None else self.our.cost) + self.money


class Sum(Struct):
    """Rows of one state and reason. Money in nano-USD."""

    rows: int = 0
    theirs: int = 0
    ours: int = 0
    money: int = 0


class Comparison(Struct, frozen=True):
    """The whole result. `by_request`: row by row by request id; else by day and model."""

    by_request: bool
    rows: list[Row]
    sums: dict[tuple[State, Reason], Sum]
    theirs: int
    """Cost of the whole export."""
    ours: int
    unpriced: int
    """Lines whose cost nobody knows: not in the export, and no cost is set."""

    def picked(self, state: str, reason: str) -> list[Row]:
        """The rows of a state and a reason; empty: of any."""
        return [
            row
            for row in self.rows
            if (not state or row.state == state) and (not reason or row.reason == reason)
        ]

    def explained(self) -> list[tuple[tuple[State, Reason], Sum]]:
        """The sums, what makes the largest difference first."""
        return sorted(self.sums.items(), key=lambda each: -abs(each[1].money))


MONEY: Final = ("their_cost", "our_cost", "difference")
"""What of a row's plain values is nano-USD."""


def plain(row: Row) -> dict[str, str | int | bool | None]:
    """A row as values by name, the same ones for every row."""
    their, our = row.their, row.our
    counts = {} if our is None else tokens_of(our.usage)
    found: dict[str, str | int | bool | None] = {
        "state": row.state.value,
        "reason": row.reason.value,
        "provider_request_id": (their and their.request_id) or (our and our.request_id) or None,
        "line": None if their is None else their.line,
        "our_request_id": None if our is None else format_id(our.call_id),
        "attempt": None if our is None else our.number,
        "model": our.model if our is not None else (their.model if their is not None else None),
    }
    for kind in TOKEN_KINDS:
        found[f"their_{kind}"] = None if their is None else getattr(their, kind)
        found[f"our_{kind}"] = counts.get(kind)
    return found | {
        "their_cost": row.asked,
        "priced_by_us": row.priced,
        "our_cost": None if our is None else our.cost,
        "difference": row.money,
        "attempts": row.attempts,
    }


def day_of(moment: float) -> int:
    """The UTC day since 1970 of a moment in Unix seconds."""
    return int(moment // 86_400)


def tokens_of(usage: Usage) -> dict[str, int]:
    """The counts of a usage vector as an export says them."""
    return {
        "input": usage.prompt_total,
        "cached": usage.cached_total,
        "written": usage.cache_write_5m + usage.cache_write_1h,
        "output": usage.completion_total,
    }
