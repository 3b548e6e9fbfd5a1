from pathlib import Path

import pytest

from proxy.app.commands.editing import check_editable, edited
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.storage import edits
from tests.app.commands.office import Do, in_office


def test_several_edits_are_one_change(tmp_path: Path) -> None:
    async def test(_do: Do, office: Office) -> None:
        before = office.keeper.catalog.version
        changes = await edited(
            office,
            edits.setting("group", "a", {}, create=True, basis=None),
            edits.setting("group", "b", {}, create=True, basis=None),
        )
        assert [change["what"] for change in changes] == ["group 'a'", "group 'b'"]
        assert office.keeper.catalog.version == before + 1
        check_editable(office)
        object.__setattr__(office, "catalog_file", "c.toml")
        with pytest.raises(CommandError) as caught:
            check_editable(office)
        assert caught.value.remedy == "edit that file, then reload the relay"

    in_office(tmp_path, test)
