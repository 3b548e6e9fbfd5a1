import pytest

from proxy.core.entities import Usage
from proxy.edge import merging
from proxy.edge.families import OTHER
from proxy.edge.merging import Remembered, fold, fold_states, merge, only
from proxy.edge.metrics import CallFigures, Live, Metrics
from proxy.edge.state import STATE_VERSION, Buckets, ProcessFigures, State, decode, encode
from tests.edge.test_metrics import attempt


class Worker:
    """A worker of the test's making; `state()` is what it would answer."""

    def __init__(self, calls: int = 0, *, breaker: int = 0, fds: int = 10) -> None:
        process = ProcessFigures(1000, fds, 100 + fds)
        live = Live(
            lambda: 2,
            breakers=lambda: [("main", breaker)],
            resting=lambda: [("main", breaker)],
            process=lambda: process,
        )
        self.metrics = Metrics(live, role="worker")
        self.metrics.use_catalog(["m"], {1: "main"})
        self.serve(calls)

    def serve(self, calls: int) -> None:
        for _ in range(calls):
            self.metrics.observe_call(
                CallFigures(
                    endpoint="chat",
                    model="m",
                    duration=0.3,
                    first_byte=0.1,
                    added=0.001,
                    gap=0.003,
                    usage=Usage(
                        input_uncached=10, cache_read=3, cache_write_5m=2, output=7, searches=2
                    ),
                    error="upstream_error",
                    anomalies=("negative",),
                    attempts=(attempt(1, "upstream_error", 5), attempt(1, "served", 7)),
                )
            )
        self.metrics.observe_loop_lag(0.001)
        self.metrics.observe_commit_wait(0.002)

    def state(self) -> bytes:
        return self.metrics.state()


def requests(memory: Remembered) -> int:
    return sum(merge(memory.states()).counted.requests.values())


def test_counters_and_histograms_add() -> None:
    whole = Worker(5)
    whole.metrics.observe_loop_lag(0.001)  # as two workers made one observation each
    whole.metrics.observe_commit_wait(0.002)
    halves = [Worker(2).metrics.snapshot(), Worker(3).metrics.snapshot()]
    merged = merge(halves).counted
    assert merged.retries == {"served": 5, "failed": 0, "refused": 0}
    approximately = [row.duration for row in merged.series.values()]
    approximately += [*merged.added.values(), *merged.gaps.values()]
    for row in approximately:
        row.total = round(row.total, 9)
    expected = whole.metrics.counted
    for row in [*(row.duration for row in expected.series.values()), *expected.gaps.values()]:
        row.total = round(row.total, 9)
    assert merged == expected
    assert sum(halves[0].counted.requests.values()) == 2, "what was added stays as it was"


def test_gauges_merge_by_their_meaning() -> None:
    states = [
        Worker(breaker=0, fds=10).metrics.snapshot(),
        Worker(breaker=2, fds=90).metrics.snapshot(),
        Worker(breaker=1, fds=50).metrics.snapshot(),
    ]
    merged = merge(states)
    assert (merged.streams, merged.workers, merged.breakers) == (6, 3, {"main": 2})
    assert merged.resting == {"main": 2}
    row = merged.processes["worker"]
    assert (row.running, row.resident_bytes, row.open_fds, row.max_fds) == (3, 3000, 90, 110)
    assert row.cpu_seconds == pytest.approx(sum(one.cpu_seconds["worker"] for one in states))


def test_one_process_is_shown_without_copying_its_counters() -> None:
    worker = Worker(1)
    merged = only(worker.metrics.snapshot())
    assert merged.counted is worker.metrics.counted
    assert (merged.workers, merged.streams) == (1, 2)


def test_a_fold_keeps_what_was_counted_and_no_gauge() -> None:
    first, second, third = Worker(1), Worker(2), Worker(4)
    once = fold([first.state(), second.state()])
    twice = decode(fold([once, b"garbage", third.state()]))
    assert twice is not None
    assert (twice.exits, twice.streams, twice.breakers, twice.process) == (3, 0, (), None)
    assert twice.identity == first.metrics.snapshot().identity
    assert len(set(twice.gone)) == 3
    assert sum(twice.counted.requests.values()) == 7
    merged = merge([twice])
    assert (merged.workers, merged.exits, merged.streams) == (0, 3, 0)
    assert merged.processes["worker"].cpu_seconds > 0
    assert fold([]) == fold([b"garbage"]) == b""


