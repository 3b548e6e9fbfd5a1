"""Commands beside a relay that was started with flags, and reloaded since."""

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from proxy.app import in_force
from proxy.app.addresses import Bound
from proxy.app.control import CommandError
from proxy.app.directory import DataDirectory
from proxy.app.in_force import InForce, ask_running
from proxy.app.selftest import Check, Outcome
from proxy.app.settings import Settings
from tests.app.test_cli import data, done
from tests.app.test_cli import running as answering
from tests.app.test_doctor import examine
from tests.app.test_serve import served

__all__ = ["data"]
ANN = "ann@example.com"
CONSOLE = "https://console.example.com"
FLAGS = ("--set", f"console_url={CONSOLE}", "--set", "starting_credit=2.00")


@pytest.mark.parametrize("workers", [1, 2])
def test_commands_know_the_flags_of_the_relay_that_runs(
    data: Path, tmp_path: Path, workers: int
) -> None:
    config = tmp_path / "s.toml"
    config.write_text('registration = "closed"\n')
    flags = (*FLAGS, "--console", "127.0.0.1:0", "--set", f"workers={workers}")
    with served(data, "--config", str(config), *flags, plain=True) as relay:
        relay.wait_for_log(b'"serving"')
        made = done(data, "person", "add", ANN, "--role", "admin", "--plan", "free")
        assert made["link"].startswith(f"{CONSOLE}/password/set?token=")
        assert done(data, "person", "invite")["link"].startswith(f"{CONSOLE}/invitation?")
        lines = examine(data)
        assert lines["accounts"].seen == "registration: closed"
        assert f"as the running relay has them; workers = {workers}" in lines["settings"].seen
        config.write_text('registration = "open"\n')
        relay.child.send_signal(signal.SIGHUP)
        relay.wait_for_log(b'"reloaded"')
        assert opens(examine(data)["accounts"])
        config.write_text(f'registration = "open"\ndata_dir = "{data}"\n')
        lines = examine(data, config)
        assert opens(lines["accounts"]), "by the file alone nobody would be given any money"
        told = lines["settings"].seen
        assert "but the running relay goes by others" in told
        assert "console_url" in told
        assert "data_dir" not in told
    assert ask_running(DataDirectory(data)) is None


def opens(line: Check) -> bool:
    return line.outcome is Outcome.WARNING and "$2.00" in line.seen


def test_without_flags_a_file_is_what_the_relay_has(data: Path) -> None:
    with served(data, plain=True) as relay:
        relay.wait_for_log(b'"serving"')
        (data / "s.toml").write_text(
            "".join(f'{name} = "{relay_address(data, name)}"\n' for name in ADDRESSES)
            + f'data_dir = "{data}"\n'
        )
        seen = examine(data, data / "s.toml")["settings"].seen
        assert seen == f"{data / 's.toml'}, as the running relay has them; workers = 1"
        made = done(data, "person", "invite")
        assert made["link"].startswith("/invitation?"), "there is no console to lead to"


ADDRESSES = ("listen", "operations_listen", "console_listen")


def relay_address(data: Path, name: str) -> str:
    told = ask_running(DataDirectory(data))
    assert told is not None
    assert told.settings.data_path == data
    return str(getattr(told.settings, name))


def test_the_file_counts_where_a_relay_cannot_tell(data: Path) -> None:
    with answering(data):  # as a release without the command would refuse it
        assert ask_running(DataDirectory(data)) is None
        link = done(data, "person", "invite")["link"]
        assert link.startswith("http://127.0.0.1:8082/")


def test_paths_are_told_whole_and_releases_may_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(catalog_file="c.toml", console_url=CONSOLE)
    told: Any = InForce(settings, Bound("127.0.0.1:1", "127.0.0.1:2")).told()
    assert told["console_url"] == CONSOLE
    assert told["settings"]["catalog_file"] == str(tmp_path / "c.toml")
    assert told["settings"]["spool_dir"] == "", "what names no file stays so"
    assert told["settings"].keys() == asdict(settings).keys()
    told["settings"] = {"workers": 3, "of_the_next_release": 1, "trusted_proxies": ["::1/128"]}
    monkeypatch.setattr(in_force, "ask", lambda *_: told)
    found = ask_running(DataDirectory(Path("here")))
    assert found is not None
    assert found.settings == Settings(workers=3, trusted_proxies=("::1/128",), data_dir="here")


def test_a_socket_that_is_not_ours_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> object:
        raise CommandError("cannot reach the relay")

    monkeypatch.setattr(in_force, "ask", refused)
    assert ask_running(DataDirectory(tmp_path)) is None
    monkeypatch.setattr(in_force, "ask", lambda *_: None)
    assert ask_running(DataDirectory(tmp_path)) is None
