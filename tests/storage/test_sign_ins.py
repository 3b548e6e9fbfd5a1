import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.storage import sign_ins
from proxy.storage.people import add_person
from proxy.storage.sign_ins import IDLE_SECONDS, LIFE_SECONDS_MAX
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    add_person(connection, "ann@example.com", None, "free", NOW)
    add_person(connection, "bob@example.com", None, "free", NOW)
    yield connection
    connection.close()


def living(connection: sqlite3.Connection, person: int, now: float) -> list[str]:
    return [row.id for row in sign_ins.living_sessions(connection, person, now)]


def test_a_session_lives_until_nobody_used_it_for_long(connection: sqlite3.Connection) -> None:
    until = sign_ins.open_session(connection, "a", 1, NOW, "192.0.2.1", "Firefox" * 100)
    assert until == NOW + IDLE_SECONDS
    (row,) = sign_ins.living_sessions(connection, 1, NOW)
    assert (row.address, len(row.agent or "")) == ("192.0.2.1", 200)
    later = NOW + IDLE_SECONDS - 1
    assert sign_ins.renew_session(connection, "a", later) == later + IDLE_SECONDS
    assert living(connection, 1, later) == ["a"]
    assert living(connection, 1, later + IDLE_SECONDS) == []
    with pytest.raises(ValueError, match="over"):
        sign_ins.renew_session(connection, "a", later + IDLE_SECONDS)


def test_a_session_that_is_always_used_is_over_at_last(connection: sqlite3.Connection) -> None:
    now = NOW
    until = sign_ins.open_session(connection, "a", 1, now, None, None)
    while until < NOW + LIFE_SECONDS_MAX:
        now = until - 1
        until = sign_ins.renew_session(connection, "a", now)
    assert until == NOW + LIFE_SECONDS_MAX
    assert sign_ins.renew_session(connection, "a", until - 1) == until


def test_only_its_owner_ends_a_session_and_then_it_is_over(connection: sqlite3.Connection) -> None:
    for name, person in (("a", 1), ("b", 1), ("c", 1), ("x", 2)):
        sign_ins.open_session(connection, name, person, NOW, None, None)
    assert not sign_ins.revoke_session(connection, "a", 2, NOW)
    assert sign_ins.revoke_session(connection, "a", 1, NOW)
    assert not sign_ins.revoke_session(connection, "a", 1, NOW)
    for over in (
        lambda: sign_ins.renew_session(connection, "a", NOW),
        lambda: sign_ins.confirm_session(connection, "a", 1, NOW),
        lambda: sign_ins.confirm_session(connection, "b", 2, NOW),
    ):
        with pytest.raises(ValueError, match="over"):
            over()
    sign_ins.confirm_session(connection, "b", 1, NOW + 5)
    assert sign_ins.revoke_sessions(connection, 1, NOW + 6, keep="b") == 1
    assert living(connection, 1, NOW + 6) == ["b"]
    assert sign_ins.revoke_sessions(connection, 1, NOW + 6) == 1
    assert living(connection, 1, NOW + 6) == []
    assert living(connection, 2, NOW + 6) == ["x"]


def test_sessions_of_one_person_are_bounded_and_old_ones_leave(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ins, "SESSIONS_MAX", 3)
    for number in range(6):
        sign_ins.open_session(connection, f"{number}", 1, NOW + number, None, None)
    assert living(connection, 1, NOW + 9) == ["5", "4", "3"]
    much_later = NOW + IDLE_SECONDS + sign_ins.KEPT_SECONDS + 100
    sign_ins.open_session(connection, "new", 1, much_later, None, None)
    rows = connection.execute("SELECT id FROM session").fetchall()
    assert rows == [("new",)]


def test_who_is_disabled_does_not_get_one(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE person SET enabled = 0 WHERE id = 1")
    with pytest.raises(ValueError, match="no enabled person 1"):
        sign_ins.open_session(connection, "a", 1, NOW, None, None)
