from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.months import month_around


def stamp(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("anchor", "now", "start", "end"),
    [
        ("2027-01-15T10:00", "2027-01-15T10:00", "2027-01-15T10:00", "2027-02-15T10:00"),
        ("2027-01-15T10:00", "2027-02-15T09:59", "2027-01-15T10:00", "2027-02-15T10:00"),
        ("2027-01-15T10:00", "2027-02-15T10:00", "2027-02-15T10:00", "2027-03-15T10:00"),
        ("2027-01-31T00:00", "2027-02-20T00:00", "2027-01-31T00:00", "2027-02-28T00:00"),
        ("2027-01-31T00:00", "2027-03-01T00:00", "2027-02-28T00:00", "2027-03-31T00:00"),
        ("2027-01-31T00:00", "2027-04-30T00:00", "2027-04-30T00:00", "2027-05-31T00:00"),
        ("2028-02-29T00:00", "2029-03-01T00:00", "2029-02-28T00:00", "2029-03-29T00:00"),
        ("2027-12-31T23:00", "2028-01-31T22:59", "2027-12-31T23:00", "2028-01-31T23:00"),
        ("2027-03-10T00:00", "2030-06-11T00:00", "2030-06-10T00:00", "2030-07-10T00:00"),
        ("2027-03-10T00:00", "2027-01-01T00:00", "2027-03-10T00:00", "2027-04-10T00:00"),
    ],
)
def test_months_begin_on_the_day_they_first_did(
    anchor: str, now: str, start: str, end: str
) -> None:
    assert month_around(stamp(anchor), stamp(now)) == (stamp(start), stamp(end))


@given(st.integers(0, 2**32), st.floats(0, 2**32))
def test_months_are_without_gaps(anchor: int, now: float) -> None:
    month = month_around(anchor, now)
    assert month.start <= max(now, anchor) < month.end
    assert 28 <= (month.end - month.start) / 86_400 <= 31
    assert month_around(anchor, month.end).start == month.end
