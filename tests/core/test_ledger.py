from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from proxy.core.entities import BudgetPeriod
from proxy.core.ledger import (
    ADJUSTMENT,
    DAY_SECONDS,
    FORGIVEN,
    FUNDING,
    OVERRUN,
    REVENUE,
    AccountKind,
    Denial,
    Hold,
    Ledger,
    Shortage,
    Transfer,
    account_id,
    period_bounds,
)

USER, KEY, NOW = 7, 9, 1_800_000_000.0
WALLET = account_id(AccountKind.WALLET, USER)


def funded(amount: int = 100, budget: int | None = None) -> Ledger:
    ledger = Ledger()
    if amount:
        ledger.top_up(USER, amount)
    ledger.set_budget(KEY, budget, BudgetPeriod.TOTAL, NOW)
    return ledger


def stamp(year: int, month: int, day: int, hour: int = 0) -> float:
    return datetime(year, month, day, hour, tzinfo=UTC).timestamp()


def test_account_ids_are_distinct_per_kind_and_owner() -> None:
    ids = {account_id(kind, owner) for kind in AccountKind for owner in range(5)}
    assert len(ids) == len(AccountKind) * 5


def test_a_hold_takes_from_what_is_free_and_settling_posts_the_charge() -> None:
    ledger = funded(100)
    hold = ledger.reserve(1, USER, KEY, 60, NOW)
    assert isinstance(hold, Hold)
    assert ledger.reserve(2, USER, KEY, 41, NOW) == Denial(Shortage.WALLET, 40)
    settled = ledger.settle(1, 50, 0, [(3, 20), (4, 5)], NOW)
    assert (settled.charged, settled.overrun, settled.balance_after) == (50, 0, 50)
    assert settled.budget_after is None
    assert settled.postings == [
        (1, 0, "charge", WALLET, REVENUE, 50, NOW, None),
        (1, 3, "upstream_cost", 3 << 3 | 5, 3 << 3 | 6, 20, NOW, None),
        (1, 4, "upstream_cost", 4 << 3 | 5, 4 << 3 | 6, 5, NOW, None),
    ]
    assert ledger.wallet(USER).held == 0
    assert not ledger.holds


def test_what_exceeds_the_hold_is_taken_from_what_is_free_and_the_rest_is_overrun() -> None:
    ledger = funded(100)
    ledger.reserve(1, USER, KEY, 30, NOW)
    ledger.reserve(2, USER, KEY, 50, NOW)
    settled = ledger.settle(1, 70, 0, [], NOW)
    assert (settled.charged, settled.overrun, settled.balance_after) == (50, 20, 50)
    assert [(t.line, t.kind, t.debit, t.amount) for t in map(Transfer._make, settled.postings)] == [
        (0, "charge", WALLET, 50),
        (1, "overrun", OVERRUN, 20),
    ]
    assert ledger.settle(2, 50, 0, [], NOW).balance_after == 0
    assert ledger.expense(KEY, NOW) == 20


def test_weighing_denies_what_reserving_would_and_holds_nothing() -> None:
    ledger = funded(100, budget=90)
    assert ledger.weigh(USER, KEY, 90, NOW) is None
    assert ledger.weigh(USER, KEY, 91, NOW) == Denial(Shortage.KEY_BUDGET, 90)
    assert ledger.weigh(USER, KEY, 101, NOW) == Denial(Shortage.KEY_BUDGET, 90)
    assert ledger.weigh(USER + 1, KEY + 1, 1, NOW) == Denial(Shortage.WALLET, 0)
    assert not ledger.holds
    ledger.set_budget(KEY, 90, BudgetPeriod.DAILY, NOW)
    ledger.reserve(1, USER, KEY, 90, NOW)
    ledger.settle(1, 90, 0, [], NOW)
    assert ledger.weigh(USER, KEY, 5, NOW) == Denial(Shortage.KEY_BUDGET, 0)
    assert ledger.weigh(USER, KEY, 5, NOW + DAY_SECONDS) is None, "another day, another budget"


