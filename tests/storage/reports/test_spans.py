import asyncio
from pathlib import Path

from proxy.core.ids import first_id_at
from proxy.storage.reader import Reader
from proxy.storage.reports.spans import Days, steps
from tests.storage.reports.ledgers import call, ledger
from tests.storage.reports.test_usage_log import reading
from tests.storage.world import NOW

DAY = 86_400


def walked(path: Path, first: int, end: int, calls: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []

    async def scene(reader: Reader) -> None:
        found.extend([step async for step in steps(reader, first, end, calls)])

    reading(path, scene)
    return found


def test_steps_hold_every_call_of_the_span_once_and_no_other(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    ids = [call(connection, NOW + second) for second in range(7)]
    first, end = ids[1], ids[6]
    for calls in (1, 2, 3, 5, 9):
        found = walked(tmp_path, first, end, calls)
        held = [[one for one in ids if low <= one <= high] for low, high in found]
        assert [one for step in held for one in step] == ids[1:6]
        assert all(len(step) <= calls for step in held)
    assert walked(tmp_path, end + 1, end + 1, 3) == []
    assert walked(tmp_path, first_id_at(NOW + DAY), first_id_at(NOW + 2 * DAY), 3) == []
    connection.close()


def test_days_are_whole_ones() -> None:
    today = int(NOW // DAY)
    assert Days(today, today + 1).ids == (
        first_id_at(today * DAY),
        first_id_at((today + 2) * DAY),
    )
    assert asyncio.iscoroutinefunction(steps) is False
