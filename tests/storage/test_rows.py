from msgspec.structs import asdict, replace

from proxy.core.entities import Attempt, BudgetPeriod, Usage
from proxy.core.ledger import Ledger
from proxy.storage.batch import ATTEMPT_COLUMNS, CALL_COLUMNS, OPEN_COLUMNS
from proxy.storage.rows import attempt_row, ended_row, head_row, spend_row
from tests.storage.world import NOW, USAGE, closing, opening

PLAIN = (str, int, float, type(None))


def test_rows_are_as_wide_as_their_tables_and_of_plain_types() -> None:
    ledger = Ledger()
    ledger.top_up(1, 100_000)
    ledger.reserve(1, 1, 1, 60_000, NOW)
    head = head_row(opening(1, stream=True, client_reference="mine"))
    settlement = ledger.settle(1, 50_000, 0, [(1, 9)], NOW)
    call = ended_row(head, closing(1, anomalies=("a", "b")), settlement, NOW)
    attempt = attempt_row(1, 0, closing(1).attempts[0], USAGE)
    assert len(head) + 3 == len(OPEN_COLUMNS)  # input_estimate, hold, charge_max
    assert len(call) == len(CALL_COLUMNS)
    assert len(attempt) == len(ATTEMPT_COLUMNS)
    # An Enum or a bool would be looked up among adapters, once per value and call.
    assert all(type(value) in PLAIN for value in (*head, *call, *attempt))
    named = dict(zip(CALL_COLUMNS, call, strict=True))
    assert named["charge"] == 50_000
    assert {name: named[name] for name in Usage.__struct_fields__} == asdict(USAGE)
    assert named["duration_ms"] == 1000.0
    assert named["anomalies"] == "a,b"
    assert named["client_reference"] == "mine"


def test_a_clock_that_stepped_back_makes_no_negative_duration() -> None:
    ledger = Ledger()
    ledger.reserve(1, 1, 1, 0, NOW)
    settlement = ledger.settle(1, 0, 0, [], NOW)
    call = ended_row(head_row(opening(1)), closing(1, ended_at=NOW - 5), settlement, NOW)
    assert dict(zip(CALL_COLUMNS, call, strict=True))["duration_ms"] == 0


def test_an_attempt_keeps_a_usage_of_its_own() -> None:
    attempt = Attempt(1, 2, NOW, None, "upstream_timeout", None, "m-2", Usage(output=3), 0, 1.0)
    row = dict(zip(ATTEMPT_COLUMNS, attempt_row(7, 1, attempt, USAGE), strict=True))
    assert isinstance(row["usage"], str)
    assert '"output":3' in row["usage"]
    assert attempt_row(7, 1, replace(attempt, usage=Usage(output=3)), attempt.usage)[9] is None


def test_only_a_charge_moves_what_a_key_has_spent() -> None:
    ledger = Ledger()
    ledger.top_up(1, 100)
    ledger.set_budget(4, 90, BudgetPeriod.DAILY, NOW)
    day = int(NOW // 86_400) * 86_400
    for call_id, charge, spend in ((1, 60, 60), (2, 0, None), (3, 20, 80)):
        ledger.reserve(call_id, 1, 4, 0, NOW)
        row = spend_row(ledger.settle(call_id, charge, 0, [], NOW))
        assert row == (None if spend is None else (4, "daily", day, spend))
