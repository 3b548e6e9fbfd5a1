"""The operator's routes, joined: what is under `/operator`."""

from typing import Final

from proxy.edge.console import pages_channels, pages_operator
from proxy.edge.console.routes import Route

ROUTES: Final[tuple[Route, ...]] = (*pages_channels.ROUTES, *pages_operator.ROUTES)
