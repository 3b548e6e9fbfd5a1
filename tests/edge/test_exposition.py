import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.core.entities import Usage
from proxy.edge.exposition import SLICE_LABEL_SETS_MAX, Exposition, Picture, usd
from proxy.edge.families import METRICS
from proxy.edge.merging import only
from proxy.edge.metrics import CallFigures, Live, Metrics
from proxy.edge.state import StorageFigures
from proxy.storage.ports import KeeperStatistics
from tests.edge.test_metrics import attempt

STATISTICS = KeeperStatistics(
    holds_open=3,
    hold_oldest_seconds=1.5,
    held=2_000_000_001,
    imbalance=0,
    commits=9,
    commit_seconds=0.25,
    checkpoint_seconds=0.125,
    queue_depth=2,
    settlements={("complete", "reported"): 5},
    charged={"m1": 1_500_000_000},
    expense=1,
)


def filled(models: int = 2) -> Metrics:
    live = Live(
        lambda: 4,
        lambda: STATISTICS,
        lambda: [("main", 2)],
        lambda: StorageFigures(4096, 8192, 10**12),
    )
    found = Metrics(live)
    found.use_catalog([f"m{n}" for n in range(models)], {1: 'we"ird\\na\nme'})
    for number in range(models):
        found.observe_call(
            CallFigures(
                endpoint="chat",
                model=f"m{number}",
                channel_id=1,
                duration=0.3,
                first_byte=0.1,
                added=0.001,
                gap=0.005,
                usage=Usage(images=2, audio_ms=61_005, characters=40, searches=3),
                error="upstream_error",
                anomalies=("negative",),
                attempts=(attempt(1, "upstream_error", 5),),
            )
        )
    found.observe_loop_lag(0.001)
    found.observe_commit_wait(0.0004)
    return found


def picture(metrics: Metrics) -> Picture:
    statistics = metrics.live.keeper()
    return Picture(
        merged=only(metrics.snapshot()),
        statistics=statistics,
        keeper_up=statistics is not None,
        ready=True,
        workers_wanted=3,
        storage=metrics.live.storage(),
    )


def page(metrics: Metrics) -> str:
    return b"".join(Exposition().slices(picture(metrics))).decode()


def test_promtool_accepts_the_page() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=page(filled()),
        text=True,
        capture_output=True,
        check=False,
        timeout=30,
    )
    ours = [line for line in done.stderr.splitlines() if "sluice_" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_the_client_library_reads_back_what_was_counted() -> None:
    families = {f.name: f for f in text_string_to_metric_families(page(filled()))}
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.values()
        for sample in family.samples
    }
    weird = 'we"ird\\na\nme'
    labels = (("channel", weird), ("code", "200"), ("endpoint", "chat"), ("model", "m0"))
    assert samples["sluice_requests_total", labels] == 1
    assert samples["sluice_charged_usd_total", (("model", "m1"),)] == 1.5
    assert samples["sluice_operator_expense_usd_total", ()] == 1e-9
    for kind, used in (("image", 2), ("audio_second", 61.005), ("character", 40), ("search", 3)):
        assert samples["sluice_units_total", (("kind", kind), ("model", "m0"))] == used
    series = (("endpoint", "chat"), ("model", "m0"))
    name = "sluice_request_duration_seconds"
    assert samples[name + "_count", series] == 1
    assert samples[name + "_sum", series] == 0.3
    assert samples[name + "_bucket", tuple(sorted((*series, ("le", "0.25"))))] == 0
    assert samples[name + "_bucket", tuple(sorted((*series, ("le", "0.5"))))] == 1
    assert samples[name + "_bucket", tuple(sorted((*series, ("le", "+Inf"))))] == 1
    assert samples["sluice_event_gap_seconds_count", (("endpoint", "chat"),)] == 2
    assert samples["sluice_held_usd", ()] == 2.000000001
    assert samples["sluice_ledger_imbalance", ()] == 0
    assert samples["sluice_breaker_state", (("channel", "main"),)] == 2
    assert samples["sluice_streams_active", ()] == 4
    assert samples["sluice_settlements_total", (("source", "reported"), ("verdict", "complete"))]
    assert samples["process_open_fds", ()] > 0
    assert samples["sluice_process_open_fds", (("process", "relay"),)] > 0
    assert samples["sluice_process_resident_bytes", (("process", "relay"),)] > 1 << 20
    assert samples["sluice_process_cpu_seconds_total", (("process", "relay"),)] > 0
    assert (samples["sluice_workers", ()], samples["sluice_workers_wanted", ()]) == (1, 3)
    assert (samples["sluice_ready", ()], samples["sluice_worker_exits_total", ()]) == (1, 0)
    assert samples["sluice_database_bytes", (("file", "wal"),)] == 8192
    assert samples["sluice_data_free_bytes", ()] == 1e12


def test_every_declared_family_is_on_the_page_in_order() -> None:
    lines = [line.split() for line in page(filled()).splitlines() if line.startswith("# TYPE")]
    found = [(name, kind) for _, _, name, kind in lines if name.startswith("sluice_")]
    assert sorted(found) == sorted((row.name, str(row.kind)) for row in METRICS)


def test_without_a_keeper_its_figures_are_absent_and_that_is_said() -> None:
    text = page(Metrics())
    assert "sluice_keeper_up 0" in text
    assert "sluice_ledger_imbalance" not in text


def test_a_page_of_many_models_comes_in_bounded_slices() -> None:
    pieces = list(Exposition().slices(picture(filled(500))))
    rows_of_a_histogram = 20
    assert max(piece.count(b"\n") for piece in pieces) <= (
        SLICE_LABEL_SETS_MAX * rows_of_a_histogram + 2
    )
    assert b"".join(pieces).count(b"sluice_request_duration_seconds_count") == 500


def test_a_page_may_be_read_while_calls_end() -> None:
    metrics = filled(300)
    for number, _ in enumerate(Exposition().slices(picture(metrics))):
        metrics.observe_call(CallFigures(endpoint=f"e{number}", code=number))
    assert "sluice_requests_total{" in page(metrics)


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (-1_500_000_000, "-1.500000000"),
        (10**27, "1" + "0" * 18 + "." + "0" * 9),
    ],
)
def test_dollars_are_exact(nano: int, text: str) -> None:
    assert usd(nano) == text
