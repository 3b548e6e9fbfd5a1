"""How often somebody may be wrong about a password: waiting that doubles, and is forgotten again.

Rules: counted by what is attempted (an address of mail) and by who attempts (a network address),
each on its own. An attempt is counted before it is looked at and taken back if it was right, or
many at the same time would all be looked at before the first was counted. While a wait lasts
nothing is looked at, so the right password is refused too and nobody learns that it was. Success
forgives what was attempted, never who attempted: a thief with one account of their own would clear
their slate with it. Memory is bounded: when it is full, who failed longest ago is forgotten. The
clock is an argument. This module must not know what is attempted.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

NAMES_MAX: Final = 20_000
"""Names remembered at once, some 3 MB."""
FORGET_SECONDS: Final = 86_400.0
"""After so long without a failure a name is new again."""


@dataclass(frozen=True, slots=True)
class Rule:
    """So many failures are free; the next costs `first_seconds`, each further one doubles that."""

    free: int
    first_seconds: float
    seconds_max: float

    def wait(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        over = failures - self.free
        if over <= 0:
            return 0.0
        # Bounded before the power is: 2.0 ** 2000 is no float.
        return min(self.seconds_max, self.first_seconds * 2.0 ** min(over - 1, 64))


ACCOUNT: Final = Rule(free=5, first_seconds=2.0, seconds_max=900.0)
"""Of one account: people mistype; 96 tries a day are no attack on ten characters."""
ADDRESS: Final = Rule(free=20, first_seconds=2.0, seconds_max=900.0)
"""Of one network address, where a whole office may be behind."""


MAILS: Final = Rule(free=10, first_seconds=60.0, seconds_max=3_600.0)
"""Mails to others and new accounts that one network address may ask for."""


def network_of(address: str | None) -> str:
    """The name of who attempts: an IPv4 address, or the /64 that one customer has of IPv6."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))


@dataclass(slots=True)
class _Failures:
    count: int
    until: float
    last: float


class Attempts:
    """Who failed how often, in memory; made anew with its process."""

    def __init__(self, rule: Rule, names_max: int = NAMES_MAX) -> None:
        self._rule = rule
        self._names_max = names_max
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def wait(self, name: str, now: float) -> float:
        """Seconds until `name` may be tried; 0.0: at once."""
        found = self._failures.get(name)
        if found is None:
            return 0.0
        if now - found.last > FORGET_SECONDS:
            del self._failures[name]
            return 0.0
        return max(0.0, found.until - now)

    def failed(self, name: str, now: float) -> None:
        """Count a failure; the wait begins now."""
        found = self._failures.pop(name, None)
        count = 1 if found is None or now - found.last > FORGET_SECONDS else found.count + 1
        if len(self._failures) >= self._names_max:
            self._failures.popitem(last=False)
        self._failures[name] = _Failures(count, now + self._rule.wait(count), now)

    def taken_back(self, name: str) -> None:
        """Count the last failure of `name` no more: it was none."""
        found = self._failures.get(name)
        if found is None:
            return
        found.count -= 1
        found.until = found.last + self._rule.wait(found.count)
        if found.count == 0:
            del self._failures[name]

    def succeeded(self, name: str) -> None:
        """Forget the failures of `name`."""
        self._failures.pop(name, None)