@pytest.mark.parametrize(
    ("balance", "budget", "denial"),
    [
        (40, None, Denial(Shortage.WALLET, 40)),
        (40, 100, Denial(Shortage.WALLET, 40)),
        (40, 41, Denial(Shortage.WALLET, 40)),
        (40, 40, Denial(Shortage.WALLET, 40)),
        (40, 7, Denial(Shortage.KEY_BUDGET, 7)),
        (40, 0, Denial(Shortage.KEY_BUDGET, 0)),
        (100, 7, Denial(Shortage.KEY_BUDGET, 7)),
        (0, 0, Denial(Shortage.WALLET, 0)),
    ],
)
def test_a_denial_names_whoever_has_no_more_than_the_sum_it_tells(
    balance: int, budget: int | None, denial: Denial
) -> None:
    ledger = funded(balance, budget=budget)
    assert ledger.weigh(USER, KEY, 50, NOW) == denial
    assert ledger.reserve(1, USER, KEY, 50, NOW) == denial


def test_what_a_caller_will_pay_at_most_is_charged_at_most() -> None:
    ledger = funded(100, budget=90)
    for call_id in (1, 2, 3):
        ledger.reserve(call_id, USER, KEY, 10, NOW)
    within = ledger.settle(1, 8, 0, [], NOW, 8)
    assert (within.charged, within.overrun, within.budget_after) == (8, 0, 82)
    above = ledger.settle(2, 9, 0, [], NOW, 8)
    assert (above.charged, above.overrun, above.balance_after) == (8, 1, 84)
    forgiven = ledger.settle(3, 0, 5, [], NOW, 4)
    assert (forgiven.charged, forgiven.overrun) == (0, 0)


def test_a_key_budget_refuses_and_caps_like_a_wallet() -> None:
    ledger = funded(1_000, budget=100)
    ledger.reserve(1, USER, KEY, 60, NOW)
    assert ledger.reserve(2, USER, KEY, 41, NOW) == Denial(Shortage.KEY_BUDGET, 40)
    settled = ledger.settle(1, 130, 0, [], NOW)
    assert (settled.charged, settled.overrun, settled.budget_after) == (100, 30, 0)
    assert settled.purse.spent == 100
    assert ledger.reserve(3, USER, KEY, 0, NOW)


def test_nothing_delivered_is_forgiven_at_the_operators_expense() -> None:
    ledger = funded(100)
    ledger.reserve(1, USER, KEY, 60, NOW)
    settled = ledger.settle(1, 0, 45, [], NOW)
    assert (settled.charged, settled.balance_after) == (0, 100)
    assert [
        (t.line, t.kind, t.debit, t.credit, t.amount) for t in map(Transfer._make, settled.postings)
    ] == [(2, "forgiven", FORGIVEN, REVENUE, 45)]
    assert ledger.expense(KEY, NOW) == 45
    assert ledger.expense(KEY, NOW + DAY_SECONDS) == 0


def test_expense_adds_up_within_a_day_and_starts_anew_the_next() -> None:
    ledger = funded()
    ledger.load_expense(KEY, 5, NOW)
    ledger.load_expense(KEY, 6, NOW)
    assert ledger.expense(KEY, NOW) == 11
    ledger.load_expense(KEY, 7, NOW + DAY_SECONDS)
    assert ledger.expense(KEY, NOW + DAY_SECONDS) == 7


def test_extending_grants_what_is_left_down_to_nothing() -> None:
    ledger = funded(100, budget=90)
    ledger.reserve(1, USER, KEY, 50, NOW)
    assert ledger.extend(1, 30, NOW) == 30
    assert ledger.extend(1, 30, NOW) == 10
    assert ledger.extend(1, 30, NOW) == 0
    hold = ledger.hold(1)
    assert hold is not None
    assert hold.amount == 90
    assert ledger.settle(1, 90, 0, [], NOW).overrun == 0


