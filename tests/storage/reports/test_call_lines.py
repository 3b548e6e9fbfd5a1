from proxy.core.entities import Usage
from proxy.core.ids import format_id
from proxy.storage.reports.call_lines import COLUMNS, fields
from proxy.storage.reports.usage_log import CallRow

ROW = CallRow(
    7, 1, "ann", 2, "k", "main", "chat", "m", "m-up", "default", True, "complete", "reported",
    1_500_000_000, 0, 0, -5, 200, None, "stop", 120.0, 340.0, 1_800_000_000.25, None, (),
    Usage(input_uncached=3, output=4),
)  # fmt: skip


def test_a_call_is_the_same_names_in_their_order() -> None:
    found = fields(ROW)
    assert tuple(found) == COLUMNS
    assert found["time"] == "2027-01-15T08:00:00.250+00:00"
    assert (found["charge_usd"], found["balance_after_usd"]) == ("1.50", "-0.000000005")
    assert (found["request_id"], found["served_model"]) == (format_id(7), "m-up")
    assert (found["input_uncached"], found["output"], found["stream"]) == (3, 4, 1)
