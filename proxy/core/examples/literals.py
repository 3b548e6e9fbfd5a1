"""Values as the source text of a programming language, so that no name can break out of its quotes.

Rules: a nested value stays on one line where that fits, else has a line per entry; keys are the
plain words of an API. Bodies that a language keeps as JSON text are ASCII, and characters that its
quotes would not bear are written as JSON escapes. This module must not know what is said.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.core.examples.sample import Json

LINE_CHARACTERS_MAX = 80


@dataclass(frozen=True, slots=True)
class Style:
    """How a language writes values: `pair` and `member` take a key and its value's text."""

    text: Callable[[str], str]
    pair: str
    """Inside a map, as a format of `key` and `value`."""
    map_ends: tuple[str, str] = ("{", "}")
    list_ends: tuple[str, str] = ("[", "]")
    true: str = "true"
    false: str = "false"
    last_comma: bool = True
    padding: str = ""
    """Between the ends of a map and its entries, on one line."""


def literal(value: Json, style: Style, indent: int = 0, width: int = 4) -> str:
    """Return `value` as source text; lines after the first are indented by `indent` columns.

    `width`: columns per level.
    """
    if isinstance(value, bool):
        return style.true if value else style.false
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return style.text(value)
    inner = indent + width
    ends = style.map_ends if isinstance(value, Mapping) else style.list_ends
    entries = [text for text, _ in _entries(value, style, inner, width)]
    padding = style.padding if isinstance(value, Mapping) else ""
    line = f"{ends[0]}{padding}{', '.join(entries)}{padding}{ends[1]}"
    if "\n" not in line and indent + len(line) <= LINE_CHARACTERS_MAX and not _deep(value):
        return line
    comma = "," if style.last_comma else ""
    body = (",\n" + " " * inner).join(entries)
    return f"{ends[0]}\n{' ' * inner}{body}{comma}\n{' ' * indent}{ends[1]}"


def _entries(
    value: Sequence[Json] | Mapping[str, Json], style: Style, indent: int, width: int
) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        rows = [(key, literal(one, style, indent, width)) for key, one in value.items()]
        return [(style.pair.format(key=key, value=text), key) for key, text in rows]
    return [(literal(one, style, indent, width), "") for one in value]


def _deep(value: Sequence[Json] | Mapping[str, Json]) -> bool:
    """Whether a map holds another map or list: that reads better on lines of its own."""
    if not isinstance(value, Mapping):
        return False
    return any(not isinstance(one, str | int) for one in value.values())


def json_text(value: Json, unquotable: str = "") -> str:
    """Return indented JSON in ASCII, with `unquotable` characters escaped.

    Those may stand in strings only, and must not be JSON's own signs.
    """
    text = json.dumps(value, indent=2, ensure_ascii=True)
    for sign in unquotable:
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def quoted(text: str) -> str:
    """Return a string literal of Python and JavaScript (JSON is both)."""
    return json.dumps(text, ensure_ascii=False)


def quoted_ascii(text: str) -> str:
    """Return a string literal of Java and C#: UTF-16, as JSON escapes it."""
    return json.dumps(text, ensure_ascii=True)


def single_quoted(text: str) -> str:
    """Return a string literal of PHP and Ruby in which nothing is interpolated."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def indented(text: str, columns: int) -> str:
    """Return `text` with every line but empty ones indented."""
    return "".join(
        f"{' ' * columns}{line}" if line.strip() else line
        for line in text.splitlines(keepends=True)
    )


PYTHON: Final = Style(quoted, '"{key}": {value}', true="True", false="False")
JAVASCRIPT: Final = Style(quoted, "{key}: {value}", padding=" ")
PHP: Final = Style(single_quoted, "'{key}' => {value}", map_ends=("[", "]"))
RUBY: Final = Style(single_quoted, "{key}: {value}", last_comma=False, padding=" ")
