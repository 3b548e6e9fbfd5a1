"""What a user may rely on is written down, and what is written down exists.

README.md names every setting, metric, endpoint, error code and command; proxy/ARCHITECTURE.md's
hop table is the relay's real control flow.
"""

import ast
import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from proxy.core.errors import ErrorCode
from tests import tree

README = Path("README.md")
ARCHITECTURE = Path("proxy/ARCHITECTURE.md")
RELAY = "edge/relay.py"
HOPS_MAX = 12
LOOP_CALLS = frozenset({"data_received", "buffer_updated", "eof_received", "connection_lost"})
"""Hops that no text of ours calls: the event loop does."""


def section(title: str) -> str:
    """The README's text below `## title`, up to the next heading of that level."""
    match = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", tree.text(README), re.MULTILINE | re.DOTALL
    )
    assert match, f"README.md has no section {title!r}"
    return match[1]


def first_cells(markdown: str) -> set[str]:
    """The names in backticks that open the rows of the tables in `markdown`."""
    return set(re.findall(r"^\| `([^`]+)` *\|", markdown, re.MULTILINE))


def load(module: str, attribute: str) -> Any:
    """`attribute` of a module of the project, or a loud skip while it is not written yet."""
    path = Path(*module.split(".")).with_suffix(".py")
    if path not in tree.files():
        pytest.skip(f"{path} is not written yet")
    return getattr(importlib.import_module(module), attribute)


def as_written(default: object) -> str:
    """A default as it would stand in the settings file."""
    if isinstance(default, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in default) + "]`"
    if isinstance(default, bool):
        return f"`{default}`".lower()
    return f'`"{default}"`' if isinstance(default, str) else f"`{default!r}`"


def test_every_setting_is_documented_with_its_default_and_no_other() -> None:
    settings = load("proxy.app.settings", "Settings")
    table = section("Settings")
    fields = dataclasses.fields(settings)
    assert first_cells(table) == {field.name for field in fields}
    for field in fields:
        (row,) = re.findall(rf"^\| `{field.name}` *\|(.*?)\|", table, re.MULTILINE)
        assert as_written(field.default) == row.strip(), f"{field.name}: another default"


def test_every_metric_is_documented_and_no_other() -> None:
    metrics = {metric.name for metric in load("proxy.edge.families", "METRICS")}
    assert first_cells(section("Metrics")) == metrics
    assert all(name.startswith("sluice_") for name in metrics)


def operations_routes() -> set[str]:
    """What the operations listener answers, from its `add_get` calls."""
    operations = Path("proxy/edge/operations.py")
    return {
        f"GET {call.args[0].value!s}"
        for call in ast.walk(tree.tree(operations))
        if isinstance(call, ast.Call)
        and tree.called_name(call).endswith("add_get")
        and isinstance(call.args[0], ast.Constant)
    }


def test_every_endpoint_is_documented_and_no_other() -> None:
    documented = first_cells(section("Endpoints"))
    assert {"GET /healthz", "GET /readyz", "GET /metrics"} <= operations_routes() <= documented
    routes = {str(route) for route in load("proxy.edge.server", "ROUTES")}
    assert documented == routes | operations_routes()


def test_every_error_code_is_documented_with_its_status_and_no_other() -> None:
    table = section("Errors")
    assert first_cells(table) == {error.code for error in ErrorCode}
    for error in ErrorCode:
        assert re.search(rf"^\| `{error.code}` *\| {error.status} ", table, re.MULTILINE), error


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            yield from commands(inner, f"{name} {part}")
    elif not command.hidden:
        yield name, command


def test_every_command_is_documented_and_no_other() -> None:
    found = dict(commands(load("proxy.app.cli", "main"), "sluice"))
    assert first_cells(section("Command line")) == set(found)
    assert all(command.help for command in found.values()), "each has its line of help"


