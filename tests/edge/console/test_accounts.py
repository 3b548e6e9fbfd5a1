import asyncio

import argon2

from proxy.edge.console.account_options import AccountOptions
from proxy.edge.console.accounts import Accounts
from proxy.edge.console.hashing import Hasher
from proxy.edge.console.mail import Letter


def test_it_may_be_closed_twice_and_begin_again() -> None:
    async def run() -> None:
        desk = Accounts(hasher=Hasher(argon2.profiles.CHEAPEST))
        for _ in range(2):
            known = await desk.hasher.hash("correct horse")
            assert (await desk.hasher.compare(known, "correct horse")).right
            desk.outbox.put(Letter("a@b.c", "x", "y"), AccountOptions(smtp_host="127.0.0.1"))
            await desk.close()
            await desk.close()

    asyncio.run(asyncio.wait_for(run(), 30))