def test_a_fold_names_the_latest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "GONE_MAX", 2)
    workers = [Worker() for _ in range(3)]
    folded = fold_states([worker.metrics.snapshot() for worker in workers])
    assert folded.gone == tuple(one.metrics.snapshot().identity for one in workers[1:])
    assert (folded.exits, folded.identity) == (3, workers[0].metrics.snapshot().identity)


def test_no_sum_falls_when_a_worker_dies() -> None:
    memory, first, second = Remembered(), Worker(3), Worker(4)
    memory.update([first.state(), second.state()])
    assert requests(memory) == 7
    # It died before the keeper had its fold: it counts with what it said last, gauges apart.
    memory.update([second.state()])
    assert requests(memory) == 7
    assert merge(memory.states()).workers == 1
    assert merge(memory.states()).streams == 2
    # Its goodbye had said more than was asked before.
    first.serve(2)
    memory.update([second.state(), fold([first.state()])])
    assert requests(memory) == 9
    assert merge(memory.states()).exits == 1


def test_a_late_state_of_an_ended_worker_counts_once() -> None:
    memory, first = Remembered(), Worker(3)
    memory.update([first.state(), fold([first.state()])])
    assert requests(memory) == 3
    assert merge(memory.states()).workers == 0


def test_no_sum_falls_when_the_keeper_dies() -> None:
    memory, first, second, third = Remembered(), Worker(3), Worker(4), Worker(5)
    memory.update([second.state(), third.state(), fold([first.state()])])
    assert requests(memory) == 12
    memory.nobody_answers()
    assert (requests(memory), merge(memory.states()).workers) == (12, 0)
    # The new keeper knows nothing of the first worker.
    memory.update([second.state(), third.state()])
    assert requests(memory) == 12
    memory.update([third.state(), fold([second.state()])])
    assert requests(memory) == 12
    # And one more keeper, with an ended worker of its own at its first answer.
    memory.update([fold([third.state()])])
    assert requests(memory) == 12
    assert merge(memory.states()).exits == 3


def test_the_silent_are_bounded_and_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "SILENT_MAX", 2)
    memory = Remembered()
    for number in range(6):
        memory.update([Worker(1).state()])
        assert requests(memory) == number + 1
        assert len(memory._last) <= 3
    assert merge(memory.states()).exits == 3


def test_what_is_told_twice_is_no_answer() -> None:
    memory, hung, well = Remembered(), Worker(3), Worker(4)
    said = hung.state()
    memory.update([said, well.state()])
    assert merge(memory.states()).workers == 2
    memory.update([said, well.state()])
    assert (merge(memory.states()).workers, requests(memory)) == (1, 7)
    memory.update([hung.state(), well.state()])
    assert (merge(memory.states()).workers, requests(memory)) == (2, 7)


def test_states_of_another_release_are_left_out() -> None:
    memory = Remembered()
    other = encode(
        State(version=STATE_VERSION + 1, identity="x", counted=Worker(9).metrics.counted)
    )
    memory.update([other, Worker(1).state()])
    assert requests(memory) == 1


def test_sums_are_bounded_however_many_names_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "LABEL_SETS_MAX", 2)
    states = []
    for number in range(4):
        metrics = Metrics(role="worker")
        metrics.use_catalog([f"m{number}"], {})
        metrics.observe_call(
            CallFigures(
                endpoint=f"e{number}" if number else "chat",
                model=f"m{number}",
                added=0.1,
                error=f"error-{number}",
            )
        )
        states.append(metrics.snapshot())
    counted = merge(states).counted
    assert counted.requests["e3", OTHER, OTHER, "200"] == 1
    assert counted.requests["chat", "m0", "none", "200"] == 1
    assert sum(counted.requests.values()) == 4
    assert ("e3", OTHER) in counted.series
    assert (len(counted.errors), len(counted.added)) == (2, 2)
    assert isinstance(counted.added["chat"], Buckets)
