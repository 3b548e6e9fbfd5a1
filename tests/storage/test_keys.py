import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.actions.unfit import UnfitError
from proxy.core.entities import BudgetPeriod
from proxy.storage.keys import (
    GRACE_SECRETS_MAX,
    LENT_SECRETS_MAX,
    KeyRow,
    NewKey,
    NewSecret,
    add_key,
    find_key,
    groups_open_to,
    lend_key,
    list_keys,
    remove_key,
    rotate_key,
    set_key,
    set_key_budget,
    set_key_enabled,
    spent_now,
)
from proxy.storage.snapshots import load_catalog
from proxy.storage.sqlite import (
    Durability,
    connect_writer,
    migrate,
    open_writer,
    packaged_migrations,
)
from tests.storage.world import MASTER, NOW, seed

KEY = NewKey("ann", "laptop", "default", b"x" * 32, "sk-abc", "wxyz")
DAY = 86_400.0


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    connection.execute(
        "INSERT INTO person (id, email, created_at) VALUES (5, 'eve@example.com', 0)"
    )
    yield connection
    connection.close()


def secret(number: int) -> NewSecret:
    return NewSecret(bytes([200 + number]) * 32, "sk-new", f"l{number:03}")


def test_a_key_is_kept_as_it_was_asked_for(connection: sqlite3.Connection) -> None:
    wanted = replace(
        KEY,
        expires_at=NOW + 5,
        budget=700,
        budget_period=BudgetPeriod.WEEKLY,
        requests_per_minute=1,
        tokens_per_minute=2,
        concurrency=3,
        models=("m",),
        networks=("10.0.0.0/8",),
        cache_seconds=60,
    )
    key_id = add_key(connection, wanted, NOW)
    stored = load_catalog(connection, MASTER).key(b"x" * 32)
    assert stored is not None
    assert (stored.id, stored.user_id, stored.name, stored.group) == (
        key_id, 1, "laptop", "default",
    )  # fmt: skip
    assert (stored.budget, stored.budget_period) == (700, BudgetPeriod.WEEKLY)
    assert (stored.requests_per_minute, stored.tokens_per_minute, stored.concurrency) == (1, 2, 3)
    assert (stored.models, stored.networks) == (frozenset({"m"}), ("10.0.0.0/8",))
    assert (stored.expires_at, stored.cache_seconds) == (NOW + 5, 60)
    assert list_keys(connection, "ann")[-1] == KeyRow(
        key_id, "ann", "laptop", "default", "sk-abc…wxyz", True, NOW + 5, 700, "weekly", 0, NOW,
        "weekly", 0, 1, 2, 3, 60, ("m",), ("10.0.0.0/8",), None, None, None, None,
    )  # fmt: skip
    assert len(list_keys(connection)) == 4


def test_a_key_is_disabled_and_its_budget_changed(connection: sqlite3.Connection) -> None:
    set_key_enabled(connection, 1, enabled=False)
    set_key_budget(connection, 1, 5, BudgetPeriod.DAILY)
    key = load_catalog(connection, MASTER).keys_by_id[1]
    assert (key.enabled, key.budget, key.budget_period) == (False, 5, BudgetPeriod.DAILY)
    set_key_enabled(connection, 1, enabled=True)
    set_key_budget(connection, 1, None, BudgetPeriod.TOTAL)
    key = load_catalog(connection, MASTER).keys_by_id[1]
    assert (key.enabled, key.budget) == (True, None)


