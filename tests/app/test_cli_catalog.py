from pathlib import Path

import pytest

from proxy.app.cli_catalog import values_of
from proxy.app.control import CommandError
from tests.app.test_cli import data, done, sluice

__all__ = ["data"]


def test_a_channel_is_made_keyed_switched_and_removed(data: Path, tmp_path: Path) -> None:
    made = ("--set", "dialect=openai", "--set", "base_url=https://example.com")
    assert done(data, "channel", "set", "new", "--create", *made)[0]["action"] == "add"
    done(data, "channel", "set", "new", "--set", "weight=3", "--set", "idle_seconds_max=2.5")
    file = tmp_path / "key"
    file.write_text("sk-canary-of-an-upstream\n")
    key = done(data, "channel", "key-add", "new", "--file", str(file))["key"]
    shown = done(data, "channel", "show", "new")
    assert (shown["channel"]["weight"], shown["channel"]["idle_seconds_max"]) == (3, 2.5)
    assert shown["keys"] == [{"id": key, "last4": "ream"}]
    assert done(data, "channel", "key-remove", "new", str(key))[0]["action"] == "change"
    assert done(data, "channel", "disable", "new")[0]["detail"] == "enabled: True -> False"
    assert done(data, "channel", "enable", "new")[0]["detail"] == "enabled: False -> True"
    assert done(data, "channel", "remove", "new")[0]["action"] == "remove"


def test_groups_models_and_prices_are_kept(data: Path) -> None:
    done(data, "group", "set", "fast", "--create", "--set", "multiplier=1.5")
    assert "1.5" in sluice(data, "group", "list").stdout
    assert "fast" in {row["group"]["name"] for row in done(data, "group", "list")}
    assert done(data, "group", "remove", "fast")[0]["action"] == "remove"
    sizes = ("--set", "context_window=1000", "--set", "output_tokens_max=10")
    done(data, "models", "set", "new", "--create", *sizes)
    done(data, "price", "set", "new", "--price", "input=1", "--price", "output=2.50")
    shown = done(data, "models", "show", "new")
    assert shown["price"] == {"input": "1.00", "output": "2.50"}
    assert "new" in sluice(data, "models", "list", "--search", "new").stdout
    done(data, "price", "withdraw", "new")
    listed = done(data, "models", "list", "--unpriced")
    assert [row["model"]["name"] for row in listed["models"]] == ["new"]
    assert done(data, "models", "remove", "new")[0]["action"] == "remove"


def test_a_user_is_shut_out_and_let_in(data: Path) -> None:
    assert done(data, "user", "set", "ann", "--disabled")["enabled"] is False
    assert done(data, "user", "set", "ann", "--enabled")["enabled"] is True


def test_values_are_json_or_text() -> None:
    given = ("a=1", "b=x y", 'c=["d"]', "e=null", "f=1.50", "g_seconds_max=1.5", "h=a=b", "i=true")
    assert values_of(given) == {
        "a": 1, "b": "x y", "c": ["d"], "e": None, "f": "1.50", "g_seconds_max": 1.5, "h": "a=b",
        "i": True,
    }  # fmt: skip
    for wrong in ("a", "=1"):
        with pytest.raises(CommandError, match="is not FIELD=VALUE"):
            values_of((wrong,))
