"""Every module of the core is covered, each branch of it, by its own test file alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import tree

MODULES = tuple(
    path
    for path in tree.python_files("proxy")
    if path.parts[1] == "core" and not path.name.startswith("__")
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_core_is_covered_by_its_own_tests(module: Path, tmp_path: Path) -> None:
    own = Path("tests", *module.parts[1:-1], f"test_{module.name}")
    assert own in tree.files(), f"{module} has no {own}"
    data = f"--data-file={tmp_path / 'coverage'}"
    only = f"--include={module}"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "coverage", "run", "--branch", "--source=proxy", data),
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(own)),
        ],
        check=False,
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    report = subprocess.run(
        [sys.executable, "-m", "coverage", "report", data, only, "--fail-under=100"],
        check=False,
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert report.returncode == 0, report.stdout + report.stderr
