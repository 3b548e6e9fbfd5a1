import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from proxy.app.cli import main
from proxy.app.directory import DataDirectory, holder
from proxy.app.doctor import Doctor
from proxy.app.selftest import Check, Outcome
from proxy.storage import space
from proxy.storage import sqlite as schema
from proxy.storage.sqlite import Migration, packaged_migrations
from tests.app.test_cli import running
from tests.storage.test_verify import spoil

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "catalog.toml"


def sluice(data: Path, *arguments: str) -> None:
    done = CliRunner().invoke(main, [*arguments, "--data", str(data)])
    assert done.exit_code == 0, done.output


def examine(data: Path, config: Path | None = None) -> dict[str, Check]:
    async def run() -> list[Check]:
        doctor = Doctor(config, None if config else str(data), offline=True)
        return [line async for line in doctor.run()]

    return {line.check: line for line in asyncio.run(run())}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    sluice(path, "catalog", "apply", str(EXAMPLE), "--yes")
    sluice(path, "user", "add", "ann", "--plan", "free", "--credit", "5")
    sluice(path, "key", "add", "laptop", "--user", "ann")
    return path


def test_a_sound_directory_is_well_and_stays_as_it_is(data: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in data.rglob("*") if file.suffix == ".db"}
    lines = examine(data)
    ours = ("settings", "data directory", "relay", "secrets", "database", "ledger", "catalog")
    assert [lines[name].outcome for name in ours] == [Outcome.OK] * len(ours), lines
    assert lines["disk space"].outcome is Outcome.OK
    assert lines["upstreams"].outcome is Outcome.SKIPPED
    assert "1 users, 1 keys" in lines["catalog"].seen
    assert "--config" in lines["settings"].seen, "whose settings these are is not known"
    assert all(line.remedy for line in lines.values() if line.outcome is Outcome.FAILURE)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert holder(DataDirectory(data)) is None


def test_bad_settings_do_not_make_it_judge_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "settings.toml"
    config.write_text("wrokers = 2\n")
    lines = examine(tmp_path, config)
    assert "unknown setting 'wrokers'" in lines["settings"].seen
    assert lines["data directory"].seen == "there is no directory .sluice"


def test_a_directory_that_cannot_be_written_is_told(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != data)  # root always may
    found = examine(data)["data directory"]
    assert (found.outcome, found.seen) == (Outcome.FAILURE, f"{data} cannot be written")


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    lines = examine(tmp_path / "none")
    assert lines["data directory"].outcome is Outcome.FAILURE
    assert "--data" in lines["data directory"].remedy
    assert {lines[name].outcome for name in ("secrets", "database", "ledger", "catalog")} == {
        Outcome.SKIPPED
    }
    assert not (tmp_path / "none").exists()


def test_a_running_relay_is_asked_whether_its_ledger_takes_writes(data: Path) -> None:
    with running(data):
        lines = examine(data)
        assert lines["relay"].outcome is Outcome.OK
        assert f"process {os.getpid()} runs" in lines["relay"].seen
    with DataDirectory(data).locked():
        line = examine(data)["relay"]
        assert (line.outcome, "answers no commands" in line.seen) == (Outcome.WARNING, True)


def unready(path: Path) -> None:
    spoil(path / "sluice.db", "UPDATE account SET balance = balance + 1 WHERE id = 9")


def other_pepper(path: Path) -> None:
    (path / "secrets" / "pepper").write_text(os.urandom(32).hex())


def other_master(path: Path) -> None:
    (path / "secrets" / "master").write_text(os.urandom(32).hex())


def no_secret(path: Path) -> None:
    (path / "secrets" / "pepper").unlink()


def open_directory(path: Path) -> None:
    path.chmod(0o755)


def large_log(path: Path) -> None:
    os.truncate(path / "sluice.db-wal", 200 << 20)


def future(path: Path) -> None:
    connection = sqlite3.connect(path / "sluice.db")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("UPDATE schema_version SET number = 99 WHERE number = 1")
    connection.commit()
    connection.close()


def late_entry(path: Path) -> None:
    connection = sqlite3.connect(path / "sluice.db")
    connection.execute("INSERT INTO transfer VALUES (?, 9, 'refund', 2, 9, 1, 1.0, 1)", (1 << 62,))
    connection.commit()
    connection.close()


