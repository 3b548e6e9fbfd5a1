import asyncio
import contextlib
import random
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.core.ledger import Transfer, in_full
from proxy.storage import redo as module
from proxy.storage import rows
from proxy.storage.batch import (
    CALL_ADDED,
    CALL_COLUMNS,
    OPEN_COLUMNS,
    ORDINARY_CALL_COLUMNS,
    SETTLED_COLUMNS,
    SHARED_COLUMNS,
    Batch,
    completed,
)
from proxy.storage.billing import Keeper
from proxy.storage.ports import Admission
from proxy.storage.redo import (
    ENDED,
    OPENED,
    SETTLED,
    UNDONE,
    Ended,
    Opened,
    RedoLog,
    Undone,
    catch_up,
    log_files,
    replay,
)
from proxy.storage.sqlite import Durability, open_writer
from proxy.storage.verify import verify
from tests.storage.test_batch import call_row, open_row
from tests.storage.world import USD, closing, keeper, opening, read


def scene(path: Path, play: Callable[[Keeper], Awaitable[None]], **options: Any) -> None:
    """Play on a keeper with a redo log, then stop it."""

    async def main() -> None:
        office = await keeper(path, redo=True, **options)
        try:
            await play(office)
        finally:
            await office.close()

    asyncio.run(main())


def died(path: Path, folder: Path) -> Path:
    """What a kill would leave at this moment: the log first, because the file only grows newer."""
    folder.mkdir()
    for suffix in ("-redo0", "-redo1", "", "-wal"):
        source = Path(f"{path}{suffix}")
        if source.exists():
            shutil.copy(source, folder / source.name)
    return folder / path.name


async def restart(path: Path) -> int:
    """Start on what was left, settle what was open, stop; returns how many calls were open."""
    office = await keeper(path)
    await office.close()
    return office.recovery.calls


def test_an_ended_call_is_durable_before_the_database_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def play(office: Keeper) -> None:
        admission = await office.admit(opening(1))
        assert isinstance(admission, Admission)
        assert admission.committed.done(), "nobody has to ask for it first"
        receipt = office.settle(closing(1))
        assert receipt.committed.done()
        assert receipt.committed.exception() is None
        streaming = await office.admit(opening(2, stream=True))
        assert isinstance(streaming, Admission)
        assert streaming.committed.done()
        assert read(path, "SELECT id FROM call") == []
        left = died(path, tmp_path / "left")
        assert read(left, "SELECT id FROM call") == []
        assert await restart(left) == 1
        rows = read(left, "SELECT id, verdict, charge FROM call ORDER BY id")
        assert rows == [(1, "complete", 50_000), (2, "internal_error", 0)]
        assert read(left, "SELECT balance FROM account WHERE id = 9") == [(USD - 50_000,)]
        assert read(left, "SELECT spent FROM key_spend WHERE key_id = 1") == [(50_000,)]
        assert verify(left, quiet=True).clean
        assert await restart(left) == 0, "nothing is taken twice"
        assert verify(left, quiet=True).wallets == 2 * USD - 50_000
        office.settle(closing(2))

    scene(path, play)
    assert [row[0] for row in read(path, "SELECT id FROM call ORDER BY id")] == [1, 2]
    assert verify(path, quiet=True).clean
    assert not any(file.exists() for file in log_files(path))


