"""Rows as CSV that a spreadsheet opens and never runs.

Rules: RFC 4180: cells parted by commas, lines by CRLF, quotes doubled. A text that a spreadsheet
would take for a formula gets an apostrophe in front, also where white space or an invisible mark
comes first: what users call their keys and clients their requests is not ours. Numbers stay
numbers. This module must not know what the rows are.

Sources: RFC 4180; OWASP, "CSV Injection".
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

Cell: TypeAlias = "str | int | float | None"

_STARTS_FORMULA: Final = frozenset("=+-@|%＝＋－＠")
_NEEDS_QUOTES: Final = frozenset(',"\r\n;')
_CONTROLS: Final = frozenset("\t\r\n")
_BLANK: Final = " \t\r\n\v\f\0\x85\xa0\u200b\u200c\u200d\u2060\ufeff"
"""What a spreadsheet may pass over before it looks for a formula."""
MARK: Final = "\ufeff"
"""What a file begins with, so that spreadsheets read it as UTF-8."""


def csv_line(cells: Iterable[Cell]) -> str:
    """Return one line, its end included."""
    return ",".join([_cell(cell) for cell in cells]) + "\r\n"


def defused(text: str) -> str:
    """Return `text`, with an apostrophe before it if it could be taken for a formula."""
    bare = text.lstrip(_BLANK)
    if text[:1] in _CONTROLS or bare[:1] in _STARTS_FORMULA:
        return f"'{text}"
    return text


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, str):
        return str(cell)
    text = defused(cell)
    if _NEEDS_QUOTES.isdisjoint(text):
        return text
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
