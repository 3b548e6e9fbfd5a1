"""The guards of the suite itself: each is shown to fail when it must."""

import subprocess
import sys
from pathlib import Path

from tests import tree

BLOCKER = """
import time

def block() -> None:
    time.sleep(0)
"""

CASES = """
import asyncio
import importlib.util
import pytest
from tests import conftest

def load(path):
    spec = importlib.util.spec_from_file_location("blocker", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def run(path):
    async def main():
        load(path).block()
    asyncio.run(main())

def test_seen(monkeypatch):
    monkeypatch.setattr(conftest, "PROXY", {here!r})
    with pytest.raises(conftest.BlockingCallError):
        run({blocker!r})
    assert conftest._blocked
    conftest._blocked.clear()

def test_swallowed(monkeypatch):
    monkeypatch.setattr(conftest, "PROXY", {here!r})
    try:
        run({blocker!r})
    except BaseException:
        pass

def test_blocking_outside_of_a_loop_is_fine(monkeypatch):
    monkeypatch.setattr(conftest, "PROXY", {here!r})
    load({blocker!r}).block()

def test_skipped():
    pytest.skip("nginx is not installed")
"""


def run_pytest(
    directory: Path, *arguments: str, skips_fail: str
) -> "subprocess.CompletedProcess[str]":
    blocker = directory / "blocker.py"
    blocker.write_text(BLOCKER)
    cases = directory / "test_cases.py"
    cases.write_text(CASES.format(here=str(blocker), blocker=str(blocker)))
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"),
            *("-c", str(tree.ROOT / "pyproject.toml"), "--rootdir", str(directory)),
            *("-o", "addopts=", *arguments, str(cases)),
        ],
        check=False,
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        env={"SLUICE_SKIPS_FAIL": skips_fail, "PATH": "/usr/bin:/bin"},
        timeout=50,
    )


def test_a_blocking_call_in_the_loop_fails_its_test(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, "-q", skips_fail="0")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "ERROR" in run.stdout, run.stdout
    assert "test_swallowed" in run.stdout, run.stdout
    assert "3 passed, 1 skipped, 1 error" in run.stdout.splitlines()[-1], run.stdout


def test_a_skip_is_reported_with_its_remedy_and_fails_where_nothing_may_be_skipped(
    tmp_path: Path,
) -> None:
    alone = ("-q", "-k", "test_skipped")
    lenient = run_pytest(tmp_path, *alone, skips_fail="0")
    assert lenient.returncode == 0, lenient.stdout + lenient.stderr
    assert "1 x nginx is not installed (apt-get install nginx)" in lenient.stdout
    assert "1 skipped" in lenient.stdout.splitlines()[-1]
    strict = run_pytest(tmp_path, *alone, skips_fail="1")
    assert strict.returncode == 1, strict.stdout + strict.stderr
