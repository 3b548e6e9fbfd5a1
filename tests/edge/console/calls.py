"""Calls put into a console's ledger through its keeper, without a relay."""

import asyncio
from typing import Any

from proxy.core.entities import Attempt, Usage
from proxy.core.ids import first_id_at
from proxy.core.pricing import charge
from tests.edge.console.consoles import World
from tests.storage.world import closing, opening

DAY_SECONDS = 86_400.0
AGO_SECONDS = 4.0
"""So long ago calls may begin that are to be of today."""
TEST_SECONDS_MAX = 15.0
USED = Usage(input_uncached=100, output=50, reasoning=10, cache_read=7)


async def in_one_day(world: World) -> None:
    """Let midnight (UTC) pass if it is near: what was a moment ago would not be of today."""
    while (world.office.clock() + TEST_SECONDS_MAX) % DAY_SECONDS < TEST_SECONDS_MAX + AGO_SECONDS:
        await asyncio.sleep(0.1)


class Calls:
    """Makes calls in a world whose catalog is that of the command tests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._number = 0

    async def key(self, wallet: str, name: str = "first", person: int | None = None) -> int:
        """Add a key to a wallet; its id."""
        made = await self.world.do("key add", user=wallet, name=name)
        if person is not None:
            note = "UPDATE key SET person_id = ? WHERE id = ?"
            await self.world.office.keeper.note(lambda c: c.execute(note, (person, made["id"])))
        return int(made["id"])

    async def begin(self, wallet_id: int, key_id: int, **changes: Any) -> int:
        """Admit a call; its id. It began `ago` seconds before now."""
        now = self.world.office.clock() - changes.pop("ago", 1.0)
        self._number += 1
        call_id = first_id_at(now) + self._number
        fields: dict[str, Any] = {
            "user_id": wallet_id, "key_id": key_id, "started_at": now, "stream": True,
        }  # fmt: skip
        admitted = await self.world.office.keeper.admit(opening(call_id, **(fields | changes)))
        await admitted.committed  # type: ignore[union-attr]  # refused would fail here
        return call_id

    async def end(self, call_id: int, **changes: Any) -> None:
        """Settle a call at the price of its usage."""
        keeper = self.world.office.keeper
        usage = changes.setdefault("usage", USED)
        price = keeper.catalog.models["m"].price
        assert price is not None
        now = self.world.office.clock()
        tried = Attempt(1, 1, now - 1, 200, "served", "up-<1>", "m-upstream", usage, 0, 12.0)
        fields: dict[str, Any] = {
            "charge": charge(usage, price, 1_000_000), "ended_at": now,
            "upstream_model": "m-upstream", "attempts": (tried,), "ttft_ms": 120.0,
        }  # fmt: skip
        keeper.settle(closing(call_id, **(fields | changes)))
        await keeper.catch_up()

    async def made(self, wallet_id: int, key_id: int, **changes: Any) -> int:
        """A call that has ended; `closed` are changes of its end."""
        closed = changes.pop("closed", {})
        call_id = await self.begin(wallet_id, key_id, **changes)
        await self.end(call_id, **closed)
        return call_id
