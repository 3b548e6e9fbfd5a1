import ast
from pathlib import Path

from proxy.app.commands.shapes import split_remedy
from proxy.edge.console.account_words import WORDS
from tests import tree

KEEPER = (
    *(Path("proxy", "storage", name) for name in ("people.py", "teams.py", "one_time_links.py")),
    *(Path("proxy", "app", "commands", name) for name in ("people.py", "teams.py")),
)


def test_the_words_are_those_of_the_keeper() -> None:
    said = {
        part
        for path in KEEPER
        for node in ast.walk(tree.tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for part in split_remedy(node.value)
    }
    assert set(WORDS) <= said
    assert len(set(WORDS)) == len(WORDS)
