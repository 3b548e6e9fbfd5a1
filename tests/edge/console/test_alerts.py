import asyncio
from typing import Any

import pytest

from proxy.edge.console.alerts import alerts
from proxy.edge.console.languages import Translator
from proxy.edge.state import StorageFigures
from proxy.storage.ports import KeeperStatistics
from tests.edge.console.test_pages_operator import picture

ENGLISH = Translator("en", {})
STATISTICS = KeeperStatistics(0, 0.0, 0, 5, 0, 0.0, 0.0, 0)
CASES: list[tuple[dict[str, Any], str]] = [
    ({"keeper_up": False, "ready": False}, "The keeper does not answer"),
    ({"ready": False}, "The relay is not ready"),
    ({"workers_wanted": 4}, "1 of 4 workers answer."),
    ({"statistics": STATISTICS}, "The ledger does not balance"),
    ({"storage": StorageFigures(1, 1, 5 << 20)}, "Only 5 MB are left"),
    ({"storage": None}, "not asked for now: main"),
]


@pytest.mark.parametrize(("changes", "text"), CASES)
def test_what_is_wrong_is_said(changes: dict[str, Any], text: str) -> None:
    found = alerts(asyncio.run(picture(**changes)()), (), (), ENGLISH)
    assert [alert.text for alert in found if text in alert.text]
    assert all(alert.kind == "bad" for alert in found)
    # The one breaker that is open is always there.
    assert len(found) == (1 if changes == {"storage": None} else 2)


def test_nothing_is_said_where_nothing_is_wrong_or_known() -> None:
    assert alerts(None, (), (), ENGLISH) == []


def test_only_a_few_names_are_said() -> None:
    (unpriced, silent) = alerts(None, list("gfedcba"), ["z"], ENGLISH)
    assert unpriced.text.endswith(": a, b, c, d, e")
    assert unpriced.url == "/operator/models?unpriced=1"
    assert silent.text.endswith(": z")
