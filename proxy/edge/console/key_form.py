"""The form of a key: from its fields to an action's arguments, and back.

Rules: what is wrong is said next to its field, in the reader's language; what the keeper finds
besides is said there too. Empty means no limit. A day of expiry is the last one on which the key
is good, in UTC. This module must not know requests, nor what becomes of the arguments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_network
from typing import Final

from proxy.core.entities import BudgetPeriod
from proxy.core.money import format_usd, parse_usd
from proxy.core.months import LATEST
from proxy.core.names import similar
from proxy.edge.console.languages import Translator
from proxy.storage.keys import KeyRow

NEVER, ON_DAY = "never", "day"
SPANS: Final = ("7d", "30d", "90d", "365d")
COUNTS: Final = ("requests_per_minute", "tokens_per_minute", "concurrency", "cache_seconds")
FIELDS: Final = (
    "name", "group", "budget", "budget_period", "expires", "expires_on", "models", "networks",
    *COUNTS,
)  # fmt: skip
FIELD_CHARS_MAX: Final = 20_000
COUNT_DIGITS_MAX: Final = 12


@dataclass(slots=True)
class KeyForm:
    """What stands in the fields, and what is wrong with them."""

    values: dict[str, str]
    errors: dict[str, str] = field(default_factory=dict)
    message: str = ""
    """What was refused that belongs to no field."""
    remedy: str = ""

    @property
    def said(self) -> dict[str, str]:
        """What is wrong with every field; empty where nothing is."""
        return dict.fromkeys(FIELDS, "") | self.errors

    def refuse(self, message: str, remedy: str, fields: Mapping[str, str]) -> None:
        """Show what the keeper said no to."""
        self.errors |= fields
        if not fields:
            self.message, self.remedy = message, remedy


def empty(name: str, group: str) -> KeyForm:
    """A new key's form, with what suits most."""
    plain = dict.fromkeys(FIELDS, "")
    usual = {"budget_period": BudgetPeriod.MONTHLY.value, "expires": NEVER}
    return KeyForm(plain | usual | {"name": name, "group": group})


def of_key(row: KeyRow) -> KeyForm:
    """The form of a key that is there."""
    values = {name: _text(getattr(row, name)) for name in COUNTS}
    last = None if row.expires_at is None else min(row.expires_at - 1, LATEST)
    values |= {
        "name": row.name,
        "group": row.group,
        "budget": "" if row.budget is None else format_usd(row.budget),
        "budget_period": row.budget_period,
        "expires": NEVER if last is None else ON_DAY,
        "expires_on": "" if last is None else str(datetime.fromtimestamp(last, UTC).date()),
        "models": "\n".join(row.models or ()),
        "networks": "\n".join(row.networks or ()),
    }
    return KeyForm(values)


def read(
    sent: Mapping[str, object], _: Translator, now: float, models: Sequence[str]
) -> tuple[KeyForm, dict[str, object]]:
    """Read the fields: the form as it was filled in, and arguments where it has no errors."""
    given = {name: sent.get(name, "") for name in FIELDS}
    values = {
        name: value.strip()[:FIELD_CHARS_MAX] if isinstance(value, str) else ""
        for name, value in given.items()
    }
    form = KeyForm(values)
    if not values["name"]:
        form.errors["name"] = _("Give the key a name, such as the program that uses it.")
    arguments: dict[str, object] = {"name": values["name"], "group": values["group"]}
    arguments |= _budget(form, _)
    arguments["expires"] = _expires(form, _, now)
    for name in COUNTS:
        arguments[name] = _count(form, name, _)
    arguments["models"] = _models(form, _, models)
    arguments["networks"] = _networks(form, _)
    return form, arguments


def changed(arguments: Mapping[str, object], form: KeyForm, before: KeyForm) -> dict[str, object]:
    """Those of the arguments whose fields say something else than before."""
    expiry = {"expires", "expires_on"}
    moved = {name for name in FIELDS if form.values[name] != before.values[name]}
    return {
        name: value
        for name, value in arguments.items()
        if name in moved or (name == "expires" and moved & expiry)
    }


def _budget(form: KeyForm, _: Translator) -> dict[str, object]:
    amount, period = form.values["budget"].removeprefix("$").replace(",", ""), "budget_period"
    if amount:
        try:
            parse_usd(amount)
        except ValueError:
            form.errors["budget"] = _("This is no amount in dollars such as 12.50.")
    if form.values[period] not in {*BudgetPeriod}:
        form.values[period] = BudgetPeriod.TOTAL.value
    return {"budget": amount or None, period: form.values[period]}


def _expires(form: KeyForm, _: Translator, now: float) -> str | None:
    chosen = form.values["expires"]
    if chosen in SPANS:
        return chosen
    if chosen != ON_DAY:
        return None
    try:
        after = date.fromisoformat(form.values["expires_on"]) + timedelta(days=1)
    except (ValueError, OverflowError):
        form.errors["expires_on"] = _("Choose the last day on which the key is good.")
        return None
    moment = datetime(after.year, after.month, after.day, tzinfo=UTC)
    if moment.timestamp() <= now:
        form.errors["expires_on"] = _("This day is over. Choose a later one, or no expiry.")
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _count(form: KeyForm, name: str, _: Translator) -> int | None:
    text = form.values[name].replace(",", "").replace("_", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= COUNT_DIGITS_MAX and int(text)):
        form.errors[name] = _("This must be a whole number above 0, or empty for no limit.")
        return None
    return int(text)


def _models(form: KeyForm, _: Translator, known: Sequence[str]) -> list[str] | None:
    wanted = _list(form.values["models"])
    for model in wanted:
        if model not in known:
            alike = ", ".join(similar(model, known))
            form.errors["models"] = (
                _("There is no model {model}. Did you mean {alike}?", model=model, alike=alike)
                if alike
                else _("There is no model {model}.", model=model)
            )
            break
    return wanted or None


def _networks(form: KeyForm, _: Translator) -> list[str] | None:
    wanted = _list(form.values["networks"])
    for text in wanted:
        try:
            ip_network(text, strict=False)
        except ValueError:
            form.errors["networks"] = _(
                "{text} is no network such as 192.0.2.0/24, nor an address.", text=text
            )
            break
    return wanted or None


def _list(text: str) -> list[str]:
    """What stands on lines of its own, or between commas, once each."""
    return list(dict.fromkeys(text.replace(",", " ").split()))


def _text(count: int | None) -> str:
    return "" if count is None else str(count)
