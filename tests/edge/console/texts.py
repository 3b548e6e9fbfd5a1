"""What the console says, and its Chinese: found in the sources, kept in one file.

`python -m tests.edge.console.texts` puts proxy/edge/web/languages/zh.json in order (also after a
merge that joined both sides' lines), drops what nobody says any more, and prints what lacks its
Chinese. Additions come as a JSON object on standard input: `... texts < additions.json`.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jinja2
import jinja2.nodes
import msgspec

from proxy.core.sentences import split_remedy
from proxy.edge.console.languages import FOLDER
from tests import tree

CHINESE_FILE = FOLDER / "zh.json"
HOW = "`python -m tests.edge.console.texts` puts the file in order and says what lacks"
TEMPLATES = tuple(
    path for path in tree.files() if path.suffix == ".html" and path.parts[0] == "proxy"
)
CODE = tuple(
    path for path in tree.python_files("proxy") if path.parts[:3] == ("proxy", "edge", "console")
)
KEEPER = tuple(
    path
    for path in tree.python_files("proxy")
    if path.parts[1] in {"core", "storage", "app"}
    or path.name in {"price_texts.py", "reconciliations.py"}
)
REFUSALS = frozenset(
    {"ValueError", "CommandError", "UnfitError", "fault", "Finding", "ProbeError", "ExportError"}
)
"""What is raised with a text for whoever asked."""
_OF_STORAGE = (
    "accounts", "codes", "documents", "edits", "fields", "imports", "keys", "notices",
    "one_time_links", "payments", "people", "plans", "price_tables", "sign_ins", "teams", "till",
    "tokens", "wallet_changes",
)  # fmt: skip
REFUSING = frozenset(
    path
    for path in KEEPER
    if path.parts[1:3] in {("app", "commands"), ("core", "actions")}
    or path.parts[1:] in {("app", f"{name}.py") for name in ("probe", "price_list", "selftest")}
    or path.name in {"exports.py", "price_texts.py", "reconciliations.py"}
    or path.parts[1:] in {("core", f"{name}.py") for name in ("emails", "money", "top_ups")}
    or path.parts[1:] in {("storage", f"{name}.py") for name in _OF_STORAGE}
)
"""The modules of the keeper whose refusals reach people through an action."""


def said_in_template(path: Path) -> Iterator[str]:
    """The text of every `_("...")` of a template."""
    parsed = jinja2.Environment(autoescape=True).parse(tree.text(path))
    for call in parsed.find_all(jinja2.nodes.Call):
        if isinstance(call.node, jinja2.nodes.Name) and call.node.name == "_":
            (text,) = call.args
            assert isinstance(text, jinja2.nodes.Const), f"{path}:{call.lineno} not one literal"
            yield text.value


def said_in_code(path: Path) -> Iterator[str]:
    """The text of every `_("...")` and `visit._("...")` of a module."""
    for node in ast.walk(tree.tree(path)):
        if isinstance(node, ast.Call) and tree.called_name(node).rpartition(".")[2] == "_":
            (text,) = node.args
            assert isinstance(text, ast.Constant), f"{path}:{node.lineno} not one literal"
            yield str(text.value)


def said_by_keeper(path: Path) -> Iterator[str]:
    """What a module of the keeper tells people: the patterns of its sentences and refusals.

    Where one says what to do as well, both parts, as they go over the wire.
    """
    for node in ast.walk(tree.tree(path)):
        if not isinstance(node, ast.Call):
            continue
        name = tree.called_name(node).rpartition(".")[2]
        if name == "Sentence" or (path in REFUSING and name in REFUSALS):
            texts = [node.args[0]] if name == "Sentence" and node.args else _texts_of(node)
            for text in texts:
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield from (part for part in split_remedy(text.value) if part)


def _texts_of(refusal: ast.Call) -> list[ast.expr]:
    """The texts of a refusal: its arguments, of some but the first, of a mapping its values."""
    if tree.called_name(refusal).rpartition(".")[2] in {"fault", "Finding"}:
        return refusal.args[1:]
    return [
        value
        for given in refusal.args
        for value in (given.values if isinstance(given, ast.Dict) else [given])
    ]


def flattened(path: Path) -> list[str]:
    """Refusals of a module that are put together before anybody could translate them."""
    return [
        f"{path}:{text.lineno}"
        for node in ast.walk(tree.tree(path))
        if isinstance(node, ast.Call) and tree.called_name(node).rpartition(".")[2] in REFUSALS
        for text in _texts_of(node)
        if isinstance(text, ast.JoinedStr | ast.BinOp)
    ]


def said() -> dict[str, Path]:
    """Every text of the console, with one place that says it."""
    found = {text: path for path in TEMPLATES for text in said_in_template(path)}
    found |= {text: path for path in CODE for text in said_in_code(path)}
    return found | {text: path for path in KEEPER for text in said_by_keeper(path)}


ONE_WORD = {
    "提供方": "供应商",
    "中继": "中转站",
    "答案": "回答",
    "支出": "花费",
    "冻结": "预留",
    "凭据": "收据",
}
"""Other words that translators chose for the same thing: provider, relay, answer, spent, held."""
_HALF = re.compile(
    "(?<=[\u4e00-\u9fff\u201d\u300d\uff09])[,;:?!] ?|(?<=[})])[,;:?!](?=[\u4e00-\u9fff])"
)
_BRACKETS = re.compile(r"(?<=[\u4e00-\u9fff}])\(([^()]*)\)")


def load_texts() -> dict[str, str]:
    """Each text with its Chinese."""
    return msgspec.json.decode(CHINESE_FILE.read_bytes(), type=dict[str, str])


def lines_of(text: str) -> dict[str, str]:
    """The pairs of a file that may have been merged line by line, the last of each text."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        if line.strip().startswith('"'):
            pairs |= json.loads("{" + line.strip().rstrip(",") + "}")
    return pairs


def _full(mark: re.Match[str]) -> str:
    """The full form of a punctuation mark."""
    return chr(ord(mark[0][0]) + 0xFEE0)


def _chinese(text: str) -> str:
    """The text in the one word for each thing, with the punctuation that Chinese has."""
    for other, word in ONE_WORD.items():
        text = text.replace(other, word)
    return _HALF.sub(_full, _BRACKETS.sub("\uff08\\1\uff09", text))


def main() -> None:
    """Put the file in order, with the punctuation that Chinese has."""
    given = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    pairs = lines_of(CHINESE_FILE.read_text()) | (json.loads(given) if given else {})
    used = said()
    kept = {text: _chinese(pairs[text]) for text in sorted(pairs) if text in used and pairs[text]}
    CHINESE_FILE.write_text(json.dumps(kept, ensure_ascii=False, indent=0) + "\n")
    missing = {text: "" for text in sorted(used) if text not in kept}
    print(json.dumps(missing, ensure_ascii=False, indent=0))


if __name__ == "__main__":
    main()
