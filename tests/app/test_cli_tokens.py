from pathlib import Path

from proxy.app import cli_tokens
from tests.app.test_cli import data, done, sluice

__all__ = ["data"]


def test_a_token_is_made_listed_and_revoked(data: Path) -> None:
    made = done(data, "token", "add", "robot", "--scope", "*:read", "--expires", "none")
    assert made["token"].startswith("sa-")
    assert (made["role"], made["expires"]) == ("admin", None)
    (row,) = done(data, "token", "list", "--everybody")
    assert (row["scopes"], row["good"]) == (["*:read"], True)
    assert done(data, "token", "revoke", "1")["revoked"] is True
    assert done(data, "token", "list")[0]["good"] is False
    assert cli_tokens.token.commands.keys() == {"add", "list", "revoke"}


def test_a_token_is_announced_as_shown_once(data: Path) -> None:
    result = sluice(data, "token", "add", "r", "--scope", "keys:read", "--role", "user")
    assert "sa-" in result.stdout
    assert "only now" in result.stderr
    wrong = sluice(data, "token", "add", "r", "--scope", "keys")
    assert wrong.exit_code == 1
    assert "there is no scope 'keys'" in wrong.stderr
