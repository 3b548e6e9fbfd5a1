"""Every page and every form of the console, with who may ask for it.

Rules: what is not in `ROUTES` does not exist, and each says the least role; None is for everybody.
This module must not know what a page shows.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.core.actions.action import Role

if TYPE_CHECKING:
    from proxy.edge.console.visit import Visit

Handler = Callable[["Visit"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method at one path (aiohttp's syntax).

    `step_up`: the password must have been given within the last minutes. `foreign`: not for
    browsers with our cookie: no session, no check of origin; the handler looks for itself.
    `bytes_max`: how large its form may be, where that is more than a page's.
    """

    method: str
    path: str
    role: Role | None
    handler: Handler
    step_up: bool = False
    foreign: bool = False
    bytes_max: int | None = None
