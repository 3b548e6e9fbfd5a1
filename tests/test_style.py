"""STYLE.md as tests: sizes, banned constructs, what may not be written into any file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tree

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
BROAD_EXCEPTS_MAX = 2

TOP_LEVEL = frozenset(
    {"pyproject.toml", "README.md", "proxy", "config", "benchmarks", "tests", "systemd", "Makefile"}
)

PROXY = tree.python_files("proxy")
SOURCES = tree.python_files("proxy", "benchmarks")

MACHINE_PATHS = re.compile(r"(?<![\w.:/-])/(?:work|farm|root|home/\w+|Users)/")
# Put together here so that this file names none of them.
REGISTRIES = re.compile(
    "|".join(
        re.escape(".".join(labels))
        for labels in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("crates", "io"),
            ("proxy", "golang", "org"),
            ("rubygems", "org"),
            ("registry", "yarnpkg", "com"),
        )
    )
    + "|--(?:extra-)?index-url[ =]|--find-links[ =]"
)

BROAD = frozenset({"Exception", "BaseException"})
EXECUTES = frozenset({"execute", "executemany", "execute_fetchall"})
MIGRATIONS = Path("proxy/storage/sqlite.py")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree.tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(tree.tree(path)):
        if isinstance(node, ast.Call):
            yield node


def test_the_top_level_is_fixed() -> None:
    tops = {path.parts[0] for path in tree.files()}
    assert {top for top in tops if not top.startswith(".")} <= TOP_LEVEL
    assert {"pyproject.toml", "README.md", "Makefile", "proxy", "config", "tests"} <= tops


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_and_functions_fit_on_a_desk(path: Path) -> None:
    lines = tree.text(path).count("\n")
    assert lines <= FILE_LINES_MAX, f"{path} has {lines} lines"
    long = [
        f"{path}:{node.lineno} {node.name} has {length} lines"
        for node in functions(path)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long


@pytest.mark.parametrize("path", PROXY, ids=str)
def test_every_module_states_its_rules(path: Path) -> None:
    assert ast.get_docstring(tree.tree(path)) or not tree.text(path), f"{path} has no docstring"


@pytest.mark.parametrize("path", PROXY, ids=str)
def test_broken_assumptions_stay_on(path: Path) -> None:
    wrong = [node.lineno for node in ast.walk(tree.tree(path)) if isinstance(node, ast.Assert)]
    assert not wrong, f"{path}: assert at {wrong} vanishes under -O; raise AssertionError"


def broad_handlers() -> list[str]:
    """Every place of proxy/ that catches anything whatever, and does not raise it on."""
    found = []
    for path in PROXY:
        for node in ast.walk(tree.tree(path)):
            if isinstance(node, ast.ExceptHandler) and _is_broad(node.type):
                last = node.body[-1]
                if not (isinstance(last, ast.Raise) and last.exc is None):
                    found.append(f"{path}:{node.lineno}")
        found += [
            f"{path}:{call.lineno}"
            for call in calls(path)
            if tree.called_name(call).endswith("suppress") and any(map(_is_broad, call.args))
        ]
    return found


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_is_broad, caught.elts))
    return caught is None or (isinstance(caught, ast.Name) and caught.id in BROAD)


def test_at_most_two_named_lines_catch_everything() -> None:
    found = broad_handlers()
    assert len(found) <= BROAD_EXCEPTS_MAX, found
    for place in found:
        name, line = place.rsplit(":", 1)
        code = tree.text(Path(name)).splitlines()[int(line) - 1]
        assert re.search(r"# noqa: BLE001 - \S+", code), f"{place} does not say why"


@pytest.mark.parametrize("path", tree.python_files("proxy"), ids=str)
def test_nothing_sleeps_in_a_loop_or_waits_in_an_unbounded_queue(path: Path) -> None:
    names = {(call.lineno, tree.called_name(call)) for call in calls(path)}
    if path.parts[1] in {"edge", "core"}:
        assert not {place for place in names if place[1] == "time.sleep"}, path
    unbounded = [
        f"{path}:{call.lineno} {tree.called_name(call)}"
        for call in calls(path)
        if re.search(r"(^|\.)(Lifo|Priority)?Queue$", tree.called_name(call))
        and not call.args
        and not call.keywords
    ]
    assert not unbounded, "a named limit on every queue"


@pytest.mark.parametrize("path", PROXY, ids=str)
def test_sql_is_never_put_together_from_values(path: Path) -> None:
    """Column lists of our own may be; such a statement carries `# noqa: S608 - reason`."""
    lines = tree.text(path).splitlines()
    wrong = [
        f"{path}:{call.lineno}"
        for call in calls(path)
        if tree.called_name(call).rpartition(".")[2] in EXECUTES
        and call.args
        and _is_built(call.args[0])
        and "# noqa: S608 - " not in "".join(lines[call.lineno - 1 : call.args[0].end_lineno])
    ]
    assert not wrong, "bind parameters with ?"
    scripts = [call.lineno for call in calls(path) if "executescript" in tree.called_name(call)]
    assert not scripts or path == MIGRATIONS, f"{path}:{scripts} a script takes no parameters"


def _is_built(statement: ast.expr) -> bool:
    if isinstance(statement, ast.JoinedStr):
        values = any(isinstance(part, ast.FormattedValue) for part in statement.values)
        first = statement.values[0] if statement.values else None
        # A PRAGMA takes no parameters; its values are our own settings.
        pragma = isinstance(first, ast.Constant) and str(first.value).upper().startswith("PRAGMA ")
        return values and not pragma
    if isinstance(statement, ast.BinOp):
        literal = isinstance(statement.left, ast.Constant | ast.JoinedStr)
        return isinstance(statement.op, ast.Mod | ast.Add) and (
            literal or _is_built(statement.left) or _is_built(statement.right)
        )
    if isinstance(statement, ast.Call):
        return isinstance(statement.func, ast.Attribute) and statement.func.attr == "format"
    return False


@pytest.mark.parametrize("path", tree.python_files("tests"), ids=str)
def test_tests_sleep_only_while_polling(path: Path) -> None:
    loops = [
        node
        for node in ast.walk(tree.tree(path))
        if isinstance(node, ast.For | ast.While | ast.AsyncFor)
    ]
    polled = {id(inner) for loop in loops for inner in ast.walk(loop)}
    wrong = [
        f"{path}:{call.lineno}"
        for call in calls(path)
        if tree.called_name(call) in {"time.sleep", "asyncio.sleep"}
        and id(call) not in polled
        and not (call.args and isinstance(call.args[0], ast.Constant) and not call.args[0].value)
        and "# pace: " not in tree.text(path).splitlines()[call.lineno - 1]
    ]
    assert not wrong, "wait for the thing itself; `# pace: why` where the delay is what is tested"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_every_exemption_has_code_and_reason(path: Path) -> None:
    bare = re.compile(
        r"#\s*type:\s*ignore(?!\[[\w, -]+\]\s+(?:#|-)\s*\S)"
        r"|#\s*noqa(?!: [A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*\s+(?:#|-)\s*\S)"
        r"|#\s*pragma: no (?:cover|branch)(?!\s+(?:#|-)\s*\S)"
    )
    wrong = [
        f"{path}:{number} {line.strip()}"
        for number, line in enumerate(tree.text(path).splitlines(), 1)
        if bare.search(line)
    ]
    assert not wrong, "`# type: ignore[code]  # reason`, `# noqa: CODE - reason`"


@pytest.mark.parametrize("path", tree.files(), ids=str)
def test_no_file_knows_a_machine_or_a_registry(path: Path) -> None:
    found = [
        f"{path}:{number} {match.group()}"
        for number, line in enumerate(tree.text(path).splitlines(), 1)
        for match in (MACHINE_PATHS.search(line), REGISTRIES.search(line))
        if match and path.name not in {"Makefile", Path(__file__).name}
    ]
    assert not found


def test_the_guards_find_what_they_are_for() -> None:
    assert MACHINE_PATHS.search(" /" + "work/main")
    assert not MACHINE_PATHS.search("https://example.com/" + "work/main")
    assert REGISTRIES.search("https://files." + "pythonhosted" + ".org/x")
    assert _is_built(ast.parse("f'SELECT {x}'", mode="eval").body)
    assert _is_built(ast.parse("'SELECT %s' % x", mode="eval").body)
    assert _is_built(ast.parse("'SELECT ' + x", mode="eval").body)
    assert _is_built(ast.parse("'SELECT {}'.format(x)", mode="eval").body)
    assert not _is_built(ast.parse("f'PRAGMA user_version = {x}'", mode="eval").body)
    assert not _is_built(ast.parse("'SELECT ?'", mode="eval").body)
