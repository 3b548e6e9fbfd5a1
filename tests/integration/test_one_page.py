"""One scrape shows all processes, and no sum on it falls whoever dies."""

import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.relay_process import RelayProcess, UpstreamAt

CALLS = 40
WAIT_SECONDS_MAX = 20.0
POLL_SECONDS = 0.1

REQUESTS = "sluice_requests_total"
NOWHERE = UpstreamAt("main", "openai", "http://127.0.0.1:9", {"m": "m"})


def sums(relay: RelayProcess) -> dict[str, float]:
    """The page with the label sets of each sample name added up."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(relay.metrics()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def until(relay: RelayProcess, true: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Scrape until a page is as expected; fails with the last page."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not true(page := sums(relay)):
        assert time.monotonic() < deadline, (page, relay.log()[-2000:])
        time.sleep(POLL_SECONDS)
    return page


def call(relay: RelayProcess, count: int) -> None:
    """Make calls that are refused, each on a connection of its own, so that every worker has some."""
    for _ in range(count):
        request = urllib.request.Request(
            f"{relay.url}/v1/models", headers={"authorization": "Bearer sk-wrong"}
        )
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request, timeout=10)


def processes(relay: RelayProcess, role: str) -> list[int]:
    """The live processes of a role, from the log's lines about their starts."""
    said = [line for line in relay.log_lines() if line.get("role") == role and "process" in line]
    pids = dict.fromkeys(int(line["process"]) for line in said)
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_no_sum_falls_when_a_worker_and_then_the_keeper_dies(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, [NOWHERE], settings={"workers": 2}) as relay:
        call(relay, CALLS)
        page = until(relay, lambda page: page.get(REQUESTS) == CALLS)
        assert page["sluice_workers"] == 2
        assert (page["sluice_workers_wanted"], page["sluice_worker_exits_total"]) == (2, 0)
        assert page["sluice_keeper_up"] == page["sluice_ready"] == 1
        assert 'sluice_process_resident_bytes{process="keeper"}' in relay.metrics()

        os.kill(processes(relay, "worker")[0], signal.SIGKILL)
        page = until(relay, lambda page: page["sluice_worker_exits_total"] == 1)
        assert page[REQUESTS] == CALLS
        until(relay, lambda page: page["sluice_workers"] == 2)
        call(relay, CALLS)
        page = until(relay, lambda page: page[REQUESTS] == 2 * CALLS)

        (keeper,) = processes(relay, "keeper")
        os.kill(keeper, signal.SIGKILL)
        until(relay, lambda _: processes(relay, "keeper") not in ([], [keeper]))
        # Another call is only seen on a page of the new keeper, which never knew the dead worker.
        call(relay, 1)
        page = until(relay, lambda page: page.get(REQUESTS) == 2 * CALLS + 1)
        assert page["sluice_worker_exits_total"] == 1
        until(relay, lambda page: page["sluice_keeper_up"] == page["sluice_ready"] == 1)
