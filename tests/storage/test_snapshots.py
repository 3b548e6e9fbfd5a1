import dataclasses
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Formula, Price, Tier, Wire
from proxy.storage import keys
from proxy.storage.accounts import CHANGES_KEPT, add_user, set_user_enabled
from proxy.storage.imports import apply_catalog
from proxy.storage.keys import NewKey, NewSecret, add_key
from proxy.storage.plans import fall_back
from proxy.storage.secrets import SecretError
from proxy.storage.snapshots import (
    CHANGES_MAX,
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
from tests.storage.world import CATALOG, MASTER, NOW, seed


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


def _more(connection: sqlite3.Connection, rng: random.Random, number: int, now: float) -> bool:
    """Change something of the catalog; whether it was of keys and users alone."""
    ids = [row[0] for row in connection.execute("SELECT id FROM key WHERE removed_at IS NULL")]
    key_id, digest = rng.choice(ids), number.to_bytes(32, "big")
    kind = rng.randrange(10)
    if kind == 0:
        add_user(connection, f"user {number}", rng.choice(("free", "small")), now)
    elif kind == 1:
        user = rng.choice([row[0] for row in connection.execute("SELECT name FROM user")])
        add_key(connection, NewKey(user, f"k{number}", "double", digest, "sk-abc", "wxyz"), now)
    elif kind == 2:
        keys.set_key_enabled(connection, key_id, enabled=rng.random() < 0.5)
    elif kind == 3:
        changes = {"name": f"n{number}", "requests_per_minute": rng.randrange(1, 9)}
        keys.set_key(connection, key_id, changes, now)
    elif kind == 4:
        grace = rng.choice((0.0, 3.0))
        keys.rotate_key(connection, key_id, NewSecret(digest, "sk-abc", "wxyz"), now, grace)
    elif kind == 5:
        keys.lend_key(connection, key_id, NewSecret(digest, "sk-abc", "wxyz"), now, 2.0)
    elif kind == 6 and len(ids) > 2:
        keys.remove_key(connection, key_id, now)
    elif kind == 7:
        set_user_enabled(connection, rng.choice(("ann", "bob")), enabled=rng.random() < 0.5)
    elif kind == 8:
        fall_back(connection, 1, "free", "small", now)
        fall_back(connection, 1, "small", "free", now)
    elif kind == 9 and rng.random() < 0.3:
        document = {**CATALOG, "group": [{"name": "default"}, {"name": "double",
                                          "multiplier": str(number)}]}  # fmt: skip
        apply_catalog(connection, document, master=MASTER, now=now)
        return False
    return True


@pytest.mark.parametrize("seed_number", range(6))
def test_what_changed_since_any_earlier_catalog_is_all_there_is_to_read(
    tmp_path: Path, seed_number: int
) -> None:
    rng = random.Random(seed_number)
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    known = [(load_catalog(connection, MASTER), 0)]
    others = 0
    for number in range(120):
        others += not _more(connection, rng, number + 1, NOW + number)
        whole = load_catalog(connection, MASTER)
        before, others_then = rng.choice(known)
        renewed = load_catalog(connection, MASTER, before)
        assert renewed == whole
        known_of = whole.version > before.version and others == others_then
        assert (renewed.keys_changed is not None) == known_of
        known = [*known[-9:], (renewed, others)]
    assert others
    connection.close()


def test_who_knows_too_little_reads_everything(tmp_path: Path) -> None:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    known = load_catalog(connection, MASTER)
    assert load_catalog(connection, MASTER, known).keys_changed is None, "nobody said what"
    newer = dataclasses.replace(known, version=known.version + 1)
    assert load_catalog(connection, MASTER, newer).keys_changed is None, "of another file"
    for number in range(CHANGES_KEPT + 1):
        keys.set_key_enabled(connection, 1, enabled=bool(number % 2))
    (kept,) = connection.execute("SELECT count(*) FROM catalog_change").fetchone()
    assert kept == CHANGES_KEPT
    late = load_catalog(connection, MASTER, known)
    assert late.keys_changed is None
    assert late == load_catalog(connection, MASTER)
    connection.executemany(
        "INSERT INTO catalog_change SELECT version, 1, NULL FROM catalog WHERE ?",
        [(1,)] * (CHANGES_MAX + 1),
    )
    known = dataclasses.replace(late, version=late.version - 1)
    assert load_catalog(connection, MASTER, known).keys_changed is None, "too many one by one"
    connection.close()
