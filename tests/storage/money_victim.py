"""A keeper to be killed while money moves without calls, and beside them.

It says on stdout what it was told is committed: `KIND REFERENCE AMOUNT`, a line each.
"""

import asyncio
import os
import random
import sqlite3
import sys
from pathlib import Path
from time import time

from proxy.core.actions.payments import Said
from proxy.core.ids import IdSource
from proxy.storage import codes, payments
from proxy.storage.billing import Keeper
from proxy.storage.till import Aside, Event, Moved, ShortfallError
from proxy.storage.wallet_changes import Change, adjust, refund_call
from tests.storage.world import closing, keeper, opening

AT_ONCE = 10


def say(kind: str, reference: str, amount: int) -> None:
    """One write, so that a line is whole or torn and never mixed."""
    os.write(1, f"{kind} {reference} {amount}\n".encode())


async def refund(books: Keeper, ids: IdSource, reference: str) -> None:
    """A call, and a part of its charge back."""
    call_id = max(ids.next(time()), books.last_id + 1)
    await books.admit(opening(call_id, started_at=time()))
    receipt = books.settle(closing(call_id, ended_at=time()))

    def give(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
        return refund_call(connection, event, call_id, receipt.charged // 2, "why", reference, "x")

    say("change", reference, (await books.till.move(give)).amount)


async def correct(books: Keeper, amount: int, reference: str) -> None:
    """A correction, up or down."""

    def change(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
        return adjust(connection, event, 1, amount, "why", reference, "x")

    aside = Aside(1, -amount) if amount < 0 else None
    try:
        say("change", reference, (await books.till.move(change, aside=aside)).amount)
    except ShortfallError:
        return


async def redeem(books: Keeper, reference: str) -> None:
    """A code, made and redeemed by two at once."""
    digest = os.urandom(32)
    issue = codes.Issue(700, reference, "", "x", None)
    new = [codes.NewCode(digest, "")]
    (code_id,) = await books.note(lambda c: codes.add_codes(c, new, issue, time()))

    async def one(user: int) -> None:
        def take(connection: sqlite3.Connection, event: Event) -> Moved[codes.Redeemed]:
            return codes.redeem(connection, event, digest, user)

        try:
            say("top_up", f"sluice:code:{code_id}", (await books.till.move(take)).amount)
        except codes.UnredeemableError:
            return

    await asyncio.gather(one(1), one(2))


async def pay(books: Keeper) -> None:
    """A payment that is told twice at once."""
    begun = await books.note(
        lambda c: payments.begin(c, 2, None, "stripe", "usd", 5, "1", 900, time())
    )
    session = f"cs_{begun.id}"
    await books.note(lambda c: payments.opened(c, begun.id, session))
    word = payments.Word("stripe", Said.PAID, "k", None, begun.reference, session, "usd", 5)

    async def tell() -> None:
        def told(connection: sqlite3.Connection, event: Event) -> Moved[payments.Told]:
            return payments.told(connection, event, word)

        if (await books.till.move(told)).outcome is payments.Outcome.CREDITED:
            say("top_up", f"sluice:stripe:{begun.id}", 900)

    await asyncio.gather(tell(), tell())


async def main(path: Path, number: int) -> None:
    """Move money until killed."""
    books = await keeper(path, credit=10**9, redo=True)
    print("ready", books.recovery.calls, flush=True)
    ids, rng = IdSource(0, books.last_id), random.Random(number)

    async def forever(worker: int) -> None:
        step = 0
        while True:
            step += 1
            reference = f"r-{number}-{worker}-{step}"
            chosen = rng.randrange(4)
            if chosen == 0:
                await refund(books, ids, reference)
            elif chosen == 1:
                await correct(books, rng.choice((-1, 1)) * rng.randrange(1, 10**7), reference)
            elif chosen == 2:
                await redeem(books, reference)
            else:
                await pay(books)

    await asyncio.gather(*(forever(worker) for worker in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
