import copy
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.storage.imports import Change, apply_catalog, export_catalog, set_channel
from proxy.storage.snapshots import load_catalog, load_prices
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import CATALOG, MASTER, NOW, seed

CANARY = "sk-upstream-canary-0001"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    yield connection
    connection.close()


def apply(connection: sqlite3.Connection, document: dict[str, Any], **how: bool) -> list[Change]:
    return apply_catalog(connection, document, master=MASTER, now=NOW, **how)


def export(connection: sqlite3.Connection) -> dict[str, Any]:
    return export_catalog(connection, MASTER)


def test_an_export_shows_no_secret_and_applies_to_nothing(connection: sqlite3.Connection) -> None:
    exported = export(connection)
    assert "canary" not in str(exported)
    assert exported["channel"][0]["keys"] == ["sealed:1"]
    before = list(connection.iterdump())
    assert apply(connection, exported) == []
    assert list(connection.iterdump()) == before


def test_an_edit_is_one_change_with_its_diff(connection: sqlite3.Connection) -> None:
    edited = export(connection)
    edited["plan"].append({"name": "gold", "concurrency": 5})
    edited["group"][0]["multiplier"] = "1.5"
    edited["model"][0]["context_window"] = 2000
    edited["channel"][0]["weight"] = 7
    before = list(connection.iterdump())
    dry = apply(connection, edited, dry_run=True)
    assert list(connection.iterdump()) == before
    assert (
        apply(connection, edited)
        == dry
        == [
            Change("add", "plan 'gold'"),
            Change("change", "group 'default'", "multiplier: 1000000 -> 1500000"),
            Change("change", "model 'm'", "context_window: 1000 -> 2000"),
            Change("change", "channel 'main'", "weight: 1 -> 7"),
        ]
    )
    catalog = load_catalog(connection, MASTER)
    assert catalog.version == edited["version"] + 1
    assert catalog.channels[1].weight == 7
    assert catalog.channels[1].keys[0].secret == CANARY


def test_an_old_export_is_refused_unless_forced(connection: sqlite3.Connection) -> None:
    old = export(connection)
    newer = export(connection)
    newer["plan"].append({"name": "gold"})
    apply(connection, newer)
    with pytest.raises(ValueError, match="export again"):
        apply(connection, old)
    assert apply(connection, old, force=True) == [Change("remove", "plan 'gold'")]
    assert apply(connection, copy.deepcopy(CATALOG)) == [], "never exported: nothing to compare"


