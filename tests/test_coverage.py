"""Every module of the core is covered, each branch of it, by its own test file alone.

Each file of tests is run in a process of its own, so that no other's state covers anything. They
are forked from one that has loaded what takes long to load, and nothing of what is measured.
"""

import io
import multiprocessing
import os
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

LOADED = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
"""Said of hypothesis' own plugin, which asserts nothing."""

SECONDS_MAX = 280
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["pytest", "coverage", "hypothesis", "tests.test_coverage"])


def own_coverage(module: Path, data: Path) -> coverage.Coverage:
    """What measures the module alone: to trace all that it calls takes three times as long."""
    return coverage.Coverage(data_file=str(data), branch=True, source=[], include=[str(module)])


def measure(module: Path, own: Path, data: Path, told: Path) -> None:
    """Run the module's tests in this process, which ends with pytest's status."""
    output = os.open(told, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(tree.ROOT)
    measured = own_coverage(module, data)
    plain = [word for name in NOT_NEEDED for word in ("-p", f"no:{name}")]
    measured.start()
    status = pytest.main(["-q", *LOADED, *plain, str(own)])
    measured.stop()
    measured.save()
    raise SystemExit(int(status))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_the_core_is_covered_by_its_own_tests(module: Path, tmp_path: Path) -> None:
    own = Path("tests", *module.parts[1:-1], f"test_{module.name}")
    assert own in tree.files(), f"{module} has no {own}"
    data, told = tmp_path / "coverage", tmp_path / "told"
    run = FORKED.Process(target=measure, args=(module, own, data, told))
    run.start()
    run.join(SECONDS_MAX)
    run.kill()
    run.join()
    assert run.exitcode == 0, told.read_text()[-4000:]
    found = own_coverage(module, data)
    found.load()
    report = io.StringIO()
    share = found.report(include=[str(module)], show_missing=True, file=report)
    assert share == 100, report.getvalue()
