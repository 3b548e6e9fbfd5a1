"""What every page of the console has around it: the keeper, the file, and what was set.

Rules: the console decides nothing about money or calls: it reads the database over connections that
cannot write, and asks the keeper for every change. It has neither master key nor pepper; its one
secret signs sessions. This module must not know any page.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from proxy.core.actions.action import Actor
from proxy.edge.console.accounts import Accounts
from proxy.edge.console.payment_options import PaymentOptions
from proxy.edge.console.rates import Rates
from proxy.edge.console.reconciliations import Reconciliations
from proxy.edge.console.render import Renderer
from proxy.edge.console.selftests import Selftest, Selftests
from proxy.edge.exposition import Picture
from proxy.storage.reader import Reader
from proxy.storage.reports.day_sums import DaySums
from proxy.storage.reports.market import Market


class Keeper(Protocol):
    """Whoever does actions (core/actions/table.py)."""

    async def do(self, command: str, arguments: Mapping[str, object], actor: Actor) -> object:
        """Do an action and return its result.

        Raises Refused, KeeperGoneError (edge/console/keeper_line.py).
        """
        ...


class PriceLists(Protocol):
    """Published prices, as the package brings them; a thread reads them."""

    def providers(self) -> Sequence[tuple[str, str]]:
        """Ids and names of those whose prices are known."""
        ...

    def plan(
        self, document: Mapping[str, Any], providers: Sequence[str], patterns: Sequence[str]
    ) -> "PricePlan":
        """What they would change in an exported catalog. Raises ValueError."""
        ...


class PricePlan(Protocol):
    """`tables`: the models that are new or priced otherwise; `rows`: every model looked at."""

    @property
    def tables(self) -> Sequence[dict[str, Any]]: ...
    @property
    def rows(self) -> Sequence[Any]: ...


API_REQUESTS_PER_MINUTE: Final = 600
"""By one token."""
API_FAILURES_PER_MINUTE: Final = 30
"""Requests without a good token from one network that are told more than to wait."""


@dataclass(frozen=True, slots=True)
class ApiRates:
    """How often programs ask: by token, and without a good one by network."""

    by_token: Rates = field(default_factory=lambda: Rates(API_REQUESTS_PER_MINUTE))
    failures: Rates = field(default_factory=lambda: Rates(API_FAILURES_PER_MINUTE))


@dataclass(frozen=True, slots=True)
class Options(PaymentOptions):
    """What the operator set for the console, as `Settings` has it (app/settings_console.py)."""

    public_url: str = "http://127.0.0.1:8080"
    console_url: str = "http://127.0.0.1:8082"
    public_marketplace: bool = True
    catalog_file: str = ""
    """Where the catalog comes from, if from a file: then pages only show it."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose X-Forwarded-For is believed."""

    @property
    def secure(self) -> bool:
        """Whether browsers come over TLS, so that cookies may insist on it."""
        return urlsplit(self.console_url).scheme == "https"


@dataclass(slots=True)
class Surroundings:
    """One console process. `secret`: 32 bytes or more that sign sessions and nothing else."""

    database: Path
    keeper: Keeper
    secret: bytes = field(repr=False)
    options: Options = field(default_factory=Options)
    renderer: Renderer = field(default_factory=Renderer)
    clock: Callable[[], float] = time
    picture: Callable[[], Awaitable[Picture]] | None = None
    """The figures of all processes, breakers among them; None where nobody gathers them."""
    price_lists: PriceLists | None = None
    """Published prices; None where there are none."""
    reports: Keeper | None = None
    """Who makes the reports among the actions; None where nobody does."""
    selftest: Selftest | None = None
    """What the self-test runs; None where there is none."""
    selftests: Selftests = field(default_factory=Selftests)
    accounts: Accounts = field(default_factory=Accounts)
    reconciliations: Reconciliations = field(default_factory=Reconciliations)
    market: Market = field(init=False)
    day_sums: DaySums = field(default_factory=DaySums)
    api: ApiRates = field(default_factory=ApiRates)
    streams: Counter[int] = field(default_factory=Counter)
    """Live logs that are open, by person."""
    exports: Counter[int] = field(default_factory=Counter)
    """Files that are being written, by person."""
    _reader: Reader | None = None
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        """Make what is kept between pages."""
        self.market = Market(self.database, self.clock)

    async def reader(self) -> Reader:
        """Return the connection pages read from. Raises sqlite3.Error."""
        async with self._opening:
            if self._reader is None:
                self._reader = await Reader.open(self.database)
            return self._reader

    async def close(self) -> None:
        """End what is under way for pages and the connection; safe to call twice."""
        await self.selftests.close()
        await self.reconciliations.close()
        await self.accounts.close()
        await self.forget_reader()

    async def forget_reader(self) -> None:
        """End the connection after an error of the file: the next page opens a new one."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.close()
