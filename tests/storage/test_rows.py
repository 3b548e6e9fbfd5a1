import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from proxy.core.entities import Attempt, BudgetPeriod, Usage, UsageSource, Verdict
from proxy.core.ledger import AccountKind, Ledger, account_id
from proxy.storage.batch import (
    ATTEMPT_COLUMNS,
    CALL_COLUMNS,
    OPEN_COLUMNS,
    ORDINARY_ATTEMPT_COLUMNS,
    ORDINARY_CALL_COLUMNS,
    ORDINARY_CALL_SAYS,
    ORDINARY_OPEN_COLUMNS,
    SETTLED_COLUMNS,
    Batch,
)
from proxy.storage.inserts import Row
from proxy.storage.rows import (
    attempt_row,
    attempt_rows,
    ended_row,
    open_row,
    settled_row,
    spend_row,
)
from proxy.storage.sqlite import Durability, migrate, open_writer
from tests.storage.world import NOW, USAGE, closing, opening

PLAIN = (str, int, float, type(None))
COUNTS = [name for name in Usage.__struct_fields__[6:] if name != "variant"]


def test_rows_are_as_wide_as_their_tables_and_of_plain_types() -> None:
    ledger = Ledger()
    ledger.top_up(1, 100_000)
    ledger.reserve(1, 1, 1, 60_000, NOW)
    opened = open_row(opening(1, stream=True, client_reference="mine"), 60_000)
    settlement = ledger.settle(1, 50_000, 0, [(1, 9)], NOW)
    call = ended_row(opened, closing(1, anomalies=("a", "b")), settlement, NOW)
    attempt = attempt_row(1, 0, closing(1).attempts[0], Usage())
    assert len(opened) == len(OPEN_COLUMNS)
    assert len(call) == len(CALL_COLUMNS)
    assert len(attempt) == len(ATTEMPT_COLUMNS)
    # An Enum or a bool would be looked up among adapters, once per value and call.
    assert all(type(value) in PLAIN for value in (*opened, *call, *attempt))
    row = named(call)
    assert row["charge"] == 50_000
    assert {name: row[name] for name in Usage.__struct_fields__} == asdict(USAGE)
    assert row["duration_ms"] == 1000.0
    assert row["anomalies"] == "a,b"
    assert row["client_reference"] == "mine"


def test_a_clock_that_stepped_back_makes_no_negative_duration() -> None:
    ledger = Ledger()
    ledger.reserve(1, 1, 1, 0, NOW)
    settlement = ledger.settle(1, 0, 0, [], NOW)
    for changes in ({}, {"status": 500}):
        ended = closing(1, ended_at=NOW - 5, **changes)
        call = ended_row(open_row(opening(1), 0), ended, settlement, NOW)
        assert named(call)["duration_ms"] == 0


def named(call: Row) -> dict[str, object]:
    """A row of `call`, of either width, by column."""
    if len(call) == len(CALL_COLUMNS):
        return dict(zip(CALL_COLUMNS, call, strict=True))
    return dict(zip(ORDINARY_CALL_COLUMNS, call, strict=True))


