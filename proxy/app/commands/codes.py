"""Commands on redeem codes."""

import os
import sqlite3
from collections.abc import Mapping
from math import ceil
from typing import Final

from proxy.app.commands.shapes import Handler, iso, parse_time
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Role
from proxy.core.actions.codes import CodeListing, CodeMake, CodeRedeem, CodeWithdraw
from proxy.core.codes import RANDOM_BYTES, Mistake, last_group, new_code, read_code
from proxy.core.money import format_usd, parse_usd
from proxy.core.sentences import Sentence, text_of
from proxy.storage import accounts, codes
from proxy.storage import secrets as sealing
from proxy.storage.till import Event, Moved

ASK_THE_GIVER: Final = Sentence("ask whoever gave it to you")
LOOK_IT_UP: Final = Sentence("`sluice code list` says what became of each")
TOO_MANY_GUESSES: Final = Sentence("too many of the codes you tried were wrong")


async def code_make(office: Office, actor: Actor, a: CodeMake) -> object:
    """Make redeem codes; the answer holds them, which exist nowhere else."""
    now = office.clock()
    if not 0 < a.count <= codes.CODES_MAX:
        raise CommandError(
            Sentence("between 1 and {most:,} codes can be made at once", most=codes.CODES_MAX)
        )
    made = [new_code(os.urandom(RANDOM_BYTES)) for _ in range(a.count)]
    issue = codes.Issue(
        amount=parse_usd(a.amount),
        batch=a.batch or f"{iso(now)}",
        note=a.note,
        created_by=actor.name,
        expires_at=None if a.expires is None else parse_time(a.expires, now),
    )
    kept = [codes.NewCode(_digest(office, code), last_group(code)) for code in made]
    ids = await office.keeper.note(lambda c: codes.add_codes(c, kept, issue, now))
    return {
        "batch": issue.batch,
        "amount_usd": format_usd(issue.amount),
        "expires": iso(issue.expires_at),
        "codes": [{"id": id_, "code": code} for id_, code in zip(ids, made, strict=True)],
    }


async def code_list(office: Office, _actor: Actor, a: CodeListing) -> object:
    """Codes and what became of them, latest first."""
    now = office.clock()
    rows = await office.read(
        lambda c: codes.list_codes(c, a.batch, before_id=a.before, rows_max=a.rows_max)
    )
    return [
        {
            "id": row.id,
            "code": f"…{row.shown}",
            "amount_usd": format_usd(row.amount),
            "batch": row.batch,
            "state": row.state(now).value,
            "note": row.note,
            "created_by": row.created_by,
            "created": iso(row.created_at),
            "expires": iso(row.expires_at),
            "redeemed_by": row.redeemed_by,
            "redeemed": iso(row.redeemed_at),
        }
        for row in rows
    ]


async def code_withdraw(office: Office, _actor: Actor, a: CodeWithdraw) -> object:
    """Make codes worthless that nobody has redeemed."""
    now = office.clock()
    count = await office.keeper.note(
        lambda c: codes.withdraw_codes(c, now, code_id=a.id, batch=a.batch)
    )
    return {"withdrawn": count}


async def code_redeem(office: Office, actor: Actor, a: CodeRedeem) -> object:
    """Top a wallet up with a code."""
    digits = read_code(a.code)
    if isinstance(digits, Mistake):
        raise CommandError(digits.value, "type it as it was given, or ask for another")
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))
    digest = _digest(office, digits)

    def redeem(connection: sqlite3.Connection, event: Event) -> Moved[codes.Redeemed]:
        return codes.redeem(connection, event, digest, user_id)

    guesser, now = f"person {actor.person}", office.clock()
    if actor.person is not None:
        wait = office.guesses.wait(guesser, now)
        if wait:
            raise CommandError(
                TOO_MANY_GUESSES, Sentence("try again in {wait} seconds", wait=ceil(wait))
            )
        # Counted before it is known, so that many at once are counted too.
        office.guesses.failed(guesser, now)
    try:
        redeemed = await office.keeper.till.move(redeem)
    except codes.UnredeemableError as error:
        # Operators may know which of them it is; to others it would tell what codes there are.
        raise CommandError(
            text_of(error), ASK_THE_GIVER if actor.role is Role.USER else LOOK_IT_UP
        ) from None
    office.guesses.succeeded(guesser)
    balance = office.keeper.balance(user_id)
    return {
        "user": a.user,
        "credited_usd": format_usd(redeemed.amount if redeemed.fresh else 0),
        "balance_usd": format_usd(balance),
        "balance_nano": balance,
        "repeated": not redeemed.fresh,
    }


def _digest(office: Office, code: str) -> bytes:
    """What the file knows of a code. Its words keep it apart from the digest of any key."""
    return sealing.key_digest(office.secrets.pepper, f"redeem code {code.replace('-', '')}")


HANDLERS: Mapping[str, Handler] = {
    "code make": code_make,
    "code list": code_list,
    "code withdraw": code_withdraw,
    "code redeem": code_redeem,
}
