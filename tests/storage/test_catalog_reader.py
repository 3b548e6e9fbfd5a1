import asyncio
from pathlib import Path

import pytest

from proxy.core.entities import BudgetPeriod
from proxy.storage import catalog_reader, keys
from proxy.storage.catalog_reader import CatalogReader
from tests.storage.world import MASTER, keeper

SECONDS_MAX = 10.0


def test_a_version_is_read_once_and_told_to_whoever_asked(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"

    async def main() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            books = await keeper(path)
            in_force: list[tuple[int, int]] = []
            reader = CatalogReader(
                path, MASTER, lambda version: in_force.append((version, told.qsize()))
            )
            assert reader.version == 0
            with pytest.raises(AssertionError, match="no catalog"):
                _ = reader.catalog
            told: asyncio.Queue[int] = asyncio.Queue(9)
            end = reader.subscribe(lambda catalog: told.put_nowait(catalog.version))
            reader.want(books.catalog.version)
            reader.want(books.catalog.version)
            await reader.known.wait()
            assert reader.catalog.keys_by_id.keys() == {1, 2, 3}
            reader.want(books.catalog.version)
            await books.change(
                lambda connection: keys.set_key_budget(connection, 1, 9, BudgetPeriod.DAILY)
            )
            reader.want(books.catalog.version)
            assert [await told.get(), await told.get()] == [
                books.catalog.version - 1,
                books.catalog.version,
            ]
            assert told.empty()
            # Told after the subscribers: they have acted on it by then.
            versions = [books.catalog.version - 1, books.catalog.version]
            assert [version for version, _ in in_force] == versions
            assert all(told_before for _, told_before in in_force)
            assert reader.version == versions[-1]
            end()
            reader.close()
            await books.close()

    asyncio.run(main())


def test_a_file_that_cannot_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(catalog_reader, "RETRY_SECONDS", 0.0)
    path = tmp_path / "sluice.db"

    async def main() -> None:
        async with asyncio.timeout(SECONDS_MAX):
            reader = CatalogReader(path, MASTER)
            reader.want(1)
            while not caplog.messages:
                await asyncio.sleep(0)
            assert "the catalog cannot be read" in caplog.messages[0]
            books = await keeper(path)
            # The keeper names a version that is not in the file yet.
            reader.want(books.catalog.version + 1)
            await reader.known.wait()
            await books.change(
                lambda connection: keys.set_key_budget(connection, 1, 9, BudgetPeriod.DAILY)
            )
            while reader.catalog.version < books.catalog.version:
                await asyncio.sleep(0)
            reader.close()
            await books.close()

    asyncio.run(main())
