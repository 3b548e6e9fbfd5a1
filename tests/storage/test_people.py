import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.actions.action import Role
from proxy.storage import people
from proxy.storage.people import MEMBER, OWNER, add_member, add_person, membership
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    add_person(connection, "ann@example.com", "hash of ann", "free", NOW)
    add_person(connection, "bob@example.com", None, "small", NOW, role=Role.ADMIN, verified=True)
    add_member(connection, 2, 3, MEMBER, NOW + 1)
    yield connection
    connection.close()


def test_what_a_person_is_to_a_wallet(connection: sqlite3.Connection) -> None:
    assert membership(connection, 1, "ann@example.com") == OWNER
    assert membership(connection, 2, "ann@example.com") == MEMBER
    assert membership(connection, 1, "bob@example.com") is None
    assert membership(connection, 1, "nobody") is None
    connection.execute("UPDATE person SET enabled = 0 WHERE id = 1")
    assert membership(connection, 1, "ann@example.com") is None


def test_a_person_has_a_wallet_of_their_own_and_the_others_after_it(
    connection: sqlite3.Connection,
) -> None:
    ann = people.person_named(connection, "ann@example.com")
    assert (ann.role, ann.enabled, ann.verified_at, ann.password_hash) == (
        Role.USER, True, None, "hash of ann",
    )  # fmt: skip
    assert people.person_of(connection, 2).verified_at == NOW
    names = [(wallet.name, wallet.role) for wallet in people.wallets_of(connection, 2)]
    assert names == [("bob@example.com", OWNER), ("ann@example.com", MEMBER)]
    assert not add_member(connection, 2, 3, OWNER, NOW)
    assert membership(connection, 2, "ann@example.com") == MEMBER
    with pytest.raises(ValueError, match="an account already"):
        add_person(connection, "ann@example.com", None, "free", NOW)


def test_a_wallet_that_has_the_name_already_is_not_handed_over(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.execute("UPDATE user SET name = 'eve@example.com' WHERE name = 'ann'")
    _, wallet = add_person(connection, "eve@example.com", None, "free", NOW)
    assert wallet.name == "eve@example.com (2)"
    assert membership(connection, 3, "eve@example.com") is None
    monkeypatch.setattr(people, "WALLET_NAMES_MAX", 2)
    connection.execute("UPDATE user SET name = 'kim@example.com' WHERE name = 'bob'")
    with pytest.raises(ValueError, match="too many"):
        add_person(connection, "kim@example.com", None, "free", NOW)


def test_people_are_listed_a_page_at_a_time(connection: sqlite3.Connection) -> None:
    listed = people.list_people(connection, "", None, 1)
    assert [person.email for person in listed] == ["bob@example.com"]
    older = people.list_people(connection, "", listed[0].id, 10)
    assert [person.email for person in older] == ["ann@example.com"]
    assert [p.email for p in people.list_people(connection, " ANN@", None, 9)] == [
        "ann@example.com"
    ]
    assert people.list_people(connection, "%", None, 9) == []
    for rows_max in (0, people.PEOPLE_ROWS_MAX + 1):
        with pytest.raises(ValueError, match="at once"):
            people.list_people(connection, "", None, rows_max)


def test_there_is_always_an_administrator(connection: sqlite3.Connection) -> None:
    with pytest.raises(ValueError, match="last administrator"):
        people.set_role(connection, 2, Role.OPERATOR)
    with pytest.raises(ValueError, match="last administrator"):
        people.set_enabled(connection, 2, enabled=False)
    people.set_role(connection, 2, Role.ADMIN)
    people.set_role(connection, 1, Role.ADMIN)
    people.set_enabled(connection, 2, enabled=False)
    assert not people.person_of(connection, 2).enabled
    with pytest.raises(ValueError, match="last administrator"):
        people.set_role(connection, 1, Role.USER)
    people.set_enabled(connection, 2, enabled=True)
    people.set_role(connection, 1, Role.USER)
    assert people.person_of(connection, 1).role is Role.USER


def test_a_hash_is_replaced_only_if_it_is_still_that_one(connection: sqlite3.Connection) -> None:
    assert people.rehash_password(connection, 1, "hash of ann", "better hash")
    assert not people.rehash_password(connection, 1, "hash of ann", "late")
    assert people.person_of(connection, 1).password_hash == "better hash"
    people.set_password(connection, 1, "another")
    assert people.person_of(connection, 1).password_hash == "another"
    people.forget_password(connection, 1)
    assert people.person_of(connection, 1).password_hash is None


def test_an_address_is_confirmed_once(connection: sqlite3.Connection) -> None:
    assert people.set_verified(connection, 1, NOW + 5)
    assert not people.set_verified(connection, 1, NOW + 6)
    assert people.person_of(connection, 1).verified_at == NOW + 5


def test_only_our_languages_are_kept(connection: sqlite3.Connection) -> None:
    people.set_language(connection, 1, "zh")
    assert people.person_of(connection, 1).language == "zh"
    people.set_language(connection, 1, None)
    assert people.person_of(connection, 1).language is None
    with pytest.raises(ValueError, match="no language of the console"):
        people.set_language(connection, 1, "tlh")


def test_somebody_is_known_by_what_a_provider_calls_them(connection: sqlite3.Connection) -> None:
    people.add_identity(connection, "https://id.example", "7", 1, NOW)
    found = people.identity(connection, "https://id.example", "7")
    assert found is not None
    assert found.email == "ann@example.com"
    assert people.identity(connection, "https://other.example", "7") is None


def test_who_is_not_there_is_told(connection: sqlite3.Connection) -> None:
    assert people.find_person(connection, "no@example.com") is None
    with pytest.raises(ValueError, match=r"no person 'no@example.com'"):
        people.person_named(connection, "no@example.com")
    for change in (
        lambda: people.person_of(connection, 9),
        lambda: people.set_language(connection, 9, "en"),
    ):
        with pytest.raises(ValueError, match="no person 9"):
            change()
