"""What somebody asks of the usage log, read out of an address and written back into one.

Rules: what cannot be read is passed over and said, never guessed; dates are days in UTC, the last
one included; a member of a team sees the calls of their own keys, an owner those of the wallet.
This module must not know how calls are stored or shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from proxy.core.entities import Verdict
from proxy.core.ids import format_id, parse_id
from proxy.edge.console.languages import Translator
from proxy.edge.console.visit import Visit
from proxy.storage.reports import usage_log
from proxy.storage.reports.usage_log import Wanted

TEXT_CHARS_MAX: Final = 300
FAILED: Final = "failed"
"""The choice of all verdicts but `complete`."""
_KEY_DIGITS_MAX: Final = 15
_YEARS: Final = range(2020, 2089)
"""What ids can tell of (core/ids.py)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question. `fields`: as they were given, of those that could be read."""

    wanted: Wanted
    before: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    @property
    def filtered(self) -> bool:
        """Whether anything was asked for but everything."""
        return any(name != "before" for name in self.fields)

    def get(self, name: str) -> str:
        """A field's value, or empty."""
        return self.fields.get(name, "")

    def address(self, path: str, before: int | None = None) -> str:
        """The address of `path` with the same question, from `before` on."""
        fields = {name: value for name, value in self.fields.items() if name != "before"}
        if before is not None:
            fields["before"] = format_id(before)
        return f"{path}?{urlencode(fields)}" if fields else path


def asked(seen: Visit) -> Asked:
    """Read the question in the address, about the wallet in use."""
    wallet, person = seen.wallet, seen.person
    if wallet is None or person is None:
        raise AssertionError("the usage log is for who is signed in and has a wallet")
    own = None if wallet.role == "owner" else person.id
    return read(seen.request.query, wallet.id, own, seen.texts)


async def asked_of_all(seen: Visit) -> Asked:
    """Read an operator's question about one wallet, by its name, or about all."""
    _, query = seen.texts, seen.request.query
    name = query.get("wallet", "").strip()[:TEXT_CHARS_MAX]
    wallet = await usage_log.wallet_named(await seen.reader(), name) if name else None
    found = read(query, wallet, None, seen.texts)
    if not name:
        return found
    if wallet is None:
        return replace(found, faults=(*found.faults, _("There is no such wallet.")))
    return replace(found, fields={"wallet": name, **found.fields})


def read(
    query: Mapping[str, str], wallet: int | None, person: int | None, texts: Translator
) -> Asked:
    """Read a question about `wallet`, of a `person`'s keys alone if one is given."""
    _ = texts
    fields: dict[str, str] = {}
    faults: list[str] = []
    for name in ("key", "model", "group", "verdict", "from", "to", "before"):
        value = query.get(name, "").strip()
        if value and len(value) <= TEXT_CHARS_MAX:
            fields[name] = value
    key = None
    if "key" in fields:
        key = _number(fields["key"])
        if key is None:
            faults.append(_("There is no such key."))
            del fields["key"]
    verdict = fields.get("verdict")
    if verdict is not None and verdict != FAILED and verdict not in set(Verdict):
        faults.append(_("There is no such result."))
        del fields["verdict"]
        verdict = None
    days: dict[str, date] = {}
    for name in ("from", "to"):
        if name in fields:
            day = _day(fields[name])
            if day is None:
                faults.append(_("A day is written like 2026-01-31."))
                del fields[name]
            else:
                days[name] = day
    before = parse_id(fields["before"]) if "before" in fields else None
    wanted = Wanted(
        wallet=wallet,
        person=person,
        key=key,
        model=fields.get("model"),
        group=fields.get("group"),
        verdict=None if verdict == FAILED else verdict,
        failed=verdict == FAILED,
        since=_begin(days["from"]) if "from" in days else None,
        until=_begin(days["to"] + timedelta(days=1)) if "to" in days else None,
    )
    return Asked(wanted, before, fields, tuple(faults))


def _number(text: str) -> int | None:
    fits = text.isascii() and text.isdigit() and len(text) <= _KEY_DIGITS_MAX
    return int(text) if fits else None


def _day(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.year in _YEARS else None


def _begin(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
