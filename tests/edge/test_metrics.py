import pytest

from proxy.core.cache import ENTRY_OVERHEAD_BYTES, Entry, Limits, ResponseCache
from proxy.core.entities import Attempt, Usage
from proxy.edge import metrics
from proxy.edge.families import BUILD, GAP_BOUNDS, LABEL_SETS_MAX, OTHER
from proxy.edge.merging import merge
from proxy.edge.metrics import CallFigures, Live, Metrics
from proxy.edge.state import decode


def attempt(channel: int, outcome: str, cost: int = 0) -> Attempt:
    return Attempt(channel, 1, 0.0, 200, outcome, None, "m", Usage(), cost, 1.0)


def known() -> Metrics:
    found = Metrics()
    found.use_catalog(["m1", "m2"], {1: "main", 2: "spare"})
    return found


def test_a_call_is_added_once_to_everything_it_touches() -> None:
    found = known()
    usage = Usage(input_uncached=10, cache_read=3, cache_write_5m=2, cache_write_1h=1, output=7)
    found.observe_call(
        CallFigures(
            endpoint="chat",
            model="m1",
            channel_id=2,
            duration=0.3,
            first_byte=0.1,
            added=0.001,
            gap=0.0155,
            usage=usage,
            attempts=(attempt(1, "upstream_error", 5), attempt(2, "served", 7)),
        )
    )
    counted = found.counted
    assert counted.requests == {("chat", "m1", "spare", "200"): 1}
    row = counted.series["chat", "m1"]
    assert (row.input, row.cache_read, row.cache_write, row.output) == (10, 3, 3, 7)
    assert (sum(row.duration.counts), row.duration.total) == (1, 0.3)
    assert (sum(row.first_byte.counts), row.first_byte.total) == (1, 0.1)
    assert sum(counted.added["chat"].counts) == 1
    assert counted.gaps["chat"].counts[GAP_BOUNDS.index(0.016)] == 1
    assert counted.gaps["chat"].total == 0.0155
    assert counted.cost == {"main": 5, "spare": 7}
    assert counted.upstream_errors == {("main", "upstream_error"): 1}
    assert counted.retries == {"served": 1, "failed": 0, "refused": 0}
    assert (counted.errors, counted.anomalies) == ({}, {})


def test_what_is_not_tokens_is_counted_by_kind_and_model() -> None:
    found = known()
    for usage in (
        Usage(images=2),
        Usage(images=1, image_output=100, variant="hd"),
        Usage(audio_ms=1_500),
        Usage(audio_ms=61_001),
        Usage(characters=40),
        Usage(output=7, searches=3),
        Usage(input_uncached=9, output=7),
    ):
        found.observe_call(CallFigures(endpoint="any", model="m1", usage=usage))
    found.observe_call(CallFigures(endpoint="any", model="gone", usage=Usage(searches=1)))
    found.observe_call(CallFigures(endpoint="any", model="m1"))
    assert found.counted.units == {
        ("image", "m1"): 3,
        ("audio_second", "m1"): 62_501,
        ("character", "m1"): 40,
        ("search", "m1"): 3,
        ("search", OTHER): 1,
    }


def test_a_refused_call_counts_its_error_and_nothing_else() -> None:
    found = known()
    found.observe_call(CallFigures(endpoint="chat", code=402, error="insufficient_quota"))
    assert found.counted.requests == {("chat", OTHER, "none", "402"): 1}
    assert found.counted.errors == {("chat", "insufficient_quota"): 1}
    row = found.counted.series["chat", OTHER]
    assert sum(row.first_byte.counts) == 0
    assert found.counted.added == found.counted.gaps == {}


def test_trouble_is_counted() -> None:
    found = known()
    failed = (attempt(1, "upstream_timeout"), attempt(9, "upstream_error"))
    found.observe_call(
        CallFigures(endpoint="chat", anomalies=("negative",), attempts=failed, code=502)
    )
    found.observe_call(CallFigures(endpoint="chat", retry_refused=True, attempts=failed[:1]))
    counted = found.counted
    assert counted.anomalies == {"negative": 1}
    assert counted.retries == {"served": 0, "failed": 1, "refused": 1}
    assert counted.upstream_errors == {
        ("main", "upstream_timeout"): 2,
        (OTHER, "upstream_error"): 1,
    }


