"""Makes reports for whoever is asked: the console's process for the admin API, the command line.

Rules: a report reads the file over a connection of its own that cannot write, in the process of
whoever was asked for it and never in the keeper's; who may is decided as for any action. Figures
are those of storage/reports, which the console's pages show too. Results and refusals are as
runner.py has them. This module must not know any report.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import time
from typing import Final

from proxy.app.commands import audit, calls, reconciling, reports, usage
from proxy.app.commands.asking import permit, refusing, understand
from proxy.app.commands.shapes import Desk, Report
from proxy.app.control import CommandError
from proxy.core.actions.action import LOCAL, Actor
from proxy.core.sentences import Sentence
from proxy.edge.exposition import Picture
from proxy.storage.reader import Reader
from proxy.storage.reports.day_sums import DaySums
from proxy.storage.reports.memberships import rank

HANDLERS: Final[Mapping[str, Report]] = {
    name: handler
    for domain in (audit, calls, reconciling, reports, usage)
    for name, handler in domain.REPORTS.items()
}


@dataclass(frozen=True, slots=True)
class Reporter:
    """Reports on one database. `picture`: how the relay's processes do; None where nobody says."""

    database: Path
    picture: Callable[[], Awaitable[Picture]] | None = None
    clock: Callable[[], float] = time
    day_sums: DaySums = field(default_factory=DaySums)
    """Sums of days that are over, which every report of this process makes use of."""

    async def make(
        self, command: str, arguments: Mapping[str, object], actor: Actor = LOCAL
    ) -> object:
        """Make a report by its action's name. Raises CommandError, sqlite3.Error."""
        action, given = understand(command, arguments, actor)
        handler = HANDLERS.get(command)
        if handler is None:
            raise CommandError(
                Sentence("{command} is no report", command=command), "ask the relay for it"
            )
        reader = await Reader.open(self.database)
        try:
            with refusing(command):
                permitted = await permit(action, given, actor, partial(rank, reader))
                desk = Desk(reader, self.database, self.clock(), self.picture, self.day_sums)
                return await handler(desk, permitted, given)
        finally:
            await reader.close()
