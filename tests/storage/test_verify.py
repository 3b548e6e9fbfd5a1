import asyncio
import sqlite3
from pathlib import Path

import pytest

from proxy.core.entities import Attempt
from proxy.storage import verify as module
from proxy.storage.verify import verify
from tests.storage.world import NOW, USAGE, USD, closing, keeper, opening


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Three ended calls (charged, overrun, forgiven) and an open one."""
    path = tmp_path / "sluice.db"
    attempt = Attempt(1, 1, NOW, 200, "served", "x", "m-2", USAGE, 30_000, 9.0)

    async def main() -> None:
        books = await keeper(path, credit=120_000)
        await books.admit(opening(1))
        books.settle(closing(1, attempts=(attempt,)))
        await books.admit(opening(2, hold=40_000))
        await books.admit(opening(3, hold=30_000))
        books.settle(closing(2))
        books.settle(closing(3, charge=0, forgiven=50_000, delivered_bytes=0))
        await books.admit(opening(4, stream=True, hold=0))
        await books.close()

    asyncio.run(main())
    return path


def spoil(path: Path, *statements: str) -> None:
    """Edit the file behind the schema's back, as a fault of ours or a person would."""
    connection = sqlite3.connect(path, isolation_level=None)
    for trigger in ("transfer_never_changes", "transfer_never_leaves", "call_never_changes"):
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for statement in statements:
        connection.executescript(statement)
    connection.execute(
        "CREATE TRIGGER transfer_never_changes BEFORE UPDATE ON transfer BEGIN SELECT 1; END"
    )
    connection.execute(
        "CREATE TRIGGER transfer_never_leaves BEFORE DELETE ON transfer BEGIN SELECT 1; END"
    )
    connection.execute(
        "CREATE TRIGGER call_never_changes BEFORE UPDATE ON call BEGIN SELECT 1; END"
    )
    connection.close()


def test_a_sound_ledger_is_clean(ledger: Path) -> None:
    report = verify(ledger)
    assert report.problems == ()
    assert report.clean
    assert (report.calls, report.open_calls, report.transfers) == (3, 1, 7)
    assert report.wallets == 120_000 * 2 - 90_000
    assert report.revenue == 50_000 * 3
    assert verify(ledger, quiet=True).problems == ("I2: call 4 is still open",)
    assert USD > 0


