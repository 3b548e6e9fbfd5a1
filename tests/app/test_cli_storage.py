import os
import shutil
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from proxy.app.cli import main
from proxy.app.cli_storage import SECRETS_REMINDER
from proxy.app.directory import DataDirectory
from proxy.app.target import Target

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "catalog.toml"


def sluice(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(data)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    assert sluice(path, "catalog", "apply", str(EXAMPLE), "--yes").exit_code == 0
    assert sluice(path, "user", "add", "ann", "--plan", "free", "--credit", "5").exit_code == 0
    assert sluice(path, "key", "add", "laptop", "--user", "ann").exit_code == 0
    return path


def test_a_backup_says_what_it_holds_and_what_it_lacks(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.db"
    done = sluice(data, "backup", str(file))
    assert done.exit_code == 0
    assert "5.00" in done.stdout
    assert SECRETS_REMINDER in done.stderr
    again = sluice(data, "backup", str(file), "--json")
    assert (again.exit_code, "exists already" in again.stderr) == (1, True)
    assert "name a new file" in again.stderr
    none = sluice(tmp_path / "none", "backup", str(tmp_path / "c.db"))
    assert (none.exit_code, "there is no database" in none.stderr) == (1, True)


def test_a_restore_asks_and_keeps_what_was_there(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.db"
    assert sluice(data, "backup", str(file)).exit_code == 0
    assert sluice(data, "wallet", "credit", "ann", "1").exit_code == 0
    alone = sluice(data, "restore", str(file))
    assert (alone.exit_code, "add --yes" in alone.stderr) == (1, True)
    with DataDirectory(data).locked():
        running = sluice(data, "restore", str(file), "--yes")
    assert (running.exit_code, "in use by process" in running.stderr) == (1, True)
    done = sluice(data, "restore", str(file), "--yes", "--json")
    assert done.exit_code == 0, done.output
    found = orjson.loads(done.stdout)
    assert (found["clean"], found["wallets_usd"]) == (True, "5.00")
    assert Path(found["replaced"]).exists()


def test_a_restore_without_the_right_secrets_says_so(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "b.db"
    assert sluice(data, "backup", str(file)).exit_code == 0
    fresh = tmp_path / "fresh"
    bare = sluice(fresh, "restore", str(file))
    assert bare.exit_code == 1
    assert "the database is in place, but: " in bare.stderr
    assert "pepper" in bare.stderr
    shutil.copytree(data / "secrets", fresh / "secrets", dirs_exist_ok=True)
    (fresh / "secrets" / "pepper").write_text(os.urandom(32).hex())
    other = sluice(fresh, "restore", str(file), "--yes")
    assert (other.exit_code, "the pepper is not the one" in other.stderr) == (1, True)
    shutil.copytree(data / "secrets", fresh / "secrets", dirs_exist_ok=True)
    assert sluice(fresh, "restore", str(file), "--yes").exit_code == 0


def test_old_calls_are_rolled_up_by_hand(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "name how many days" in sluice(data, "ledger", "rollup").stderr
    assert "add --yes" in sluice(data, "ledger", "rollup", "--days", "1").stderr
    done = sluice(data, "ledger", "rollup", "--days", "1", "--yes", "--json")
    assert orjson.loads(done.stdout) == {"rolled_up": 0, "kept": []}
    answers = iter(
        [
            {"rolled_up": 5, "kept": [], "done": False},
            {"rolled_up": 2, "kept": ["req_1"], "done": True},
        ]
    )
    monkeypatch.setattr(Target, "do", lambda *_: next(answers))
    odd = sluice(data, "ledger", "rollup", "--days", "1", "--yes", "--json")
    assert orjson.loads(odd.stdout) == {"rolled_up": 7, "kept": ["req_1"]}
    assert (odd.exit_code, "1 calls do not agree" in odd.stderr) == (1, True)