REFUSED: list[tuple[str, Callable[[sqlite3.Connection], object]]] = [
    ("no user 'dan'", lambda c: list_keys(c, "dan")),
    ("no user 'dan'", lambda c: add_key(c, replace(KEY, user="dan"), NOW)),
    ("no group", lambda c: add_key(c, replace(KEY, group="gold"), NOW)),
    ("a key 'key 1' already", lambda c: add_key(c, replace(KEY, name="key 1"), NOW)),
    ("belongs to a key", lambda c: add_key(c, replace(KEY, digest=bytes([1]) * 32), NOW)),
    ("printable", lambda c: add_key(c, replace(KEY, name=""), NOW)),
    ("budget", lambda c: add_key(c, replace(KEY, budget=-1), NOW)),
    ("budget", lambda c: add_key(c, replace(KEY, budget=10**18 + 1), NOW)),
    ("concurrency", lambda c: add_key(c, replace(KEY, concurrency=0), NOW)),
    ("tokens_per_minute", lambda c: add_key(c, replace(KEY, tokens_per_minute=-1), NOW)),
    (
        "no model 'M-latest'; did you mean m",
        lambda c: add_key(c, replace(KEY, models=("M-latest",)), NOW),
    ),
    ("no model 'zzz'; see the list", lambda c: add_key(c, replace(KEY, models=("zzz",)), NOW)),
    ("1 to 200 models", lambda c: add_key(c, replace(KEY, models=()), NOW)),
    ("1 to 100 networks", lambda c: add_key(c, replace(KEY, networks=("::1",) * 101), NOW)),
    ("'10.0.0.0/33' is no network", lambda c: set_key(c, 1, {"networks": ("10.0.0.0/33",)}, NOW)),
    ("disable the key to end it", lambda c: set_key(c, 1, {"expires_at": NOW}, NOW)),
    ("a key 'key 3' already", lambda c: set_key(c, 2, {"name": "key 3"}, NOW)),
    ("no key 99", lambda c: set_key_enabled(c, 99, enabled=True)),
    ("no key 99", lambda c: set_key_budget(c, 99, 1, BudgetPeriod.TOTAL)),
    ("no key 99", lambda c: remove_key(c, 99, NOW)),
    ("no key 99", lambda c: rotate_key(c, 99, secret(0), NOW, 5)),
    ("no key 99", lambda c: lend_key(c, 99, secret(0), NOW, 5)),
    ("budget", lambda c: set_key_budget(c, 1, -1, BudgetPeriod.TOTAL)),
    ("no key 'key 1'", lambda c: find_key(c, "key 1", "bob")),
    ("no key '1'", lambda c: find_key(c, "1", "bob")),
    ("no key '1'", lambda c: find_key(c, "1", "ann", 5)),
]


@pytest.mark.parametrize(("message", "ask"), REFUSED)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    connection: sqlite3.Connection, message: str, ask: Callable[[sqlite3.Connection], object]
) -> None:
    before = list(connection.iterdump())
    with pytest.raises(ValueError, match=message):
        ask(connection)
    assert list(connection.iterdump()) == before


def test_everything_that_is_wrong_is_told_at_once(connection: sqlite3.Connection) -> None:
    wrong = replace(KEY, group="gold", expires_at=1.0, budget=-1, networks=("x",))
    with pytest.raises(UnfitError) as refused:
        add_key(connection, wrong, NOW)
    assert refused.value.fields.keys() == {"group", "expires", "budget", "networks"}


def test_only_what_is_given_changes_and_none_clears(connection: sqlite3.Connection) -> None:
    networks = ("10.1.2.3/8", "10.0.0.0/8", "2001:db8::1")
    given = {"name": "den", "group": "double", "budget": 7, "networks": networks, "models": ("m",)}
    set_key(connection, 2, given, NOW)
    catalog = load_catalog(connection, MASTER)
    key = catalog.keys_by_id[2]
    assert (key.name, key.group, key.budget) == ("den", "double", 7)
    assert key.networks == ("10.0.0.0/8", "2001:db8::1/128")
    set_key(connection, 2, {"budget": None, "networks": None, "name": "den"}, NOW)
    changed = load_catalog(connection, MASTER)
    assert changed.version == catalog.version + 1
    assert changed.keys_by_id[2] == replace(key, budget=None, networks=None)
    set_key(connection, 2, {}, NOW)
    assert load_catalog(connection, MASTER).keys_by_id == changed.keys_by_id


