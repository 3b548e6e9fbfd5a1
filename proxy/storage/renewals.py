"""Begins the months of plans when they are due, on the keeper's loop.

Rules: a wallet that cannot pay falls back to a plan without a fee, and is told; where there is no
such plan it keeps what it has and is asked again. "Now" is the earlier of the wall clock and of
what has passed since the start: a clock that jumps ahead charges nobody. One wallet's fault is
told and stops no other. This module must not know HTTP, nor how to log.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

from proxy.core.catalog import Catalog
from proxy.core.entities import Plan
from proxy.storage import plans
from proxy.storage.plans import Due, Term
from proxy.storage.ports import KeeperUnavailableError
from proxy.storage.till import Aside, Event, Moved, ShortfallError, Till

FIRST_SECONDS: Final = 30.0
PERIOD_SECONDS: Final = 300.0
"""How late a month may begin."""
USUAL_PLAN: Final = "default"

Result = TypeVar("Result")


class Books(Protocol):
    """What of the keeper this needs."""

    till: Till

    @property
    def catalog(self) -> Catalog: ...
    def change(self, function: Callable[[sqlite3.Connection], Result]) -> Awaitable[Result]: ...
    def note(self, function: Callable[[sqlite3.Connection], Result]) -> Awaitable[Result]: ...


class Renewals:
    """Runs from `start` to `stop`. `fallback`: the plan of who cannot pay, if it has no fee."""

    def __init__(
        self,
        books: Books,
        fallback: str,
        moment: Callable[[], float],
        told: Callable[[str], object],
    ) -> None:
        self.fallback = fallback
        self._books = books
        self._moment = moment
        self._told = told
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look every few minutes."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Look no more; a renewal under way is finished. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def look(self) -> int:
        """Begin every month that is due; returns how many did. Raises KeeperUnavailableError."""
        begun = 0
        if not any(plan.monthly for plan in self._books.catalog.plans.values()):
            return 0
        now = self._moment()
        while True:
            due = await self._books.note(lambda c: plans.find_due(c, now))
            done = [await self._renew(one, now) for one in due]
            begun += sum(done)
            if len(due) < plans.DUE_MAX or not any(done):
                return begun

    async def _renew(self, due: Due, now: float) -> bool:
        plan = self._books.catalog.plans.get(due.plan)
        if plan is None:
            return False

        def begin(connection: sqlite3.Connection, event: Event) -> Moved[Term]:
            return plans.renew(connection, event, due.user_id, plan, now)

        try:
            await self._books.till.move(begin, aside=Aside(due.user_id, plan.monthly_fee))
        except ShortfallError:
            return await self._fall_back(due, now)
        except ValueError as error:
            self._told(f"plan {due.plan!r} of user {due.user_id} was not renewed: {error}")
            return False
        return True

    async def _fall_back(self, due: Due, now: float) -> bool:
        instead = free_plan(self._books.catalog, self.fallback)
        if instead is None:
            self._told(
                f"user {due.user_id} cannot pay for plan {due.plan!r}, and there is no plan "
                "without a fee to fall back to; add one"
            )
            return False
        return await self._books.change(
            lambda c: plans.fall_back(c, due.user_id, due.plan, instead.name, now)
        )

    async def _run(self) -> None:
        delay = FIRST_SECONDS
        while True:
            await asyncio.sleep(delay)
            delay = PERIOD_SECONDS
            try:
                begun = await self.look()
            except KeeperUnavailableError:
                return
            if begun:
                self._told(f"{begun} months of plans began")


def free_plan(catalog: Catalog, wanted: str) -> Plan | None:
    """The plan of who cannot pay: the wanted one, `default`, or the first, if without a fee."""
    for name in (wanted, USUAL_PLAN, *sorted(catalog.plans)):
        plan = catalog.plans.get(name)
        if plan is not None and not plan.monthly_fee:
            return plan
    return None
