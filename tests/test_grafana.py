"""The dashboard asks for nothing that is not on the metrics page, and shows all of it."""

import json
import re
from typing import Any

import pytest

from proxy.edge.families import METRICS
from tests import promql, tree

DASHBOARD: dict[str, Any] = json.loads((tree.ROOT / "config/grafana/sluice.json").read_text())
ALL_PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
PANELS = [panel for panel in ALL_PANELS if panel["type"] != "row"]
QUERIES = [
    (panel["title"], target["expr"], target["legendFormat"])
    for panel in PANELS
    for target in panel["targets"]
]


@pytest.mark.parametrize(
    ("title", "expression", "legend"), QUERIES, ids=lambda text: str(text)[:40]
)
def test_every_query_names_metrics_and_labels_there_are(
    title: str, expression: str, legend: str
) -> None:
    assert promql.unknown(expression, promql.exposed()) == [], title
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert shown <= promql.grouping_labels(expression), f"{title}: {legend} would be empty"


def test_every_panel_has_the_variables_and_an_own_place() -> None:
    for title, expression, _ in QUERIES:
        for _, labels in promql.selectors(expression):
            assert {"job", "instance"} <= labels, title
    cells = [
        (x, y)
        for panel in ALL_PANELS
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in ALL_PANELS}) == len(ALL_PANELS)


def test_the_rows_are_users_money_upstreams_process() -> None:
    rows = [panel["title"] for panel in ALL_PANELS if panel["type"] == "row"]
    assert rows == ["Users", "Money", "Upstreams", "Process"]


def test_every_metric_is_shown_somewhere() -> None:
    named = {
        re.sub(r"_bucket$", "", name)
        for _, expression, _ in QUERIES
        for name, _ in promql.selectors(expression)
    }
    assert {row.name for row in METRICS} == named


def test_the_variables_ask_for_what_there_is() -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert match, variable["name"]
            assert promql.unknown(match[1], promql.exposed()) == []
            assert match[2] in promql.TARGET_LABELS
