"""Results of commands for people: tables on a terminal, JSON on request, errors with a remedy.

Rules: JSON is the result itself, one document on standard output, so that scripts need nothing
else; tables may shorten. Nothing is coloured unless standard output is a terminal. This module
must not know any command.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TextIO, TypeGuard

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 200
"""Columns assumed when the output is not a terminal: a pipe has no width to wrap at."""
UNCHANGED: Final = "nothing to change: it is so already"
_OUTCOME_STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red", "skipped": "dim"}


class Checked(Protocol):
    """A line of a report: what was checked, how it went, what was seen, what to do."""

    @property
    def check(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def seen(self) -> str: ...
    @property
    def remedy(self) -> str: ...


def as_json(result: object, stream: TextIO) -> None:
    """Write `result` as indented JSON."""
    stream.write(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode() + "\n")


def as_table(result: object, stream: TextIO) -> None:
    """Write a list of records as a table, one record as two columns, a text as it is.

    What a record holds of records comes below it, lists of them as tables of their own.
    """
    console = _console(stream)
    if isinstance(result, str):
        console.print(Text(result))
    elif isinstance(result, Mapping):
        _print_record(console, result)
    elif isinstance(result, Sequence):
        _print_rows(console, [row for row in result if isinstance(row, Mapping)])


def problem(message: str, remedy: str = "", stream: TextIO | None = None) -> None:
    """Write an error and what to do about it to standard error."""
    console = _console(sys.stderr if stream is None else stream)
    console.print(Text.assemble(("error: ", "bold red"), message))
    if remedy:
        console.print(Text.assemble(("  try: ", "bold"), remedy))


def check_line(line: Checked, stream: TextIO | None = None) -> None:
    """Write one line of a report as soon as it is known, with what to do if it is not well."""
    console = _console(sys.stdout if stream is None else stream)
    style = _OUTCOME_STYLES.get(line.outcome, "")
    mark = Text(f"{line.outcome:8}", style=style)
    console.print(Text.assemble(mark, " ", (line.check, "bold"), ": ", _printable(line.seen)))
    if line.remedy:
        console.print(Text.assemble(" " * 9, "try: ", _printable(line.remedy)))


def _print_record(console: Console, record: Mapping[str, object]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    lists: dict[str, Sequence[Mapping[str, object]]] = {}
    for name, value in record.items():
        rows = [row for row in value if isinstance(row, Mapping)] if _is_list(value) else []
        if isinstance(value, Mapping) and value:
            table.add_row(_label(name), "")
            for inner, part in value.items():
                table.add_row(f"  {_label(inner)}", _cell(part))
        elif rows:
            lists[name] = rows
        else:
            table.add_row(_label(name), _cell(value))
    console.print(table)
    for name, inside in lists.items():
        console.print(Text(f"\n{_label(name)}", style="bold"))
        _print_rows(console, inside)


def _is_list(value: object) -> TypeGuard[list[object] | tuple[object, ...]]:
    return isinstance(value, list | tuple)


def _print_rows(console: Console, rows: Sequence[Mapping[str, object]]) -> None:
    if not rows:
        console.print(Text("nothing to show", style="dim"))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, value in rows[0].items():
        number = isinstance(value, int | float) or name.endswith("_usd")
        table.add_column(_label(name), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def _label(name: str) -> str:
    return name.replace("_", " ").removesuffix(" usd") + (" $" if name.endswith("_usd") else "")


def _cell(value: object) -> Text:
    # Text, not markup: a name such as `[red]` is a name.
    if value is None:
        return Text("-", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if _is_list(value):
        return Text(_printable(", ".join(_cell(item).plain for item in value)) or "-")
    if isinstance(value, Mapping):
        parts = (f"{name}={_cell(item).plain}" for name, item in value.items())
        return Text(_printable(", ".join(parts)) or "-")
    return Text(_printable(str(value)))


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
