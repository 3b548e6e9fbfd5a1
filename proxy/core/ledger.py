"""The money of every wallet and key in memory: reserve, extend, then settle exactly once.

Rules: decide everything, then mutate without failing. A hold is never more than what is free, so
no wallet and no key budget ever goes below zero, whatever a call turns out to cost; what a call
costs above that is the operator's overrun. Money moves only as a `Transfer`, which is double
entry by construction: one debit, one credit, one amount above zero. Refusals are values; a call
id that is unknown or used twice is a broken assumption. Amounts are integer nano-USD, times Unix
seconds passed in. This module must not know prices, tokens, limits, or how anything is stored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, IntEnum
from math import inf
from typing import NamedTuple, TypeAlias

from msgspec import Struct

from proxy.core.entities import BudgetPeriod

DAY_SECONDS = 86_400
ACCOUNT_KIND_BITS = 3


class AccountKind(IntEnum):
    """What an account is for; balances are credits less debits."""

    ADJUSTMENT = 0
    """Where the operator's own corrections of wallets come from, and go to."""
    WALLET = 1
    """What a user has paid in and not spent; never below zero."""
    REVENUE = 2
    OVERRUN = 3
    """Operator expense: cost above what a wallet or budget could give."""
    FORGIVEN = 4
    """Operator expense: used, but not charged because nothing was delivered."""
    COST = 5
    """Upstream cost, per channel."""
    PAYABLE = 6
    """Owed to upstreams, per channel."""
    FUNDING = 7
    """Where top-ups come from."""


def account_id(kind: AccountKind, owner: int = 0) -> int:
    """Return the id of `owner`'s account: derived, so that no look-up stands between."""
    return owner << ACCOUNT_KIND_BITS | kind


REVENUE = account_id(AccountKind.REVENUE)
OVERRUN = account_id(AccountKind.OVERRUN)
FORGIVEN = account_id(AccountKind.FORGIVEN)
FUNDING = account_id(AccountKind.FUNDING)
ADJUSTMENT = account_id(AccountKind.ADJUSTMENT)
_KIND_MASK = (1 << ACCOUNT_KIND_BITS) - 1
# Plain integers: the enum's own operators cost a third of a microsecond per posting.
_COST_KIND = int(AccountKind.COST)
_PAYABLE_KIND = int(AccountKind.PAYABLE)

LINE_CHARGE = 0
LINE_OVERRUN = 1
LINE_FORGIVEN = 2
LINE_COSTS = 3
"""Upstream costs take this line and those after it, one per attempt that cost something."""


class Transfer(NamedTuple):
    """One double entry. `event_id` is the call id, or an own id for what no call caused."""

    event_id: int
    line: int
    kind: str
    debit: int
    credit: int
    amount: int
    at: float
    refers_to: int | None = None


Posting: TypeAlias = tuple[int, int, str, int, int, int, float, int | None]
"""The fields of a `Transfer`, which cost a fifteenth of one to make."""
Charge: TypeAlias = tuple[int, int, int, float]
"""Those of what nearly every call posts, without what all of them say: event id, debit, amount,
at. `in_full` says the rest."""


class Shortage(Enum):
    """What could not cover a hold."""

    WALLET = "wallet"
    KEY_BUDGET = "key_budget"


class Denial(NamedTuple):
    """Nothing was held. `available` nano-USD could still be, which is what `shortage` has left."""

    shortage: Shortage
    available: int


class Settlement(Struct, frozen=True, gc=False):
    """What a settled call posted. charged + overrun = its charge, all nano-USD.

    `budget_after` is what the key may still spend in its period, None without a budget.
    """

    charged: int
    overrun: int
    balance_after: int
    budget_after: int | None
    charge: Charge | None
    transfers: list[Posting]
    """What was posted beside the charge."""
    purse: "Purse"

    @property
    def postings(self) -> list[Posting]:
        """All that was posted."""
        return self.transfers if self.charge is None else [in_full(self.charge), *self.transfers]


@dataclass(slots=True)
class Wallet:
    """A user's money: `held` of `balance` is set aside for open calls."""

    account: int
    balance: int = 0
    held: int = 0


