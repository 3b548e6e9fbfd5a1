"""The published price lists as the console asks for them: providers, and what would change.

Rules: the lists are large and come with a package; they are read when somebody first asks, in the
caller's thread. This module must not know who asks, nor what is done with a plan.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from time import time
from typing import Any

from proxy.app.models_import import Plan, plan, wanted


class PublishedPrices:
    """Implements `surroundings.PriceLists`."""

    def providers(self) -> Sequence[tuple[str, str]]:
        """Ids and names of those whose prices are known, by name."""
        from proxy.app import price_list  # noqa: PLC0415 - a large table, for who asks

        return price_list.providers()

    def plan(
        self, document: Mapping[str, Any], providers: Sequence[str], patterns: Sequence[str]
    ) -> Plan:
        """What the lists would change in an exported catalog. Raises ValueError."""
        from proxy.app import price_list  # noqa: PLC0415 - the same

        now = time()
        found = wanted(
            document,
            providers,
            patterns,
            listed=partial(price_list.listed, now=now),
            look_up=partial(price_list.look_up, now=now),
        )
        return plan(document, found)
