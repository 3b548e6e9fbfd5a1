import asyncio
from pathlib import Path

from proxy.storage.reader import Reader
from proxy.storage.reports.channels import key_counts, public_catalog
from tests.storage.reports.test_usage_log import ledger, reading


def test_channels_are_read_without_their_keys(tmp_path: Path) -> None:
    ledger(tmp_path).close()
    catalog = asyncio.run(public_catalog(tmp_path / "sluice.db"))
    (channel,) = catalog.channels.values()
    assert (channel.name, channel.keys) == ("main", ())
    assert catalog.users == {}

    async def scene(reader: Reader) -> None:
        assert await key_counts(reader) == {channel.id: 1}

    reading(tmp_path, scene)
