from proxy.core.entities import Usage, UsageSource
from proxy.core.reconciliation.records import (
    MONEY,
    Comparison,
    Our,
    Reason,
    Row,
    State,
    Sum,
    Their,
    day_of,
    plain,
    tokens_of,
)

OUR = Our(
    1, 2, 0.0, 200, "served", "r", "m", "public", Usage(input_uncached=10, output=7),
    UsageSource.REPORTED, 40, 90, "complete",
)  # fmt: skip
THEIR = Their(3, "r", None, "m", input=12, output=7, cost=50)


def test_counts_are_said_as_exports_say_them() -> None:
    usage = Usage(
        input_uncached=10, cache_read=5, cache_write_5m=2, cache_write_1h=3, output=7,
        audio_output=1, audio_input=4, cache_read_audio=6,
    )  # fmt: skip
    assert tokens_of(usage) == {"input": 30, "cached": 11, "written": 5, "output": 8}


def test_days_are_utc() -> None:
    assert day_of(86_399.9) == 0
    assert day_of(86_400.0) == 1


def test_a_row_is_the_same_values_whatever_is_missing() -> None:
    both = Row(State.DIFFERING, Reason.TOKENS, THEIR, OUR, {"input": 2}, 10)
    found = plain(both)
    assert [found[name] for name in MONEY] == [50, 40, 10]
    assert (found["line"], found["attempt"], found["provider_request_id"]) == (3, 2, "r")
    assert (found["their_input"], found["our_input"], found["their_cached"]) == (12, 10, None)
    theirs = Row(State.ONLY_THEIRS, Reason.NOT_OURS, THEIR, None, {}, 50)
    ours = Row(State.ONLY_OURS, Reason.NO_ID, None, OUR, {}, -40)
    nobody = Row(State.MATCHED, Reason.NONE, None, None, {}, None)
    for row in (theirs, ours, nobody):
        assert plain(row).keys() == found.keys()
    assert (plain(theirs)["our_request_id"], theirs.asked) == (None, 50)
    assert (plain(ours)["line"], ours.asked) == (None, None)
    assert (plain(nobody)["model"], plain(nobody)["provider_request_id"]) == (None, None)
    assert Row(State.DIFFERING, Reason.NONE, THEIR, OUR, {}, None).asked is None


def test_rows_are_picked_and_sums_ordered_by_what_they_explain() -> None:
    small = Row(State.DIFFERING, Reason.PRICE, THEIR, OUR, {}, 10)
    large = Row(State.ONLY_OURS, Reason.MISSING, None, OUR, {}, -40)
    sums = {
        (row.state, row.reason): Sum(1, 0, 0, money)
        for row, money in ((small, 10), (large, -40))
    }  # fmt: skip
    found = Comparison(True, [small, large], sums, 0, 0, 0)
    assert found.picked("", "") == [small, large]
    assert found.picked("only_ours", "") == found.picked("", "missing") == [large]
    assert found.picked("only_ours", "price") == []
    assert [key for key, _ in found.explained()] == [
        (State.ONLY_OURS, Reason.MISSING), (State.DIFFERING, Reason.PRICE),
    ]  # fmt: skip
