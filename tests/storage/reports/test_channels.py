import asyncio
from dataclasses import replace
from pathlib import Path

from proxy.storage.reader import Reader
from proxy.storage.reports.channels import (
    in_order,
    key_counts,
    keyless,
    public_catalog,
    unpriced,
)
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


def test_what_an_operator_should_look_at(tmp_path: Path) -> None:
    ledger(tmp_path).close()
    catalog = asyncio.run(public_catalog(tmp_path / "sluice.db"))
    (channel,) = catalog.channels.values()
    spare = replace(channel, id=7, name="a spare", allow_private=False, models={"unpriced": "u"})
    first = replace(spare, id=8, name="first", priority=1, enabled=False)
    wider = replace(
        catalog,
        channels={one.id: one for one in (channel, spare, first)},
        models={**catalog.models, "unpriced": replace(catalog.models["m"], price=None)},
    )
    assert [one.name for one in in_order(wider)] == ["first", "a spare", channel.name]
    assert keyless(wider, {channel.id: 1}) == ["a spare"]
    assert keyless(wider, {7: 1}) == ([] if channel.allow_private else [channel.name])
    assert unpriced(wider) == ["unpriced"]
    assert unpriced(catalog) == []