def test_a_changed_price_is_a_new_version_and_old_ones_stay(
    connection: sqlite3.Connection,
) -> None:
    for price, version in (("3", 2), ("4", 3)):
        edited = export(connection)
        edited["model"][0]["price"]["input"] = price
        (change,) = apply(connection, edited)
        assert change.what == "price of 'm'"
        current = load_catalog(connection, MASTER).models["m"].price
        assert current is not None
        assert (current.version, current.input) == (version, int(price) * 10**9)
    edited = export(connection)
    del edited["model"][0]["price"]
    assert apply(connection, edited)[0].detail.endswith("-> none")
    assert load_catalog(connection, MASTER).models["m"].price is None
    edited = export(connection)
    edited["model"][0]["price"] = {"input": "5"}
    assert apply(connection, edited)[0].action == "add"
    stored = load_prices(connection)
    assert [stored["m", version].input // 10**9 for version in range(1, 6)] == [1, 3, 4, 4, 5]


def test_a_model_that_leaves_keeps_its_prices_for_the_books(
    connection: sqlite3.Connection,
) -> None:
    edited = export(connection)
    edited["model"] = [model for model in edited["model"] if model["name"] != "thinker"]
    del edited["channel"][0]["models"]["thinker"]
    apply(connection, edited)
    assert "thinker" not in load_catalog(connection, MASTER).models
    assert ("thinker", 1) in load_prices(connection)
    apply(connection, CATALOG)
    price = load_catalog(connection, MASTER).models["thinker"].price
    assert price is not None
    assert price.version == 3


def test_what_is_still_used_is_not_removed(connection: sqlite3.Connection) -> None:
    for kind, name, user in (("plan", "small", "user"), ("group", "default", "key")):
        edited = export(connection)
        edited[kind] = [entry for entry in edited[kind] if entry["name"] != name]
        edited["channel"] = []
        with pytest.raises(ValueError, match=f"{user}.* still use it"):
            apply(connection, edited)
    edited = export(connection)
    edited["group"] = [entry for entry in edited["group"] if entry["name"] != "double"]
    edited["channel"][0]["groups"] = ["default"]
    assert Change("remove", "group 'double'") in apply(connection, edited)


def test_a_channel_names_only_what_is_there(connection: sqlite3.Connection) -> None:
    for field, value, message in (
        ("groups", ["gold"], "group 'gold'"),
        ("models", {"gpt": "gpt"}, "model 'gpt'"),
    ):
        edited = export(connection)
        edited["channel"][0][field] = value
        with pytest.raises(ValueError, match=message):
            apply(connection, edited)


def test_keys_are_added_kept_and_dropped(connection: sqlite3.Connection) -> None:
    edited = export(connection)
    edited["channel"][0]["keys"] = ["sealed:1", "sk-second-upstream-key", CANARY]
    (change,) = apply(connection, edited)
    assert change == Change("change", "channel 'main'", "keys: 1 before, 2 now")
    keys = load_catalog(connection, MASTER).channels[1].keys
    assert [key.secret for key in keys] == [CANARY, "sk-second-upstream-key"]
    edited = export(connection)
    edited["channel"][0]["keys"] = edited["channel"][0]["keys"][1:]
    apply(connection, edited)
    keys = load_catalog(connection, MASTER).channels[1].keys
    assert [key.secret for key in keys] == ["sk-second-upstream-key"]
    for placeholder in ("sealed:1", "sealed:x", "sealed:"):
        edited = export(connection)
        edited["channel"][0]["keys"] = [placeholder]
        with pytest.raises(ValueError, match="write the key itself"):
            apply(connection, edited)
    stored = connection.execute("SELECT sealed FROM channel_key").fetchall()
    assert all(b"upstream" not in sealed for (sealed,) in stored)


def test_a_removed_channel_comes_back_under_its_old_id(connection: sqlite3.Connection) -> None:
    edited = export(connection)
    edited["channel"] = []
    assert apply(connection, edited) == [Change("remove", "channel 'main'")]
    assert load_catalog(connection, MASTER).channels == {}
    assert connection.execute("SELECT count(*) FROM channel_key").fetchone() == (0,)
    dry = apply(connection, CATALOG, dry_run=True)
    assert dry == apply(connection, CATALOG) == [Change("add", "channel 'main'")]
    assert load_catalog(connection, MASTER).channels[1].keys[0].secret == CANARY


def test_one_channel_is_set_without_the_rest(connection: sqlite3.Connection) -> None:
    table = {
        "name": "second", "dialect": "anthropic", "base_url": "https://example.org",
        "keys": ["sk-ant"], "groups": ["default"], "models": ["m"],
        "costs": {"m": {"input": "1", "output": "2"}},
    }  # fmt: skip
    assert set_channel(connection, table, master=MASTER, now=NOW) == [
        Change("add", "channel 'second'")
    ]
    table |= {"groups": ["default", "double"], "models": {}, "costs": {}, "proxy": "http://p:1"}
    (change,) = set_channel(connection, table, master=MASTER, now=NOW)
    assert "groups: default -> default, double" in change.detail
    assert "models: m m -> none" in change.detail
    assert "proxy: none -> http://p:1" in change.detail
    assert len(load_catalog(connection, MASTER).channels) == 2
    accounts = connection.execute("SELECT id FROM account WHERE id >> 3 = 2 AND id & 7 > 1")
    assert accounts.fetchall() == [(2 << 3 | 5,), (2 << 3 | 6,)]


def test_a_limit_beyond_sense_is_refused(connection: sqlite3.Connection) -> None:
    edited = export(connection)
    edited["plan"][0]["concurrency"] = 10**13
    with pytest.raises(ValueError, match="concurrency"):
        apply(connection, edited)
