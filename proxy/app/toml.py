"""Writes a catalog document as TOML that a person can edit and `tomllib` reads back the same.

Rules: top-level values first, then one `[[table]]` per entry; what is nested deeper is an inline
table. The standard library reads TOML and does not write it; this writes the few kinds of values
a catalog holds and refuses others. This module must not know what the entries mean.

Source: TOML 1.0.0, basic strings and inline tables.
"""

import re
from collections.abc import Mapping

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def dump(document: Mapping[str, object]) -> str:
    """Return `document` as TOML text. Raises AssertionError for a kind it does not write."""
    plain: list[str] = []
    tables: list[str] = []
    for name, value in document.items():
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            tables.extend(_table(name, row) for row in value)
        elif value is not None and value != []:
            plain.append(f"{_key(name)} = {_value(value)}\n")
    return "".join(plain) + ("\n" if plain and tables else "") + "\n".join(tables)


def _table(name: str, row: Mapping[str, object]) -> str:
    lines = [f"{_key(key)} = {_value(value)}\n" for key, value in row.items() if value is not None]
    return f"[[{_key(name)}]]\n" + "".join(lines)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    raise AssertionError(f"no catalog holds a {type(value).__name__}")


def _key(name: str) -> str:
    return name if _BARE_KEY.match(name) else _text(name)


def _text(text: str) -> str:
    escaped = "".join(
        _ESCAPES.get(letter) or (letter if letter.isprintable() else f"\\U{ord(letter):08x}")
        for letter in text
    )
    return f'"{escaped}"'
