import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.core.actions.action import Actor, Role, Via
from proxy.core.actions.channels import ChannelAdd
from proxy.core.actions.table import ACTIONS
from proxy.core.actions.users import UserAdd
from proxy.storage import audit
from proxy.storage.audit import Outcome
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import NOW

ANN = Actor(Role.ADMIN, "ann@example.com", Via.CONSOLE, 3, "192.0.2.9")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "a.db", Durability.PROCESS, NOW)
    yield connection
    connection.close()


def test_an_entry_is_completed_once_and_never_changes(connection: sqlite3.Connection) -> None:
    one = audit.entry(ACTIONS["user add"], UserAdd("bob", credit="5"), ANN, NOW)
    number = audit.begin(connection, one)
    row = connection.execute("SELECT * FROM audit").fetchone()
    assert row == (
        number, NOW, "console", "ann@example.com", 3, "192.0.2.9", "user add",
        '{"name":"bob","credit":"5"}', None, None,
    )  # fmt: skip
    audit.end(connection, number, Outcome.REFUSED, "x" * 999)
    told = connection.execute("SELECT outcome, reason FROM audit").fetchone()
    assert told == ("refused", "x" * audit.REASON_CHARS_MAX)
    with pytest.raises(sqlite3.IntegrityError, match="does not change"):
        audit.end(connection, number, Outcome.DONE)
    with pytest.raises(sqlite3.IntegrityError, match="does not change"):
        connection.execute("DELETE FROM audit")


def test_secrets_are_left_out_and_long_arguments_cut() -> None:
    hidden = audit.entry(ACTIONS["channel add"], ChannelAdd({"keys": ["canary"]}), ANN, NOW)
    assert hidden.arguments == '{"table":"***"}'
    long = audit.entry(ACTIONS["user add"], UserAdd("x" * 9_999), ANN, NOW)
    assert long.arguments.startswith('{"cut":"')
    assert len(long.arguments) < 2 * audit.ARGUMENTS_CHARS_MAX
