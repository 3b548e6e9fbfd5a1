import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.ledger import FUNDING, Transfer
from proxy.storage.batch import post
from proxy.storage.codes import (
    CodeRow,
    Issue,
    NewCode,
    Redeemed,
    State,
    UnredeemableError,
    add_codes,
    list_codes,
    redeem,
    withdraw_codes,
)
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.till import Event, Moved
from proxy.storage.verify import verify
from proxy.storage.wallet_changes import add_top_up
from tests.storage.world import NOW, seed

ISSUE = Issue(500, "autumn", "for the fair", "boss", NOW + 60)
CODES = [NewCode(bytes([number]) * 32, f"C{number}") for number in range(3)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.db"


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(path, Durability.PROCESS, NOW)
    seed(connection)
    assert add_codes(connection, CODES, ISSUE, NOW) == [1, 2, 3]
    yield connection
    connection.close()


def test_codes_are_listed_latest_first(connection: sqlite3.Connection) -> None:
    add_codes(connection, [NewCode(b"x", "CX")], Issue(7, "spring", "", "boss", None), NOW)
    rows = list_codes(connection, rows_max=2)
    assert [row.id for row in rows] == [4, 3]
    assert [row.id for row in list_codes(connection, before_id=3)] == [2, 1]
    assert [row.batch for row in list_codes(connection, "spring")] == ["spring"]
    assert rows[1] == CodeRow(
        3, "C2", 500, "autumn", "for the fair", "boss", NOW, NOW + 60, None, None, None
    )
    assert (rows[1].state(NOW), rows[1].state(NOW + 60)) == (State.OPEN, State.EXPIRED)
    assert rows[0].state(NOW * 2) is State.OPEN


def test_a_code_is_redeemed_once_with_its_top_up(
    path: Path, connection: sqlite3.Connection
) -> None:
    moved = redeem(connection, Event(9, NOW), CODES[0].digest, 1)
    assert moved == Moved(
        Redeemed(500, fresh=True), [Transfer(9, 0, "top_up", FUNDING, 9, 500, NOW)]
    )
    post(connection, list(moved.transfers))
    again = redeem(connection, Event(10, NOW), CODES[0].digest, 1)
    assert again == Moved(Redeemed(500, fresh=False))
    with pytest.raises(UnredeemableError):
        redeem(connection, Event(10, NOW), CODES[0].digest, 2)
    row = list_codes(connection)[-1]
    assert (row.redeemed_by, row.redeemed_at, row.state(NOW)) == ("ann", NOW, State.REDEEMED)
    with pytest.raises(ValueError, match="was redeemed"):
        withdraw_codes(connection, NOW, code_id=1, batch=None)
    assert withdraw_codes(connection, NOW, code_id=None, batch="autumn") == 2
    assert verify(path).problems == ()


def test_what_is_worth_nothing_is_answered_alike(connection: sqlite3.Connection) -> None:
    withdraw_codes(connection, NOW, code_id=2, batch=None)
    assert list_codes(connection)[1].state(NOW) is State.WITHDRAWN
    said = set()
    for digest, at in ((b"?", NOW), (CODES[1].digest, NOW), (CODES[2].digest, NOW + 60)):
        with pytest.raises(UnredeemableError) as refused:
            redeem(connection, Event(9, at), digest, 1)
        said.add(str(refused.value))
    assert len(said) == 1


def test_a_top_up_that_took_a_codes_reference_is_a_fault(connection: sqlite3.Connection) -> None:
    add_top_up(connection, Event(8, NOW), 1, 500, "?", "sluice:code:1")
    with pytest.raises(ValueError, match="is not marked"):
        redeem(connection, Event(9, NOW), CODES[0].digest, 1)


@pytest.mark.parametrize(
    ("message", "codes", "issue"),
    [
        ("between 1 and 1,000", [], ISSUE),
        ("between 1 and 1,000", CODES * 334, ISSUE),
        ("more than 0", CODES, Issue(0, "b", "", "boss", None)),
        ("more than 0", CODES, Issue(10**18 + 1, "b", "", "boss", None)),
        ("printable", CODES, Issue(1, "", "", "boss", None)),
        ("a note", CODES, Issue(1, "b", "x" * 201, "boss", None)),
        ("a note", CODES, Issue(1, "b", "a\nb", "boss", None)),
        ("before they are made", CODES, Issue(1, "b", "", "boss", NOW)),
    ],
)
def test_codes_that_cannot_be_made(
    connection: sqlite3.Connection, message: str, codes: list[NewCode], issue: Issue
) -> None:
    with pytest.raises(ValueError, match=message):
        add_codes(connection, codes, issue, NOW)


def test_what_cannot_be_listed_or_withdrawn(connection: sqlite3.Connection) -> None:
    for rows in (0, 1_001):
        with pytest.raises(ValueError, match="rows"):
            list_codes(connection, rows_max=rows)
    for code_id, batch in ((None, None), (1, "autumn")):
        with pytest.raises(ValueError, match="which codes"):
            withdraw_codes(connection, NOW, code_id=code_id, batch=batch)
    with pytest.raises(ValueError, match="no code with the id 99"):
        withdraw_codes(connection, NOW, code_id=99, batch=None)
    with pytest.raises(ValueError, match="no code with the batch no"):
        withdraw_codes(connection, NOW, code_id=None, batch="no")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM redeem_code",
        "UPDATE redeem_code SET amount = 501",
        """UPDATE redeem_code SET redeemed_by = 1, redeemed_at = 1, event_id = 1;
        UPDATE redeem_code SET redeemed_by = 2""",
    ],
)
def test_codes_stay_what_they_are(connection: sqlite3.Connection, statement: str) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        connection.executescript(statement)
