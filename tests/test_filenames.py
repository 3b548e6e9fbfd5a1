"""A file is found by its name: one test file per module, no drawers for odds and ends."""

import ast
from pathlib import Path

import pytest

from tests import tree

VAGUE = frozenset({"util", "utils", "common", "helper", "helpers", "manager", "misc", "tools"})

RECORDS_ONLY = frozenset({Path("proxy/storage/ports.py")})
"""Protocols and records without behaviour; what they promise is tested at their implementers."""

MODULES = tuple(
    path
    for path in tree.python_files("proxy")
    if len(path.parts) > 2 and not path.name.startswith("__") and path not in RECORDS_ONLY
)
UNIT_TESTS = tuple(
    path
    for path in tree.python_files("tests")
    if len(path.parts) > 2 and path.parts[1] in tree.LAYERS and path.name.startswith("test_")
)


def unit_test_of(module: Path) -> Path:
    """`proxy/core/sse.py` is tested by `tests/core/test_sse.py`."""
    inner = module.relative_to("proxy")
    return Path("tests") / inner.with_name(f"test_{inner.name}")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_its_test_file(module: Path) -> None:
    path = unit_test_of(module)
    assert path in tree.files(), f"{module} has no {path}"
    # State machines of hypothesis are classes: `TestX = Machine.TestCase` is an assignment.
    tests = [
        node
        for node in ast.walk(tree.tree(path))
        if (isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))
        or (isinstance(node, ast.Assign) and ast.unparse(node).startswith("Test"))
    ]
    assert tests, f"{path} tests nothing"
    # At least the module itself is what it imports.
    named = {name for _line, name in tree.imports(path)}
    assert tree.module_name(module) in named, f"{path} does not import {module}"


@pytest.mark.parametrize("path", UNIT_TESTS, ids=str)
def test_every_unit_test_file_has_its_module(path: Path) -> None:
    module = Path("proxy", *path.parts[1:-1], path.name.removeprefix("test_"))
    assert module in tree.files(), f"{path} tests no module; cross-cutting goes to integration/"


@pytest.mark.parametrize("path", tree.python_files("proxy", "benchmarks", "tests"), ids=str)
def test_no_name_that_says_nothing(path: Path) -> None:
    vague = VAGUE & {word for part in path.with_suffix("").parts for word in part.split("_")}
    assert not vague, f"{path}: {vague} does not say what is inside"


def test_records_only_modules_have_no_behaviour() -> None:
    for path in RECORDS_ONLY:
        for node in ast.walk(tree.tree(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            body = [item for item in node.body if not _is_text(item)]
            assert not body, f"{path}:{node.lineno} {node.name} does something: test it"


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
