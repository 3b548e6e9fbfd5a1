"""Kill -9 of everything under 50 open calls: a few rounds of kill_rounds.py in the normal run.

The hundred are `python -m tests.integration.kill_rounds --rounds 100`. SLUICE_KILL_SEED makes
other rounds; the seed is printed.
"""

import os
from pathlib import Path

import pytest

from tests.integration.kill_rounds import KillRounds, Round, table

ROUNDS = 6


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_after_kill_9_every_ended_answer_is_charged_once_and_none_beyond_what_arrived(
    tmp_path: Path,
) -> None:
    seed = int(os.environ.get("SLUICE_KILL_SEED", "11"))
    print("seed", seed)
    with KillRounds(tmp_path, seed) as bench:
        rounds = [bench.run() for _ in range(ROUNDS)]
    print("\n".join(table(rounds)))
    for one in rounds:
        assert not one.problems, (one.number, one.killed_at, one.problems[:10])
        assert one.verify == "clean"
        assert one.once == one.terminal
    assert sum(one.terminal for one in rounds) > ROUNDS
    assert sum(one.recovered for one in rounds) > 0


def test_the_table_sums_what_the_rounds_found() -> None:
    rounds = [
        Round(0, calls=3, ready=0.5, verify="clean"),
        Round(1, calls=4, ready=0.25, verify="PROBLEMS", problems=["x"]),
    ]
    lines = list(table(rounds))
    assert "| calls | 7 | 3 | 4 |" in lines
    assert "| rounds verified clean | 1 of 2 | | |" in lines
    assert "| problems found by the checker | 1 | | |" in lines