def lost_database(path: Path) -> None:
    (path / "sluice.db").rename(path / "sluice.db.restoring")


def no_database(path: Path) -> None:
    (path / "sluice.db").write_bytes(b"rubbish" * 1000)


def unpriced(path: Path) -> None:
    connection = sqlite3.connect(path / "sluice.db")
    connection.execute("INSERT INTO model VALUES ('free-lunch', 1, 1, 'o200k', 0, NULL)")
    connection.commit()
    connection.close()


def misfit(path: Path) -> None:
    connection = sqlite3.connect(path / "sluice.db")
    connection.execute("UPDATE model SET endpoints = '[\"rerank\"]' WHERE name = 'tts-1'")
    connection.commit()
    connection.close()


FAULTS: list[tuple[Callable[[Path], None], str, str, str, str]] = [
    (unready, "ledger", "failure", "I1: account 9", "ledger verify"),
    (other_pepper, "database", "failure", "another pepper", "restore the pepper"),
    (other_master, "database", "failure", "does not open", "restore"),
    (no_secret, "secrets", "failure", "pepper is missing", "restore"),
    (open_directory, "data directory", "failure", "others may look", "chmod 700"),
    (future, "database", "failure", "newer release", "start that one"),
    (late_entry, "clock", "failure", "behind the newest entry", "NTP"),
    (lost_database, "data directory", "failure", "interrupted", "sluice restore"),
    (no_database, "database", "failure", "not a database", "sluice restore"),
    (misfit, "catalog", "warning", "'tts-1' is for rerank, which no channel", "name rerank in"),
    (unpriced, "catalog", "warning", "free-lunch", "sluice models import"),
]


@pytest.mark.parametrize(
    ("break_it", "check", "outcome", "seen", "remedy"), FAULTS, ids=lambda each: str(each)[:20]
)
def test_every_fault_is_seen_with_a_remedy(
    data: Path,
    break_it: Callable[[Path], None],
    check: str,
    outcome: str,
    seen: str,
    remedy: str,
) -> None:
    break_it(data)
    line = examine(data)[check]
    assert (line.outcome, seen in line.seen, remedy in line.remedy) == (outcome, True, True), line


def test_a_log_that_nobody_can_take_in_is_seen(data: Path) -> None:
    (data / "sluice.db-wal").touch()
    large_log(data)
    assert examine(data)["write-ahead log"].outcome is Outcome.WARNING


def test_a_disk_that_is_too_small_is_seen(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda _path: 1000)
    assert "nothing is admitted" in examine(data)["disk space"].seen
    monkeypatch.setattr(space, "free_bytes", lambda _path: (128 << 20) + 1)
    assert "not enough to migrate" in examine(data)["disk space"].seen


def test_a_migration_to_come_is_announced(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = tuple(packaged_migrations())
    number = max(migration.number for migration in known) + 1
    more = Migration(number, "9999_more.sql", "CREATE TABLE more (x);")
    monkeypatch.setattr(schema, "packaged_migrations", lambda: iter((*known, more)))
    lines = examine(data)
    assert lines["database"].outcome is Outcome.WARNING
    assert "take a backup first" in lines["database"].remedy
    assert lines["ledger"].outcome is Outcome.SKIPPED


def test_bad_settings_are_told_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    config = tmp_path / "s.toml"
    config.write_text("listn = 1\n")
    lines = examine(tmp_path, config)
    assert (lines["settings"].outcome, "line 1" in lines["settings"].seen) == ("failure", True)
    assert len(lines) == 19


def test_the_command_prints_lines_or_json_and_fails_with_a_failure(data: Path) -> None:
    good = CliRunner().invoke(main, ["doctor", "--offline", "--data", str(data), "--json"])
    found = orjson.loads(good.stdout)
    assert {"check", "outcome", "seen", "remedy", "seconds"} == found[0].keys()
    assert good.exit_code == int(any(line["outcome"] == "failure" for line in found))
    data.chmod(0o755)
    bad = CliRunner().invoke(main, ["doctor", "--offline", "--data", str(data)])
    assert bad.exit_code == 1
    assert "try: chmod 700" in bad.stdout
    assert " failure, " in bad.stdout.splitlines()[-1]
