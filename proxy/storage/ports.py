"""What the edge asks of durable and shared state: small protocols and the records they carry.

Rules: a decision comes back as a value (`Admission` or `Refusal`), never as an exception; a
storage outage raises `KeeperUnavailableError` and is never mistaken for a refusal. Everything
here is the same whether the keeper shares the worker's process or sits behind a socket, so
records are plain data; those of every call are Structs, which are cheap to make. This module must
not know SQL or HTTP.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from proxy.core.entities import Attempt, Dialect, Price, Usage, UsageSource, Verdict
from proxy.core.limits import LimitState as LimitState  # noqa: PLC0414 - part of this port


class KeeperUnavailableError(Exception):
    """The keeper cannot decide now (storage down, restarting): answer 503, never 401 or 402."""


class Opening(Struct, frozen=True, gc=False):
    """A call that asks to be admitted: limits are charged and money is held, or neither is.

    `hold` covers the prompt estimate plus the first slice of output (streams); `ceiling` covers
    the most the call may cost. The keeper holds `ceiling` instead where it must (plain calls pass
    hold == ceiling; hidden output; a key above its operator-expense cap). Nano-USD.
    `tokens` is what the TPM bucket is charged until settlement corrects it. `charge_max`: what
    the caller will pay at most; above it the operator pays.
    """

    call_id: int
    key_id: int
    user_id: int
    endpoint: str
    dialect: Dialect
    model: str
    group: str
    stream: bool
    price_version: int
    multiplier: int
    hold: int
    ceiling: int
    tokens: int
    input_estimate: int
    started_at: float
    client_reference: str | None = None
    charge_max: int | None = None


class RefusalReason(StrEnum):
    """Why a call was not admitted."""

    WALLET = "wallet"
    KEY_BUDGET = "key_budget"
    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"


class Durable(Protocol):
    """A commit to come; done without exception means committed. `asyncio.Future` satisfies it.

    Many calls may share one, so it must not be cancelled: awaiting it (raises
    KeeperUnavailableError if the commit failed) or a callback are the two ways to wait.
    """

    def done(self) -> bool:
        """Whether the commit has happened (or failed)."""
        ...

    def exception(self) -> BaseException | None:
        """Why the commit failed, once done; None if it succeeded."""
        ...

    def add_done_callback(self, callback: Callable[["Durable"], object], /) -> None:
        """Call `callback` on the event loop once done."""
        ...

    def __await__(self) -> Generator[object, None, None]:
        """Wait for the commit. Raises KeeperUnavailableError if it failed."""
        ...


class Admission(Struct, frozen=True):
    """The call may go ahead with `held` nano-USD set aside.

    `committed` is done when the open call is durable; the first byte to the client waits for it.
    For a plain call it may be lazy: written within 400 ms, or as soon as somebody waits for it,
    which is when an answer has come; one that fails before that may be written only as ended.
    `ceiling_held`: the ceiling, not the slice, was held: never extend, always drain.
    `balance`: what the wallet had then, open holds included.
    """

    held: int
    ceiling_held: bool
    limits: LimitState
    committed: Durable
    balance: int = 0


class Refusal(Struct, frozen=True, gc=False):
    """The call may not go ahead; nothing was charged or held.

    `available`: nano-USD that could still be held (wallet, budget). `retry_after` seconds, for
    the three limits. `limit`: the limit that refused, in its own unit.
    """

    reason: RefusalReason
    limits: LimitState
    available: int = 0
    retry_after: float = 0.0
    limit: int = 0


class Weighed(Struct, frozen=True, gc=False):
    """What admitting a call would come to just now; nothing was charged or held.

    `held` nano-USD would be; `balance`: what the wallet has, open holds included. `refusal`: why
    the call would not be admitted.
    """

    held: int
    ceiling_held: bool
    balance: int
    limits: LimitState
    refusal: Refusal | None


class Progress(Struct, frozen=True, gc=False):
    """What an open call has delivered so far: its bill if every process died now."""

    call_id: int
    usage: Usage
    source: UsageSource
    charge: int
    delivered_bytes: int
    channel_id: int | None


class Closing(Struct, frozen=True, gc=False):
    """How a call ended and what it costs. `charge` is the full price of `usage`, nano-USD.

    The keeper posts min(charge, hold + what the wallet and key budget can still give) and books
    the rest as the operator's overrun. `forgiven`: the price of what was used but not charged
    (nothing delivered, our own failure); booked as operator expense, `charge` is then 0.
    """

    call_id: int
    verdict: Verdict
    usage: Usage
    source: UsageSource
    charge: int
    forgiven: int
    delivered_bytes: int
    delivered_events: int
    status: int
    error_code: str | None
    finish_reason: str | None
    channel_id: int | None
    upstream_model: str | None
    attempts: tuple[Attempt, ...]
    ended_at: float
    ttft_ms: float | None
    anomalies: tuple[str, ...] = ()
    answer_id: str | None = None
    """Under which name the upstream keeps the answer; None where it does not."""


class Receipt(Struct):
    """What a settlement posted. Nano-USD. `committed` is done once it is in the ledger file.

    The three amounts are final once `committed` is done without an exception, and not before:
    the keeper decides them, which takes a moment when it is another process.
    """

    call_id: int
    charged: int
    overrun: int
    balance_after: int
    committed: Durable


class Billing(Protocol):
    """Admission, money and limits: decided serially in memory by the keeper."""

    async def admit(self, opening: Opening) -> Admission | Refusal:
        """Charge the limits and hold the money, atomically; nothing changes on refusal.

        Raises KeeperUnavailableError. Idempotent on no key: call it once per call id.
        """
        ...

    def decide(self, opening: Opening) -> Admission | Refusal | None:
        """The same where nobody has to be waited for; else None, and nothing is done."""
        ...

    async def weigh(self, opening: Opening) -> Weighed:
        """Say what `admit` would, and change nothing. Raises KeeperUnavailableError."""
        ...

    async def count(self, key_id: int) -> Refusal | None:
        """Charge the limits with a request that costs nothing and is no call; None: it may go on.

        Raises KeeperUnavailableError.
        """
        ...

    def extend(self, call_id: int, amount: int, answer: Callable[[int], None]) -> None:
        """Ask for `amount` more nano-USD of hold.

        `answer(granted)` is called at once or later, on the loop, with what was added (0 or
        `amount`, or less when that is all that is left).
        """
        ...

    def mark(self, progress: Progress) -> None:
        """Record what the call has delivered; the last mark is the bill after kill -9."""
        ...

    def settle(self, closing: Closing) -> Receipt:
        """Close the call exactly once: synchronous, total, never raises for a known call.

        The hold, the concurrency slot and the unused tokens are released before it returns;
        only the commit is still to come.
        """
        ...

    async def limits(self, key_id: int) -> LimitState:
        """The key's buckets now, for a response that was refused before admission.

        Raises KeeperUnavailableError at once when there is no keeper: no answer waits for this.
        """
        ...

    async def catch_up(self) -> None:
        """Wait until readers of the file see every call that ended before.

        Raises KeeperUnavailableError, at once when there is no keeper.
        """
        ...


class Tried(Struct, frozen=True):
    """One attempt of an ended call; `usage` is the call's own where they do not differ."""

    channel: str
    started_at: float
    status: int | None
    outcome: str
    upstream_request_id: str | None
    upstream_model: str
    usage: Usage
    duration_ms: float


