"""What the pages of accounts share in one process: hashes, waiting times, mails.

Rules: all of it is in memory, bounded, and begins anew with the process. This module must not know
any page.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from proxy.core.attempts import ACCOUNT, ADDRESS, MAILS, Attempts
from proxy.edge.console.hashing import Hasher
from proxy.edge.console.mail import Outbox
from proxy.edge.console.provider import Provider

ANSWERED_MAX: Final = 10_000
"""Answers of a provider that are remembered, so that none counts twice."""


@dataclass(slots=True)
class Accounts:
    """From making to `close`. Wrong passwords are counted by account and by network."""

    hasher: Hasher = field(default_factory=Hasher)
    outbox: Outbox = field(default_factory=Outbox)
    of_account: Attempts = field(default_factory=lambda: Attempts(ACCOUNT))
    of_network: Attempts = field(default_factory=lambda: Attempts(ADDRESS))
    of_mails: Attempts = field(default_factory=lambda: Attempts(MAILS))
    """What a network asked for that costs others something: mails, new accounts."""
    _provider: Provider | None = None
    _answered: OrderedDict[str, float] = field(default_factory=OrderedDict)

    async def provider_of(self, issuer: str) -> Provider:
        """The provider of this name; after a reload with another name, that one."""
        if self._provider is None or self._provider.issuer != issuer:
            earlier, self._provider = self._provider, Provider(issuer)
            if earlier is not None:
                await earlier.close()
        return self._provider

    def answered_once(self, state: str, now: float, seconds: float) -> bool:
        """Note that a question is answered; False if it was, within these last seconds."""
        while self._answered and next(iter(self._answered.values())) <= now:
            self._answered.popitem(last=False)
        if state in self._answered:
            return False
        if len(self._answered) >= ANSWERED_MAX:
            self._answered.popitem(last=False)
        self._answered[state] = now + seconds
        return True

    async def close(self) -> None:
        """End threads and mails; safe to call twice, and they begin again when asked."""
        await self.outbox.close()
        if self._provider is not None:
            await self._provider.close()
        self.hasher.close()
