import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Formula, Price, Tier, Wire
from proxy.storage.secrets import SecretError
from proxy.storage.snapshots import (
    PRICE_COLUMNS,
    PRICE_FIELDS,
    load_catalog,
    load_prices,
    load_public_catalog,
    price_cells,
    price_from_json,
    price_from_row,
    price_to_json,
)
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import MASTER, NOW, seed


def test_an_empty_database_is_an_empty_catalog(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    catalog = load_catalog(connection, MASTER)
    assert (catalog.version, catalog.users, catalog.channels) == (1, {}, {})
    assert load_prices(connection) == {}
    connection.close()


def test_a_catalog_is_read_as_it_is_stored(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    catalog = load_catalog(connection, MASTER)
    assert {user.name for user in catalog.users.values()} == {"ann", "bob"}
    key = catalog.key(bytes([2]) * 32)
    assert key is not None
    assert (key.user_id, key.models, key.networks, key.enabled) == (2, None, None, True)
    assert catalog.limits_of(key).key.requests_per_minute == 60
    (channel,) = catalog.channels_for("default", "m", Wire.CHAT)
    assert channel.models["m"] == "m-2"
    assert catalog.groups["double"].multiplier == 2_000_000
    price = catalog.models["m"].price
    assert price == load_prices(connection)["m", 1]
    assert price is not None
    assert (price.formula, price.input, price.output) == (Formula.TOKENS, 10**9, 2 * 10**9)
    with pytest.raises(SecretError, match="master key"):
        load_catalog(connection, bytes(32))
    connection.close()


def test_a_price_survives_row_and_json() -> None:
    figures: dict[str, Any] = {name: at for at, name in enumerate(PRICE_FIELDS, 1)}
    tiers = (Tier(10, *range(1, 12)), Tier(20, *range(2, 13)))
    for price in (
        Price("m", 4, Formula.RATIO, **figures),
        Price("m", 4, **figures, image_variants={"b": 2, "a": 1}, tiers=tiers),
    ):
        row = ("m", 4, price.formula.value, *price_cells(price))
        assert len(row) == 3 + len(PRICE_COLUMNS)
        assert price_from_row(row) == price
        assert price_from_json("m", price_to_json(price)) == price
    with pytest.raises(AssertionError):
        price_from_row(("m", "4", "ratio", *range(len(PRICE_FIELDS)), "{}", "[]"))


def test_what_an_older_release_stored_of_a_cost_is_read() -> None:
    ratios = {"completion_ratio": 10**6, "cache_ratio": 10**6}
    stored = {"version": 0, "formula": "tokens", "input": 5, "cache_read": 2, **ratios}
    as_text: dict[str, Any] = {"image_input": 5, "cache_read_audio": 2, "cache_read_image": 2}
    assert price_from_json("m", stored) == Price("m", 0, input=5, cache_read=2, **as_text)


def test_a_snapshot_sees_one_transaction(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    reader = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    reader.execute("BEGIN")
    before = load_catalog(reader, MASTER)
    connection.execute("UPDATE user SET enabled = 0")
    connection.execute("UPDATE catalog SET version = version + 1")
    assert load_catalog(reader, MASTER) == before
    reader.execute("COMMIT")
    assert load_catalog(reader, MASTER).version == before.version + 1
    reader.close()
    connection.close()


def test_the_public_catalog_needs_no_master_key_and_holds_nobodys_secret(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    public, whole = load_public_catalog(connection), load_catalog(connection, MASTER)
    assert (public.version, public.models, public.groups) == (
        whole.version,
        whole.models,
        whole.groups,
    )
    assert (dict(public.users), dict(public.keys_by_id), dict(public.plans)) == ({}, {}, {})
    (channel,) = public.channels_for("default", "m", Wire.CHAT)
    assert (channel.name, channel.keys) == ("main", ())
    assert "canary" not in repr(public)
    connection.close()