def test_voiding_leaves_no_trace() -> None:
    ledger = funded(100, budget=100)
    ledger.reserve(1, USER, KEY, 100, NOW)
    ledger.void(1)
    assert isinstance(ledger.reserve(2, USER, KEY, 100, NOW), Hold)
    assert ledger.hold(1) is None


def test_a_budget_lowered_under_an_open_hold_is_still_never_overdrawn() -> None:
    ledger = funded(1_000, budget=500)
    ledger.reserve(1, USER, KEY, 200, NOW)
    ledger.reserve(2, USER, KEY, 200, NOW)
    ledger.set_budget(KEY, 250, BudgetPeriod.TOTAL, NOW)
    assert ledger.extend(1, 10, NOW) == 0
    first = ledger.settle(1, 200, 0, [], NOW)
    assert (first.charged, first.budget_after) == (200, 50)
    second = ledger.settle(2, 200, 0, [], NOW)
    assert (second.charged, second.overrun, second.budget_after) == (50, 150, 0)
    ledger.reserve(3, USER, KEY, 0, NOW)
    ledger.set_budget(KEY, 10, BudgetPeriod.TOTAL, NOW)
    assert ledger.reserve(4, USER, KEY, 1, NOW) == Denial(Shortage.KEY_BUDGET, 0)
    last = ledger.settle(3, 5, 0, [], NOW)
    assert (last.charged, last.overrun, last.balance_after, last.budget_after) == (0, 5, 750, 0)


@pytest.mark.parametrize(
    ("period", "inside", "start", "end"),
    [
        (BudgetPeriod.DAILY, stamp(2027, 1, 15, 13), stamp(2027, 1, 15), stamp(2027, 1, 16)),
        (BudgetPeriod.WEEKLY, stamp(2027, 1, 17, 23), stamp(2027, 1, 11), stamp(2027, 1, 18)),
        (BudgetPeriod.WEEKLY, stamp(2027, 1, 18), stamp(2027, 1, 18), stamp(2027, 1, 25)),
        (BudgetPeriod.MONTHLY, stamp(2028, 2, 29), stamp(2028, 2, 1), stamp(2028, 3, 1)),
        (BudgetPeriod.MONTHLY, stamp(2027, 12, 31, 23), stamp(2027, 12, 1), stamp(2028, 1, 1)),
        (BudgetPeriod.TOTAL, NOW, 0, float("inf")),
    ],
)
def test_periods_are_utc(period: BudgetPeriod, inside: float, start: float, end: float) -> None:
    assert period_bounds(period, inside) == (start, end)


def test_a_budget_starts_anew_with_its_period_and_never_backwards() -> None:
    today = stamp(2027, 1, 15, 23)
    ledger = funded(1_000)
    ledger.set_budget(KEY, 100, BudgetPeriod.DAILY, today)
    ledger.reserve(1, USER, KEY, 100, today)
    ledger.settle(1, 80, 0, [], today)
    assert isinstance(ledger.reserve(2, USER, KEY, 100, today), Denial)
    ledger.reserve(2, USER, KEY, 20, today)
    tomorrow = today + 2 * 3600
    assert ledger.extend(2, 80, tomorrow) == 80
    assert ledger.settle(2, 100, 0, [], tomorrow).purse.spent == 100
    # The clock steps back a day: what was spent tomorrow stays spent.
    assert isinstance(ledger.reserve(3, USER, KEY, 1, today), Denial)
    # A hold of one period settles in the next.
    later = tomorrow + DAY_SECONDS
    ledger.reserve(3, USER, KEY, 100, later)
    settled = ledger.settle(3, 60, 0, [], later + DAY_SECONDS)
    assert (settled.charged, settled.budget_after) == (60, 40)
    assert isinstance(ledger.reserve(4, USER, KEY, 100, later + 2 * DAY_SECONDS), Hold)


