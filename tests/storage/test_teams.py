import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.storage import teams
from proxy.storage.people import MEMBER, OWNER, add_person, membership
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW, seed

ANN, BOB = "ann@example.com", "bob@example.com"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    seed(connection)
    add_person(connection, ANN, None, "small", NOW)
    add_person(connection, BOB, None, "free", NOW)
    yield connection
    connection.close()


def test_a_team_has_its_makers_plan_and_its_maker_as_owner(
    connection: sqlite3.Connection,
) -> None:
    team = teams.add_team(connection, "Research", 1, NOW + 1)
    plan = connection.execute("SELECT plan FROM user WHERE id = ?", (team.id,)).fetchone()
    assert plan == ("small",)
    assert membership(connection, 1, "Research") == OWNER
    for name, why in (
        ("Research", "already"),
        ("x@y.z", "none of @"),
        ("evil.example/x", "none of @"),
        ("x" * 61, "at most 60"),
        (" x", "spaces"),
        ("", "1 to"),
    ):
        with pytest.raises(ValueError, match=why):
            teams.add_team(connection, name, 1, NOW)
    connection.execute("UPDATE person SET wallet_id = NULL WHERE id = 2")
    with pytest.raises(ValueError, match="you have none"):
        teams.add_team(connection, "Nothing", 2, NOW)


def test_a_team_has_an_owner_at_all_times(connection: sqlite3.Connection) -> None:
    team = teams.add_team(connection, "Research", 1, NOW).id
    assert teams.join(connection, 2, team, MEMBER, NOW + 1)
    assert not teams.join(connection, 2, team, OWNER, NOW + 1)
    alone: tuple[Callable[[], object], ...] = (
        lambda: teams.set_member_role(connection, team, ANN, MEMBER),
        lambda: teams.remove_member(connection, team, ANN),
    )
    for change in alone:
        with pytest.raises(ValueError, match="last owner"):
            change()
    teams.set_member_role(connection, team, BOB, OWNER)
    teams.set_member_role(connection, team, ANN, MEMBER)
    assert [(m.email, m.role) for m in teams.members_of(connection, team)] == [
        (ANN, MEMBER), (BOB, OWNER),
    ]  # fmt: skip
    assert teams.remove_member(connection, team, ANN).email == ANN
    assert membership(connection, 1, "Research") is None
    for change in (
        lambda: teams.set_member_role(connection, team, ANN, OWNER),
        lambda: teams.remove_member(connection, team, ANN),
    ):
        with pytest.raises(ValueError, match="no member of this team"):
            change()


def test_members_and_wallets_are_bounded(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = teams.add_team(connection, "Research", 1, NOW).id
    monkeypatch.setattr(teams, "MEMBERS_MAX", 1)
    with pytest.raises(ValueError, match="at most 1 members"):
        teams.join(connection, 2, team, MEMBER, NOW)
    monkeypatch.setattr(teams, "MEMBERS_MAX", 9)
    monkeypatch.setattr(teams, "WALLETS_MAX", 1)
    with pytest.raises(ValueError, match="at most 1 wallets"):
        teams.join(connection, 2, team, MEMBER, NOW)
    with pytest.raises(ValueError, match="at most 1 wallets"):
        teams.add_team(connection, "Another", 1, NOW)
