"""The README's table of clients is what tests assert: a row for each `client` mark, with the version.

Every row's tests run in CI, where no client may be absent.
"""

import ast
import re
from pathlib import Path

import pytest

from tests import clients, tree

TABLE = re.compile(r"^\| client \| version \| upstream \|.*?\n\n", re.MULTILINE | re.DOTALL)


def marks() -> list[dict[str, str]]:
    """The arguments of every `pytest.mark.client` in the tests; all are literals."""
    return [
        {str(word.arg): str(ast.literal_eval(word.value)) for word in node.keywords}
        for path in tree.python_files("tests")
        for node in ast.walk(tree.tree(path))
        if isinstance(node, ast.Call) and tree.called_name(node) == "pytest.mark.client"
    ]


def table() -> str:
    """The rows in order of client and upstream."""
    rows = [
        f"| {mark['name']} | {clients.version(mark['package'])} | {mark['upstream']} "
        f"| {mark['shows']} |"
        for mark in marks()
    ]
    head = "| client | version | upstream | what passes |\n|---|---|---|---|\n"
    return head + "\n".join(sorted(rows, key=str.casefold)) + "\n\n"


def test_the_table_of_clients_is_what_the_tests_say() -> None:
    (found,) = TABLE.findall(tree.text(Path("README.md")))
    assert found == table(), f"put this into README.md:\n{table()}"
    for upstream in ("development/xllamacpp", "sdks/@copilotkit/aimock"):
        assert clients.version(upstream) in tree.text(Path("README.md"))


def test_a_row_has_one_place_and_says_everything() -> None:
    found = marks()
    assert all(mark.keys() == {"name", "package", "upstream", "shows"} for mark in found)
    places = [(mark["name"], mark["upstream"]) for mark in found]
    assert len(places) == len(set(places)) > 10


def test_a_client_of_another_lock_counts_as_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_CLIENTS", str(tmp_path))
    for name, target in clients.TARGETS.items():
        (tmp_path / name).mkdir()
        for content in (None, b"another lock"):
            if content is not None:
                (tmp_path / name / ".lock").write_bytes(content)
            with pytest.raises(pytest.skip.Exception, match=f"install it: make {target}"):
                clients.need(name)
        (tmp_path / name / ".lock").write_bytes((tree.ROOT / clients.LOCKS[name]).read_bytes())
        assert clients.need(name) == tmp_path / name
    with pytest.raises(pytest.skip.Exception, match="not for this machine"):
        clients.need_agent("codex")


def test_the_locks_name_no_machine_and_pin_every_package() -> None:
    for path in (clients.LOCKS["sdks"], clients.LOCKS["agents"]):
        text = tree.text(path)
        assert "resolved" not in text
        assert text.count('"version"') == text.count('"integrity": "sha512-') > 2
