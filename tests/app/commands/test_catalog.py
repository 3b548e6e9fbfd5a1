from pathlib import Path

import pytest

from proxy.app.commands import catalog
from proxy.app.control import CommandError
from proxy.app.demo import start_demo
from proxy.app.office import Office
from proxy.core.actions import catalog as actions
from tests.app.commands.office import DOCUMENT, Do, in_office


def test_channels_are_listed_without_keys_and_added_one_by_one(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        table = {**DOCUMENT["channel"][0], "name": "spare"}
        (change,) = await do("channel add", table=table)
        assert (change["action"], change["what"]) == ("add", "channel 'spare'")
        rows = await do("channel list")
        assert [row["name"] for row in rows] == ["main", "spare"]
        assert rows[0]["keys"] == 1
        assert "canary" not in repr(rows)

    in_office(tmp_path, test)


def test_a_channel_is_tried_for_real(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        demo = await start_demo(rate=0)
        try:
            table = {**DOCUMENT["channel"][0], "base_url": demo.base_url}
            await do("channel add", table=table)
            found = await do("channel test", name="main")
        finally:
            await demo.stop()
        assert (found["ok"], found["status"], found["upstream_model"]) == (True, 200, "m-upstream")

    in_office(tmp_path, test)


def test_a_catalog_comes_back_as_it_went_in(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        exported = await do("catalog export")
        assert exported["channel"][0]["keys"][0].startswith("sealed:")
        review = await do("catalog apply", document=exported, dry_run=True)
        assert review["changes"] == []
        exported["plan"][0]["concurrency"] = 3
        review = await do("catalog apply", document=exported, dry_run=True)
        assert [change["action"] for change in review["changes"]] == ["change"]
        assert office.keeper.catalog.plans["paygo"].concurrency is None
        done = await do("catalog apply", document=exported)
        assert done == review
        assert office.keeper.catalog.plans["paygo"].concurrency == 3
        with pytest.raises(CommandError, match="exported at"):
            await do("catalog apply", document={**exported, "plan": [{"name": "paygo"}]})
        await do("catalog apply", document={**exported, "plan": [{"name": "paygo"}]}, force=True)
        assert office.keeper.catalog.plans["paygo"].concurrency is None

    in_office(tmp_path, test)


def test_keys_and_users_come_and_go_beside_an_edit_of_an_export(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        exported = await do("catalog export")
        await do("user add", name="cleo", credit="1")
        made = await do("key add", user="cleo", name="k")
        await do("key set", key=str(made["id"]), concurrency=5)
        assert office.keeper.catalog.version > exported["version"]
        exported["plan"][0]["concurrency"] = 3
        await do("catalog apply", document=exported)
        assert office.keeper.catalog.plans["paygo"].concurrency == 3
        exported = await do("catalog export")
        await do("channel switch", name="main", enabled=False)
        await do("key set", key=str(made["id"]), concurrency=6)
        with pytest.raises(CommandError, match="exported at"):
            await do("catalog apply", document=exported)
        later = {**exported, "version": exported["version"] + 99}
        with pytest.raises(CommandError, match="exported at"):
            await do("catalog apply", document=later)

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert catalog.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
