"""Every line and every attempt is in one row, and each difference has its explanation."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Price, Usage, UsageSource
from proxy.core.reconciliation.comparing import compare
from proxy.core.reconciliation.records import Comparison, Our, Reason, Row, State, Their

NOON = 20_542 * 86_400 + 43_200.0
DAY = 20_542
USAGE = Usage(input_uncached=100, cache_read=50, output=20)
PRICE = Price("m", 1, input=1_000_000_000, cache_read=500_000_000, output=2_000_000_000)
COST = 165_000  # 100 + 25 + 40 thousand nano-USD


def our(request_id: str | None = "r", **changes: Any) -> Our:
    fields: dict[str, Any] = {
        "call_id": 1, "number": 1, "at": NOON, "status": 200, "outcome": "served",
        "request_id": request_id, "model": "m", "public_model": "public", "usage": USAGE,
        "source": UsageSource.REPORTED, "cost": COST, "charge": 9, "verdict": "complete",
    }  # fmt: skip
    return Our(**(fields | changes))


def their(request_id: str | None = "r", **changes: Any) -> Their:
    fields: dict[str, Any] = {
        "line": 2, "request_id": request_id, "day": DAY, "model": "m", "input": 150, "cached": 50,
        "output": 20, "cost": COST,
    }  # fmt: skip
    return Their(**(fields | changes))


def single(theirs: Their | None, ours: Our | None, **costs: Price) -> Row:
    found = compare([theirs] if theirs else [], [ours] if ours else [], costs)
    (row,) = found.rows
    return row


def test_what_agrees_matches() -> None:
    row = single(their(), our())
    assert (row.state, row.reason, row.differences, row.money) == (
        State.MATCHED,
        Reason.NONE,
        {},
        0,
    )
    # What an export does not say is not compared, and providers round.
    assert single(their(cached=None, input=None, cost=COST + 1000), our()).state is State.MATCHED
    assert single(their(cost=None), our()).money is None


DIFFERING = [
    ({"output": 30}, {}, Reason.TOKENS, {"output": 10}),
    ({"cached": 40}, {}, Reason.CACHE, {"cached": -10}),
    ({"cached": 40, "written": 3}, {}, Reason.CACHE, {"cached": -10, "written": 3}),
    ({"cost": COST + 1001}, {}, Reason.PRICE, {}),
    ({}, {"cost": 0}, Reason.NO_COST, {}),
    ({"output": 30}, {"source": UsageSource.COUNTED}, Reason.CUT_SHORT, {"output": 10}),
    ({"output": 30}, {"source": UsageSource.ESTIMATED}, Reason.CUT_SHORT, {"output": 10}),
    ({}, {"usage": Usage(calls=0), "source": UsageSource.NONE, "cost": 0}, Reason.CUT_SHORT,
     {"input": 150, "cached": 50, "output": 20}),
    ({}, {"usage": Usage(calls=0), "source": UsageSource.NONE, "outcome": "upstream_error"},
     Reason.NOT_SERVED, {"input": 150, "cached": 50, "output": 20}),
]  # fmt: skip


@pytest.mark.parametrize(("of_theirs", "of_ours", "reason", "differences"), DIFFERING)
def test_every_difference_is_explained(
    of_theirs: dict[str, Any],
    of_ours: dict[str, Any],
    reason: Reason,
    differences: dict[str, int],
) -> None:
    row = single(their(**of_theirs), our(**of_ours))
    assert (row.state, row.reason, row.differences) == (State.DIFFERING, reason, differences)


def test_what_only_one_side_has() -> None:
    assert single(their(), None).reason is Reason.NOT_OURS
    assert single(their(), None).money == COST
    alone = [
        (our("else"), Reason.MISSING, -COST),
        (our(None), Reason.NO_ID, -COST),
        (our(None, outcome="upstream_error", cost=0), Reason.UNBILLED, 0),
    ]
    for one, reason, money in alone:
        row = single(None, one)
        assert (row.state, row.reason, row.money) == (State.ONLY_OURS, reason, money)


def test_an_export_without_costs_is_priced_by_the_channels_own() -> None:
    same = single(their(cost=None), our(), m=PRICE)
    assert (same.state, same.money, same.priced) == (State.MATCHED, 0, True)
    more = single(their(cost=None, output=30), our(), m=PRICE)
    assert (more.money, more.priced) == (20_000, True)
    written = single(their(None, cost=None, input=150, written=50), None, m=PRICE)
    assert written.money == 50_000 + 25_000 + 40_000
    assert single(their(None, cost=None, input=None, cached=None, output=None), None, m=PRICE
                  ).money == 0  # fmt: skip
    found = compare([their(cost=None)], [], {})
    assert (found.rows[0].money, found.unpriced) == (None, 1)


def test_a_request_that_comes_twice() -> None:
    lines = [their(output=15, cost=None), their(output=5, line=3)]
    row = compare(lines, [our()], {}).rows
    assert [each.state for each in row] == [State.DIFFERING]  # its input is there twice
    assert row[0].differences == {"input": 150, "cached": 50}
    parts = [their(input=None, cached=None), their(output=None, cost=None, line=3)]
    assert compare(parts, [our()], {}).rows[0].state is State.MATCHED
    both = compare([their()], [our(), our(number=2)], {})
    assert sorted(each.state for each in both.rows) == [State.MATCHED, State.ONLY_OURS]


def test_days_and_models_are_compared_where_there_are_no_requests() -> None:
    lines = [
        their(None, model="m-2026-01-31", input=150, requests=1),
        their(None, model="maker/m", input=150, requests=2),
        their(None, day=DAY + 1),
        their(None, model="other"),
    ]
    attempts = [our("a"), our("b"), our("c", at=NOON - 86_400)]
    found = compare(lines, attempts, {"m": PRICE})
    assert not found.by_request
    states = {(row.state, row.reason): row for row in found.rows}
    matched = states[(State.MATCHED, Reason.NONE)]
    assert matched.attempts == 2
    assert matched.their is not None
    assert matched.their.requests == 3
    assert states.keys() == {
        (State.MATCHED, Reason.NONE),
        (State.ONLY_OURS, Reason.MISSING),
        (State.ONLY_THEIRS, Reason.NOT_OURS),
    }
    assert sum(row.state is State.ONLY_THEIRS for row in found.rows) == 2


def test_a_day_with_calls_cut_short_is_explained_by_them() -> None:
    cut = our("b", source=UsageSource.COUNTED, usage=Usage(output=1), cost=0)
    row = single(their(None, output=40), None)
    assert row.attempts == 0
    found = compare([their(None, output=40)], [our("a"), cut], {})
    assert (found.rows[0].reason, found.rows[0].unsaid) == (Reason.CUT_SHORT, 1)
    found = compare([their(None, output=40)], [our("a"), our("b")], {})
    assert (found.rows[0].reason, found.rows[0].unsaid) == (Reason.TOKENS, 0)
    failed = our("b", outcome="upstream_error", usage=Usage(calls=0), cost=0)
    assert compare([], [failed], {}).rows[0].reason is Reason.UNBILLED


def test_ids_of_another_kind_say_nothing_about_requests() -> None:
    found = compare([their("gen-1")], [our("r")], {})
    assert not found.by_request
    assert found.rows[0].state is State.MATCHED
    assert compare([their("gen-1", day=None)], [our("r")], {}).by_request


def test_models_that_are_alike_are_not_the_same() -> None:
    found = compare([their(None, model="m-mini")], [our()], {})
    assert sorted(row.state for row in found.rows) == [State.ONLY_OURS, State.ONLY_THEIRS]
    dated = compare([their(None, model="m")], [our(model="m-2026-01-31")], {})
    assert [row.state for row in dated.rows] == [State.MATCHED]


IDS = st.one_of(st.none(), st.sampled_from(["a", "b", "c"]))
COUNTS = st.one_of(st.none(), st.integers(0, 100))


@given(
    st.lists(st.builds(their, IDS, output=COUNTS, cost=COUNTS, day=st.integers(DAY, DAY + 1))),
    st.lists(
        st.builds(
            our, IDS, cost=st.integers(0, 100), source=st.sampled_from(UsageSource),
            outcome=st.sampled_from(["served", "upstream_error"]),
            at=st.sampled_from([NOON, NOON + 86_400]),
        )
    ),
)  # fmt: skip
def test_sums_of_rows_are_the_sums_of_both_sides(theirs: list[Their], ours: list[Our]) -> None:
    found: Comparison = compare(theirs, ours, {"m": PRICE})
    assert found.ours == sum(each.cost for each in ours)
    said = [each.cost for each in theirs]
    if None not in said:
        assert found.theirs == sum(cost or 0 for cost in said)
    for row in found.rows:
        assert (row.our is None) == (row.state is State.ONLY_THEIRS)
        assert (row.their is None) == (row.state is State.ONLY_OURS)
        assert (row.reason is Reason.NONE) == (row.state is State.MATCHED)
    assert sum(each.money for each in found.sums.values()) == found.theirs - found.ours
    if not found.by_request:
        assert sum(row.attempts for row in found.rows) == len(ours)
    assert [abs(row.money or 0) for row in found.rows] == sorted(
        (abs(row.money or 0) for row in found.rows), reverse=True
    )
