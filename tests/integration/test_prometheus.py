"""Prometheus' own programs on our page, rules and configuration."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import programs, promql, tree
from tests.integration.relay_process import RelayProcess, UpstreamAt, free_ports
from tests.promql import exposed
from tests.test_docs import README, section

FOLDER = tree.ROOT / "config" / "prometheus"
NOT_OURS = {"up": frozenset[str]()}
"""What Prometheus makes of a scrape."""
UP_SECONDS_MAX = 40.0
POLL_SECONDS = 0.1


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def promtool(*arguments: str) -> str:
    done = subprocess.run(
        [programs.need("promtool"), *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(arguments: tuple[str, ...]) -> None:
    assert "SUCCESS" in promtool(*arguments)


def test_every_alert_is_seen_to_fire_and_to_stay_quiet() -> None:
    cases = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    tests = [test for case in cases for test in case["alert_rule_test"]]
    names = {rule["alert"] for rule in rules()}
    assert {test["alertname"] for test in tests if test["exp_alerts"]} == names
    assert {test["alertname"] for test in tests if not test["exp_alerts"]} == names


def test_every_alert_tells_what_and_what_to_do() -> None:
    headings = {
        name.lower() for name in re.findall(r"^### (\w+)$", section("Runbook"), re.MULTILINE)
    }
    found = rules()
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["runbook"] == f"{README}#{rule['alert'].lower()}"
        assert rule["alert"].lower() in headings, f"no paragraph on {rule['alert']}"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_every_metric_of_a_rule_is_on_the_page(rule: dict[str, Any]) -> None:
    assert promql.unknown(rule["expr"], {**exposed(), **NOT_OURS}) == []


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """Run one with our own configuration, every second instead of every 15; its URL."""
    program = programs.need("prometheus")
    text = (FOLDER / "prometheus.yml").read_text()
    for ours, here in (("127.0.0.1:8081", target), ("15s", "1s"), ("10s", "1s")):
        assert ours in text
        text = text.replace(ours, here)
    (folder / "prometheus.yml").write_text(text)
    (folder / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text())
    (port,) = free_ports(1)
    with (
        (folder / "prometheus.log").open("wb") as log,
        subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def ask(url: str, path: str, **parameters: str) -> Any:
    """The data of an answer of its HTTP API; None while it does not listen or is not ready."""
    query = urllib.parse.urlencode(parameters)
    try:
        with urllib.request.urlopen(f"{url}/api/v1/{path}?{query}", timeout=10) as response:
            return json.load(response)["data"]
    except (urllib.error.URLError, ConnectionError):
        return None


def value(url: str, query: str) -> float | None:
    """The value of a query with one answer; None while there is none."""
    data = ask(url, "query", query=query)
    if not data or not data["result"]:
        return None
    (only,) = data["result"]
    return float(only["value"][1])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_real_prometheus_scrapes_a_real_relay(tmp_path: Path, workers: int) -> None:
    programs.need("prometheus")
    nowhere = UpstreamAt("main", "openai", "http://127.0.0.1:9", {"m": "m"})
    with RelayProcess(tmp_path / "relay", [nowhere], settings={"workers": workers}) as relay:
        request = urllib.request.Request(
            f"{relay.url}/v1/models", headers={"authorization": "Bearer sk-wrong"}
        )
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=10)
        target = relay.operations_url.removeprefix("http://")
        with prometheus(tmp_path, target) as url:
            deadline = time.monotonic() + UP_SECONDS_MAX
            while value(url, 'sum(sluice_requests_total{code="401"})') is None:
                assert time.monotonic() < deadline, (tmp_path / "prometheus.log").read_text()
                time.sleep(POLL_SECONDS)
            assert value(url, 'up{job="sluice"}') == 1
            for name in ("sluice_keeper_up", "sluice_ready"):
                assert value(url, name) == 1
            for name in ("sluice_workers", "sluice_workers_wanted"):
                assert value(url, name) == workers
            assert value(url, 'sum(sluice_requests_total{code="401"})') == 1
            assert value(url, "sluice_ledger_imbalance") == 0
            assert value(url, 'sluice_database_bytes{file="database"} > 0')
            assert value(url, "sluice_charged_usd_total") is None, "nobody was charged yet"
            (scraped,) = ask(url, "targets")["activeTargets"]
            assert (scraped["health"], scraped["lastError"]) == ("up", "")
            names = {
                name
                for name in ask(url, "label/__name__/values")
                if name.startswith(("sluice_", "process_"))
            }
            assert names <= set(exposed())
            loaded = [one for group in ask(url, "rules")["groups"] for one in group["rules"]]
            assert sorted(one["name"] for one in loaded) == sorted(
                rule["alert"] for rule in rules()
            )
            assert not [one["name"] for one in loaded if one["state"] == "firing"]
