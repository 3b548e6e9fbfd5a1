"""`sluice check`: what is wrong with a settings or catalog file, by line, before it is used.

Rules: the same code that would apply a file judges it, on an empty database in a temporary
directory; nothing of the real data is opened. This module must not know how problems are shown.
"""

import os
import re
import sqlite3
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy.app.settings import (
    Problem,
    Settings,
    SettingsError,
    line_of,
    load,
    toml_problem,
)
from proxy.core.catalog_faults import faults
from proxy.storage.documents import SEALED_PREFIX, read_document
from proxy.storage.imports import apply_catalog
from proxy.storage.secret_files import read_word
from proxy.storage.secrets import SECRET_BYTES, SecretError
from proxy.storage.sqlite import Durability, open_writer

CATALOG_BYTES_MAX = 8 << 20
_ENTRY = re.compile(r"(plan|group|model|channel) (?:'(?P<name>[^']*)'|number (?P<number>\d+))")


def check_settings(path: Path) -> list[Problem]:
    """Everything wrong with a settings file."""
    try:
        settings = load(path)
    except SettingsError as error:
        return list(error.problems)
    return _named_problems(settings, path.read_text(encoding="utf-8"))


def check_catalog(path: Path) -> list[Problem]:
    """The first thing wrong with a catalog file, or what would make it useless."""
    try:
        text, document = read_catalog(path)
    except SettingsError as error:
        return list(error.problems)
    try:
        with tempfile.TemporaryDirectory(prefix="sluice-check-") as folder:
            _apply_to_nothing(Path(folder) / "check.db", document)
    except ValueError as error:
        return [_problem(text, str(error))]
    return _useless(text, document)


def check_files(settings: Settings) -> None:
    """Raise SettingsError unless the files that `settings` name could be used."""
    if problems := _named_problems(settings):
        raise SettingsError(problems)
    if settings.catalog_file:
        problems = check_catalog(Path(settings.catalog_file))
        if problems:
            raise SettingsError(problems, settings.catalog_file)


def read_catalog(path: Path) -> tuple[str, dict[str, Any]]:
    """The text and the parsed document of a catalog file. Raises SettingsError."""
    try:
        if path.stat().st_size > CATALOG_BYTES_MAX:
            raise SettingsError([Problem(None, "file above 8 MiB", "check the path")], str(path))
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        problem = Problem(None, f"cannot be read: {error.strerror}", "check path and permissions")
        raise SettingsError([problem], str(path)) from None
    except UnicodeDecodeError:
        raise SettingsError([Problem(None, "not UTF-8", "save it as UTF-8")], str(path)) from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([toml_problem(error, text)], str(path)) from None


def line_in_entry(text: str, message: str) -> int | None:
    """The line a message about `kind 'name' ... key` is about, as near as can be told."""
    found = _ENTRY.search(message)
    if found is None:
        keys = re.findall(r"'([^']+)'", message)
        return next((line for key in keys if (line := _line_with(text, key, 0, None))), None)
    start, end = _entry_lines(text, found[1], found["name"], found["number"])
    if start is None:
        return None
    for word in re.findall(r"[A-Za-z0-9_]+", message[found.end() :]):
        line = _line_with(text, word, start, end)
        if line is not None and word != "name":
            return line
    return start


def _named_problems(settings: Settings, text: str = "") -> list[Problem]:
    """What is wrong with files and directories that settings name."""
    problems = []
    for name in ("smtp_password_file", "oidc_client_secret_file"):
        named: str = getattr(settings, name)
        if named:
            try:
                read_word(Path(named))
            except SecretError as error:
                problems.append(Problem(line_of(text, name), error.message, error.remedy))
    spool = settings.spool_dir
    if spool and not (Path(spool).is_dir() and os.access(spool, os.W_OK | os.X_OK)):
        message = f"spool_dir {spool} is no directory that can be written to"
        remedy = "make it, owned by the relay's user, or leave spool_dir out: data_dir is used then"
        problems.append(Problem(line_of(text, "spool_dir"), message, remedy))
    return problems


def _apply_to_nothing(path: Path, document: Mapping[str, Any]) -> None:
    channels = document.get("channel")
    bare = dict(document)
    if isinstance(channels, list):
        # Placeholders of an export name keys of the real database; any key stands in here.
        bare["channel"] = [_with_keys(row) for row in channels]
    connection: sqlite3.Connection = open_writer(path, Durability.PROCESS, 0.0)
    try:
        connection.execute("BEGIN")
        apply_catalog(
            connection, bare, master=bytes(SECRET_BYTES), now=0.0, force=True, dry_run=False
        )
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def _with_keys(row: object) -> object:
    keys = row.get("keys") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(keys, list):
        return row
    bare = [
        f"sk-{key.removeprefix(SEALED_PREFIX)}"
        if isinstance(key, str) and key.startswith(SEALED_PREFIX)
        else key
        for key in keys
    ]
    return {**row, "keys": bare}


def _useless(text: str, document: Mapping[str, Any]) -> list[Problem]:
    """What is well-formed and yet cannot serve a call."""
    problems = []
    for model in document.get("model", []):
        if "price" not in model:
            line, _ = _entry_lines(text, "model", model["name"], None)
            reason = f"model {model['name']!r} has no price, so calls for it are refused"
            problems.append(Problem(line, reason, "add a price; call = 0 or input = 0 is a price"))
    for channel in document.get("channel", []):
        if not channel.get("keys"):
            line, _ = _entry_lines(text, "channel", channel["name"], None)
            reason = f"channel {channel['name']!r} has no keys, so it is never used"
            problems.append(Problem(line, reason, 'add keys = ["..."]'))
    read = read_document(document)
    for fault in faults(read.models, [entry.channel for entry in read.channels]):
        line, _ = _entry_lines(text, "model", fault.model, None)
        problems.append(Problem(line, fault.reason, fault.remedy))
    return problems


def _problem(text: str, message: str) -> Problem:
    what, separator, remedy = message.partition("; ")
    if not separator:
        what, separator, remedy = message.partition(": add ")
        remedy = f"add {remedy}" if separator else ""
    return Problem(line_in_entry(text, message), what, remedy or "correct that entry")


def _entry_lines(
    text: str, kind: str, name: str | None, number: str | None
) -> tuple[int | None, int | None]:
    """First and last 1-based line of an entry, by its name or its number."""
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines, 1) if re.match(r"\s*\[", line)]
    ours = [i for i in heads if re.match(rf"\s*\[\[\s*{kind}\s*\]\]", lines[i - 1])]
    spans = [(i, next((j - 1 for j in heads if j > i), len(lines))) for i in ours]
    if number is not None:
        return spans[int(number) - 1] if int(number) <= len(spans) else (None, None)
    for first, last in spans:
        for line in lines[first:last]:
            match = re.match(r"""\s*name\s*=\s*["'](.*?)["']""", line)
            if match and match[1] == name:
                return first, last
    return None, None


def _line_with(text: str, key: str, start: int, end: int | None) -> int | None:
    pattern = re.compile(rf"""(^|[{{,\s\[])["']?{re.escape(key)}["']?\s*[=\]]""")
    for number, line in enumerate(text.splitlines(), 1):
        if number >= start and (end is None or number <= end) and pattern.search(line):
            return number
    return None
