import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.actions.action import Role
from proxy.storage import email_changes, leaving, teams
from proxy.storage import one_time_links as links
from proxy.storage.people import (
    MEMBER,
    OWNER,
    add_identity,
    add_person,
    find_person,
    identity,
    membership,
    person_named,
    person_of,
    set_role,
)
from proxy.storage.sign_ins import open_session
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed

ANN, BOB = "ann@example.com", "bob@example.com"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    add_person(connection, ANN, "hash of ann", "free", NOW, language="zh")
    add_person(connection, BOB, None, "free", NOW)
    yield connection
    connection.close()


def everything(connection: sqlite3.Connection) -> str:
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return repr([connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables])


def test_who_it_was_is_forgotten_and_the_books_stay(connection: sqlite3.Connection) -> None:
    wallet_id = person_of(connection, 1).wallet_id
    open_session(connection, "s", 1, NOW, "192.0.2.7", "Mozilla")
    links.add_token(connection, "t", links.Purpose.PASSWORD, 1, NOW, NOW + 60)
    email_changes.ask(connection, "e", 1, "next@example.com", NOW, NOW + 60)
    add_identity(connection, "https://id.example", "subject-7", 1, NOW)
    for token, used in (("a", False), ("b", True)):
        number = links.add_invitation(
            connection, token, email=ANN, wallet_id=None, role=MEMBER, invited_by=None,
            now=NOW, expires_at=NOW + 60,
        )  # fmt: skip
        if used:
            connection.execute(
                "UPDATE invitation SET used_at = ?, used_by = 1 WHERE id = ?", (NOW, number)
            )
    connection.execute(
        "INSERT INTO key (digest, prefix, last4, name, user_id, group_name, created_at, person_id) "
        "SELECT x'07', 'sk-', '0000', 'k', ?, name, ?, 1 FROM service_group LIMIT 1",
        (wallet_id, NOW),
    )
    (left,) = leaving.delete_person(connection, 1, NOW + 5)
    assert left == (wallet_id, "deleted-1", 0)
    found = everything(connection)
    for known in (ANN, "hash of ann", "192.0.2.7", "subject-7", "next@example.com"):
        assert known not in found
    ann = person_of(connection, 1)
    assert (ann.email, ann.enabled, ann.language, ann.deleted_at) == (
        "deleted-1@deleted.invalid", False, None, NOW + 5,
    )  # fmt: skip
    assert identity(connection, "https://id.example", "subject-7") is None
    assert links.find_invitation(connection, "a", NOW) is None
    assert connection.execute("SELECT enabled FROM key WHERE digest = x'07'").fetchone() == (0,)
    enabled = "SELECT enabled FROM user WHERE id = ?"
    assert connection.execute(enabled, (wallet_id,)).fetchone() == (0,)
    with pytest.raises(ValueError, match="no person"):
        person_named(connection, ann.email)
    # The address is free again, with a wallet of its own.
    again, wallet = add_person(connection, ANN, None, "free", NOW)
    assert (again.id, wallet.name) == (3, ANN)


def test_a_team_keeps_an_owner_and_goes_on_without_who_left(
    connection: sqlite3.Connection,
) -> None:
    team = teams.add_team(connection, "Research", 1, NOW)
    alone = teams.add_team(connection, "Alone", 1, NOW)
    links.add_invitation(
        connection, "open", email=None, wallet_id=alone.id, role=MEMBER, invited_by=1,
        now=NOW, expires_at=NOW + 60,
    )  # fmt: skip
    teams.join(connection, 2, team.id, MEMBER, NOW)
    with pytest.raises(ValueError, match="'Research' would have no owner; make another"):
        leaving.delete_person(connection, 1, NOW)
    assert person_of(connection, 1).email == ANN
    teams.set_member_role(connection, team.id, BOB, OWNER)
    connection.execute("UPDATE person SET enabled = 0 WHERE id = 2")
    with pytest.raises(ValueError, match="no owner"):
        leaving.delete_person(connection, 1, NOW)
    connection.execute("UPDATE person SET enabled = 1 WHERE id = 2")
    left = leaving.delete_person(connection, 1, NOW)
    assert [one.name for one in left] == ["deleted-1", "Alone"]
    assert links.find_invitation(connection, "open", NOW) is None
    assert membership(connection, 2, "Research") == OWNER
    assert [one.email for one in teams.members_of(connection, team.id)] == [BOB]
    rows = connection.execute("SELECT enabled FROM user WHERE name = 'Research'").fetchall()
    assert rows == [(1,)]
    # A member may leave a team whose owners stay.
    carl, _ = add_person(connection, "carl@example.com", None, "free", NOW)
    teams.join(connection, carl.id, team.id, MEMBER, NOW)
    assert len(leaving.delete_person(connection, carl.id, NOW)) == 1


def test_the_last_administrator_stays(connection: sqlite3.Connection) -> None:
    set_role(connection, 1, Role.ADMIN)
    with pytest.raises(ValueError, match="last administrator"):
        leaving.delete_person(connection, 1, NOW)
    set_role(connection, 2, Role.ADMIN)
    leaving.delete_person(connection, 1, NOW)
    assert person_of(connection, 1).role is Role.USER
    assert find_person(connection, ANN) is None
