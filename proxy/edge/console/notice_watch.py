"""Looks every minute whose wallet has little left, and mails what wallets' people are to be told.

Rules: the database is asked, and the keeper only when something has changed; a notice is mailed at
most once, marked before it is sent, so that a crash costs a mail and never sends two; whatever is
away is asked again a minute later. This module must not know SQL.
"""

import asyncio
import sqlite3
from typing import Any, Final

from proxy.core.actions.action import Actor, Role, Via
from proxy.core.actions.wallets import NoticeKind
from proxy.edge import log
from proxy.edge.console import letters
from proxy.edge.console.keeper_line import KeeperGoneError, Refused
from proxy.edge.console.mail import Letter
from proxy.edge.console.surroundings import Surroundings
from proxy.storage.reports import notices
from proxy.storage.reports.notices import Owner, Unmailed

PERIOD_SECONDS: Final = 60.0
ACTOR: Final = Actor(Role.ADMIN, "notices", Via.CONSOLE)


class NoticeWatch:
    """Runs from `start` to `stop`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look every minute, the first time after one."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Look no more; safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def look(self) -> None:
        """Look once. Raises sqlite3.Error, KeeperGoneError, Refused."""
        surroundings = self._surroundings
        reader = await surroundings.reader()
        if await notices.crossed(reader):
            await surroundings.keeper.do("notice watch", {}, ACTOR)
        if not surroundings.options.mails:
            return
        for one in await notices.unmailed(reader):
            marked: Any = await surroundings.keeper.do("notice mailed", {"notice": one.id}, ACTOR)
            if marked["first"]:
                for owner in await notices.owners(reader, one.user_id):
                    letter = self._letter(one, owner)
                    surroundings.accounts.outbox.put(letter, surroundings.options)

    def _letter(self, one: Unmailed, owner: Owner) -> Letter:
        texts = self._surroundings.renderer.translator(owner.language or "")
        console = self._surroundings.options.console_url
        if one.kind == NoticeKind.LOW_BALANCE:
            return letters.low_balance(
                texts, owner.email, console, one.wallet, one.balance, one.threshold
            )
        return letters.plan_ended(texts, owner.email, console, one.wallet, one.detail)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            try:
                await self.look()
            except sqlite3.Error as error:
                await self._surroundings.forget_reader()
                log.get().warning("notices were not looked at", reason=str(error))
            except (KeeperGoneError, Refused) as error:
                log.get().warning("notices were not looked at", reason=str(error))