def test_an_old_secret_opens_the_key_until_its_grace_is_over(
    connection: sqlite3.Connection,
) -> None:
    old = load_catalog(connection, MASTER).keys_by_id[1]
    rotate_key(connection, 1, secret(1), NOW, DAY)
    catalog = load_catalog(connection, MASTER)
    new = catalog.keys_by_id[1]
    assert catalog.key(secret(1).digest) == new
    assert (new.digest, new.prefix, new.last4, new.expires_at) == (*secret(1), None)
    assert catalog.key(old.digest) == replace(old, prefix="sk-new", expires_at=NOW + DAY)
    assert list_keys(connection, "ann")[0].grace_until == NOW + DAY
    set_key(connection, 1, {"expires_at": NOW + 5}, NOW)
    catalog = load_catalog(connection, MASTER)
    assert {catalog.keys_by_digest[one].expires_at for one in (old.digest, new.digest)} == {NOW + 5}
    rotate_key(connection, 1, secret(2), NOW, 0)
    catalog = load_catalog(connection, MASTER)
    assert catalog.key(old.digest) is catalog.key(new.digest) is None
    assert len(catalog.keys_by_digest) == 3


def test_lent_secrets_are_few_and_forgotten_when_they_are_over(
    connection: sqlite3.Connection,
) -> None:
    for number in range(LENT_SECRETS_MAX + 2):
        lend_key(connection, 1, secret(number), NOW + number, 60)
    catalog = load_catalog(connection, MASTER)
    opens = [catalog.key(secret(number).digest) for number in range(LENT_SECRETS_MAX + 2)]
    assert [one is not None for one in opens] == [False, False, *[True] * LENT_SECRETS_MAX]
    assert {one.id for one in opens if one} == {1}
    for number in range(10, 12 + GRACE_SECRETS_MAX):
        rotate_key(connection, 1, secret(number), NOW + number, 120)
    purposes = "SELECT purpose, count(*) FROM key_secret GROUP BY purpose"
    assert dict(connection.execute(purposes).fetchall()) == {
        "grace": GRACE_SECRETS_MAX, "lent": LENT_SECRETS_MAX,
    }  # fmt: skip
    set_key(connection, 2, {"name": "other"}, NOW + 90)
    assert [row[0] for row in connection.execute(purposes)] == ["grace"]


def test_a_deleted_key_stays_for_the_books_and_frees_its_name(
    connection: sqlite3.Connection,
) -> None:
    lend_key(connection, 1, secret(1), NOW, 60)
    remove_key(connection, 1, NOW)
    catalog = load_catalog(connection, MASTER)
    assert catalog.keys_by_id.keys() == {2, 3}
    assert len(catalog.keys_by_digest) == 2
    assert list_keys(connection, "ann") == []
    assert connection.execute("SELECT name, enabled FROM key WHERE id = 1").fetchone() == (
        "key 1", 0,
    )  # fmt: skip
    again = replace(KEY, name="key 1")
    assert add_key(connection, again, NOW) == 4
    remove_key(connection, 4, NOW)
    assert add_key(connection, replace(again, digest=b"y" * 32), NOW) == 5
    with pytest.raises(ValueError, match="belongs to a key"):
        add_key(connection, replace(again, name="third"), NOW)


def test_a_secret_of_a_deleted_key_opens_nothing(connection: sqlite3.Connection) -> None:
    lend_key(connection, 1, secret(1), NOW, 60)
    connection.execute("UPDATE key SET removed_at = ? WHERE id = 1", (NOW,))
    assert load_catalog(connection, MASTER).key(secret(1).digest) is None


def test_a_key_is_found_by_its_id_before_its_name(connection: sqlite3.Connection) -> None:
    add_key(connection, replace(KEY, name="2", user="bob"), NOW)
    add_key(connection, replace(KEY, name="7", digest=b"y" * 32), NOW)
    assert find_key(connection, "2").name == "key 2"
    assert find_key(connection, "7").id == 5
    assert find_key(connection, "2", "bob").id == 2
    set_key(connection, 2, {"name": "same"}, NOW)
    set_key(connection, 1, {"name": "same"}, NOW)
    assert find_key(connection, "same", "ann").id == 1
    with pytest.raises(ValueError, match=r"several keys are named 'same': 1 of ann, 2 of bob"):
        find_key(connection, "same")


