"""The web console as one process has it: made from settings, on its listeners, reloaded, stopped.

Rules: it gets what is public, its own secret, a connection that cannot write and a line to the
keeper, so it has neither pepper nor master key; its process gives way to all others of the relay,
and leaves them every processor but one.
This module must not know which process it is in, nor any page.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields

from proxy.app import selftest
from proxy.app.commands.reporter import Reporter
from proxy.app.console_figures import Figures
from proxy.app.console_reports import ConsoleReports
from proxy.app.directory import DataDirectory
from proxy.app.office import load_console_secret
from proxy.app.published_prices import PublishedPrices
from proxy.app.settings import Settings
from proxy.edge import log
from proxy.edge.console import stripe_line
from proxy.edge.console.keeper_line import KeeperLine
from proxy.edge.console.notice_watch import NoticeWatch
from proxy.edge.console.site import Site
from proxy.edge.console.surroundings import Options, Surroundings
from proxy.edge.exposition import Picture
from proxy.storage.reports.day_sums import DaySums

NICENESS = 10
"""A tenth of the weight of a process that serves calls (sched(7)): reports can wait for those."""


def give_way() -> None:
    """Let every other process of this relay go first, and work on one processor, for good.

    Niceness alone leaves a stream that wakes waiting for the rest of a slice wherever the console
    happens to run; one that finds a processor without it does not wait. The last processor, for
    interrupts and what else is pinned tend to the first.
    """
    call = "nice(2)"
    try:
        os.nice(NICENESS)
        call = "sched_setaffinity(2)"
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    except PermissionError:  # a filter of system calls, which systemd/sluice.service does not have
        log.get().warning("the console may take time from calls", reason=f"{call} is not permitted")


def options_of(settings: Settings) -> Options:
    """What `settings` say for the console, name by name."""
    return Options(**{each.name: getattr(settings, each.name) for each in fields(Options)})


class ConsoleSite:
    """From `start` to `stop`; `settings` have both URLs said (addresses.py).

    Raises SecretError, for a file of Stripe's too that cannot be used.
    """

    def __init__(
        self, settings: Settings, picture: Callable[[], Awaitable[Picture]] | None = None
    ) -> None:
        """`picture` gathers the figures of all processes; without it there is one to ask."""
        directory = DataDirectory(settings.data_path)
        options = options_of(settings)
        stripe_line.check(options)
        self._line = KeeperLine(directory.control)
        gathered = picture or Figures(self._line, directory.database).picture
        day_sums = DaySums()
        self._surroundings = Surroundings(
            database=directory.database,
            keeper=self._line,
            secret=load_console_secret(directory, settings),
            options=options,
            selftest=selftest,
            picture=gathered,
            reports=ConsoleReports(Reporter(directory.database, gathered, day_sums=day_sums)),
            day_sums=day_sums,
            price_lists=PublishedPrices(),
        )
        self._site = Site(self._surroundings)
        self._notices = NoticeWatch(self._surroundings)

    async def start(self, listeners: Sequence[socket.socket]) -> None:
        """Accept on duplicates of `listeners`. Raises OSError."""
        for listener in listeners:
            await self._site.start_on(listener)
        self._notices.start()

    def reload(self, settings: Settings) -> None:
        """Put the reloadable settings in force for requests that come from now on."""
        self._surroundings.options = options_of(settings)

    async def stop(self) -> None:
        """Stop accepting and end what is open; safe to call twice."""
        await self._notices.stop()
        await self._site.stop()
        await self._line.close()