def test_a_changed_amount_keeps_what_was_spent_and_a_changed_period_drops_it() -> None:
    today = stamp(2027, 1, 15)
    ledger = funded()
    ledger.load_spend(KEY, BudgetPeriod.DAILY, int(today), 70)
    ledger.set_budget(KEY, 100, BudgetPeriod.DAILY, today)
    assert ledger.purse(KEY).spent == 70
    ledger.set_budget(KEY, 200, BudgetPeriod.DAILY, today + 1)
    assert ledger.purse(KEY).spent == 70
    ledger.set_budget(KEY, 200, BudgetPeriod.DAILY, today + DAY_SECONDS)
    assert ledger.purse(KEY).spent == 0
    ledger.load_spend(KEY, BudgetPeriod.DAILY, int(today), 70)
    ledger.set_budget(KEY, 200, BudgetPeriod.MONTHLY, today)
    assert (ledger.purse(KEY).spent, ledger.purse(KEY).period_start) == (0, stamp(2027, 1, 1))


def test_broken_assumptions_stop_before_anything_changes() -> None:
    ledger = funded(100)
    ledger.reserve(1, USER, KEY, 10, NOW)
    with pytest.raises(AssertionError, match="cannot reserve"):
        ledger.reserve(1, USER, KEY, 10, NOW)
    with pytest.raises(AssertionError, match="cannot reserve"):
        ledger.reserve(2, USER, KEY, -1, NOW)
    with pytest.raises(AssertionError, match="cannot extend"):
        ledger.extend(1, -1, NOW)
    for charge, forgiven in ((-1, 0), (0, -1), (1, 1)):
        with pytest.raises(AssertionError, match="cannot settle"):
            ledger.settle(1, charge, forgiven, [], NOW)
    with pytest.raises(AssertionError, match="credited"):
        ledger.top_up(USER, 0)
    assert ledger.wallet(USER).held == 10
    ledger.settle(1, 10, 0, [], NOW)
    with pytest.raises(AssertionError, match="settled twice"):
        ledger.settle(1, 10, 0, [], NOW)
    with pytest.raises(AssertionError, match="settled twice"):
        ledger.extend(1, 10, NOW)
    with pytest.raises(AssertionError, match="settled twice"):
        ledger.void(1)


def test_what_is_set_aside_is_out_of_reach_of_calls() -> None:
    ledger = funded(100)
    ledger.reserve(1, USER, KEY, 30, NOW)
    assert not ledger.set_aside(USER, 71)
    assert ledger.set_aside(USER, 70)
    assert ledger.reserve(2, USER, KEY, 1, NOW) == Denial(Shortage.WALLET, 0)
    assert ledger.extend(1, 5, NOW) == 0
    assert ledger.settle(1, 40, 0, [], NOW).charged == 30, "what is set aside is not spent"
    ledger.give_back(USER, 70)
    ledger.follow([Transfer(5, 0, "fee", WALLET, REVENUE, 60, NOW)])
    assert (ledger.wallet(USER).balance, ledger.wallet(USER).held) == (10, 0)
    ledger.follow([Transfer(6, 0, "top_up", FUNDING, WALLET, 5, NOW)])
    assert ledger.wallet(USER).balance == 15


def test_no_wallet_gives_what_it_does_not_have() -> None:
    ledger = funded(100)
    for amount in (-1, 1):
        with pytest.raises(AssertionError, match="set aside, not"):
            ledger.give_back(USER, amount)
    with pytest.raises(AssertionError, match="cannot set -1 aside"):
        ledger.set_aside(USER, -1)
    with pytest.raises(AssertionError, match="not free"):
        ledger.follow([Transfer(5, 0, "fee", WALLET, REVENUE, 101, NOW)])


amounts = st.integers(0, 300)
OTHERS = {"refund": REVENUE, "adjustment": ADJUSTMENT, "fee": REVENUE}


