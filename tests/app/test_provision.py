import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import runner
from proxy.app.control import CommandError
from proxy.app.directory import DataDirectory
from proxy.app.office import open_office
from proxy.app.provision import apply_file, provision
from proxy.app.seed import Seeded, Upstream
from proxy.app.settings import Settings, SettingsError
from proxy.core.entities import Dialect

UPSTREAM = Upstream("one", Dialect.OPENAI, "http://127.0.0.1:9/v1")
FILE = '[[plan]]\nname = "from-file"\n'


def provisioned(path: Path, *upstreams: Upstream, catalog: str = "") -> tuple[Seeded | None, Any]:
    async def run() -> tuple[Seeded | None, Any]:
        directory = DataDirectory(path / "data")
        file = path / "c.toml"
        file.write_text(catalog)
        settings = Settings(data_dir=str(path / "data"), catalog_file=str(file) if catalog else "")
        with directory.locked():
            async with open_office(directory, settings) as office:
                seeded = await provision(office, settings, upstreams, ("m",))
                return seeded, await runner.run(office, "catalog export", {})

    return asyncio.run(run())


def test_nothing_asked_for_is_nothing_done(tmp_path: Path) -> None:
    seeded, document = provisioned(tmp_path)
    assert seeded is None
    assert not document["channel"]


def test_the_file_goes_first_and_seeds_add_to_it(tmp_path: Path) -> None:
    seeded, document = provisioned(tmp_path, UPSTREAM, catalog=FILE)
    assert seeded is not None
    assert seeded.key is not None
    assert [plan["name"] for plan in document["plan"]] == ["from-file"]
    assert [channel["name"] for channel in document["channel"]] == ["one"]
    assert [model["name"] for model in document["model"]] == ["m"]


def test_a_bad_file_is_refused_whole(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        provisioned(tmp_path, catalog="[[plan\n")
    with pytest.raises(CommandError):
        provisioned(tmp_path, catalog='[[plan]]\nname = "a"\n[[plan]]\nname = 1\n')


def test_a_file_that_is_not_there_is_no_catalog(tmp_path: Path) -> None:
    office: Any = None
    with pytest.raises(SettingsError, match="cannot be read"):
        asyncio.run(apply_file(office, tmp_path / "none.toml"))


def test_what_was_seeded_is_told_between_processes() -> None:
    assert Seeded.read(None) is None
    seeded = Seeded("k", ("a", "b"), (), "ann", "/path")
    assert Seeded.read(json.loads(json.dumps(seeded.told()))) == seeded