SPOILED = [
    ("I1: account 9 ", "UPDATE account SET balance = balance + 1 WHERE id = 9"),
    ("I1: postings name account 99", "UPDATE transfer SET credit = 99 WHERE event_id = 1"),
    ("I1: top-up", "DELETE FROM transfer WHERE kind = 'top_up' AND credit = 9"),
    ("I1: top-up transfer", "DELETE FROM top_up WHERE user_id = 1"),
    ("I2: call 1 is open and ended", "UPDATE open_call SET id = 1"),
    ("I2: call 1 records charge", "UPDATE call SET charge = charge + 1 WHERE id = 1"),
    ("I2: call 2 records overrun", "DELETE FROM transfer WHERE kind = 'overrun'"),
    ("I2: call 3 records forgiven", "UPDATE transfer SET amount = 1 WHERE kind = 'forgiven'"),
    ("I2: call 1 was charged 2 times",
     "INSERT INTO transfer VALUES (1, 9, 'charge', 9, 2, 5, 1.0, NULL)"),
    ("I2: charge of 5 is posted for call 77",
     "INSERT INTO transfer VALUES (77, 0, 'charge', 9, 2, 5, 1.0, NULL)"),
    ("I2: call 1 of user 1 was charged to account 17",
     "UPDATE transfer SET debit = 17 WHERE event_id = 1 AND kind = 'charge'"),
    ("I2: attempts of call 1 cost", "UPDATE attempt SET cost = 1 WHERE call_id = 1"),
    ("I3: call 1 was charged", "UPDATE call SET delivered_bytes = 0 WHERE id = 1"),
    ("I3: call 1 was charged",
     "UPDATE call SET input_uncached = 0, output = 0, calls = 0 WHERE id = 1"),
    ("I5: call 1 was priced 50000, its usage costs 52000",
     "UPDATE call SET output = 21 WHERE id = 1"),
    ("I5: call 1 names version 9", "UPDATE call SET price_version = 9 WHERE id = 1"),
    ("I6: account 9 is at -5", "UPDATE account SET balance = -5 WHERE id = 9"),
    ("I6: call 1 left -1 in the wallet", "UPDATE call SET balance_after = -1 WHERE id = 1"),
    ("I6: call 1 left", "UPDATE call SET budget_after = -1 WHERE id = 1"),
    ("I6: key 1 has spent", "UPDATE key_spend SET spent = 90001"),
    ("I7: refunds of call 1 sum to 50001, it was charged 50000",
     "INSERT INTO transfer VALUES (78, 0, 'refund', 2, 9, 50001, 1.0, 1)"),
    ("I7: refund 78 of call 1 went to account 17, the call was charged to 9",
     "INSERT INTO transfer VALUES (78, 0, 'refund', 2, 17, 5, 1.0, 1)"),
    ("I1: refund transfer 78 of 5 has no reason",
     "INSERT INTO transfer VALUES (78, 0, 'refund', 2, 9, 5, 1.0, 1)"),
    ("I1: adjustment transfer 78 of 5 has no reason",
     "INSERT INTO transfer VALUES (78, 0, 'adjustment', 0, 9, 5, 1.0, NULL)"),
    ("I1: fee 79 of -5 has no transfer",
     "INSERT INTO wallet_change VALUES (79, 1, 'fee', -5, 'r', 'ref', NULL, 'plan', 1.0)"),
    ("I1: code 1 of 5, redeemed by user 1, has no top-up",
     "INSERT INTO redeem_code VALUES (1, x'00', '', 5, '', '', '', 1.0, NULL, NULL, 1, 1.0, 99)"),
    ("I1: top-up 80 names a code that was not redeemed",
     "INSERT INTO top_up VALUES (80, 1, 5, '', 'sluice:code:7', 1.0)"),
    ("I1: payment 1 of 5 by user 1 has no top-up",
     "INSERT INTO payment VALUES (1, 1, 1, 'stripe', 'usd', 1, '1', 5, 's', 'paid', 1, 1, 99, NULL)"),
    ("I7: refunds of call 3", "INSERT INTO transfer VALUES (78, 0, 'refund', 2, 9, 1, 1.0, 3)"),
    ("I1: of payment 1 6 was taken back, it was worth 5",
     ("INSERT INTO payment VALUES (1, 1, 1, 'stripe', 'usd', 1, '1', 5, 's', 'open', 1, 1, NULL, "
     "'pi'); INSERT INTO payment_debit VALUES (81, 1, 4), (82, 1, 2)")),
    ("I1: 5 taken back of payment 1 has no adjustment",
     ("INSERT INTO payment VALUES (1, 1, 1, 'stripe', 'usd', 1, '1', 5, 's', 'open', 1, 1, NULL, "
     "'pi'); INSERT INTO payment_debit VALUES (83, 1, 5); INSERT INTO wallet_change VALUES "
     "(83, 2, 'adjustment', -5, 'r', 'sluice:stripe-refund:1:83', NULL, 'stripe', 1.0)")),
    ("I1: 5 taken back of payment 7 has no adjustment",
     "INSERT INTO payment_debit VALUES (83, 7, 5)"),
    ("I1: adjustment 84 of -5 names a payment",
     ("INSERT INTO wallet_change VALUES (84, 1, 'adjustment', -5, 'r', 'sluice:stripe-refund:1:84', "
     "NULL, 'stripe', 1.0)")),
    ("I14: the trigger payment_debit_never_leaves", "DROP TRIGGER payment_debit_never_leaves"),
    ("I14: the trigger price_never_leaves", "DROP TRIGGER price_never_leaves"),
    ("I14: the trigger redeem_code_once", "DROP TRIGGER redeem_code_once"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "statement"), SPOILED)
def test_every_broken_invariant_is_named(ledger: Path, problem: str, statement: str) -> None:
    spoil(ledger, statement)
    report = verify(ledger)
    assert not report.clean
    assert any(line.startswith(problem) for line in report.problems), report.problems


def test_a_file_from_before_money_was_taken_back_is_sound(ledger: Path) -> None:
    spoil(ledger, "DROP TABLE payment_debit")
    assert verify(ledger).problems == ()


def test_a_damaged_file_is_noticed(ledger: Path) -> None:
    connection = sqlite3.connect(ledger, isolation_level=None)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'call_by_user'"
    ).fetchone()[0]
    connection.close()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * 4096 + 8)
        file.write(b"\xff" * 40)
    assert any(line.startswith("file:") for line in verify(ledger).problems)


def test_a_report_is_bounded(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBLEMS_MAX", 2)
    spoil(ledger, "UPDATE call SET price_version = 9")
    problems = verify(ledger).problems
    assert len(problems) == 3
    assert problems[-1] == "and more"


def test_verifying_writes_nothing_and_may_run_beside_the_keeper(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        await books.admit(opening(1))
        await books.settle(closing(1)).committed
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        assert verify(path).problems == ()
        del before["sluice.db-shm"]  # readers leave their marks in it
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
        await books.close()

    asyncio.run(main())


def test_a_file_that_is_no_ledger_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.Error):
        verify(tmp_path / "absent.db")
