"""What holds for every test: hypothesis profiles, a guard on the event loop, an honest skip report.

SLUICE_SKIPS_FAIL=1 (set by .ci/run) turns any skipped test into a failed run.
"""

import asyncio
import gc
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import pytest

from tests import programs, tree

# No deadlines: this suite asserts nothing about time. Derandomised: a red run is red again.
hypothesis.settings.register_profile("default", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=2000,
    suppress_health_check=list(hypothesis.HealthCheck),
    print_blob=True,
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

BLOCKING = frozenset({"time.sleep", "socket.getaddrinfo", "socket.connect"})
PROXY = str(tree.ROOT / "proxy") + os.sep
TESTS = (str(tree.ROOT / "tests") + os.sep, str(tree.ROOT / "benchmarks") + os.sep)

_blocked: list[str] = []


class BlockingCallError(BaseException):
    """A call that blocks was made by proxy/ while an event loop ran; not for anyone to catch."""


def _refuse_blocking(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in BLOCKING or asyncio._get_running_loop() is None:
        return
    if event == "socket.connect" and arguments[0].gettimeout() == 0:
        return
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    while frame is not None and not frame.f_code.co_filename.startswith((PROXY, *TESTS)):
        frame = frame.f_back
    if frame is None or not frame.f_code.co_filename.startswith(PROXY):
        return
    where = f"{event} in {frame.f_code.co_filename}:{frame.f_lineno} while the event loop runs"
    _blocked.append(where)
    raise BlockingCallError(where)


_sleep = time.sleep


def _guarded_sleep(seconds: float, /) -> None:
    _refuse_blocking("time.sleep", (seconds,))
    _sleep(seconds)


sys.addaudithook(_refuse_blocking)
if sys.version_info < (3, 13):  # from there on the interpreter raises the event itself
    setattr(time, "sleep", _guarded_sleep)  # noqa: B010 - the stub's parameter is positional


@pytest.fixture(autouse=True)
def loop_is_never_blocked() -> Iterator[None]:
    """Fail the test in which proxy/ blocked the loop, also when something swallowed the error."""
    _blocked.clear()
    yield
    if _blocked:
        pytest.fail("; ".join(_blocked))


@pytest.fixture(autouse=True, scope="module")
def nothing_old_is_walked_over() -> None:
    """Let no collection of garbage walk over what is there before a file's tests begin.

    The tests of the edge ask for one after each relay. Over what pytest has collected and the syntax
    trees of the house rules, three million objects, each took more than a second.
    """
    gc.collect()
    gc.freeze()


def _skips(reporter: Any) -> dict[str, list[str]]:
    skips: dict[str, list[str]] = defaultdict(list)
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        skips[programs.remedy(reason.removeprefix("Skipped: "))].append(report.nodeid)
    return skips


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skips = _skips(terminalreporter)
    if not skips:
        return
    terminalreporter.section("skipped, and how to run it")
    for reason, tests in sorted(skips.items()):
        terminalreporter.line(f"{len(tests)} x {reason}")
        for name in sorted({Path(test.split("::")[0]).as_posix() for test in tests}):
            terminalreporter.line(f"    {name}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    is_worker = hasattr(session.config, "workerinput")
    wanted = os.environ.get("SLUICE_SKIPS_FAIL") == "1"
    if wanted and not is_worker and reporter is not None and _skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
