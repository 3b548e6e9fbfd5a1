import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.actions.wallets import NoticeKind
from proxy.storage.notices import (
    end,
    mark_mailed,
    raise_notice,
    set_threshold,
    watch_balances,
)
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    yield connection
    connection.close()


def standing(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    query = "SELECT user_id, kind, detail FROM notice WHERE ended_at IS NULL ORDER BY id"
    return connection.execute(query).fetchall()


def has(connection: sqlite3.Connection, balance: int) -> None:
    connection.execute("UPDATE account SET balance = ? WHERE id = 9", (balance,))


def test_a_crossing_is_told_once_and_again_after_a_recovery(connection: sqlite3.Connection) -> None:
    set_threshold(connection, 1, 100)
    has(connection, 100)
    assert watch_balances(connection, NOW) == 0
    has(connection, 99)
    assert [watch_balances(connection, NOW) for _ in range(3)] == [1, 0, 0]
    assert standing(connection) == [(1, "low_balance", "99")]
    has(connection, 100)
    assert watch_balances(connection, NOW) == 1
    assert standing(connection) == []
    has(connection, 0)
    assert watch_balances(connection, NOW) == 1
    assert connection.execute("SELECT count(*) FROM notice").fetchone() == (2,)


def test_without_a_threshold_nobody_is_told(connection: sqlite3.Connection) -> None:
    set_threshold(connection, 1, 100)
    watch_balances(connection, NOW)
    set_threshold(connection, 1, 0)
    assert standing(connection) == []
    assert watch_balances(connection, NOW) == 0
    for amount in (-1, 10**18 + 1):
        with pytest.raises(ValueError, match="between 0 and"):
            set_threshold(connection, 1, amount)


def test_one_notice_of_a_kind_stands_and_is_mailed_once(connection: sqlite3.Connection) -> None:
    assert raise_notice(connection, 1, NoticeKind.PLAN_ENDED, "pro", NOW)
    assert not raise_notice(connection, 1, NoticeKind.PLAN_ENDED, "pro", NOW)
    assert [mark_mailed(connection, 1, NOW) for _ in range(2)] == [True, False]
    end(connection, 1, NoticeKind.PLAN_ENDED, NOW)
    assert standing(connection) == []
    assert raise_notice(connection, 1, NoticeKind.PLAN_ENDED, "pro", NOW)
