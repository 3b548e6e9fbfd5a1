"""A lost pepper costs the keys, and only when somebody has said so."""

import os
import secrets
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from proxy.app import cli_secrets
from proxy.app.cli import main
from proxy.app.directory import DataDirectory

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "catalog.toml"


def sluice(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(data)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    assert sluice(path, "catalog", "apply", str(EXAMPLE), "--yes").exit_code == 0
    assert sluice(path, "user", "add", "ann", "--plan", "free").exit_code == 0
    assert sluice(path, "key", "add", "laptop", "--user", "ann").exit_code == 0
    return path


def replace_pepper(data: Path) -> None:
    (data / "secrets" / "pepper").write_text(secrets.token_hex(32))


def test_another_pepper_is_refused_until_it_is_accepted(data: Path) -> None:
    replace_pepper(data)
    refused = sluice(data, "key", "list")
    assert refused.exit_code == 1
    assert "not the one that 1 client keys were made with" in refused.stderr
    assert "sluice pepper accept" in refused.stderr
    asked = sluice(data, "pepper", "accept")
    assert (asked.exit_code, "add --yes" in asked.stderr) == (1, True)
    assert sluice(data, "key", "list").exit_code == 1
    done = sluice(data, "pepper", "accept", "--yes", "--json")
    assert (done.exit_code, orjson.loads(done.stdout)) == (0, {"keys_lost": 1})
    assert sluice(data, "key", "list").exit_code == 0
    again = sluice(data, "pepper", "accept", "--yes", "--json")
    assert orjson.loads(again.stdout) == {"keys_lost": 0}


def test_it_needs_a_stopped_relay_and_a_database(data: Path, tmp_path: Path) -> None:
    with DataDirectory(data).locked():
        running = sluice(data, "pepper", "accept", "--yes")
    assert (running.exit_code, f"in use by process {os.getpid()}" in running.stderr) == (1, True)
    none = sluice(tmp_path / "none", "pepper", "accept", "--yes")
    assert (none.exit_code, "there is no database" in none.stderr) == (1, True)
    assert not (tmp_path / "none").exists()
    assert set(cli_secrets.pepper.commands) == {"accept"}