class CallRecord(Struct, frozen=True, kw_only=True):
    """One ended call as the ledger has it. Nano-USD, times Unix seconds.

    charge + overrun, or forgiven, is the price of `usage` at `price` and `multiplier`.
    `refunded`: what of the charge was given back since.
    """

    call_id: int
    key: str
    endpoint: str
    dialect: str
    model: str
    group: str
    stream: bool
    price_version: int
    multiplier: int
    started_at: float
    client_reference: str | None
    verdict: str
    source: str
    charge: int
    overrun: int
    forgiven: int
    refunded: int
    balance_after: int
    budget_after: int | None
    delivered_bytes: int
    delivered_events: int
    status: int
    error_code: str | None
    finish_reason: str | None
    channel: str | None
    upstream_model: str | None
    ttft_ms: float | None
    duration_ms: float
    anomalies: tuple[str, ...]
    usage: Usage
    price: Price | None
    attempts: tuple[Tried, ...]


class KeptAnswer(Struct, frozen=True, gc=False):
    """Where an answer is kept that a call made. `tokens`: what going on from it reads again."""

    model: str
    channel_id: int
    channel_key_id: int
    tokens: int


class Records(Protocol):
    """Ended calls, to be read by those who made them."""

    async def find_answer(self, user_id: int, answer_id: str) -> KeptAnswer | None:
        """Return where the answer of that name is kept, if a call of that user made it.

        Raises KeeperUnavailableError when that cannot be known now.
        """
        ...

    async def find(self, user_id: int, call_id: int) -> "CallRecord | bool":
        """Return a call of that user; else whether it is still open.

        Raises KeeperUnavailableError when that cannot be known now.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeeperStatistics:
    """Figures for the metrics page, read at scrape time."""

    holds_open: int
    hold_oldest_seconds: float
    held: int
    imbalance: int
    """Stored balances less the sum of postings, nano-USD; anything but 0 pages someone."""
    commits: int
    commit_seconds: float
    checkpoint_seconds: float
    queue_depth: int
    settlements: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By (verdict, usage source)."""
    charged: Mapping[str, int] = field(default_factory=dict)
    """Posted from wallets since the keeper began, by model. Nano-USD."""
    expense: int = 0
    """Used but not charged (forgiven, overrun) since the keeper began. Nano-USD."""
