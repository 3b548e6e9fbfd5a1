import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.storage import email_changes
from proxy.storage.one_time_links import Purpose, add_token, find_token
from proxy.storage.people import add_person, person_of, set_enabled, set_password
from proxy.storage.sign_ins import living_sessions, open_session
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed

ANN, BOB, NEW = "ann@example.com", "bob@example.com", "new@example.com"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    add_person(connection, ANN, "hash", "free", NOW)
    add_person(connection, BOB, None, "free", NOW)
    yield connection
    connection.close()


def wallet_of(connection: sqlite3.Connection, person_id: int) -> str:
    query = "SELECT name FROM user JOIN person ON wallet_id = user.id WHERE person.id = ?"
    return str(connection.execute(query, (person_id,)).fetchone()[0])


def test_the_address_and_what_is_named_by_it_change_with_the_link(
    connection: sqlite3.Connection,
) -> None:
    for session in ("here", "there"):
        open_session(connection, session, 1, NOW, None, None)
    open_session(connection, "bob", 2, NOW, None, None)
    add_token(connection, "reset", Purpose.PASSWORD, 1, NOW, NOW + 60)
    email_changes.ask(connection, "token", 1, NEW, NOW, NOW + 60)
    assert person_of(connection, 1).email == ANN
    assert "token" not in repr(connection.execute("SELECT * FROM email_change").fetchall())
    done = email_changes.use(connection, "token", NOW + 59, "here")
    assert (done.earlier, done.person.email, done.person.verified_at) == (ANN, NEW, NOW + 59)
    assert wallet_of(connection, 1) == NEW
    assert [one.id for one in living_sessions(connection, 1, NOW)] == ["here"]
    assert len(living_sessions(connection, 2, NOW)) == 1
    assert find_token(connection, "reset", Purpose.PASSWORD, NOW) is None
    with pytest.raises(ValueError, match="not good any more"):
        email_changes.use(connection, "token", NOW + 59, None)


def test_only_the_latest_link_is_good_and_only_for_its_time(
    connection: sqlite3.Connection,
) -> None:
    email_changes.ask(connection, "first", 1, NEW, NOW, NOW + 60)
    email_changes.ask(connection, "second", 1, "other@example.com", NOW + 1, NOW + 61)
    for token, now in (("first", NOW + 1), ("second", NOW + 61)):
        with pytest.raises(ValueError, match="not good any more"):
            email_changes.use(connection, token, now, None)
    assert email_changes.use(connection, "second", NOW + 60, None).person.email != NEW


def test_a_link_is_void_where_it_must_be(connection: sqlite3.Connection) -> None:
    def asked() -> None:
        email_changes.ask(connection, "token", 1, NEW, NOW, NOW + 60)

    def refused() -> None:
        with pytest.raises(ValueError, match="not good any more"):
            email_changes.use(connection, "token", NOW, None)
        assert person_of(connection, 1).email == ANN

    asked()
    email_changes.forget(connection, 1)
    refused()
    asked()
    set_password(connection, 1, "another hash")
    refused()
    asked()
    set_enabled(connection, 1, enabled=False)
    refused()
    set_enabled(connection, 1, enabled=True)
    add_person(connection, NEW, None, "free", NOW)
    refused()


def test_a_wallet_of_another_name_keeps_it_and_nobody_elses_is_taken(
    connection: sqlite3.Connection,
) -> None:
    connection.execute("UPDATE user SET name = ? WHERE name = ?", (NEW, BOB))
    email_changes.ask(connection, "token", 1, NEW, NOW, NOW + 60)
    email_changes.use(connection, "token", NOW, None)
    assert wallet_of(connection, 1) == f"{NEW} (2)"
    email_changes.ask(connection, "again", 1, "last@example.com", NOW, NOW + 60)
    email_changes.use(connection, "again", NOW, None)
    assert wallet_of(connection, 1) == "last@example.com"
    email_changes.ask(connection, "bob", 2, ANN, NOW, NOW + 60)
    email_changes.use(connection, "bob", NOW, None)
    assert wallet_of(connection, 2) == NEW
