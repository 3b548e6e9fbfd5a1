"""The audit log: who asked for which change, from where, and what came of it.

Rules: an entry is written before its action is done and completed afterwards, so that one without
an outcome tells of a process that died between; no secret is ever in it; a long argument is cut.
Entries are never changed or removed. This module must not know what an action does.
"""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from proxy.core.actions.action import Action, Actor, Arguments

ARGUMENTS_CHARS_MAX: Final = 4_000
REASON_CHARS_MAX: Final = 500
HIDDEN: Final = "***"


class Outcome(StrEnum):
    """What came of an action."""

    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Entry:
    """One action as it was asked for. `arguments` is JSON without secrets; `at` Unix seconds."""

    at: float
    actor: Actor
    action: str
    arguments: str


def entry(action: Action, given: Arguments, actor: Actor, now: float) -> Entry:
    """Put an action into words for the log, its secrets left out."""
    said: dict[str, object] = {}
    for field in msgspec.structs.fields(given):
        value = getattr(given, field.name)
        # A null says something only where leaving it out says something else.
        if value is msgspec.UNSET or (value is None and field.default is not msgspec.UNSET):
            continue
        said[field.name] = HIDDEN if field.name in action.secrets else value
    text = msgspec.json.encode(said).decode()
    if len(text) > ARGUMENTS_CHARS_MAX:
        text = msgspec.json.encode({"cut": text[:ARGUMENTS_CHARS_MAX]}).decode()
    return Entry(now, actor, action.name, text)


def begin(connection: sqlite3.Connection, one: Entry) -> int:
    """Note that an action is about to be done; returns the entry's number."""
    actor = one.actor
    cursor = connection.execute(
        "INSERT INTO audit (at, via, actor, person_id, address, action, arguments) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            one.at, actor.via.value, actor.name, actor.person, actor.address, one.action,
            one.arguments,
        ),
    )  # fmt: skip
    if cursor.lastrowid is None:
        raise AssertionError("an insert has a row id")
    return cursor.lastrowid


def end(
    connection: sqlite3.Connection, number: int, outcome: Outcome, reason: str | None = None
) -> None:
    """Note what came of the action with this number, once."""
    connection.execute(
        "UPDATE audit SET outcome = ?, reason = ? WHERE id = ?",
        (outcome.value, None if reason is None else reason[:REASON_CHARS_MAX], number),
    )