def test_an_ordinary_call_is_in_the_file_as_its_full_row_would_be(tmp_path: Path) -> None:
    ledger = Ledger()
    ledger.top_up(1, 10**9)
    found = []
    for charge_max in (None, 70_000):
        connection = open_writer(tmp_path / f"{charge_max}.db", Durability.PROCESS, 1.0)
        opened = open_row(opening(1, charge_max=charge_max), 60_000)
        other = open_row(opening(2, charge_max=charge_max), 60_000)
        ledger.reserve(1, 1, 1, 60_000, NOW)
        settlement = replace(ledger.settle(1, 50_000, 0, [], NOW), balance_after=7)
        usage = Usage(1, 2, 3, 4, 5, 6)
        ended = closing(1, usage=usage, answer_id=None)
        batch = Batch()
        batch.opens[2] = other
        batch.calls.append(ended_row(opened, ended, settlement, NOW))
        batch.attempts.append(attempt_row(1, 0, ended.attempts[0], usage))
        batch.apply(connection)
        connection.execute("UPDATE open_call SET charge_max = NULL")
        tables = ("call", "open_call", "attempt")
        found.append([connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables])
        connection.close()
        short = charge_max is None
        assert len(other) == len(ORDINARY_OPEN_COLUMNS if short else OPEN_COLUMNS)
        assert len(batch.calls[0]) == len(ORDINARY_CALL_COLUMNS if short else CALL_COLUMNS)
        assert len(batch.attempts[0]) == len(ORDINARY_ATTEMPT_COLUMNS)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": Verdict.CLIENT_GONE},
        {"status": 299},
        {"error_code": "internal_error"},
        {"answer_id": "resp_1"},
        {"anomalies": ("negative",)},
        {"charge": 0, "forgiven": 5},
        {"charge": 2 * 10**9},
        {"usage": Usage(calls=0)},
        *[{"usage": replace(Usage(), **{name: 3})} for name in COUNTS],
        {"usage": Usage(variant="hd")},
        {"client_reference": "mine"},
        {"budget": 10**9},
    ],
)
def test_whatever_is_out_of_the_ordinary_is_said(changes: dict[str, Any]) -> None:
    ledger = Ledger()
    ledger.top_up(1, 10**9)
    of_call = {name: changes[name] for name in ("client_reference",) if name in changes}
    if "budget" in changes:
        ledger.set_budget(1, changes["budget"], BudgetPeriod.TOTAL, NOW)
    opened = open_row(opening(1, **of_call), 0)
    ledger.reserve(1, 1, 1, 0, NOW)
    rest = {name: changes[name] for name in changes if name not in {"client_reference", "budget"}}
    ended = closing(1, **rest)
    settlement = ledger.settle(1, ended.charge, ended.forgiven, [], NOW)
    row = named(ended_row(opened, ended, settlement, NOW))
    assert len(row) == len(CALL_COLUMNS)
    assert row["verdict"] == ended.verdict.value
    assert row["status"] == ended.status
    assert row["error_code"] == ended.error_code
    assert row["answer_id"] == ended.answer_id
    assert row["anomalies"] == (",".join(ended.anomalies) or None)
    assert (row["forgiven"], row["overrun"]) == (ended.forgiven, settlement.overrun)
    assert row["budget_after"] == settlement.budget_after
    assert row["client_reference"] == changes.get("client_reference")
    assert {name: row[name] for name in Usage.__struct_fields__} == asdict(ended.usage)


def test_an_ordinary_row_leaves_out_what_the_statement_or_the_table_says() -> None:
    left_out = set(CALL_COLUMNS) - set(ORDINARY_CALL_COLUMNS)
    usage = asdict(Usage())
    for name in left_out & set(usage) & set(ORDINARY_CALL_SAYS):
        assert ORDINARY_CALL_SAYS[name] == usage[name]
    assert ORDINARY_CALL_COLUMNS[:11] == CALL_COLUMNS[:11] == OPEN_COLUMNS[:11]
    assert set(ORDINARY_CALL_SAYS) < left_out


ENDS = st.fixed_dictionaries(
    {},
    optional={
        "verdict": st.sampled_from(Verdict),
        "source": st.sampled_from(UsageSource),
        "status": st.sampled_from((200, 201, 502)),
        "error_code": st.sampled_from((None, "internal_error")),
        "answer_id": st.sampled_from((None, "resp_1")),
        "anomalies": st.sampled_from(((), ("negative", "late"))),
        "charge": st.sampled_from((0, 1, 50_000, 2 * 10**9)),
        "finish_reason": st.sampled_from((None, "stop", "it's")),
        "channel_id": st.sampled_from((None, 1, 2)),
        "upstream_model": st.sampled_from((None, "m-2", "other")),
        "ended_at": st.sampled_from((NOW - 5, NOW, NOW + 0.1, NOW + 3)),
        "ttft_ms": st.sampled_from((None, 5.0)),
        "usage": st.sampled_from(
            (
                Usage(3, 4, 5, 6, 7, 2),
                Usage(variant="hd"),
                *[replace(USAGE, **{name: 3}) for name in COUNTS],
            )
        ),
    },
)
TRIES = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from((None, 200, 201)),
        "outcome": st.sampled_from(("served", "other")),
        "upstream_request_id": st.sampled_from((None, "up")),
        "upstream_model": st.sampled_from(("m-2", "other")),
        "usage": st.sampled_from((Usage(10, output=20), Usage(calls=0))),
        "cost": st.sampled_from((0, 9)),
    },
)


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            ENDS,
            st.none() | st.lists(TRIES, max_size=2),
            st.sampled_from(({}, {}, {"client_reference": "mine"}, {"charge_max": 5})),
            st.sampled_from(((1, 1), (1, 1), (2, 2), (3, 2))),
        ),
        min_size=1,
        max_size=12,
    ),
    st.permutations(range(12)),
    st.booleans(),
)
def test_one_row_of_a_settled_call_leaves_what_all_its_rows_would(
    ends: list[Any], ids: list[int], budget: bool
) -> None:
    ledger, short, long = Ledger(), Batch(), Batch()
    for user in (1, 2):
        ledger.top_up(user, 10**9)
    if budget:
        ledger.set_budget(3, 10**6, BudgetPeriod.DAILY, NOW)
    for number, (changes, tries, asked, (key, user)) in enumerate(ends):
        call_id = ids[number]
        opened = open_row(opening(call_id, key_id=key, user_id=user, **asked), 0)
        ledger.reserve(call_id, user, key, 0, NOW)
        ended = closing(call_id, **changes)
        if tries is not None:
            attempts = [replace(ended.attempts[0], **each) for each in tries]
            ended = replace(ended, attempts=tuple(attempts))
        costs = [(each.channel_id, each.cost) for each in ended.attempts if each.cost]
        settlement = ledger.settle(call_id, ended.charge, 0, costs, ended.ended_at)
        general = (
            ended_row(opened, ended, settlement, NOW), attempt_rows(ended), settlement.transfers,
            spend_row(settlement), settlement.charge,
        )  # fmt: skip
        long.end(*general)
        said = settled_row(opened, ended, settlement)
        if said is None:
            short.end(*general)
        else:
            assert len(ended.attempts) == 1
            short.settle(opened + said, settlement.transfers)
    found = []
    for batch in (short, long):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        migrate(connection, 1.0)
        accounts = [(account_id(AccountKind.WALLET, user), 10**9) for user in (1, 2)]
        accounts += [(account_id(kind, 1), 0) for kind in (AccountKind.COST, AccountKind.PAYABLE)]
        connection.executemany("INSERT INTO account VALUES (?, ?)", accounts)
        assert len(batch) == len(long)
        batch.apply(connection)
        tables = ("call", "attempt", "transfer", "account", "key_spend")
        found.append([repr(connection.execute(f"SELECT * FROM {t}").fetchall()) for t in tables])
        connection.close()
    assert found[0] == found[1]


