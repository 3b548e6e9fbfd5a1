from pathlib import Path

import pytest

from proxy.app.control import CommandError
from proxy.app.directory import DataDirectory, LockedError
from proxy.app.in_force import Told
from proxy.app.settings import Settings, SettingsError
from proxy.app.target import Target


def test_a_command_makes_a_database_only_where_it_may(tmp_path: Path) -> None:
    target = Target(None, str(tmp_path / "data"), json=True)
    with pytest.raises(CommandError, match="there is no database"):
        target.do("user list", {})
    assert not (tmp_path / "data").exists()
    with pytest.raises(CommandError, match="no plan"):
        target.do("user add", {"name": "ann", "plan": "free"})
    assert target.do("user list", {}) == []


def test_nothing_is_written_beside_whoever_holds_the_lock(tmp_path: Path) -> None:
    target = Target(None, str(tmp_path), json=True)
    with pytest.raises(CommandError):
        target.do("user add", {"name": "ann", "plan": "free"})
    with DataDirectory(tmp_path).locked(), pytest.raises(LockedError, match="in use by process"):
        target.do("user list", {})


def test_bad_settings_are_told(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("listn = 1\n")
    with pytest.raises(SettingsError, match="listn"):
        Target(tmp_path / "s.toml", None, json=False)


def test_a_result_is_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for json, text in ((True, '"name": "ann"'), (False, "name  ann")):
        Target(None, str(tmp_path), json=json).show({"name": "ann"})
        assert text in capsys.readouterr().out


def test_a_file_catches_up_only_while_nobody_runs(tmp_path: Path) -> None:
    target = Target(None, str(tmp_path), json=True)
    target.catch_up()
    assert not target.directory.database.exists(), "nothing is made to look at"
    with target.directory.locked():
        target.catch_up()


def test_settings_are_those_a_running_relay_goes_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Told(Settings(detail_days=7), "https://console.example.com")
    monkeypatch.setattr("proxy.app.target.ask_running", lambda _directory: running)
    assert Target(None, str(tmp_path), json=True).settings.detail_days == 7
    monkeypatch.setattr("proxy.app.target.ask_running", lambda _directory: None)
    assert Target(None, str(tmp_path), json=True).settings.detail_days == 0
