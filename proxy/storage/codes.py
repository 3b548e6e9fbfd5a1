"""Redeem codes in the file: made, listed, withdrawn, and redeemed once.

Rules: a code is known by its digest alone; a code redeemed is a top-up with a reference of its own,
in the same transaction; whoever asks for a code that is unknown, expired, withdrawn or redeemed by
others hears the same sentence. Amounts are nano-USD, times Unix seconds. This module must not know
the pepper, nor who asks.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from proxy.core.sentences import Sentence
from proxy.storage.accounts import check_name
from proxy.storage.till import Event, Moved
from proxy.storage.wallet_changes import AMOUNT_MAX, OWN_REFERENCE, add_top_up

CODES_MAX: Final = 1_000
"""Made at once."""
NOTE_CHARS_MAX: Final = 200
ROWS_MAX: Final = 1_000
NOT_REDEEMABLE: Final = Sentence(
    "this code cannot be redeemed: it is unknown, used, withdrawn or past its date"
)


class State(StrEnum):
    """What may still happen to a code."""

    OPEN = "open"
    REDEEMED = "redeemed"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class UnredeemableError(ValueError):
    """The code is worth nothing to who asks; it is not said why."""


class NewCode(NamedTuple):
    """A code to keep: its digest, and its last group, which may be shown."""

    digest: bytes
    shown: str


@dataclass(frozen=True, slots=True)
class Issue:
    """What codes made together have in common."""

    amount: int
    batch: str
    note: str
    created_by: str
    expires_at: float | None


class CodeRow(NamedTuple):
    id: int
    shown: str
    amount: int
    batch: str
    note: str
    created_by: str
    created_at: float
    expires_at: float | None
    withdrawn_at: float | None
    redeemed_by: str | None
    """The wallet's name."""
    redeemed_at: float | None

    def state(self, now: float) -> State:
        """What may still happen to it."""
        if self.redeemed_at is not None:
            return State.REDEEMED
        if self.withdrawn_at is not None:
            return State.WITHDRAWN
        expired = self.expires_at is not None and self.expires_at <= now
        return State.EXPIRED if expired else State.OPEN


class Redeemed(NamedTuple):
    """What a code gave; `fresh` is False when this wallet had redeemed it before."""

    amount: int
    fresh: bool


def add_codes(
    connection: sqlite3.Connection, codes: Sequence[NewCode], issue: Issue, now: float
) -> list[int]:
    """Keep new codes; returns their ids in order. Raises ValueError."""
    if not 0 < len(codes) <= CODES_MAX:
        raise ValueError(
            Sentence("between 1 and {most:,} codes can be made at once", most=CODES_MAX)
        )
    if not 0 < issue.amount <= AMOUNT_MAX:
        raise ValueError("a code must be worth more than 0")
    check_name(Sentence("batch"), issue.batch)
    if len(issue.note) > NOTE_CHARS_MAX or not issue.note.isprintable():
        raise ValueError(
            Sentence("a note is at most {most} printable characters", most=NOTE_CHARS_MAX)
        )
    if issue.expires_at is not None and issue.expires_at <= now:
        raise ValueError("codes cannot expire before they are made; name a later moment")
    ids: list[int] = []
    for code in codes:
        cursor = connection.execute(
            "INSERT INTO redeem_code (digest, shown, amount, batch, note, created_by, created_at, "
            "expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                code.digest, code.shown, issue.amount, issue.batch, issue.note, issue.created_by,
                now, issue.expires_at,
            ),
        )  # fmt: skip
        if cursor.lastrowid is None:
            raise AssertionError("an insert has a row id")
        ids.append(cursor.lastrowid)
    return ids


def list_codes(
    connection: sqlite3.Connection,
    batch: str | None = None,
    *,
    before_id: int | None = None,
    rows_max: int = 50,
) -> list[CodeRow]:
    """Codes of one batch, or all, latest first, below `before_id`. Raises ValueError."""
    if not 0 < rows_max <= ROWS_MAX:
        raise ValueError(
            Sentence("between 1 and {most:,} rows can be listed at once", most=ROWS_MAX)
        )
    where = "?2 IS NULL" if batch is None else "batch = ?2"
    rows = connection.execute(
        "SELECT redeem_code.id, shown, amount, batch, note, created_by, redeem_code.created_at, "  # noqa: S608 - constants
        "expires_at, withdrawn_at, user.name, redeemed_at FROM redeem_code "
        f"LEFT JOIN user ON user.id = redeemed_by WHERE redeem_code.id < ?1 AND {where} "
        "ORDER BY redeem_code.id DESC LIMIT ?3",
        ((1 << 63) - 1 if before_id is None else before_id, batch, rows_max),
    )
    return [CodeRow(*row) for row in rows]


def withdraw_codes(
    connection: sqlite3.Connection, now: float, *, code_id: int | None, batch: str | None
) -> int:
    """Withdraw one code, or all of a batch that nobody has redeemed; returns how many.

    Raises ValueError for a code that does not exist or was redeemed, or an unknown batch.
    """
    if (code_id is None) == (batch is None):
        raise ValueError("which codes? name one by its id, or a batch")
    column, value = ("id", code_id) if batch is None else ("batch", batch)
    found = connection.execute(
        f"SELECT count(*), count(redeemed_by) FROM redeem_code WHERE {column} = ?",  # noqa: S608 - constants
        (value,),
    ).fetchone()
    if found[0] == 0:
        raise ValueError(
            Sentence(
                "there is no code with the {column} {value}: see `sluice code list`",
                column=column,
                value=str(value),
            )
        )
    if code_id is not None and found[1]:
        raise ValueError(
            Sentence("code {code} was redeemed; correct the wallet instead", code=code_id)
        )
    cursor = connection.execute(
        f"UPDATE redeem_code SET withdrawn_at = ? WHERE {column} = ? "  # noqa: S608 - constants
        "AND redeemed_by IS NULL AND withdrawn_at IS NULL",
        (now, value),
    )
    return cursor.rowcount


def redeem(
    connection: sqlite3.Connection, event: Event, digest: bytes, user_id: int
) -> Moved[Redeemed]:
    """Give a wallet what a code is worth, once. Raises UnredeemableError, ValueError."""
    row = connection.execute(
        "SELECT id, amount, expires_at, withdrawn_at, redeemed_by FROM redeem_code "
        "WHERE digest = ?",
        (digest,),
    ).fetchone()
    if row is None:
        raise UnredeemableError(NOT_REDEEMABLE)
    code_id, amount, expires_at, withdrawn_at, redeemed_by = row
    if redeemed_by == user_id:
        return Moved(Redeemed(amount, fresh=False))
    expired = expires_at is not None and expires_at <= event.at
    if expired or withdrawn_at is not None or redeemed_by is not None:
        raise UnredeemableError(NOT_REDEEMABLE)
    reference = f"{OWN_REFERENCE}code:{code_id}"
    added = add_top_up(connection, event, user_id, amount, "redeem code", reference)
    if not added.result.fresh:
        raise ValueError(
            Sentence(
                "code {code} was credited and is not marked: see `sluice ledger verify`",
                code=code_id,
            )
        )
    connection.execute(
        "UPDATE redeem_code SET redeemed_by = ?, redeemed_at = ?, event_id = ? WHERE id = ?",
        (user_id, event.at, event.id, code_id),
    )
    return Moved(Redeemed(amount, fresh=True), added.transfers)
