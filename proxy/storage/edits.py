"""Edits one entry of the catalog, or a few, as one change of the document it is.

Rules: an edit is the exported document with one entry changed, applied like any other, so that it
is checked, compared and versioned in one place. What it was based on may be named: if that entry
has changed since, it is refused and nothing is lost. Runs inside its caller's transaction
(`Keeper.change`). This module must not know who edits.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.core.actions.refusals import KINDS
from proxy.core.sentences import Sentence
from proxy.storage.documents import SEALED_PREFIX
from proxy.storage.imports import Change, apply_catalog, export_catalog

__all__ = [
    "SEALED_PREFIX", "Edit", "Table", "basis_of", "check_basis", "edit", "fingerprint", "missing",
    "removing", "setting",
]  # fmt: skip
Table = dict[str, Any]
APART: Final[Mapping[str, frozenset[str]]] = {
    "channel": frozenset({"keys"}),
    "group": frozenset(),
    "model": frozenset({"price"}),
    "plan": frozenset(),
}
"""What has actions of its own: an edit of the rest neither says nor minds it."""
_BASIS_CHARS: Final = 16
_NEW: Final = "none"


@dataclass(frozen=True, slots=True)
class Edit:
    """One entry to be made, changed or (if `table` gives None) removed.

    `table` is called with a copy of the entry as it is, None where there is none, and returns what
    it shall be; it raises ValueError.
    """

    kind: str
    name: str
    table: Callable[[Table | None], Table | None]


def basis_of(kind: str, entry: Mapping[str, object] | None) -> str:
    """What an edit of an entry can say it was based on: a fingerprint of all but `APART`."""
    if entry is None:
        return _NEW
    return fingerprint({name: entry[name] for name in entry if name not in APART[kind]})


def fingerprint(table: object) -> str:
    """A short name of what a table says; None has one, too."""
    if table is None:
        return _NEW
    text = orjson.dumps(table, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).hexdigest()[:_BASIS_CHARS]


def edit(
    connection: sqlite3.Connection,
    edits: list[Edit],
    *,
    master: bytes,
    now: float,
    keys_stay: bool = False,
) -> list[Change]:
    """Do some edits as one change; returns the difference. Raises ValueError.

    `keys_stay`: as of `apply_catalog`.
    """
    document = export_catalog(connection, master)
    for each in edits:
        entries: list[Table] = document[each.kind]
        places = {entry.get("name"): at for at, entry in enumerate(entries)}
        at = places.get(each.name)
        changed = each.table(None if at is None else dict(entries[at]))
        if at is not None:
            entries[at : at + 1] = [] if changed is None else [changed]
        elif changed is not None:
            entries.append(changed)
    return apply_catalog(connection, document, master=master, now=now, keys_stay=keys_stay)


def setting(
    kind: str, name: str, values: Mapping[str, object], *, create: bool, basis: str | None
) -> Edit:
    """An edit that sets some keys of an entry; a value of None leaves the key out."""

    def table(found: Table | None) -> Table:
        if found is None and not create:
            raise ValueError(
                Sentence(
                    "there is no {kind} {name!r}: see the list of them, or ask to make it new "
                    "(`create`, on the command line --create)",
                    kind=KINDS[kind],
                    name=name,
                )
            )
        if found is not None and create:
            raise ValueError(
                Sentence(
                    "there is a {kind} {name!r} already: name another", kind=KINDS[kind], name=name
                )
            )
        check_basis(
            Sentence("{kind} {name!r}", kind=KINDS[kind], name=name), basis, basis_of(kind, found)
        )
        foreign = sorted({"name", *APART[kind]} & values.keys())
        if foreign:
            raise ValueError(
                Sentence(
                    "an edit of {kind} {name!r} does not set its {field}",
                    kind=KINDS[kind],
                    name=name,
                    field=foreign[0],
                )
            )
        merged = {**(found or {}), **values, "name": name}
        return {key: value for key, value in merged.items() if value is not None}

    return Edit(kind, name, table)


def removing(kind: str, name: str) -> Edit:
    """An edit that removes an entry."""

    def table(found: Table | None) -> None:
        if found is None:
            raise missing(kind, name)

    return Edit(kind, name, table)


def check_basis(what: str, basis: str | None, now: str) -> None:
    """Raise ValueError if an edit was based on something else than there is."""
    if basis is not None and basis != now:
        raise ValueError(
            Sentence(
                "{what} was changed since it was read: check what it is now, then repeat the edit",
                what=what,
            )
        )


def missing(kind: str, name: str) -> ValueError:
    """The error for an entry that is not there."""
    return ValueError(
        Sentence("there is no {kind} {name!r}: see the list of them", kind=KINDS[kind], name=name)
    )
