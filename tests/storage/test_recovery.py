import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.entities import BudgetPeriod
from proxy.core.ids import EPOCH_MS
from proxy.storage.imports import apply_catalog
from proxy.storage.recovery import Recovery, last_id, load_ledger, recover
from proxy.storage.snapshots import load_catalog
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.verify import verify
from tests.storage.test_batch import call_row
from tests.storage.world import CATALOG, MASTER, NOW, read, seed

ROOT = Path(__file__).parents[2]
KILLS = 12
LINES_MAX = 400


def spree(path: Path, number: int, lines: int) -> tuple[int, dict[int, int]]:
    """Run the victim, kill -9 it after `lines` charges; returns calls recovered and charges."""
    told: dict[int, int] = {}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.storage.victim", str(path), str(number)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as victim:
        assert victim.stdout is not None
        try:
            ready = victim.stdout.readline().split()
            assert ready[:1] == ["ready"], "the victim did not start"
            for _ in range(lines):
                call_id, charged = victim.stdout.readline().split()
                told[int(call_id)] = int(charged)
        finally:
            victim.kill()
        # What it had written before it died counts as told, a torn last line does not.
        for line in victim.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                call_id, charged = line.split()
                told[int(call_id)] = int(charged)
    return int(ready[1]), told


@pytest.mark.timeout(120)
def test_kill_9_at_random_points_never_loses_or_doubles_a_charge(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    rng = random.Random(1)
    told: dict[int, int] = {}
    recovered = 0
    for number in range(KILLS):
        count, charges = spree(path, number, rng.randrange(LINES_MAX))
        recovered += count
        assert not told.keys() & charges.keys(), "an id was used again"
        told |= charges
        report = verify(path)
        assert report.problems == ()
    assert told
    assert recovered
    stored = dict(read(path, "SELECT id, charge FROM call"))
    assert {call_id: stored.get(call_id) for call_id in told} == told
    # Recovered calls are charged for what their mark says was delivered, and no more.
    for charge, delivered in read(
        path, "SELECT charge, delivered_bytes FROM call WHERE verdict = 'internal_error'"
    ):
        assert charge == 2_000 * delivered


def test_the_ledger_is_read_back_from_the_file(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    catalog = load_catalog(connection, MASTER)
    assert last_id(connection) == 0
    today = (int(NOW // 86_400) * 86_400_000 - EPOCH_MS) << 22
    columns = call_row(1)
    for call_id, overrun, forgiven in ((today - 1, 100, 0), (today, 7, 0), (today + 1, 0, 8)):
        row = list(columns)
        row[0], row[1], row[15], row[16] = call_id, 1, overrun, forgiven
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO call VALUES ({marks})", row)
    connection.execute("UPDATE account SET balance = 77 WHERE id = 9")
    connection.execute("INSERT INTO key_spend VALUES (1, 'total', 0, 5)")
    ledger = load_ledger(connection, catalog, NOW)
    assert ledger.expense(1, NOW) == 15
    assert ledger.wallet(1).balance == 77
    assert (ledger.purse(1).spent, ledger.purse(1).period) == (5, BudgetPeriod.TOTAL)
    assert last_id(connection) == today + 1
    assert recover(connection, ledger, catalog, NOW) == Recovery(0, 0)
    connection.close()


def test_an_interrupted_recovery_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = open_writer(path, Durability.PROCESS, NOW)
    seed(connection)
    catalog = load_catalog(connection, MASTER)
    connection.execute(
        "INSERT INTO open_call SELECT 5, 1, 1, 'chat', 'openai', 'm', 'default', 1, 1, 1000000, "
        "?, NULL, 1, 10, 0, 'none', NULL, 0, NULL, NULL",
        (NOW,),
    )
    connection.execute(
        "INSERT INTO open_call SELECT 6, 1, 1, 'chat', 'openai', 'm', 'default', 1, 1, 1000000, "
        "?, NULL, 1, 0, 2000, 'counted', '{\"output\": 1}', 1, NULL, 1500",
        (NOW,),
    )
    connection.execute("UPDATE account SET balance = 9000 WHERE id = 9")
    connection.execute("UPDATE account SET balance = -9000 WHERE id = 7")
    connection.execute("INSERT INTO transfer VALUES (1, 0, 'top_up', 7, 9, 9000, ?, NULL)", (NOW,))
    connection.execute("INSERT INTO top_up VALUES (1, 1, 9000, 'test', 'first', ?)", (NOW,))
    connection.execute("PRAGMA query_only = ON")
    with pytest.raises(sqlite3.OperationalError):
        recover(connection, load_ledger(connection, catalog, NOW), catalog, NOW)
    connection.execute("PRAGMA query_only = OFF")
    ledger = load_ledger(connection, catalog, NOW)
    assert recover(connection, ledger, catalog, NOW) == Recovery(2, 1500), (
        "no more than its caller will pay"
    )
    connection.close()
    assert read(path, "SELECT charge, overrun FROM call WHERE id = 6") == [(1500, 500)]
    assert verify(path, quiet=True).problems == ()


@pytest.mark.parametrize(
    ("channel_id", "keys", "key_id"),
    [(1, ["sk-upstream-1"], 1), (1, ["sk-1", "sk-2"], 0), (9, [], 0)],
)
def test_what_a_provider_had_done_for_a_call_found_open_is_an_attempt_with_its_cost(
    tmp_path: Path, channel_id: int, keys: list[str], key_id: int
) -> None:
    """Its invoice will have it, though the process that asked is gone; of no channel, nothing."""
    path = tmp_path / "a.db"
    connection = open_writer(path, Durability.PROCESS, NOW)
    seed(connection)
    (main,) = CATALOG["channel"]
    costs = {"m": {"input": "3", "output": "5"}}
    changed = {**CATALOG, "channel": [{**main, "keys": keys or main["keys"], "costs": costs}]}
    apply_catalog(connection, changed, master=MASTER, now=NOW)
    catalog = load_catalog(connection, MASTER)
    connection.execute(
        "INSERT INTO open_call SELECT 6, 1, 1, 'chat', 'openai', 'm', 'default', 1, 1, 1000000, "
        "?, NULL, 1, 0, 50000, 'counted', '{\"input_uncached\": 10, \"output\": 20}', 99, ?, NULL",
        (NOW, channel_id),
    )
    ledger = load_ledger(connection, catalog, NOW)
    assert recover(connection, ledger, catalog, NOW + 5).calls == 1
    connection.close()
    attempts = read(
        path,
        "SELECT number, channel_id, channel_key_id, status, outcome, upstream_model, cost FROM attempt",
    )
    posted = read(path, "SELECT amount FROM transfer WHERE kind = 'upstream_cost'")
    models = read(path, "SELECT upstream_model FROM call WHERE id = 6")
    if channel_id == 9:
        assert (attempts, posted, models) == ([], [], [(None,)])
    else:
        (only,) = attempts
        assert only == (0, 1, only[2], 200, "interrupted", "m-2", 130_000)
        assert (only[2] > 0) == (key_id > 0)
        assert (posted, models) == ([(130_000,)], [("m-2",)])
    assert verify(path, quiet=True).problems == ()
