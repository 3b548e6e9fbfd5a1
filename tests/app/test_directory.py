import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.app.directory import DataDirectory, DirectoryError, LockedError


def test_the_directories_are_for_their_owner_only(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "a" / "b")
    directory.create()
    directory.create()
    assert directory.root.stat().st_mode & 0o777 == 0o700
    assert directory.secrets.stat().st_mode & 0o777 == 0o700
    parts = {directory.database, directory.control, directory.secrets, directory.lock}
    assert {part.parent for part in parts} == {directory.root}


def test_only_one_holds_the_lock_and_the_refusal_names_who(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    with (
        directory.locked(),
        pytest.raises(LockedError, match=rf"in use by process {os.getpid()}; stop it"),
        directory.locked(),
    ):
        raise AssertionError("two held the lock")
    with directory.locked():
        assert directory.lock.stat().st_mode & 0o777 == 0o600


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from proxy.app.directory import *\n"
        "with DataDirectory(Path(sys.argv[1])).locked():\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=str(child.pid)), DataDirectory(tmp_path).locked():
            raise AssertionError("two held the lock")
        child.kill()
        child.wait(10)
    with DataDirectory(tmp_path).locked():
        pass


def test_a_place_that_cannot_be_a_directory_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryError, match=r"cannot create .*--data"):
        DataDirectory(tmp_path / "file" / "below").create()
    (tmp_path / "dir" / "lock").mkdir(parents=True)
    with (
        pytest.raises(DirectoryError, match="cannot open"),
        DataDirectory(tmp_path / "dir").locked(),
    ):
        raise AssertionError("locked a directory")