def test_whenever_it_dies_what_was_promised_is_there_and_adds_up(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.db", random.Random(5)

    async def play(office: Keeper) -> None:
        waiting: list[int] = []
        promised: set[int] = set()
        undone: set[int] = set()
        for step in range(1, 120):
            stream = rng.random() < 0.3
            admission = await office.admit(opening(step, stream=stream, user_id=1))
            assert isinstance(admission, Admission)
            waiting.append(step)
            if rng.random() < 0.5:
                await admission.committed
            while waiting and rng.random() < 0.6:
                call_id = waiting.pop(rng.randrange(len(waiting)))
                if rng.random() < 0.2:
                    office.undo(call_id)
                    undone.add(call_id)
                else:
                    assert office.settle(closing(call_id)).committed.done()
                    promised.add(call_id)
            if rng.random() < 0.3:
                await asyncio.sleep(0.025 if rng.random() < 0.3 else 0)
            if step % 10 == 0:
                left = died(path, tmp_path / f"left{step}")
                await restart(left)
                report = verify(left, quiet=True)
                assert report.clean, report.problems
                ended = {row[0] for row in read(left, "SELECT id FROM call WHERE charge > 0")}
                assert ended == promised
                assert not undone & {row[0] for row in read(left, "SELECT id FROM call")}
        for call_id in waiting:
            office.settle(closing(call_id))

    scene(path, play)
    assert verify(path, quiet=True).clean


def test_a_full_log_waits_for_the_database_and_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_BYTES_MAX", 4_096)
    path = tmp_path / "a.db"

    async def play(office: Keeper) -> None:
        receipts = []
        for call_id in range(1, 41):
            admission = await office.admit(opening(call_id, stream=call_id % 2 == 0))
            assert isinstance(admission, Admission)
            receipts.append(office.settle(closing(call_id)))
        late = [receipt for receipt in receipts if not receipt.committed.done()]
        assert receipts[0].committed.done()
        assert late == receipts[-len(late) :], "what is logged is a prefix"
        assert late
        held = await office.admit(opening(41))
        assert isinstance(held, Admission)
        assert not held.committed.done()
        await late[-1].committed
        await held.committed
        assert len(read(path, "SELECT id FROM call")) == 40
        assert office.settle(closing(41)).committed.done(), "the log is in use again"
        await restart(died(path, tmp_path / "left"))
        assert len(read(tmp_path / "left" / "a.db", "SELECT id FROM call")) == 41

    scene(path, play)


def test_nothing_of_a_log_is_promised_once_the_database_has_failed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    faults: list[BaseException] = []

    async def play(office: Keeper) -> None:
        await office.admit(opening(1))
        await office.admit(opening(2))
        office.settle(closing(1))
        office._writer._failed_with(sqlite3.OperationalError("database or disk is full"))
        receipt = office.settle(closing(2))
        assert not receipt.committed.done()
        with pytest.raises(Exception, match="full"):
            await receipt.committed

    scene(path, play, on_fatal=faults.append)
    assert len(faults) == 1
    assert all(file.exists() for file in log_files(path)), "the next start needs them"
    asyncio.run(restart(path))
    assert read(path, "SELECT id, charge FROM call ORDER BY id") == [(1, 50_000), (2, 0)]


def test_power_durability_and_commands_use_no_log(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "a.db"
        for office in (
            await keeper(path, redo=True, durability=Durability.POWER),
            await keeper(path),
        ):
            assert not any(file.exists() for file in log_files(path))
            await office.close()

    asyncio.run(main())


class Desk:
    """A log on a database of its own, as a keeper would write it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "a.db"

        async def make() -> None:
            await (await keeper(self.path)).close()

        asyncio.run(make())
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.log = RedoLog.begin(self.connection, self.path)

    def end(self, call_id: int) -> None:
        assert self.log.append((ENDED, call_id, call_row(call_id), (), (), None))

    def calls(self) -> list[int]:
        return [row[0] for row in self.connection.execute("SELECT id FROM call ORDER BY id")]

    def replay(self) -> int:
        return replay(self.connection, self.path)

    def close(self) -> None:
        self.log.close(delete=False)
        self.connection.close()


@pytest.fixture
def desk(tmp_path: Path) -> Any:
    with contextlib.closing(Desk(tmp_path)) as made:
        yield made


def test_records_of_both_files_are_taken_in_order_once(desk: Desk) -> None:
    for call_id in range(1, 4):
        desk.end(call_id)
    assert desk.log.turn() == 3
    desk.end(4)
    assert desk.replay() == 4
    assert desk.calls() == [1, 2, 3, 4]
    assert desk.replay() == 0
    assert desk.log.turn() == 4
    desk.end(5)  # over 1, which the database has; 2 and 3 stay behind it
    assert desk.replay() == 1
    assert desk.calls() == [1, 2, 3, 4, 5]


def test_an_opened_call_ends_or_goes_whether_its_row_was_written_or_not(desk: Desk) -> None:
    for call_id in (1, 2):
        desk.connection.execute(
            "INSERT INTO open_call (id, key_id, user_id, endpoint, dialect, model, group_name, "
            "stream, price_version, multiplier, started_at, input_estimate, hold) "
            "VALUES (?, 1, 1, 'chat', 'openai', 'm', 'default', 0, 1, 1, 1.0, 1, 1)",
            (call_id,),
        )
    for call_id in (3, 4, 5):
        assert desk.log.append((OPENED, call_id, open_row(call_id)))
    desk.end(1)
    assert desk.log.append((UNDONE, 2))
    desk.end(3)
    assert desk.log.append((UNDONE, 4))
    assert desk.log.append((UNDONE, 6))
    desk.end(7)
    assert desk.replay() == 9
    assert desk.calls() == [1, 3, 7]
    assert desk.connection.execute("SELECT id FROM open_call").fetchall() == [(5,)]


def test_what_is_written_is_what_is_read() -> None:
    transfer = Transfer(1, 0, "charge", 9, 2, 3, 1.0)
    ended = (
        ENDED,
        1,
        call_row(1),
        [(1, 2.5, None)],
        [transfer],
        (1, "total", 0, 5),
        (1, 9, 3, 1.0),
    )
    opened = (OPENED, 1, open_row(1))
    for written, read_as in ((opened, Opened), (ended, Ended), ((UNDONE, 1), Undone)):
        record = module._decode(module._encode(written))
        assert type(record) is read_as
        assert module._encode(record) == module._encode(written)


def test_ordinary_rows_are_taken_as_they_are(desk: Desk) -> None:
    opened = [rows.open_row(opening(call_id), 9) for call_id in (1, 2)]
    call = dict(zip(CALL_COLUMNS, call_row(1), strict=True))
    short = tuple([call[name] for name in ORDINARY_CALL_COLUMNS])
    assert desk.log.append((OPENED, 1, opened[0]))
    assert desk.log.append((OPENED, 2, opened[1]))
    assert desk.log.append((ENDED, 1, short, (), (), None))
    assert desk.replay() == 3
    assert desk.connection.execute("SELECT id, verdict FROM call").fetchall() == [(1, "complete")]
    found = desk.connection.execute("SELECT id, hold, client_reference FROM open_call").fetchall()
    assert found == [(2, 9, None)]


def old_record(epoch: int, serial: int, record: object) -> bytes:
    """As the release before wrote it: each record with its epoch, serial and own checksum."""
    body = module._encode(record)
    entry = struct.pack("<QQI", epoch, serial, len(body)) + body
    return entry + struct.pack("<I", zlib.crc32(entry))


def test_a_log_in_the_form_of_the_release_before_is_taken(desk: Desk) -> None:
    epoch, transfer = desk.log._epoch, Transfer(2, 0, "charge", 9, 2, 30, 1.0)
    desk.connection.execute("UPDATE account SET balance = 100 WHERE id = 9")
    ended = (ENDED, 2, call_row(2), [(2, 0, 1, 1, 1.0, 200, "served", None, "m", None, 0, 1.0)])
    written = [
        old_record(epoch, 1, (ENDED, 1, call_row(1), (), (), None)),
        old_record(epoch, 2, (OPENED, 2, open_row(2))),
        old_record(epoch, 3, (*ended, [transfer], (1, "total", 0, 30))),
        old_record(epoch, 2, (ENDED, 8, call_row(8), (), (), None)),
    ]
    first, second = log_files(desk.path)
    first.write_bytes(b"".join(written) + b"\0" * 100)
    second.write_bytes(old_record(epoch, 4, (ENDED, 3, call_row(3), (), (), None))[:-1])
    assert desk.replay() == 3
    assert desk.calls() == [1, 2]
    assert desk.connection.execute("SELECT balance FROM account WHERE id = 9").fetchone() == (70,)


def test_the_release_before_refuses_a_log_of_this_one(desk: Desk) -> None:
    """It read every record so, and took what it found for the row of a call."""
    desk.end(1)
    data = log_files(desk.path)[0].read_bytes()
    epoch, serial, size = struct.unpack_from("<QQI", data)
    body, checksum = data[20 : 20 + size], data[20 + size : 24 + size]
    assert (epoch, serial) == (desk.log._epoch, 1)
    assert checksum == struct.pack("<I", zlib.crc32(data[: 20 + size]))
    record = module._decode(body)
    assert isinstance(record, Ended)
    found = Batch()
    found.end(completed(record.row), record.attempts, record.transfers, record.spend)
    with pytest.raises(AssertionError, match="of no form that is known"):
        found.apply(desk.connection)


def test_a_settled_call_says_what_its_open_row_does_not(desk: Desk) -> None:
    desk.connection.execute("UPDATE account SET balance = 100 WHERE id = 9")
    values: dict[str, Any] = dict.fromkeys(SETTLED_COLUMNS, 1)
    opened = [rows.open_row(opening(call_id), 9) for call_id in (1, 2)]
    values |= {"source": "counted", "upstream_model": "m-2", "period": "total", "spent": 5}
    said = tuple(values.values())[len(opened[0]) :]
    cost = Transfer(1, 3, "upstream_cost", 13, 14, 7, 2.5)
    desk.connection.execute("INSERT OR IGNORE INTO account (id) VALUES (13), (14)")
    assert desk.log.append((OPENED, 1, opened[0]))
    assert desk.log.append((SETTLED, 1, said, [cost]))
    assert desk.log.append((SETTLED, 2, opened[1] + said, ()))
    assert desk.replay() == 3
    found = desk.connection.execute("SELECT id, model, source, charge FROM call").fetchall()
    assert found == [(1, "m", "counted", 1), (2, "m", "counted", 1)]
    moved = desk.connection.execute("SELECT event_id, amount FROM transfer WHERE event_id < 3")
    assert moved.fetchall() == [(1, 1), (1, 7), (2, 1)]
    assert desk.connection.execute("SELECT spent FROM key_spend").fetchall() == [(5,)]
    assert desk.log.append((SETTLED, 3, said, ()))
    with pytest.raises(sqlite3.DatabaseError, match=r"call 3 was settled and had not begun"):
        desk.replay()
    assert desk.calls() == [1, 2]


@pytest.mark.parametrize("where", ["by itself", "among the transfers"])
def test_a_charge_is_taken_wherever_the_log_has_it(desk: Desk, where: str) -> None:
    desk.connection.execute("UPDATE account SET balance = 100 WHERE id = 9")
    charge = (1, 9, 30, 1.0)
    ended = (ENDED, 1, call_row(1), ())
    alone = where == "by itself"
    assert desk.log.append(
        (*ended, (), None, charge) if alone else (*ended, (in_full(charge),), None)
    )
    assert desk.replay() == 1
    found = desk.connection.execute("SELECT * FROM transfer WHERE event_id = 1").fetchall()
    assert found == [in_full(charge)]
    assert desk.connection.execute("SELECT balance FROM account WHERE id = 9").fetchone() == (70,)


def test_an_ended_call_says_what_its_open_row_does_not(desk: Desk) -> None:
    opened = rows.open_row(opening(1), 9)
    call = dict(zip(CALL_COLUMNS, call_row(1), strict=True))
    rest = tuple([call[name] for name in ORDINARY_CALL_COLUMNS])[SHARED_COLUMNS:]
    assert desk.log.append((OPENED, 1, opened))
    assert desk.log.append((ENDED, 1, rest, (), (), None))
    assert desk.replay() == 2
    names = ", ".join(OPEN_COLUMNS[:SHARED_COLUMNS])
    found = desk.connection.execute(f"SELECT {names}, source FROM call").fetchall()
    assert found == [(*opened[:SHARED_COLUMNS], "x")]
    assert desk.log.append((ENDED, 2, rest, (), (), None))
    with pytest.raises(sqlite3.DatabaseError, match=r"call 2 ended and had not begun"):
        desk.replay()
    assert desk.calls() == [1]


def test_no_row_of_a_call_is_as_wide_as_another() -> None:
    older = range(len(CALL_COLUMNS) - len(CALL_ADDED), len(CALL_COLUMNS) + 1)
    widths = [module.REST_OF_CALL_COLUMNS, len(ORDINARY_CALL_COLUMNS), *older]
    assert len(set(widths)) == len(widths)
    assert ORDINARY_CALL_COLUMNS[:SHARED_COLUMNS] == OPEN_COLUMNS[:SHARED_COLUMNS]
    assert CALL_COLUMNS[:SHARED_COLUMNS] == OPEN_COLUMNS[:SHARED_COLUMNS]


@pytest.mark.parametrize("ended_at", ["at once", "in a later batch"])
def test_a_call_in_the_log_is_whole_whenever_it_ended(tmp_path: Path, ended_at: str) -> None:
    path = tmp_path / "a.db"

    async def play(office: Keeper) -> None:
        for call_id, stream in ((1, False), (2, True)):
            await office.admit(opening(call_id, stream=stream))
        if ended_at == "in a later batch":
            await office.catch_up()
        for call_id in (1, 2):
            office.settle(closing(call_id))
        left = died(path, tmp_path / "left")
        await restart(left)
        assert verify(left, quiet=True).clean
        await office.catch_up()
        names = ", ".join(name for name in CALL_COLUMNS if name != "duration_ms")
        assert read(left, f"SELECT {names} FROM call") == read(path, f"SELECT {names} FROM call")
        assert read(path, "SELECT count(*) FROM call") == [(2,)]

    scene(path, play)


def test_a_log_of_the_release_before_is_taken_with_what_its_rows_lacked(desk: Desk) -> None:
    columns = len(CALL_COLUMNS) - len(CALL_ADDED)
    assert desk.log.append((ENDED, 1, call_row(1)[:columns], (), (), None))
    assert desk.replay() == 1
    found = desk.connection.execute("SELECT id, audio_ms, searches, variant FROM call").fetchall()
    assert found == [(1, 0, 0, "")]


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_a_torn_record_and_what_follows_it_were_never_promised(desk: Desk, cut: int) -> None:
    desk.end(1)
    whole = desk.log._now.tell()
    desk.end(2)
    desk.end(3)
    file = log_files(desk.path)[0]
    data = bytearray(file.read_bytes())
    data[whole + cut] ^= 255
    file.write_bytes(data if cut < 10_000 else data[: whole + 30])
    assert desk.replay() == 1
    assert desk.calls() == [1]


def test_a_gap_ends_what_is_believed(desk: Desk) -> None:
    desk.end(1)
    desk.log.turn()
    desk.end(2)
    log_files(desk.path)[0].unlink()
    assert desk.replay() == 0
    assert desk.calls() == []


def test_a_log_of_another_time_or_database_is_not_believed(desk: Desk) -> None:
    desk.end(1)
    desk.log.close(delete=False)
    desk.log = RedoLog.begin(desk.connection, desk.path)
    assert desk.replay() == 0
    desk.end(2)
    assert desk.replay() == 1
    assert desk.calls() == [2]


def test_a_log_that_does_not_fit_says_so_and_changes_nothing(desk: Desk) -> None:
    transfer = Transfer(1, 0, "charge", 9, 2, 3 * USD, 1.0)
    assert desk.log.append((ENDED, 1, call_row(1), (), (transfer,), None))
    with pytest.raises(sqlite3.DatabaseError, match=r"-redo0 and a\.db-redo1 do not fit"):
        desk.replay()
    assert desk.calls() == []


def test_files_that_cannot_be_made_or_read_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(Desk(tmp_path)) as desk:
        file = log_files(desk.path)[0]
        desk.log.close(delete=True)
        file.mkdir()
        with pytest.raises(sqlite3.OperationalError, match="cannot be read"):
            desk.replay()
        with pytest.raises(sqlite3.OperationalError, match="no redo log can be made"):
            RedoLog.begin(desk.connection, desk.path)
        file.rmdir()
        desk.log = RedoLog.begin(desk.connection, desk.path)


def test_the_files_are_nobody_elses(desk: Desk) -> None:
    for file in log_files(desk.path):
        assert file.stat().st_mode & 0o777 == 0o600


def test_who_looks_at_the_file_of_a_killed_keeper_may_let_it_catch_up(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def play(office: Keeper) -> None:
        await office.admit(opening(1))
        office.settle(closing(1))
        left = died(path, tmp_path / "left")
        assert read(left, "SELECT id FROM call") == []
        assert catch_up(left, 0.0) == 2, "opened and ended"
        assert read(left, "SELECT id FROM call") == [(1,)]
        assert catch_up(left, 0.0) == 0, "nothing is taken twice"
        assert verify(left, quiet=True).clean

    scene(path, play)
    assert catch_up(path, 0.0) == 0, "a keeper that stopped left nothing"


def test_a_log_of_the_release_before_knows_fewer_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    connection = open_writer(path, Durability.PROCESS, 1.0)
    log = RedoLog.begin(connection, path)
    assert log.append((OPENED, 5, open_row(5)[:-1]))
    log.close(delete=False)
    assert replay(connection, path) == 1
    assert connection.execute("SELECT id, charge_max FROM open_call").fetchall() == [(5, None)]
    connection.close()
