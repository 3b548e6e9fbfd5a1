"""Single entries of the catalog are changed, and nothing else is."""

import sqlite3
from pathlib import Path

import pytest

from proxy.storage import edits
from proxy.storage.imports import export_catalog
from proxy.storage.sqlite import Durability, open_writer
from tests.storage.world import MASTER, NOW, seed


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    made = open_writer(tmp_path / "sluice.db", Durability.PROCESS, NOW)
    made.execute("BEGIN")
    seed(made)
    return made


def test_an_edit_changes_its_entry_alone(connection: sqlite3.Connection) -> None:
    before = export_catalog(connection, MASTER)
    edit = edits.setting("group", "double", {"multiplier": "4"}, create=False, basis=None)
    (change,) = edits.edit(connection, [edit], master=MASTER, now=NOW)
    assert change.detail == "multiplier: 2000000 -> 4000000"
    after = export_catalog(connection, MASTER)
    assert after.pop("version") == before.pop("version") + 1
    assert after.pop("group")[1]["multiplier"] == "4.0"
    del before["group"]
    assert after == before
    connection.close()


def test_removing_what_is_needed_or_absent_is_refused(connection: sqlite3.Connection) -> None:
    for name, message in (("nobody", "there is no group 'nobody'"), ("default", "names group")):
        with pytest.raises(ValueError, match=message):
            edits.edit(connection, [edits.removing("group", name)], master=MASTER, now=NOW)
    connection.close()


def test_a_basis_names_what_it_was_and_leaves_out_what_has_its_own_actions() -> None:
    table = {"name": "c", "weight": 1, "keys": ["sealed:1"]}
    basis = edits.basis_of("channel", table)
    assert basis == edits.basis_of("channel", {**table, "keys": []})
    assert basis != edits.basis_of("channel", {**table, "weight": 2})
    assert edits.basis_of("group", None) == edits.fingerprint(None) == "none"
    assert edits.basis_of("model", {"name": "m", "price": {}}) == edits.fingerprint({"name": "m"})


def test_an_edit_that_was_made_of_something_else_is_refused() -> None:
    edit = edits.setting("group", "g", {"a": 1}, create=False, basis="other")
    with pytest.raises(ValueError, match="group 'g' was changed since it was read: check"):
        edit.table({"name": "g"})
    now = edits.basis_of("group", {"name": "g", "b": 2})
    edit = edits.setting("group", "g", {"a": 1, "b": None}, create=False, basis=now)
    assert edit.table({"name": "g", "b": 2}) == {"name": "g", "a": 1}
