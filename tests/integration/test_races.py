"""Races for money: R1, R2, R3 and the must-show of races, in one process and in several.

More of them: `python -m tests.integration.race_rounds --workers 4 --seeds 10` (race_rounds.py).
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.checker import check
from tests.integration.race_rounds import CALLS, Race, race_rounds, racing, usd

SEEDS = {1: range(1, 11), 2: range(1, 4), 4: range(1, 4)}
FIXED_PRICE = 7_300_000
FIXED_SUCCESSES = 37


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_500_at_once_never_overdraw_and_nobody_is_refused_what_is_there(
    tmp_path: Path, workers: int
) -> None:
    seeds = SEEDS[workers]
    found = race_rounds(tmp_path, seeds, workers=workers)
    figures = found.figures
    print(json.dumps({"states watched": found.states, **figures}))
    assert not found.problems, found.problems[:20]
    assert found.states > len(seeds)
    assert figures["admitted"] == figures["complete"] + figures["cut_for_balance"]
    assert figures["admitted"] + figures["refused"] == CALLS * len(seeds)
    assert min(figures["refused"], figures["cut_for_balance"], figures["extended"]) > 0


@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_of_500_calls_at_one_price_exactly_as_many_succeed_as_the_wallet_pays(
    tmp_path: Path, workers: int
) -> None:
    price = {"input": "0", "output": "0", "call": usd(FIXED_PRICE)}
    models = {name: {"price": price} for name in ("model-o", "model-a")}
    with racing(tmp_path, workers=workers, models=models) as race:
        credit = FIXED_SUCCESSES * FIXED_PRICE + FIXED_PRICE - 1
        outcomes = race.run("fixed", 1, race.user("fixed", credit, None))
        assert sum(outcome.terminal for outcome in outcomes) == FIXED_SUCCESSES
        refused = [outcome for outcome in outcomes if not outcome.terminal]
        assert {(outcome.status, outcome.error) for outcome in refused} == {
            (402, "insufficient_quota")
        }
        race.command("wallet show", user="fixed")  # the file follows the answers by a moment
        race.relay.terminate()
        found = check(race.relay.database, race.clients, tmp_path / "upstream.log", race.decisions)
        assert not found.problems, found.problems[:20]
        assert found.figures["charged"] == FIXED_SUCCESSES * FIXED_PRICE
        assert found.figures["charged exactly once"] == FIXED_SUCCESSES
        assert found.figures["overrun"] == found.figures["forgiven"] == 0
        _a_checker_can_find_fault(race)


TAMPERING = (
    ("UPDATE transfer SET amount = amount + 1 WHERE kind = 'charge'", "I1"),
    ("UPDATE account SET balance = balance - 1 WHERE id & 7 = 1", "I1"),
    ("DELETE FROM transfer WHERE kind = 'charge'", "I2"),
    ("UPDATE call SET delivered_bytes = 0", "I3"),
    ("DELETE FROM call WHERE id = (SELECT min(id) FROM call)", "I4"),
    ("UPDATE call SET calls = 2", "I5"),
    ("UPDATE call SET balance_after = balance_after + 1", "I6"),
    ("UPDATE call SET verdict = 'client_gone'", "call"),
)


def _a_checker_can_find_fault(race: Race) -> None:
    """Every kind of tampering with a copy of the file, or with a log, is seen."""
    logs = race.directory / "upstream.log", race.decisions
    for number, (statement, problem) in enumerate(TAMPERING):
        copy = race.directory / f"copy-{number}.db"
        with (
            closing(sqlite3.connect(race.relay.database)) as source,
            closing(sqlite3.connect(copy, isolation_level=None)) as target,
        ):
            source.backup(target)
            for name in ("call_never_changes", "transfer_never_changes", "transfer_never_leaves"):
                target.execute(f"DROP TRIGGER {name}")
            target.execute(statement)
        found = check(copy, race.clients, *logs)
        assert any(text.startswith(problem) for text in found.problems), statement
    changes = (
        ("decisions", race.decisions, '"held": null', '"hold": 1, "held": null'),
        ("decisions", race.decisions, f'"charged": {FIXED_PRICE}', '"charged": 1'),
        ("clients", race.clients, '"text": " ', '"text": "x'),
    )
    for which, log, old, new in changes:
        changed = race.directory / "changed.log"
        changed.write_text(log.read_text().replace(old, new))
        given = {"clients": race.clients, "decisions": race.decisions} | {which: changed}
        found = check(race.relay.database, given["clients"], logs[0], given["decisions"])
        assert found.problems, (which, new)
