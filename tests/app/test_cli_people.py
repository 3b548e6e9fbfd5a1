from pathlib import Path

import pytest

from proxy.app import cli_people
from tests.app.test_cli import data, done, sluice

__all__ = ["data"]
ANN = "ann@example.com"


def test_the_first_administrator_is_made_on_the_command_line(data: Path) -> None:
    made = done(data, "person", "add", ANN, "--role", "admin", "--plan", "free", "--credit", "2")
    assert made["link"].startswith("http://127.0.0.1:8082/password/set?token=")
    (row,) = done(data, "person", "list", "--find", "ann")
    assert (row["email"], row["role"]) == (ANN, "admin")
    assert done(data, "wallet", "show", ANN)["balance_usd"] == "2.00"
    again = done(data, "person", "link", ANN)
    assert again["link"] != made["link"]
    result = sluice(data, "person", "role", ANN, "user")
    assert result.exit_code == 1
    assert "last administrator" in result.stderr


def test_people_are_disabled_enabled_and_invited(data: Path) -> None:
    done(data, "person", "add", ANN, "--plan", "free")
    assert done(data, "person", "disable", ANN)["enabled"] is False
    assert done(data, "person", "enable", ANN)["enabled"] is True
    assert done(data, "person", "role", ANN, "operator")["role"] == "operator"
    made = done(data, "person", "invite", "bob@example.com", "--days", "1")
    assert made["link"].startswith("http://127.0.0.1:8082/invitation?token=")
    assert done(data, "person", "invite")["email"] is None


def test_an_account_is_deleted_by_who_says_so(data: Path) -> None:
    done(data, "person", "add", ANN, "--plan", "free", "--credit", "2")
    result = sluice(data, "person", "delete", ANN)
    assert (result.exit_code, "--yes" in result.stderr) == (1, True)
    (left,) = done(data, "person", "delete", ANN, "--yes")["wallets"]
    assert (left["user"], left["balance_usd"]) == ("deleted-1", "2.00")
    (row,) = done(data, "person", "list")
    assert (row["enabled"], row["email"]) == (False, "deleted-1@deleted.invalid")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("console_url = 'https://console.example.com'", "https://console.example.com/password"),
        ("console_listen = '0.0.0.0:9'", "http://127.0.0.1:9/password"),
        ("console_listen = ''", "/password"),
    ],
)
def test_the_link_leads_where_the_settings_say_the_console_is(
    data: Path, tmp_path: Path, text: str, url: str
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(text)
    made = done(data, "person", "add", ANN, "--plan", "free", "--config", str(config))
    assert made["link"].startswith(url)
    result = sluice(data, "person", "link", ANN)
    assert "good once" in result.stderr
    assert isinstance(cli_people.ROLES.choices, list | tuple)
