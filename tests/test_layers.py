"""Imports go down only, and the core is pure: DESIGN.md section 4 as a test."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tree

CORE_THIRD_PARTY = "orjson msgspec bpe_openai"
"""Functions from bytes to values; everything else from outside is I/O or could be."""

CORE_STANDARD = """
abc array base64 binascii bisect codecs collections copy csv dataclasses datetime decimal difflib enum
fractions functools hashlib heapq hmac html ipaddress itertools json math operator re statistics
string struct textwrap types typing unicodedata urllib.parse zlib
"""
"""Standard library that only computes: no clock, randomness, thread, file, socket or log."""

CORE_BANNED_CALLS = """
open print input exec eval compile globals breakpoint
datetime.now datetime.utcnow datetime.today date.today
datetime.datetime.now datetime.datetime.utcnow datetime.date.today
"""

IMPORT_ALL = """
import importlib, json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"asyncio", "socket", "_socket", "_asyncio"}:
            raise ImportError(f"{name} is not for the core")
        return None

assert "asyncio" not in sys.modules and "socket" not in sys.modules
sys.meta_path.insert(0, Blocker())
failed = {}
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps(failed))
"""

MODULES = tuple(path for path in tree.python_files("proxy") if len(path.parts) > 2)
CORE = tuple(path for path in MODULES if path.parts[1] == "core")


def test_every_module_is_in_a_layer() -> None:
    strays = [str(path) for path in MODULES if path.parts[1] not in tree.LAYERS]
    assert not strays
    assert {path.name for path in tree.python_files("proxy") if len(path.parts) == 2} <= {
        "__init__.py",
        "__main__.py",
    }


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_down_only(path: Path) -> None:
    own = tree.LAYERS.index(path.parts[1])
    upward = [
        f"{path}:{line} imports {name}"
        for line, name in tree.imports(path)
        if (layer := tree.layer(name)) is not None and tree.LAYERS.index(layer) > own
    ]
    assert not upward
    outside = [
        f"{path}:{line} imports {name}"
        for line, name in tree.imports(path)
        if name.split(".")[0] in {"tests", "benchmarks"} or name.startswith(".")
    ]
    assert not outside, "proxy/ stands alone, and names its own modules in full"


@pytest.mark.parametrize("path", CORE, ids=str)
def test_the_core_imports_nothing_that_acts(path: Path) -> None:
    allowed = {*CORE_STANDARD.split(), *CORE_THIRD_PARTY.split(), "proxy"}
    wrong = [
        f"{path}:{line} imports {name}"
        for line, name in tree.imports(path)
        if not any(name == module or name.startswith(f"{module}.") for module in allowed)
    ]
    assert not wrong, "the core takes clock, randomness and bytes as arguments"


@pytest.mark.parametrize("path", CORE, ids=str)
def test_the_core_calls_nothing_that_acts(path: Path) -> None:
    banned = CORE_BANNED_CALLS.split()
    wrong = [
        f"{path}:{node.lineno} calls {tree.called_name(node)}"
        for node in ast.walk(tree.tree(path))
        if isinstance(node, ast.Call) and tree.called_name(node) in banned
    ]
    assert not wrong


@pytest.mark.parametrize("path", CORE, ids=str)
def test_the_core_waits_for_nothing(path: Path) -> None:
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    wrong = [
        f"{path}:{node.lineno}" for node in ast.walk(tree.tree(path)) if isinstance(node, waits)
    ]
    assert not wrong, "no coroutine in the core"


@pytest.mark.parametrize("path", CORE, ids=str)
def test_the_core_says_no_any(path: Path) -> None:
    wrong = [line for line, name in tree.imports(path) if name == "typing.Any"]
    wrong += [
        node.lineno
        for node in ast.walk(tree.tree(path))
        if isinstance(node, ast.Attribute) and node.attr == "Any"
    ]
    assert not wrong, f"{path}: Any at lines {wrong}"


def test_the_core_loads_without_asyncio_and_socket() -> None:
    names = [tree.module_name(path) for path in CORE]
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        check=False,
        input=json.dumps(names),
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {}
