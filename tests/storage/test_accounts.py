import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.storage.accounts import (
    add_user,
    check_limit,
    list_usage,
    list_users,
    set_user_enabled,
    show_wallet,
    user_id_of,
)
from proxy.storage.snapshots import load_catalog
from proxy.storage.sqlite import Durability, open_reader, open_writer
from tests.storage.world import MASTER, NOW, closing, keeper, opening, seed


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    yield connection
    connection.close()


def version(connection: sqlite3.Connection) -> int:
    return load_catalog(connection, MASTER).version


def test_users_have_a_wallet_from_the_start(connection: sqlite3.Connection) -> None:
    before = version(connection)
    user_id = add_user(connection, "cleo", "free", NOW)
    assert version(connection) == before + 1
    assert user_id_of(connection, "cleo") == user_id
    assert [(row.name, row.balance) for row in list_users(connection)] == [
        ("ann", 0),
        ("bob", 0),
        ("cleo", 0),
    ]
    set_user_enabled(connection, "cleo", enabled=False)
    assert not load_catalog(connection, MASTER).users[user_id].enabled


REFUSED: list[tuple[str, Callable[[sqlite3.Connection], object]]] = [
    ("already", lambda c: add_user(c, "ann", "free", NOW)),
    ("no plan", lambda c: add_user(c, "dan", "gold", NOW)),
    ("printable", lambda c: add_user(c, "", "free", NOW)),
    ("printable", lambda c: add_user(c, " dan", "free", NOW)),
    ("printable", lambda c: add_user(c, "d\nan", "free", NOW)),
    ("printable", lambda c: add_user(c, "d" * 201, "free", NOW)),
    ("no user 'dan'", lambda c: user_id_of(c, "dan")),
    ("no user 'dan'", lambda c: set_user_enabled(c, "dan", enabled=True)),
    ("no user 'dan'", lambda c: list_usage(c, "dan")),
    ("no user 'dan'", lambda c: show_wallet(c, "dan")),
    ("rows", lambda c: list_usage(c, rows_max=0)),
    ("rows", lambda c: list_usage(c, rows_max=10_001)),
    ("above 0", lambda _: check_limit("x", 0)),
]


@pytest.mark.parametrize(("message", "ask"), REFUSED)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    connection: sqlite3.Connection, message: str, ask: Callable[[sqlite3.Connection], object]
) -> None:
    before = list(connection.iterdump())
    with pytest.raises(ValueError, match=message):
        ask(connection)
    assert list(connection.iterdump()) == before


def test_usage_is_listed_latest_first_page_by_page(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        books = await keeper(path)
        for call_id in range(1, 6):
            user = 2 if call_id == 3 else 1
            asked = opening(call_id, user_id=user, key_id=user, client_reference=f"r{call_id}")
            await books.admit(asked)
            books.settle(closing(call_id))
        await books.close()

    asyncio.run(main())
    reader = open_reader(path)
    rows = list_usage(reader, rows_max=2)
    assert [row.id for row in rows] == [5, 4]
    assert (rows[0].user, rows[0].key, rows[0].model, rows[0].charge) == (
        "ann", "key 1", "m", 50_000,
    )  # fmt: skip
    assert (rows[0].input_tokens, rows[0].output_tokens) == (10, 20)
    assert rows[0].client_reference == "r5"
    assert [row.id for row in list_usage(reader, before_id=4)] == [3, 2, 1]
    assert [row.id for row in list_usage(reader, "ann", before_id=5, rows_max=2)] == [4, 2]
    assert show_wallet(reader, "bob").charged == 50_000
    reader.close()