def test_most_calls_are_settled_by_one_row() -> None:
    ledger = Ledger()
    ledger.top_up(1, 10**9)
    ledger.reserve(1, 1, 1, 0, NOW)
    opened = open_row(opening(1), 0)
    settlement = ledger.settle(1, 50_000, 0, [], NOW + 1)
    said = settled_row(opened, closing(1), settlement)
    assert said is not None
    assert len(opened + said) == len(SETTLED_COLUMNS)
    row = dict(zip(SETTLED_COLUMNS, opened + said, strict=True))
    assert (row["charge"], row["channel_id"], row["ended_at"]) == (50_000, 1, NOW + 1)
    assert (row["period"], row["spent"]) == ("total", 50_000)
    assert all(type(value) in PLAIN for value in said)


def test_an_attempt_keeps_a_usage_of_its_own() -> None:
    attempt = Attempt(1, 2, NOW, None, "upstream_timeout", None, "m-2", Usage(output=3), 0, 1.0)
    row = dict(zip(ATTEMPT_COLUMNS, attempt_row(7, 1, attempt, USAGE), strict=True))
    assert isinstance(row["usage"], str)
    assert '"output":3' in row["usage"]
    alike = attempt_row(7, 1, replace(attempt, usage=Usage(output=3)), attempt.usage)
    assert dict(zip(ATTEMPT_COLUMNS, alike, strict=True))["usage"] is None


@pytest.mark.parametrize(
    ("number", "changes"),
    [(1, {}), (0, {"status": 201}), (0, {"outcome": "other"}), (0, {"usage": Usage(output=1)})],
)
def test_only_a_first_attempt_that_served_is_ordinary(
    number: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    attempt = Attempt(1, 2, NOW, 200, "served", None, "m-2", USAGE, 9, 1.0)
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, 1.0)
    batch = Batch()
    batch.attempts.append(attempt_row(7, 0, attempt, USAGE))
    batch.attempts.append(attempt_row(8, number, replace(attempt, **changes), USAGE))
    batch.apply(connection)
    assert [len(row) for row in batch.attempts] == [
        len(ORDINARY_ATTEMPT_COLUMNS),
        len(ATTEMPT_COLUMNS),
    ]
    first, second = connection.execute("SELECT * FROM attempt ORDER BY call_id").fetchall()
    connection.close()
    assert first == (7, 0, 1, 2, NOW, 200, "served", None, "m-2", None, 9, 1.0)
    made = dict(zip(ATTEMPT_COLUMNS, second, strict=True))
    status, outcome = changes.get("status", 200), changes.get("outcome", "served")
    assert (made["number"], made["status"], made["outcome"]) == (number, status, outcome)
    assert (made["usage"] is None) == ("usage" not in changes)


def test_only_a_charge_moves_what_a_key_has_spent() -> None:
    ledger = Ledger()
    ledger.top_up(1, 100)
    ledger.set_budget(4, 90, BudgetPeriod.DAILY, NOW)
    day = int(NOW // 86_400) * 86_400
    for call_id, charge, spend in ((1, 60, 60), (2, 0, None), (3, 20, 80)):
        ledger.reserve(call_id, 1, 4, 0, NOW)
        row = spend_row(ledger.settle(call_id, charge, 0, [], NOW))
        assert row == (None if spend is None else (4, "daily", day, spend))
