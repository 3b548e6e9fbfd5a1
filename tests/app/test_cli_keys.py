from pathlib import Path

import pytest

from proxy.app.cli_keys import SHOWN_ONCE
from tests.app.test_cli import data, done, sluice

__all__ = ["data"]


def test_a_key_is_looked_after_from_the_command_line(data: Path) -> None:
    made = done(data, "key", "add", "laptop", "--user", "ann", "--model", "gpt-4o")
    shown = done(data, "key", "set", "laptop", "--budget", "2", "--concurrency", "4")
    assert (shown["models"], shown["budget_usd"], shown["concurrency"]) == (["gpt-4o"], "2.00", 4)
    cleared = ("--budget", "none", "--model", "none", "--concurrency", "none")
    shown = done(data, "key", "set", "laptop", *cleared, "--name", "none")
    assert (shown["models"], shown["budget_usd"], shown["concurrency"]) == (None, None, None)
    assert shown["name"] == "none"
    assert done(data, "key", "disable", "none")["enabled"] is False
    assert done(data, "key", "enable", "none", "--user", "ann")["enabled"] is True
    rotated = done(data, "key", "rotate", "none", "--grace", "1h")
    assert rotated["key"].startswith("sk-")
    assert rotated["key"] != made["key"]
    assert done(data, "key", "show", "none")["old_until"] == rotated["old_until"]
    assert done(data, "key", "remove", "none", "--yes")["removed"] is True
    assert done(data, "key", "list") == []


def test_a_secret_is_announced_as_shown_once(data: Path) -> None:
    for command in (("add", "laptop", "--user", "ann"), ("rotate", "laptop")):
        result = sluice(data, "key", *command)
        assert result.exit_code == 0
        assert "sk-" in result.stdout
        assert SHOWN_ONCE in result.stderr


@pytest.mark.parametrize("answer", ["n\n", "y\n", ""])
def test_nothing_is_deleted_unconfirmed(data: Path, answer: str) -> None:
    done(data, "key", "add", "laptop", "--user", "ann")
    result = sluice(data, "key", "remove", "laptop", input=answer)
    assert (result.exit_code, "add --yes" in result.stderr) == (1, True)
    assert len(done(data, "key", "list")) == 1


def test_a_count_is_a_count(data: Path) -> None:
    result = sluice(data, "key", "set", "x", "--concurrency", "many")
    assert result.exit_code == 2
    assert "--concurrency takes a whole number or none, not 'many'" in result.stderr