class Books(RuleBasedStateMachine):
    """Random traffic of two users and three keys against a model that only knows transfers."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.now = NOW
        self.next_id = 0
        self.owner = {1: 1, 2: 1, 3: 2}
        self.paid_in = {1: 0, 2: 0}
        self.balances: dict[int, int] = {}
        self.spent = {1: 0, 2: 0, 3: 0}
        self.open: dict[int, tuple[int, int]] = {}

    @initialize(first=amounts, second=amounts, budget=amounts)
    def begin(self, first: int, second: int, budget: int) -> None:
        for user, amount in ((1, first), (2, second)):
            if amount:
                self.credit(user, amount)
        self.ledger.set_budget(2, budget, BudgetPeriod.TOTAL, self.now)
        self.ledger.set_budget(3, budget, BudgetPeriod.DAILY, self.now)

    @rule(user=st.sampled_from([1, 2]), amount=st.integers(1, 300))
    def credit(self, user: int, amount: int) -> None:
        self.ledger.top_up(user, amount)
        self.paid_in[user] += amount

    @rule(
        user=st.sampled_from([1, 2]), kind=st.sampled_from(["refund", "adjustment", "fee"]),
        amount=st.integers(1, 300), gains=st.booleans(), refused=st.booleans(),
    )  # fmt: skip
    def move_without_a_call(
        self, user: int, kind: str, amount: int, gains: bool, refused: bool
    ) -> None:
        """What the till does, once committed or refused."""
        wallet, other = account_id(AccountKind.WALLET, user), OTHERS[kind]
        if not gains:
            held = sum(held for key, held in self.open.values() if self.owner[key] == user)
            stored = self.paid_in[user] + self.balances.get(wallet, 0)
            fits = amount <= stored - held
            assert self.ledger.set_aside(user, amount) is fits
            if not fits:
                return
            self.ledger.give_back(user, amount)
        if refused:
            return
        pair = (other, wallet) if gains else (wallet, other)
        transfer = Transfer(self.next_id, 0, kind, *pair, amount, self.now)
        self.ledger.follow([transfer])
        self.balances[pair[0]] = self.balances.get(pair[0], 0) - amount
        self.balances[pair[1]] = self.balances.get(pair[1], 0) + amount

    @rule(target=calls, key=st.sampled_from([1, 2, 3]), amount=amounts)
    def reserve(self, key: int, amount: int) -> int:
        self.next_id += 1
        user = self.owner[key]
        free = self.left(key)
        outcome = self.ledger.reserve(self.next_id, user, key, amount, self.now)
        if amount <= free:
            assert isinstance(outcome, Hold), "refused although the hold was covered"
            self.open[self.next_id] = (key, amount)
        else:
            assert isinstance(outcome, Denial)
            assert outcome.available == max(0, free)
        return self.next_id

    @rule(call=calls, amount=amounts)
    def extend(self, call: int, amount: int) -> None:
        if call not in self.open:
            return
        key, held = self.open[call]
        free = self.free(key)
        granted = self.ledger.extend(call, amount, self.now)
        assert granted == min(amount, free)
        self.open[call] = (key, held + granted)

    @rule(call=consumes(calls), charge=amounts, forgive=st.booleans(), cost=amounts)
    def settle(self, call: int, charge: int, forgive: bool, cost: int) -> None:
        if call not in self.open:
            return
        key, held = self.open.pop(call)
        free = self.free(key)
        costs = [(5, cost)] if cost else []
        charged, forgiven = (0, charge) if forgive else (charge, 0)
        outcome = self.ledger.settle(call, charged, forgiven, costs, self.now)
        assert outcome.charged + outcome.overrun == charged
        assert outcome.charged <= max(free, held)
        if charged <= min(held, free):
            assert outcome.overrun == 0, "the hold covered it"
        self.spent[key] += outcome.charged
        for transfer in map(Transfer._make, outcome.postings):
            assert transfer.amount > 0
            self.balances[transfer.debit] = self.balances.get(transfer.debit, 0) - transfer.amount
            self.balances[transfer.credit] = self.balances.get(transfer.credit, 0) + transfer.amount

    @rule(call=consumes(calls))
    def void(self, call: int) -> None:
        if self.open.pop(call, None):
            self.ledger.void(call)

    @rule(key=st.sampled_from([1, 2, 3]), budget=st.none() | amounts)
    def edit_budget(self, key: int, budget: int | None) -> None:
        self.ledger.set_budget(key, budget, self.ledger.purse(key).period, self.now)

    @rule(hours=st.integers(-30, 60))
    def pass_time(self, hours: int) -> None:
        self.now += hours * 3600
        for key in (1, 2, 3):
            if self.now >= self.ledger.purse(key).period_end:
                self.spent[key] = 0
                purse = self.ledger.purse(key)
                self.ledger.set_budget(key, purse.budget, purse.period, self.now)

    def free(self, key: int) -> int:
        return max(0, self.left(key))

    def left(self, key: int) -> int:
        user = self.owner[key]
        held = sum(amount for other, amount in self.open.values() if self.owner[other] == user)
        wallet = self.paid_in[user] + self.balances.get(account_id(AccountKind.WALLET, user), 0)
        free = wallet - held
        budget = self.ledger.purse(key).budget
        if budget is not None:
            held = sum(amount for other, amount in self.open.values() if other == key)
            free = min(free, budget - self.spent[key] - held)
        return free

    @invariant()
    def the_books_balance(self) -> None:
        assert sum(self.balances.values()) == 0
        for user in (1, 2):
            wallet = self.ledger.wallet(user)
            moved = self.balances.get(account_id(AccountKind.WALLET, user), 0)
            held = [amount for key, amount in self.open.values() if self.owner[key] == user]
            assert wallet.balance == self.paid_in[user] + moved
            assert 0 <= wallet.held == sum(held) <= wallet.balance
        for key, spent in self.spent.items():
            assert self.ledger.purse(key).spent == spent


Books.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase


def test_a_key_nobody_has_called_with_costs_the_operator_nothing() -> None:
    ledger = Ledger()
    assert ledger.expense(KEY, NOW) == 0
    ledger.load_expense(KEY, 5, NOW)
    assert ledger.expense(KEY, NOW) == 5
    assert ledger.expense(KEY, NOW + 86_400) == 0


def test_a_restored_call_holds_what_it_held_or_what_is_left() -> None:
    ledger = funded(100, budget=90)
    assert ledger.restore(1, USER, KEY, 70, NOW).amount == 70
    assert ledger.restore(2, USER, KEY, 70, NOW).amount == 20
    assert ledger.reserve(3, USER, KEY, 1, NOW) == Denial(Shortage.KEY_BUDGET, 0)
    assert ledger.settle(1, 70, 0, [], NOW).charged == 70
    ledger.set_budget(KEY, 10, BudgetPeriod.TOTAL, NOW)
    assert ledger.restore(4, USER, KEY, 70, NOW).amount == 0, "a budget below what was spent"
    assert ledger.settle(4, 5, 0, [], NOW).overrun == 5
    for call_id, amount in ((2, 1), (5, -1)):
        with pytest.raises(AssertionError, match="cannot restore"):
            ledger.restore(call_id, USER, KEY, amount, NOW)


def test_a_restored_call_finds_its_period_begun() -> None:
    ledger = Ledger()
    ledger.top_up(USER, 100)
    ledger.set_budget(KEY, 50, BudgetPeriod.DAILY, stamp(2027, 1, 1))
    ledger.load_spend(KEY, BudgetPeriod.DAILY, int(stamp(2027, 1, 1)), 50)
    assert ledger.restore(1, USER, KEY, 30, stamp(2027, 1, 1, 23)).amount == 0
    assert ledger.restore(2, USER, KEY, 30, stamp(2027, 1, 2)).amount == 30
