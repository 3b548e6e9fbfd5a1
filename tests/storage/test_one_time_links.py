import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.storage import one_time_links as links
from proxy.storage.one_time_links import TOKENS_MAX, Purpose
from proxy.storage.people import add_person, set_password
from proxy.storage.secrets import KEY_RANDOM_BYTES
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed

TOKEN = links.new_token(bytes(range(KEY_RANDOM_BYTES)))


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    add_person(connection, "ann@example.com", None, "free", NOW)
    add_person(connection, "bob@example.com", None, "free", NOW)
    yield connection
    connection.close()


def test_a_link_is_good_once_for_one_thing_until_its_time(connection: sqlite3.Connection) -> None:
    assert links.add_token(connection, TOKEN, Purpose.PASSWORD, 1, NOW, NOW + 60)
    assert TOKEN not in repr(connection.execute("SELECT * FROM mail_token").fetchall())
    assert links.find_token(connection, TOKEN, Purpose.VERIFY, NOW) is None
    assert links.find_token(connection, TOKEN, Purpose.PASSWORD, NOW + 60) is None
    assert links.find_token(connection, TOKEN[:-1], Purpose.PASSWORD, NOW) is None
    assert links.find_token(connection, "\ud800", Purpose.PASSWORD, NOW) is None
    assert links.use_token(connection, TOKEN, Purpose.PASSWORD, NOW + 59) == 1
    with pytest.raises(ValueError, match="not good any more"):
        links.use_token(connection, TOKEN, Purpose.PASSWORD, NOW + 59)


def test_a_new_password_makes_other_links_to_set_one_void(connection: sqlite3.Connection) -> None:
    links.add_token(connection, "one", Purpose.PASSWORD, 1, NOW, NOW + 60)
    links.add_token(connection, "two", Purpose.VERIFY, 1, NOW, NOW + 60)
    set_password(connection, 1, "hash")
    assert links.find_token(connection, "one", Purpose.PASSWORD, NOW) is None
    assert links.find_token(connection, "two", Purpose.VERIFY, NOW) == 1


def test_links_are_few_and_make_room_when_they_are_over(connection: sqlite3.Connection) -> None:
    for number in range(TOKENS_MAX):
        assert links.add_token(connection, f"{number}", Purpose.VERIFY, 1, NOW, NOW + 60)
    assert not links.add_token(connection, "more", Purpose.VERIFY, 1, NOW, NOW + 60)
    assert links.add_token(connection, "other", Purpose.PASSWORD, 1, NOW, NOW + 60)
    assert links.add_token(connection, "bob's", Purpose.VERIFY, 2, NOW, NOW + 60)
    assert links.add_token(connection, "later", Purpose.VERIFY, 1, NOW + 61, NOW + 99)
    (left,) = connection.execute("SELECT count(*) FROM mail_token WHERE person_id = 1").fetchone()
    assert left == 1


def invite(connection: sqlite3.Connection, token: str, email: str | None = None) -> int:
    return links.add_invitation(
        connection, token, email=email, wallet_id=1, role="owner", invited_by=1, now=NOW,
        expires_at=NOW + 60,
    )  # fmt: skip


def test_an_invitation_is_for_one_and_for_its_address_if_it_names_one(
    connection: sqlite3.Connection,
) -> None:
    invite(connection, "open")
    invite(connection, "bob's", "bob@example.com")
    found = links.find_invitation(connection, "open", NOW)
    assert found is not None
    assert (found.wallet, found.role, found.email) == ("ann", "owner", None)
    with pytest.raises(ValueError, match="not good"):
        links.use_invitation(connection, "bob's", "ann@example.com", 1, NOW)
    links.use_invitation(connection, "bob's", "bob@example.com", 2, NOW)
    links.use_invitation(connection, "open", "ann@example.com", 1, NOW)
    for token in ("open", "bob's", "never"):
        assert links.find_invitation(connection, token, NOW) is None
        with pytest.raises(ValueError, match="not good"):
            links.use_invitation(connection, token, "bob@example.com", 2, NOW)


def test_an_invitation_ends_by_time_or_is_taken_back(connection: sqlite3.Connection) -> None:
    first, second = invite(connection, "first"), invite(connection, "second")
    assert [row.id for row in links.list_invitations(connection, 1, NOW)] == [second, first]
    assert links.list_invitations(connection, None, NOW) == []
    assert links.find_invitation(connection, "first", NOW + 60) is None
    for wallet in (2, None):
        with pytest.raises(ValueError, match="no open invitation"):
            links.revoke_invitation(connection, first, wallet, NOW)
    links.revoke_invitation(connection, first, 1, NOW)
    with pytest.raises(ValueError, match="no open invitation"):
        links.revoke_invitation(connection, first, 1, NOW)
    assert links.find_invitation(connection, "first", NOW) is None
    assert [row.id for row in links.list_invitations(connection, 1, NOW)] == [second]


def test_open_invitations_are_bounded(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "INVITATIONS_MAX", 2)
    invite(connection, "a")
    invite(connection, "b")
    with pytest.raises(ValueError, match="2 open invitations already"):
        invite(connection, "c")
