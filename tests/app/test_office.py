import asyncio
import os
import random
from pathlib import Path

import pytest

from proxy.app.control import CommandError
from proxy.app.directory import DataDirectory
from proxy.app.office import Office, load_console_secret, load_secrets, open_office
from proxy.app.settings import Settings
from proxy.storage import accounts
from proxy.storage.secret_files import HOW_TO_MAKE
from proxy.storage.secrets import SecretError

RNG = random.Random(7)
ONE, TWO, THREE, FOUR = (RNG.randbytes(32) for _ in range(4))


def made(path: Path) -> DataDirectory:
    directory = DataDirectory(path / "data")
    directory.create()
    return directory


def written(path: Path, secret: bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(secret.hex())
    path.chmod(mode)
    return path


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    directory = made(tmp_path)
    first = load_secrets(directory)
    assert load_secrets(directory) == first
    assert first.pepper != first.master
    for name in ("pepper", "master"):
        assert (directory.secrets / name).stat().st_mode & 0o777 == 0o600
    assert first.pepper.hex() not in repr(first)


def test_a_credential_wins_over_a_named_file_and_that_over_the_directory(tmp_path: Path) -> None:
    directory = made(tmp_path)
    own = load_secrets(directory)
    named = Settings(pepper_file=str(written(tmp_path / "p", ONE)))
    secrets = load_secrets(directory, named)
    assert (secrets.pepper, secrets.master) == (ONE, own.master)
    credentials = tmp_path / "credentials"
    environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
    assert load_secrets(directory, named, environ) == secrets, "no credential of that name"
    written(credentials / "pepper", TWO, 0o440)
    written(credentials / "master", THREE, 0o400)
    secrets = load_secrets(directory, named, environ)
    assert (secrets.pepper, secrets.master) == (TWO, THREE)


def test_the_environment_of_the_process_names_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "credentials" / "pepper", ONE)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert load_secrets(made(tmp_path)).pepper == ONE


def test_a_bad_secret_in_a_better_place_is_not_passed_over(tmp_path: Path) -> None:
    directory = made(tmp_path)
    load_secrets(directory)
    empty = written(tmp_path / "empty", b"")
    with pytest.raises(SecretError, match=r"empty is empty"):
        load_secrets(directory, Settings(master_file=str(empty)))
    written(tmp_path / "credentials" / "pepper", b"")
    with pytest.raises(SecretError, match=r"pepper is empty"):
        load_secrets(directory, None, {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})


def test_a_named_file_is_never_made(tmp_path: Path) -> None:
    named = Settings(master_file=str(tmp_path / "nowhere"))
    with pytest.raises(SecretError, match="master_file names, does not exist") as refused:
        load_secrets(made(tmp_path), named)
    assert "umask 077" in refused.value.remedy
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("name", ["pepper", "master"])
def test_an_old_database_gets_no_new_secrets(tmp_path: Path, name: str) -> None:
    directory = made(tmp_path)
    load_secrets(directory)
    directory.database.write_bytes(b"")
    (directory.secrets / name).unlink()
    with pytest.raises(SecretError, match=f"{name} is missing, but .*sluice.db was made with one"):
        load_secrets(directory)
    assert not (directory.secrets / name).exists()


@pytest.mark.parametrize(
    ("name", "way_out"), [("pepper", "sluice pepper accept"), ("master", "open none of")]
)
def test_a_damaged_secret_of_a_database_is_not_to_be_made_anew(
    tmp_path: Path, name: str, way_out: str
) -> None:
    directory = DataDirectory(tmp_path)
    file = directory.secrets / name
    load_secrets(directory)
    file.write_text("abc\n")
    with pytest.raises(SecretError) as caught:
        load_secrets(directory)
    assert caught.value.remedy == f"make it with: {HOW_TO_MAKE}", "nothing depends on it yet"
    directory.database.touch()
    with pytest.raises(SecretError, match=f"{name} is malformed: 3 characters") as caught:
        load_secrets(directory)
    assert caught.value.remedy.startswith("restore it from the backup; ")
    assert way_out in caught.value.remedy
    elsewhere = Settings(pepper_file=str(tmp_path / "gone"))
    with pytest.raises(SecretError, match="does not exist") as caught:
        load_secrets(directory, elsewhere)
    assert "sluice pepper accept" in caught.value.remedy


def test_the_console_s_secret_is_made_whenever_there_is_none(tmp_path: Path) -> None:
    directory = made(tmp_path)
    secrets = load_secrets(directory)
    directory.database.write_bytes(b"")
    first = load_console_secret(directory, Settings())
    assert load_console_secret(directory, Settings()) == first
    assert first not in {secrets.pepper, secrets.master}
    (directory.secrets / "console").unlink()
    assert load_console_secret(directory, Settings()) != first


def test_the_console_s_secret_comes_from_where_the_others_come_from(tmp_path: Path) -> None:
    directory = made(tmp_path)
    named = Settings(console_secret_file=str(written(tmp_path / "c", ONE)))
    assert load_console_secret(directory, named) == ONE
    written(tmp_path / "credentials" / "console", TWO, 0o400)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    assert load_console_secret(directory, named, environ) == TWO
    missing = Settings(console_secret_file=str(tmp_path / "nowhere"))
    with pytest.raises(SecretError, match="console_secret_file names, does not exist"):
        load_console_secret(directory, missing)


@pytest.mark.parametrize("name", ["pepper", "master"])
def test_the_console_has_no_other_secret_under_its_own_name(tmp_path: Path, name: str) -> None:
    directory = made(tmp_path)
    load_secrets(directory)
    load_console_secret(directory, Settings())
    load_secrets(directory)
    (directory.secrets / "console").write_bytes((directory.secrets / name).read_bytes())
    with pytest.raises(SecretError, match="which it must not have"):
        load_secrets(directory)


def test_the_ledger_does_without_a_console_s_bad_secret(tmp_path: Path) -> None:
    directory = made(tmp_path)
    secrets = load_secrets(directory)
    (directory.secrets / "console").write_text("weak")
    assert load_secrets(directory, Settings(console_secret_file="nowhere")) == secrets
    assert load_secrets(directory) == secrets


def test_one_secret_is_not_both(tmp_path: Path) -> None:
    written(tmp_path / "credentials" / "pepper", FOUR)
    written(tmp_path / "credentials" / "master", FOUR)
    with pytest.raises(SecretError, match="the same secret"):
        load_secrets(made(tmp_path), None, {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})


def test_a_place_where_no_secret_can_be_made_says_so(tmp_path: Path) -> None:
    directory = made(tmp_path)
    (directory.secrets / f"pepper.new-{os.getpid()}").mkdir()
    with pytest.raises(SecretError, match="pepper cannot be made"):
        load_secrets(directory)


def test_what_is_opened_can_be_read_and_is_closed(tmp_path: Path) -> None:
    directory = made(tmp_path)

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
        ("secrets/pepper", b"", "pepper is empty"),
        ("secrets/master", b"ab" * 32, "master is weak"),
        ("sluice.db", b"not a database at all" * 100, "cannot be opened|not a database"),
    ],
)
def test_what_cannot_be_opened_says_why(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    directory = made(tmp_path)
    load_secrets(directory)
    (directory.root / name).write_bytes(content)
    (directory.root / name).chmod(0o600)

    async def run() -> None:
        async with open_office(directory):
            raise AssertionError("opened")

    with pytest.raises(CommandError, match=message):
        asyncio.run(run())
