import sqlite3
from pathlib import Path

from proxy.core.actions.action import LOCAL, Action, Arguments
from proxy.storage import audit
from proxy.storage.reader import Reader
from proxy.storage.reports.audit_log import UNFINISHED, Entry, Sought, entries
from tests.storage.reports.test_usage_log import ledger, reading
from tests.storage.world import NOW

ONE = Action("user set", Arguments, "x.")
OTHER = Action("price set", Arguments, "x.")


def note(connection: sqlite3.Connection, action: Action, at: float) -> int:
    return audit.begin(connection, audit.entry(action, Arguments(), LOCAL, at))


def test_entries_are_found_by_who_what_when_and_how_they_ended(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    numbers = [note(connection, ONE if each % 2 else OTHER, NOW + each) for each in range(6)]
    audit.end(connection, numbers[0], audit.Outcome.DONE)
    audit.end(connection, numbers[1], audit.Outcome.REFUSED, "no")
    connection.close()

    async def scene(reader: Reader) -> None:
        async def ids(sought: Sought, before: int | None = None, rows: int = 50) -> list[int]:
            return [each.id for each in await entries(reader, sought, before, rows)]

        everything = await ids(Sought())
        assert everything == numbers[::-1]
        assert await ids(Sought(), rows=2) == numbers[:3:-1]
        assert await ids(Sought(), before=numbers[2]) == [numbers[1], numbers[0]]
        assert await ids(Sought(action="PRICE")) == [numbers[4], numbers[2], numbers[0]]
        assert await ids(Sought(actor="COMMAND")) == everything
        assert await ids(Sought(actor="nobody%")) == []
        assert await ids(Sought(outcome="refused")) == [numbers[1]]
        assert await ids(Sought(outcome=UNFINISHED)) == numbers[:1:-1]
        assert await ids(Sought(since=NOW + 1, until=NOW + 3)) == [numbers[2], numbers[1]]
        (found,) = await entries(reader, Sought(outcome="refused"))
        assert found == Entry(
            numbers[1], NOW + 1, "cli", "command line", None, "user set", "{}", "refused", "no"
        )

    reading(tmp_path, scene)
