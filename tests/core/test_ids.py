"""Call ids sort by time, never repeat and survive the trip to text and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.ids import (
    EPOCH_MS,
    SEQUENCE_MAX,
    IdSource,
    first_id_at,
    format_id,
    moment_of,
    parse_id,
    worker_of,
)

NOW = EPOCH_MS / 1000 + 86_400.0


def test_ids_increase_with_time_and_within_a_millisecond() -> None:
    source = IdSource(worker=3)
    ids = [source.next(NOW), source.next(NOW), source.next(NOW + 0.001), source.next(NOW + 9)]
    assert ids == sorted(set(ids))


def test_a_clock_stepping_back_repeats_nothing() -> None:
    source = IdSource(worker=0)
    first = source.next(NOW)
    assert source.next(NOW - 3600) > first


def test_a_full_millisecond_borrows_the_next() -> None:
    source = IdSource(worker=0)
    ids = [source.next(NOW) for _ in range(SEQUENCE_MAX + 2)]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)


def test_workers_do_not_meet() -> None:
    assert IdSource(0).next(NOW) != IdSource(1).next(NOW)
    for worker in (0, 1, 42, 63):
        source = IdSource(worker)
        assert {worker_of(source.next(NOW)) for _ in range(9)} == {worker}


@pytest.mark.parametrize("worker", [-1, 64])
def test_a_worker_number_must_fit(worker: int) -> None:
    with pytest.raises(AssertionError, match="six bits"):
        IdSource(worker)


@given(
    st.integers(0, 63),
    st.integers(0, 1 << 62),
    st.lists(st.sampled_from([0.0, 0.001, 0.1, 0.25, -1.0, 3_600.0, 10**8]), max_size=9),
)
def test_an_id_is_named_as_it_is_formatted(worker: int, after: int, steps: list[float]) -> None:
    source, now, last = IdSource(worker, after), NOW, after
    for step in [*steps, *[0.0007] * 500, *[0.0] * 1_030]:
        now += step
        call_id, name = source.named(now)
        assert name == format_id(call_id)
        assert parse_id(name) == call_id
        assert call_id > last
        assert worker_of(call_id) == worker
        said = int(now * 1000) - EPOCH_MS
        if said > last >> 22:
            assert (call_id >> 22, call_id & SEQUENCE_MAX - 1) == (said, 0)
        last = call_id


class General(IdSource):
    """Names every id the long way."""

    def named(self, now: float) -> tuple[int, str]:
        return self._named_anew(now)


@given(
    st.integers(0, 63),
    st.integers(0, 1 << 62),
    st.lists(
        st.sampled_from([0.0, 0.0, 0.0003, 0.001, 0.2, -0.0003, -0.001, -0.3, -(10**9), 10**9])
        | st.floats(-2.0, 2.0),
        max_size=60,
    ),
    st.integers(0, 3),
)
def test_an_id_is_the_same_whichever_way_it_is_named(
    worker: int, after: int, steps: list[float], left: int
) -> None:
    quick, slow, now = IdSource(worker, after), General(worker, after), NOW
    for turn, step in enumerate(steps):
        now += step
        assert quick.named(now) == slow.named(now)
        if turn == len(steps) // 2:
            quick._sequence = slow._sequence = SEQUENCE_MAX - 1 - left


def test_text_round_trip_and_order() -> None:
    source = IdSource(worker=63)
    ids = [source.next(NOW + step / 10) for step in range(100)]
    texts = [format_id(call_id) for call_id in ids]
    assert texts == sorted(texts)
    assert [parse_id(text) for text in texts] == ids
    assert parse_id(format_id((1 << 63) - 1)) == (1 << 63) - 1


@pytest.mark.parametrize(
    "text",
    ["", "req_", "0000000000000", "req_000000000000u", "req_zzzzzzzzzzzzz", "req_" + "0" * 14],
)
def test_what_is_no_id_is_none(text: str) -> None:
    assert parse_id(text) is None


def test_an_id_tells_its_moment_and_a_moment_where_its_ids_begin() -> None:
    source = IdSource(worker=5)
    first, second = source.next(NOW), source.next(NOW)
    assert moment_of(first) == moment_of(second) == NOW
    assert first_id_at(NOW) <= first < second < first_id_at(NOW + 0.001)
    assert first_id_at(0) == 0, "before the first id there could be"