def test_people_have_only_so_many_keys_and_know_whose_they_are(
    connection: sqlite3.Connection,
) -> None:
    mine = replace(KEY, person_id=5)
    key_id = add_key(connection, mine, NOW, keys_max=1)
    assert [(row.id, row.person) for row in list_keys(connection, "ann", 5)] == [
        (key_id, "eve@example.com")
    ]
    another = replace(mine, name="b", digest=b"y" * 32)
    with pytest.raises(ValueError, match="you have 1 keys"):
        add_key(connection, another, NOW, keys_max=1)
    assert add_key(connection, replace(another, user="bob"), NOW, keys_max=1)
    remove_key(connection, key_id, NOW)
    assert add_key(connection, replace(another, digest=b"z" * 32), NOW, keys_max=1)


def test_a_plan_may_be_for_some_groups_alone(connection: sqlite3.Connection) -> None:
    assert groups_open_to(connection, 2) == ("default", "double")
    connection.execute("UPDATE plan SET groups = '[\"double\"]' WHERE name = 'small'")
    assert load_catalog(connection, MASTER).plans["small"].groups == frozenset({"double"})
    assert groups_open_to(connection, 2) == ("double",)
    assert groups_open_to(connection, 1) == ("default", "double")
    for restricted in (True, False):
        wanted = replace(KEY, user="bob", name=f"k {restricted}", digest=bytes([restricted]) * 32)
        if restricted:
            with pytest.raises(ValueError, match="your plan is not for the group 'default'"):
                add_key(connection, replace(wanted, digest=b"q" * 32), NOW, restricted=True)
            with pytest.raises(ValueError, match="your plan"):
                set_key(connection, 2, {"group": "default"}, NOW, restricted=True)
        else:
            assert add_key(connection, wanted, NOW)
    set_key(connection, 2, {"group": "double"}, NOW, restricted=True)


def test_what_was_spent_in_another_period_counts_no_more(connection: sqlite3.Connection) -> None:
    set_key_budget(connection, 1, 100, BudgetPeriod.DAILY)
    start = NOW // DAY * DAY
    connection.execute("INSERT INTO key_spend VALUES (1, 'daily', ?, 30)", (int(start),))
    row = find_key(connection, "1")
    assert (spent_now(row, NOW), spent_now(row, start + DAY)) == (30, 0)
    set_key_budget(connection, 1, 100, BudgetPeriod.TOTAL)
    assert spent_now(find_key(connection, "1"), NOW) == 0


def test_keys_of_before_are_kept_as_they_were(tmp_path: Path) -> None:
    connection = connect_writer(tmp_path / "old.db", Durability.PROCESS)
    every = tuple(packaged_migrations())
    migrate(connection, NOW, tuple(one for one in every if one.number < 16))
    connection.execute("INSERT INTO plan (name) VALUES ('free')")
    connection.execute(
        "INSERT INTO service_group VALUES ('default', 1000000, 'cancel', 30.0, 0, NULL, 'key', 0)"
    )
    connection.execute("INSERT INTO user (name, plan, created_at) VALUES ('ann', 'free', 1.0)")
    connection.execute("INSERT INTO account (id) VALUES (8)")
    for name in ("first", "second"):
        connection.execute(
            "INSERT INTO key (user_id, digest, name, group_name, prefix, last4, enabled, budget, "
            "models, cache_seconds, created_at) VALUES (1, ?, ?, 'default', 'sk-abc', 'wxyz', 0, "
            "7, '[\"m\"]', 60, 5.0)",
            (name.encode(), name),
        )
    connection.execute("INSERT INTO key_spend VALUES (2, 'total', 0, 3)")
    migrate(connection, NOW)
    rows = list_keys(connection)
    assert [(row.id, row.name, row.spent, row.person) for row in rows] == [
        (1, "first", 0, None), (2, "second", 3, None),
    ]  # fmt: skip
    assert (rows[0].enabled, rows[0].budget, rows[0].models) == (False, 7, ("m",))
    assert (rows[0].cache_seconds, rows[0].created_at) == (60, 5.0)
    assert load_catalog(connection, MASTER).key(b"second") is not None
    remove_key(connection, 2, NOW)
    assert add_key(connection, replace(KEY, name="second"), NOW) == 3, "no number comes back"
    connection.close()