def test_models_and_channels_outside_the_catalog_share_one_label() -> None:
    found = known()
    for number in range(100):
        found.observe_call(CallFigures(endpoint="chat", model=f"x{number}", channel_id=99))
    assert found.counted.requests == {("chat", OTHER, OTHER, "200"): 100}


def test_label_sets_stay_bounded_however_often_the_catalog_changes() -> None:
    found = Metrics()
    names = [f"m{number}" for number in range(LABEL_SETS_MAX + 50)]
    found.use_catalog(names, {})
    for name in names:
        found.observe_call(CallFigures(endpoint="chat", model=name, error=name))
    assert len(found.counted.requests) == LABEL_SETS_MAX + 1
    assert len(found.counted.series) == LABEL_SETS_MAX + 1
    assert found.counted.requests["chat", OTHER, OTHER, "200"] == 50
    assert len(found.counted.errors) == LABEL_SETS_MAX


@pytest.mark.parametrize(
    ("seconds", "slot"),
    [(0, 0), (0.0009, 0), (0.001, 0), (0.0011, 1), (0.0039, 2), (16.383, 14), (1e9, -1)],
)
def test_a_gap_is_counted_where_its_bucket_ends(seconds: float, slot: int) -> None:
    found = known()
    for _ in range(3):
        found.observe_call(CallFigures(endpoint="chat", gap=seconds))
    gaps = found.counted.gaps["chat"]
    assert gaps.counts[slot] == sum(gaps.counts) == 3
    assert gaps.total == 3 * seconds


def test_an_ended_call_that_waited_for_nothing_is_counted_too() -> None:
    found = known()
    found.observe_commit_wait(0.0)
    found.commits_at_once += 1
    for _ in range(2):  # added once, however often somebody asks
        assert found.counted.commit_wait.counts[0] == sum(found.counted.commit_wait.counts) == 2
    assert found.counted.commit_wait.total == 0.0


def test_loop_lag_and_empty_gauges() -> None:
    found = Metrics()
    found.observe_loop_lag(0.02)
    found.observe_commit_wait(0.03)
    assert (found.counted.loop_lag.total, found.counted.commit_wait.total) == (0.02, 0.03)
    live = Live()
    assert (live.streams(), live.keeper(), tuple(live.breakers())) == (0, None, ())


def test_the_build_is_named() -> None:
    assert set(metrics.build_labels()) == set(BUILD.labels)


def test_a_state_says_everything_another_process_needs() -> None:
    found = Metrics(Live(lambda: 4, breakers=lambda: [("main", 2)]), role="worker")
    found.observe_call(CallFigures(endpoint="chat", error="upstream_error", usage=Usage(output=3)))
    found.observe_loop_lag(0.02)
    state = decode(found.state())
    assert state is not None
    assert state.counted == found.counted
    assert (state.role, state.streams, state.breakers) == ("worker", 4, (("main", 2),))
    assert state.cpu_seconds["worker"] > 0
    assert state.process is not None
    assert state.process.open_fds <= state.process.max_fds
    assert state.identity != Metrics().snapshot().identity


def test_kept_answers_are_counted_and_weighed() -> None:
    cache = ResponseCache()
    entry = Entry(b"four", b"", False, "", Usage(), None, "main", "m", 0.0, 5.0)
    cache.get(b"a", 1.0)
    cache.put(b"a", entry, Limits(bytes_max=2_000))
    cache.get(b"a", 1.0)
    found = Metrics(Live(cache=lambda: cache))
    state = found.snapshot()
    assert state.counted.cache == {
        "hit": 1, "miss": 1, "stored": 1, "evicted": 0, "too_large": 0,
    }  # fmt: skip
    assert (state.cache_bytes, state.cache_entries) == (4 + ENTRY_OVERHEAD_BYTES, 1)
    merged = merge([state, state])
    assert merged.counted.cache["hit"] == 2
    assert (merged.cache_bytes, merged.cache_entries) == (2 * state.cache_bytes, 2)
    assert Metrics().snapshot().cache_entries == 0
