"""Every module of the core is covered, each branch of it, by its own test file alone."""

import io
import subprocess
import sys
from pathlib import Path

import coverage
import pytest

from tests import tree

MODULES = tuple(
    path
    for path in tree.python_files("proxy")
    if path.parts[1] == "core" and not path.name.startswith("__")
)


NOT_NEEDED = ("cacheprovider", "xdist", "schemathesis", "anyio")
"""Plugins that no test of the core uses; to load them took as long as most of its tests."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_core_is_covered_by_its_own_tests(module: Path, tmp_path: Path) -> None:
    own = Path("tests", *module.parts[1:-1], f"test_{module.name}")
    assert own in tree.files(), f"{module} has no {own}"
    data = tmp_path / "coverage"
    measured = ("-m", "coverage", "run", "--branch", "--source=proxy", f"--data-file={data}")
    plain = [word for name in NOT_NEEDED for word in ("-p", f"no:{name}")]
    run = subprocess.run(
        [sys.executable, *measured, "-m", "pytest", "-q", *plain, str(own)],
        check=False,
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    found = coverage.Coverage(data_file=str(data))
    found.load()
    told = io.StringIO()
    share = found.report(include=[str(module)], show_missing=True, file=told)
    assert share == 100, told.getvalue()