@dataclass(slots=True)
class Purse:
    """What one key may spend and has spent in its budget period, and the operator's expense."""

    key_id: int
    budget: int | None = None
    period: BudgetPeriod = BudgetPeriod.TOTAL
    period_start: int = 0
    period_end: float = inf
    spent: int = 0
    held: int = 0
    expense: int = 0
    expense_day: int = 0


class Hold(Struct, gc=False):
    """Money set aside for one open call."""

    call_id: int
    wallet: Wallet
    purse: Purse
    amount: int
    opened_at: float


class Ledger:
    """All wallets, purses and open holds of one keeper. One owner, called serially."""

    def __init__(self) -> None:
        self._wallets: dict[int, Wallet] = {}
        self._purses: dict[int, Purse] = {}
        self._holds: dict[int, Hold] = {}

    def reserve(
        self, call_id: int, user_id: int, key_id: int, amount: int, now: float
    ) -> Hold | Denial:
        """Hold `amount` for a call if both the wallet and the key's budget can give it."""
        holds = self._holds
        if amount < 0 or call_id in holds:
            raise AssertionError(f"call {call_id} cannot reserve {amount}")
        wallet = self._wallets.get(user_id) or self.wallet(user_id)
        purse = self._purses.get(key_id) or self.purse(key_id)
        if now >= purse.period_end:
            _begin_period(purse, now)
        if amount > wallet.balance - wallet.held:
            return _denial(wallet, purse)
        if purse.budget is not None and amount > purse.budget - purse.spent - purse.held:
            return _denial(wallet, purse)
        wallet.held += amount
        purse.held += amount
        hold = holds[call_id] = Hold(call_id, wallet, purse, amount, now)
        return hold

    def weigh(self, user_id: int, key_id: int, amount: int, now: float) -> Denial | None:
        """Say why `reserve` would deny `amount` now; None when it would not. Holds nothing."""
        wallet, purse = self.wallet(user_id), self.purse(key_id)
        if now >= purse.period_end:
            _begin_period(purse, now)
        if amount > wallet.balance - wallet.held:
            return _denial(wallet, purse)
        if purse.budget is not None and amount > purse.budget - purse.spent - purse.held:
            return _denial(wallet, purse)
        return None

    def restore(self, call_id: int, user_id: int, key_id: int, amount: int, now: float) -> Hold:
        """Hold again what an open call held before a restart, or what is left of it.

        Never a denial: the call is under way. It may not fit any more, because a budget was
        lowered, below what was spent even, or because others came first.
        """
        if amount < 0 or call_id in self._holds:
            raise AssertionError(f"call {call_id} cannot restore {amount}")
        wallet, purse = self.wallet(user_id), self.purse(key_id)
        if now >= purse.period_end:
            _begin_period(purse, now)
        held = min(amount, _free(wallet, purse))
        wallet.held += held
        purse.held += held
        hold = self._holds[call_id] = Hold(call_id, wallet, purse, held, now)
        return hold

    def extend(self, call_id: int, amount: int, now: float) -> int:
        """Hold up to `amount` more for an open call; returns what was added, 0 at the edge."""
        if amount < 0:
            raise AssertionError(f"call {call_id} cannot extend by {amount}")
        hold = self._hold(call_id)
        if now >= hold.purse.period_end:
            _begin_period(hold.purse, now)
        granted = min(amount, _free(hold.wallet, hold.purse))
        hold.wallet.held += granted
        hold.purse.held += granted
        hold.amount += granted
        return granted

    def void(self, call_id: int) -> None:
        """Release a hold as if it had never been."""
        hold = self._hold(call_id)
        del self._holds[call_id]
        hold.wallet.held -= hold.amount
        hold.purse.held -= hold.amount

    def settle(
        self,
        call_id: int,
        charge: int,
        forgiven: int,
        costs: Iterable[tuple[int, int]],
        now: float,
        charge_max: int | None = None,
    ) -> Settlement:
        """Release the call's hold and post what it cost, exactly once.

        `charge`: the full price of what is charged for; above what hold, free wallet and free
        budget give, and above `charge_max`, it becomes overrun. `forgiven`: the price of what is
        not charged for. `costs`: (channel id, amount) per upstream attempt that cost something.
        """
        if charge < 0 or forgiven < 0 or (charge and forgiven):
            raise AssertionError(f"call {call_id} cannot settle {charge}, {forgiven}")
        hold = self._holds.pop(call_id, None) or self._hold(call_id)
        wallet, purse = hold.wallet, hold.purse
        wallet.held -= hold.amount
        purse.held -= hold.amount
        if now >= purse.period_end:
            _begin_period(purse, now)
        free = wallet.balance - wallet.held
        charged = charge if charge < free else free  # noqa: FURB136 - a third of what `min` costs
        if charge_max is not None:
            charged = min(charged, charge_max)
        budget_after: int | None = None
        if purse.budget is not None:
            charged = min(charged, _budget_room(purse, purse.budget, hold.amount))
            budget_after = max(0, purse.budget - purse.spent - charged)
        overrun = charge - charged
        posted: Charge | None = None
        transfers: list[Posting] = []
        if charged:
            wallet.balance -= charged
            purse.spent += charged
            posted = (call_id, wallet.account, charged, now)
        if overrun:
            transfers.append(
                Transfer(call_id, LINE_OVERRUN, "overrun", OVERRUN, REVENUE, overrun, now)
            )
        if forgiven:
            transfers.append(
                Transfer(call_id, LINE_FORGIVEN, "forgiven", FORGIVEN, REVENUE, forgiven, now)
            )
        if overrun or forgiven:
            _spend_expense(purse, overrun + forgiven, now)
        line = LINE_COSTS
        for channel_id, amount in costs:
            owner = channel_id << ACCOUNT_KIND_BITS
            debit, credit = owner | _COST_KIND, owner | _PAYABLE_KIND
            transfers.append((call_id, line, "upstream_cost", debit, credit, amount, now, None))
            line += 1
        return Settlement(charged, overrun, wallet.balance, budget_after, posted, transfers, purse)

    def top_up(self, user_id: int, amount: int) -> None:
        """Make `amount` spendable; its transfer is already in the ledger file."""
        if amount <= 0:
            raise AssertionError(f"user {user_id} cannot be credited {amount}")
        self.wallet(user_id).balance += amount

    def set_aside(self, user_id: int, amount: int) -> bool:
        """Keep `amount` from calls until it is posted or given back; False if it is not free."""
        if amount < 0:
            raise AssertionError(f"user {user_id} cannot set {amount} aside")
        wallet = self.wallet(user_id)
        if amount > wallet.balance - wallet.held:
            return False
        wallet.held += amount
        return True

    def give_back(self, user_id: int, amount: int) -> None:
        """Undo `set_aside`, because it is posted now or never will be."""
        wallet = self.wallet(user_id)
        if not 0 <= amount <= wallet.held:
            raise AssertionError(f"user {user_id} has {wallet.held} set aside, not {amount}")
        wallet.held -= amount

    def follow(self, transfers: Iterable[Transfer]) -> None:
        """Move the wallets that `transfers` name; they are already in the ledger file."""
        for transfer in transfers:
            for account, gained in (
                (transfer.debit, -transfer.amount),
                (transfer.credit, transfer.amount),
            ):
                if account & _KIND_MASK == AccountKind.WALLET:
                    wallet = self.wallet(account >> ACCOUNT_KIND_BITS)
                    wallet.balance += gained
                    if wallet.balance < wallet.held:
                        raise AssertionError(f"account {account} gave what it had not free")

    def expense(self, key_id: int, now: float) -> int:
        """Return what the operator has paid for this key today (UTC), nano-USD."""
        purse = self._purses.get(key_id)
        if purse is None or not purse.expense:
            return 0
        return purse.expense if purse.expense_day == int(now // DAY_SECONDS) else 0

    def wallet(self, user_id: int) -> Wallet:
        """Return the user's wallet, empty at first."""
        wallet = self._wallets.get(user_id)
        if wallet is None:
            wallet = Wallet(account_id(AccountKind.WALLET, user_id))
            self._wallets[user_id] = wallet
        return wallet

    def purse(self, key_id: int) -> Purse:
        """Return the key's purse, without a budget at first."""
        purse = self._purses.get(key_id)
        if purse is None:
            purse = self._purses[key_id] = Purse(key_id)
        return purse

    def hold(self, call_id: int) -> Hold | None:
        """Return the open call's hold, if it has one."""
        return self._holds.get(call_id)

    @property
    def holds(self) -> Mapping[int, Hold]:
        """Open holds by call id, oldest first."""
        return self._holds

    def load_spend(self, key_id: int, period: BudgetPeriod, period_start: int, spent: int) -> None:
        """Restore what a key had spent; `set_budget` follows and drops it if the period moved."""
        purse = self.purse(key_id)
        purse.period = period
        purse.period_start = period_start
        purse.period_end = period_bounds(period, float(period_start))[1]
        purse.spent = spent

    def load_expense(self, key_id: int, amount: int, now: float) -> None:
        """Restore what the operator has paid for the key today."""
        _spend_expense(self.purse(key_id), amount, now)

    def set_budget(self, key_id: int, budget: int | None, period: BudgetPeriod, now: float) -> None:
        """Set a key's budget; another period starts anew, the same one keeps what was spent."""
        purse = self.purse(key_id)
        purse.budget = budget
        if period is not purse.period:
            purse.period = period
            purse.period_start, purse.period_end = period_bounds(period, now)
            purse.spent = 0
        elif now >= purse.period_end:
            _begin_period(purse, now)

    def _hold(self, call_id: int) -> Hold:
        hold = self._holds.get(call_id)
        if hold is None:
            raise AssertionError(f"call {call_id} holds nothing: never admitted, or settled twice")
        return hold


def in_full(charge: Charge) -> Posting:
    """Return the posting that a charge stands for."""
    event_id, debit, amount, at = charge
    return event_id, LINE_CHARGE, "charge", debit, REVENUE, amount, at, None


def period_bounds(period: BudgetPeriod, now: float) -> tuple[int, float]:
    """Return (start, end) in Unix seconds of the UTC period around `now`; weeks start Monday."""
    day = int(now // DAY_SECONDS)
    if period is BudgetPeriod.DAILY:
        return day * DAY_SECONDS, (day + 1) * DAY_SECONDS
    if period is BudgetPeriod.WEEKLY:
        monday = day - (day + 3) % 7  # 1970-01-01 was a Thursday
        return monday * DAY_SECONDS, (monday + 7) * DAY_SECONDS
    if period is BudgetPeriod.MONTHLY:
        moment = datetime.fromtimestamp(now, UTC)
        first = datetime(moment.year, moment.month, 1, tzinfo=UTC)
        after = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
        return int(first.timestamp()), datetime(*after, 1, tzinfo=UTC).timestamp()
    return 0, inf


def _begin_period(purse: Purse, now: float) -> None:
    # Only ever forward: a clock that steps back stays in the period it had reached.
    purse.period_start, purse.period_end = period_bounds(purse.period, now)
    purse.spent = 0


def _free(wallet: Wallet, purse: Purse) -> int:
    free = wallet.balance - wallet.held
    if purse.budget is not None:
        free = min(free, purse.budget - purse.spent - purse.held)
    return max(0, free)


def _denial(wallet: Wallet, purse: Purse) -> Denial:
    # Where neither is enough, whoever has less is named: credit alone would not help past a budget
    # that is used up, and the sum told must be that of the one it is said of.
    free = _free(wallet, purse)
    short_wallet = free == max(0, wallet.balance - wallet.held)
    return Denial(Shortage.WALLET if short_wallet else Shortage.KEY_BUDGET, free)


def _budget_room(purse: Purse, budget: int, held: int) -> int:
    # A budget lowered under open holds can no longer honour them all: what is left of it is the
    # hard limit, the call's own hold comes first, and the rest is the operator's.
    left = budget - purse.spent
    return max(0, left - purse.held, min(held, left))


def _spend_expense(purse: Purse, amount: int, now: float) -> None:
    day = int(now // DAY_SECONDS)
    if purse.expense_day != day:
        purse.expense_day = day
        purse.expense = 0
    purse.expense += amount
