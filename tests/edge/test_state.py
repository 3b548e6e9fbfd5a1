import msgspec
import pytest

from proxy.edge import state
from proxy.edge.families import FIRST_BYTE_BOUNDS, LABEL_SETS_MAX, SHORT_BOUNDS
from proxy.edge.merging import nothing_counted
from proxy.edge.metrics import CallFigures, Metrics
from proxy.edge.state import STATE_VERSION, Buckets, State, buckets, decode, encode


def made(**changes: object) -> State:
    fields = {"version": STATE_VERSION, "identity": "1-1", "counted": nothing_counted()}
    return State(**(fields | changes))  # type: ignore[arg-type]  # the fields of the test's choice


def test_buckets_include_their_upper_edge() -> None:
    bounds = (1.0, 2.0)
    row = buckets(bounds)
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        row.observe(bounds, value)
    assert (row.counts, row.total) == ([2, 2, 1], 7.5)


def test_a_state_survives_the_way() -> None:
    metrics = Metrics()
    metrics.use_catalog(["m"], {1: "main"})
    metrics.observe_call(
        CallFigures(endpoint="chat", model="m", first_byte=0.1, added=0.1, gap=0.003, error="e")
    )
    sent = metrics.snapshot()
    assert decode(encode(sent)) == sent


def test_two_states_share_no_default() -> None:
    first, second = made(), made()
    first.counted.cost["main"] = 1
    assert second.counted.cost == {}


def test_what_is_no_state_of_this_version_is_none() -> None:
    assert decode(b"") is None
    assert decode(b"\xc1") is None
    assert decode(msgspec.msgpack.encode({"version": STATE_VERSION})) is None
    assert decode(encode(made(version=STATE_VERSION + 1))) is None
    assert decode(b"\x00" * (state.STATE_BYTES_MAX + 1)) is None


def test_fields_of_a_later_release_are_passed_over() -> None:
    later = msgspec.msgpack.decode(encode(made()))
    later["colour"] = "blue"
    later["counted"]["more"] = {"a": 1}
    assert decode(msgspec.msgpack.encode(later)) == made()


@pytest.mark.parametrize("wrong", ["commit_wait", "added", "gaps", "series"])
def test_histograms_with_other_buckets_are_none(wrong: str) -> None:
    metrics = Metrics()
    metrics.observe_call(CallFigures(endpoint="chat", added=0.1, gap=0.003))
    sent = metrics.snapshot()
    assert decode(encode(sent)) is not None
    counted, short = sent.counted, Buckets([0])
    if wrong == "commit_wait":
        counted.commit_wait = short
    elif wrong == "series":
        next(iter(counted.series.values())).first_byte = short
    else:
        getattr(counted, wrong)["chat"] = short
    assert decode(encode(sent)) is None
    assert len(FIRST_BYTE_BOUNDS) != len(SHORT_BOUNDS)


def test_as_many_label_sets_as_there_may_be_fit() -> None:
    metrics = Metrics()
    names = [f"a-model-with-quite-a-long-name-{number}" for number in range(LABEL_SETS_MAX)]
    metrics.use_catalog(names, {})
    for name in names:
        metrics.observe_call(CallFigures(endpoint="chat_completions", model=name, duration=1.5))
    assert decode(metrics.state()) is not None


def test_this_process_is_measured() -> None:
    found = state.own_process()
    assert found.resident_bytes > 1 << 20
    assert 3 <= found.open_fds <= found.max_fds
    assert state.own_cpu_seconds() > 0
