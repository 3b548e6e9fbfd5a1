import pytest

from proxy.app.commands.shapes import (
    day_text,
    iso,
    money,
    parse_day,
    parse_past,
    parse_period,
    parse_time,
)
from proxy.core.actions.unfit import UnfitError


def test_moments() -> None:
    assert parse_time("2d", 100.0) == 100 + 2 * 86_400
    assert parse_time("3h", 0) == 10_800
    assert parse_time("4m", 0) == 240
    assert iso(parse_time("2030-01-31T12:00:00+02:00", 0)) == "2030-01-31T10:00:00Z"
    assert iso(None) is None
    for bad in ("", "d", "-1d", "9999999999d", "tomorrow"):
        with pytest.raises(ValueError, match="neither a span"):
            parse_time(bad, 0)


def test_a_moment_that_no_calendar_tells_is_refused_and_breaks_no_list() -> None:
    assert iso(parse_time("9999-12-31T23:59:59Z", 0)) == "9999-12-31T23:59:59Z"
    for bad in ("99999999d", "9999-12-31T23:59:59-01:00"):
        with pytest.raises(ValueError, match="is after the year 9999"):
            parse_time(bad, 1.8e9)
    # What was let in before.
    for moment in (253_402_300_800.0, 8e12, float("inf")):
        assert iso(moment) == "9999-12-31T23:59:59Z"


def test_what_is_asked_about_lies_behind() -> None:
    now = 1_800_000_000.0
    assert parse_past("2d", now) == now - 2 * 86_400
    assert parse_past("99999999d", now) == 0.0
    assert day_text(parse_day("2026-01-31")) == "2026-01-31"
    assert iso(parse_past("2026-01-31", now)) == "2026-01-31T00:00:00Z"
    assert iso(parse_past("2026-01-31", now, last=True)) == "2026-02-01T00:00:00Z"
    assert iso(parse_past("2026-01-31T12:00:00", now, last=True)) == "2026-01-31T12:00:00Z"
    for bad in ("", "soon", "0001-01-01", "9999-12-31T23:59:59-12:00", "2026-02-30"):
        with pytest.raises(ValueError, match="neither a span such as 7d nor a day"):
            parse_past(bad, now)
        with pytest.raises(ValueError, match="is no day such as"):
            parse_day(bad)
    assert parse_period(None, None, now) == (None, None)
    assert parse_period("2h", "1h", now) == (now - 7_200, now - 3_600)
    assert parse_period("2026-01-31", "2026-01-31", now) == (1769817600.0, 1769904000.0)
    for since, until, fields in (("x", "y", {"since", "until"}), ("1h", "2h", {"until"})):
        with pytest.raises(UnfitError) as caught:
            parse_period(since, until, now)
        assert caught.value.fields.keys() == fields


def test_amounts_are_told_twice() -> None:
    assert money(cost=1_250_000_000, left=-5) == {
        "cost_usd": "1.25", "cost_nano": 1_250_000_000, "left_usd": "-0.000000005", "left_nano": -5,
    }  # fmt: skip