def test_every_make_target_in_the_readme_exists() -> None:
    named = set(re.findall(r"^(?:\$ )?make ([a-z-]+)", tree.text(README), re.MULTILINE))
    named |= set(re.findall(r"`make ([a-z-]+)", tree.text(README)))
    assert named <= tree.make_targets(), named - tree.make_targets()
    assert tree.make_targets() >= {"run", "test", "check", "bench", "bench-quick", "fuzz", "lock"}


def test_the_quick_start_is_two_commands() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", section("Quick start"), re.DOTALL)
    lines = blocks[0].strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("git clone ")
    assert lines[1].endswith("&& make run")


def test_every_file_the_documents_name_exists() -> None:
    for document in (README, *(path for path in tree.files() if path.suffix == ".md")):
        for name in re.findall(
            r"`((?:proxy|config|benchmarks|tests|systemd)/[\w./-]+)`", tree.text(document)
        ):
            path = Path(name.rstrip("/"))
            known = path in tree.files() or any(path in file.parents for file in tree.files())
            assert known, f"{document} names {name}"


# The hop table


def hops() -> list[tuple[str, str]]:
    """The (file, function) of each row, in order."""
    if ARCHITECTURE not in tree.files():
        pytest.skip(f"{ARCHITECTURE} is not written yet")
    text = tree.text(ARCHITECTURE)
    assert re.search(r"^\| hop \| call \| returns \| if it fails \|$", text, re.MULTILINE)
    found = re.findall(r"^\| *\d+ *\| `([\w/]+\.py):([\w.]+)`[^|]*\|", text, re.MULTILINE)
    rows = re.findall(r"^\| *\d+ *\|", text, re.MULTILINE)
    assert len(found) == len(rows), "each row names `layer/file.py:function`"
    return found


def definition(file: str, function: str) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The definition of `function` in `proxy/file`: of the module, else of one class in it."""
    path = Path("proxy") / file
    assert path in tree.files(), f"no such file: {path}"
    owner, _, name = function.rpartition(".")
    module = tree.tree(path)
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    scopes: list[ast.Module | ast.ClassDef] = [] if owner else [module]
    scopes += [node for node in classes if owner in {"", node.name}]
    for scope in scopes:
        for node in scope.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                return node
    raise AssertionError(f"{path} has no {function}")


def called_in_order(file: str, function: str, seen: frozenset[str] = frozenset()) -> list[str]:
    """The last names of all calls in a function, in source order, its file's own functions inlined."""
    module = tree.tree(Path("proxy") / file)
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    local = {
        node.name
        for body in (module.body, *(inner.body for inner in classes))
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    order: list[str] = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            visit(child)
        if isinstance(node, ast.Call):
            name = tree.called_name(node).rpartition(".")[2]
            order.append(name)
            if name in local and name not in seen:
                order.extend(called_in_order(file, name, seen | {name}))

    for statement in definition(file, function).body:
        visit(statement)
    return order


def test_calls_are_read_in_the_order_they_are_made() -> None:
    order = called_in_order("core/errors.py", "error_body")
    assert order.index("_error_object") < order.index("dumps"), "arguments first"
    assert "loads" not in order


def test_the_hop_table_is_short_and_names_what_exists() -> None:
    table = hops()
    assert 3 <= len(table) <= HOPS_MAX
    assert any(file == RELAY for file, _function in table)
    for file, function in table:
        definition(file, function)


def test_the_hops_are_called_in_the_order_of_the_table() -> None:
    """From the relay's own hop on, each hop is called in the relay's text after the one before.

    A hop the relay does not call itself must be called by the hop before it, or by the loop.
    """
    table = hops()
    start = next(index for index, (file, _function) in enumerate(table) if file == RELAY)
    order = called_in_order(*table[start])
    position = 0
    for before, (file, function) in zip(table[start:], table[start + 1 :], strict=False):
        name = function.rpartition(".")[2]
        if name in LOOP_CALLS:
            continue
        if name in order[position:]:
            position = order.index(name, position) + 1
        else:
            assert name not in order, f"{file}:{function} is called before {before}"
            assert name in called_in_order(*before), f"nothing on the path calls {file}:{function}"
