import asyncio
from pathlib import Path

import pytest

from proxy.app.control import CommandError
from proxy.app.directory import DataDirectory
from proxy.app.office import Office, load_secrets, open_office
from proxy.storage import accounts


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.create()
    first = load_secrets(directory)
    assert load_secrets(directory) == first
    assert first.pepper != first.master
    for name in ("pepper", "master"):
        assert (directory.secrets / name).stat().st_mode & 0o777 == 0o600
    assert first.pepper.hex() not in repr(first)


def test_what_is_opened_can_be_read_and_is_closed(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.create()

    async def run() -> Office:
        async with open_office(directory) as office:
            assert await office.read(accounts.list_users) == []
        return office

    office = asyncio.run(run())
    assert directory.database.exists()
    assert office.secrets.master.hex() not in repr(office)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("secrets/pepper", b"", "empty or weak"),
        ("secrets/master", b"ab" * 32, "empty or weak"),
        ("sluice.db", b"not a database at all" * 100, "cannot be opened|not a database"),
    ],
)
def test_what_cannot_be_opened_says_why(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    directory = DataDirectory(tmp_path)
    directory.create()
    (tmp_path / name).write_bytes(content)
    (tmp_path / name).chmod(0o600)

    async def run() -> None:
        async with open_office(directory):
            raise AssertionError("opened")

    with pytest.raises(CommandError, match=message):
        asyncio.run(run())
