"""What the pages of accounts share in one process: hashes, waiting times, mails.

Rules: all of it is in memory, bounded, and begins anew with the process. This module must not know
any page.
"""

from dataclasses import dataclass, field

from proxy.core.attempts import ACCOUNT, ADDRESS, MAILS, Attempts
from proxy.edge.console.hashing import Hasher
from proxy.edge.console.mail import Outbox


@dataclass(slots=True)
class Accounts:
    """From making to `close`. Wrong passwords are counted by account and by network."""

    hasher: Hasher = field(default_factory=Hasher)
    outbox: Outbox = field(default_factory=Outbox)
    of_account: Attempts = field(default_factory=lambda: Attempts(ACCOUNT))
    of_network: Attempts = field(default_factory=lambda: Attempts(ADDRESS))
    of_mails: Attempts = field(default_factory=lambda: Attempts(MAILS))
    """What a network asked for that costs others something: mails, new accounts."""

    async def close(self) -> None:
        """End threads and mails; safe to call twice, and they begin again when asked."""
        await self.outbox.close()
        self.hasher.close()
