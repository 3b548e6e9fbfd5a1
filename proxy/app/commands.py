"""What the commands do, whoever asks: the running relay's socket or a command by itself.

Rules: one handler per command, its arguments a typed record; a change goes through the keeper,
which alone writes; a listing reads on a connection of its own, off the event loop. Results are
plain JSON values: money as exact decimal text in US dollars, times as ISO 8601 in UTC. A refusal
is a `CommandError` with its remedy. This module must not know how results are shown.
"""

import os
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.app.trial import try_channel
from proxy.core.entities import DIALECT_ENDPOINTS, BudgetPeriod
from proxy.core.ids import format_id, parse_id
from proxy.core.ledger import DAY_SECONDS
from proxy.core.money import format_usd, parse_usd
from proxy.storage import accounts, imports, retention
from proxy.storage import secrets as sealing
from proxy.storage.accounts import KeyRow, NewKey
from proxy.storage.billing import Keeper
from proxy.storage.ports import KeeperUnavailableError

KEY_PREFIX_SHOWN = 8
KEY_LAST_SHOWN = 4
ROLLUP_SECONDS_MAX = 60.0
"""Half of what a command may take before its client is told that it took too long."""
REMEDY_VERBS = frozenset(
    {"see", "add", "set", "export", "make", "write", "leave", "remove", "check", "name", "stop"}
)


async def run(office: Office, command: str, arguments: Mapping[str, object]) -> object:
    """Do one command by name. Raises CommandError."""
    found = COMMANDS.get(command)
    if found is None:
        raise CommandError(f"unknown command {command!r}", "sluice --help lists them")
    kind, handler = found
    try:
        return await handler(office, msgspec.convert(arguments, kind))
    except msgspec.ValidationError as error:
        raise CommandError(f"{command}: {error}", f"sluice {command} --help") from None
    except ValueError as error:
        raise CommandError(*split_remedy(str(error))) from None
    except KeeperUnavailableError as error:
        raise CommandError(f"the ledger is not available: {error}", "try again") from None


class Arguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of a command; each command has its own."""


class UserAdd(Arguments, frozen=True):
    name: str
    plan: str | None = None
    credit: str | None = None


class Listing(Arguments, frozen=True):
    user: str | None = None


class KeyAdd(Arguments, frozen=True):
    user: str
    name: str
    group: str = "default"
    expires: str | None = None
    budget: str | None = None
    budget_period: BudgetPeriod = BudgetPeriod.TOTAL
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    models: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    cache_seconds: int | None = None


class KeyDisable(Arguments, frozen=True):
    key: str
    user: str | None = None


class WalletCredit(Arguments, frozen=True):
    user: str
    amount: str
    reason: str = "top-up by the operator"
    reference: str | None = None


class WalletShow(Arguments, frozen=True):
    user: str


class ChannelTest(Arguments, frozen=True):
    name: str
    model: str | None = None


class ChannelAdd(Arguments, frozen=True):
    """`table` is a `[[channel]]` of the catalog document."""

    table: dict[str, Any]


class CatalogApply(Arguments, frozen=True):
    """`document` is a parsed catalog file."""

    document: dict[str, Any]
    force: bool = False
    dry_run: bool = False


class LedgerRollup(Arguments, frozen=True):
    """`seconds_max`: how long one answer may take; ask again while it says `done` is false."""

    days: int
    seconds_max: float = 30.0


class UsageDaily(Arguments, frozen=True):
    user: str | None = None
    days: int = 31


class UsageList(Arguments, frozen=True):
    user: str | None = None
    before: str | None = None
    rows_max: int = 50


async def user_add(office: Office, a: UserAdd) -> object:
    """Add a user; with `credit`, top the wallet up at once."""
    amount = None if a.credit is None else parse_usd(a.credit)
    plan = a.plan or _only_plan(office.keeper)
    now = office.clock()
    user_id = await office.change(lambda c: accounts.add_user(c, a.name, plan, now))
    if amount:
        await office.keeper.credit(user_id, amount, "starting credit", f"start-{user_id}")
    return {"id": user_id, "name": a.name, "plan": plan, "balance_usd": format_usd(amount or 0)}


async def user_list(office: Office, _a: Arguments) -> object:
    """All users with their balances."""
    rows = await office.read(accounts.list_users)
    return [
        {
            "id": row.id,
            "name": row.name,
            "plan": row.plan,
            "enabled": row.enabled,
            "balance_usd": format_usd(row.balance),
            "created": iso(row.created_at),
        }
        for row in rows
    ]


async def key_add(office: Office, a: KeyAdd) -> object:
    """Add a key; the answer holds its secret, which exists nowhere else."""
    secret = sealing.new_key(os.urandom(sealing.KEY_RANDOM_BYTES))
    new = NewKey(
        user=a.user,
        name=a.name,
        group=a.group,
        digest=sealing.key_digest(office.secrets.pepper, secret),
        prefix=secret[:KEY_PREFIX_SHOWN],
        last4=secret[-KEY_LAST_SHOWN:],
        expires_at=None if a.expires is None else parse_time(a.expires, office.clock()),
        budget=None if a.budget is None else parse_usd(a.budget),
        budget_period=a.budget_period,
        requests_per_minute=a.requests_per_minute,
        tokens_per_minute=a.tokens_per_minute,
        concurrency=a.concurrency,
        models=a.models,
        networks=a.networks,
        cache_seconds=a.cache_seconds,
    )
    now = office.clock()
    key_id = await office.change(lambda c: accounts.add_key(c, new, now))
    return {"id": key_id, "user": a.user, "name": a.name, "group": a.group, "key": secret}


async def key_list(office: Office, a: Listing) -> object:
    """Keys of a user or all, without their secrets."""
    rows = await office.read(lambda c: accounts.list_keys(c, a.user))
    return [_key(row) for row in rows]


async def key_disable(office: Office, a: KeyDisable) -> object:
    """Disable a key by id or name; its open streams are cut."""
    rows = await office.read(lambda c: accounts.list_keys(c, a.user))
    found = [row for row in rows if a.key in {str(row.id), row.name}]
    if not found:
        raise CommandError(f"there is no key {a.key!r}", "sluice key list")
    if len(found) > 1:
        ids = ", ".join(f"{row.id} of {row.user}" for row in found)
        raise CommandError(f"several keys are named {a.key!r}: {ids}", "name one by its id")
    (row,) = found
    await office.change(lambda c: accounts.set_key_enabled(c, row.id, enabled=False))
    return _key(row._replace(enabled=False))


async def wallet_credit(office: Office, a: WalletCredit) -> object:
    """Top a wallet up, once per reference."""
    amount = parse_usd(a.amount)
    reference = a.reference or f"cli-{secrets.token_hex(8)}"
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))
    top_up = await office.keeper.credit(user_id, amount, a.reason, reference)
    return {
        "user": a.user,
        "credited_usd": format_usd(top_up.amount if top_up.fresh else 0),
        "balance_usd": format_usd(office.keeper.balance(user_id)),
        "reference": reference,
        "repeated": not top_up.fresh,
    }


async def wallet_show(office: Office, a: WalletShow) -> object:
    """A wallet, where its money came from and where it went."""
    row = await office.read(lambda c: accounts.show_wallet(c, a.user))
    return {
        "user": row.user,
        "balance_usd": format_usd(row.balance),
        "topped_up_usd": format_usd(row.topped_up),
        "charged_usd": format_usd(row.charged),
    }


async def channel_list(office: Office, _a: Arguments) -> object:
    """All channels, without their keys."""
    channels = sorted(office.keeper.catalog.channels.values(), key=lambda c: c.id)
    return [
        {
            "id": channel.id,
            "name": channel.name,
            "dialect": channel.dialect.value,
            "base_url": channel.base_url,
            "enabled": channel.enabled,
            "keys": len(channel.keys),
            "groups": sorted(channel.groups),
            "models": sorted(channel.models),
            "endpoints": None
            if channel.endpoints == DIALECT_ENDPOINTS[channel.dialect]
            else sorted(channel.endpoints),
            "priority": channel.priority,
            "weight": channel.weight,
        }
        for channel in channels
    ]


async def channel_test(office: Office, a: ChannelTest) -> object:
    """Make one tiny real call to a channel."""
    channels = {channel.name: channel for channel in office.keeper.catalog.channels.values()}
    channel = channels.get(a.name)
    if channel is None:
        raise CommandError(f"there is no channel {a.name!r}", "sluice channel list")
    model = a.model or min(channel.models, default="")
    return asdict(await try_channel(channel, model))


async def channel_add(office: Office, a: ChannelAdd) -> object:
    """Add a channel, or change the one of that name."""
    master, now = office.secrets.master, office.clock()
    changes = await office.change(lambda c: imports.set_channel(c, a.table, master=master, now=now))
    return [change._asdict() for change in changes]


async def catalog_apply(office: Office, a: CatalogApply) -> object:
    """Make the catalog equal to a document; the answer is the difference."""
    master, now = office.secrets.master, office.clock()

    def apply(connection: sqlite3.Connection, *, dry_run: bool) -> list[imports.Change]:
        return imports.apply_catalog(
            connection, a.document, master=master, now=now, force=a.force, dry_run=dry_run
        )

    version = office.keeper.catalog.version
    if a.dry_run:
        changes = await office.read(lambda c: apply(c, dry_run=True))
    else:
        changes = await office.change(lambda c: apply(c, dry_run=False))
    return {"version": version, "changes": [change._asdict() for change in changes]}


async def catalog_export(office: Office, _a: Arguments) -> object:
    """The whole catalog as a document; upstream keys are placeholders."""
    master = office.secrets.master
    return await office.read(lambda c: imports.export_catalog(c, master))


async def usage_list(office: Office, a: UsageList) -> object:
    """Ended calls, latest first, with what each cost."""
    before = None if a.before is None else parse_id(a.before)
    if a.before is not None and before is None:
        raise CommandError(f"{a.before!r} is not a request id", "take one from sluice usage")
    rows = await office.read(
        lambda c: accounts.list_usage(c, a.user, before_id=before, rows_max=a.rows_max)
    )
    return [
        {
            "request_id": format_id(row.id),
            "started": iso(row.started_at),
            "user": row.user,
            "key": row.key,
            "model": row.model,
            "verdict": row.verdict,
            "source": row.source,
            "input": row.input_tokens,
            "output": row.output_tokens,
            "other": _other(row) | ({"variant": row.variant} if row.variant else {}),
            "charge_usd": format_usd(row.charge),
            "overrun_usd": format_usd(row.overrun),
            "forgiven_usd": format_usd(row.forgiven),
            "balance_usd": format_usd(row.balance_after),
            "status": row.status,
            "ms": round(row.duration_ms),
        }
        for row in rows
    ]


def _other(row: accounts.UsageRow | retention.DayRow) -> dict[str, object]:
    """What was used that is no token."""
    used: dict[str, object] = {
        "images": row.images,
        "characters": row.characters,
        "audio_seconds": row.audio_ms / 1000,
        "searches": row.searches,
    }
    return {name: count for name, count in used.items() if count}


async def usage_daily(office: Office, a: UsageDaily) -> object:
    """Sums per UTC day, user and model, of calls with detail and of those rolled up."""
    if not 0 < a.days <= retention.DAYS_LISTED_MAX:
        raise CommandError(f"between 1 and {retention.DAYS_LISTED_MAX:,} days can be listed")
    since = int(office.clock() // DAY_SECONDS) - a.days + 1
    rows = await office.read(lambda c: retention.list_days(c, since, a.user))
    return [
        {
            "day": (iso(row.day * DAY_SECONDS) or "")[:10],
            "user": row.user,
            "model": row.model,
            "calls": row.calls,
            "errors": row.errors,
            "input": row.input_tokens,
            "output": row.output_tokens,
            "other": _other(row),
            "charge_usd": format_usd(row.charge),
            "expense_usd": format_usd(row.expense),
            "cost_usd": format_usd(row.cost),
        }
        for row in rows
    ]


async def ledger_rollup(office: Office, a: LedgerRollup) -> object:
    """Let calls older than `days` whole days leave; their sums stay."""
    done = await office.keeper.upkeep.roll_up(a.days, min(a.seconds_max, ROLLUP_SECONDS_MAX))
    return {
        "rolled_up": done.calls,
        "kept": [format_id(call_id) for call_id in done.kept],
        "done": done.done,
    }


async def ledger_flush(office: Office, _a: Arguments) -> object:
    """Wait until the database file has everything decided so far; a backup asks for it."""
    await office.keeper.upkeep.flush()
    return {"flushed": True}


def iso(moment: float | None) -> str | None:
    """Unix seconds as ISO 8601 in UTC, to the second."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str, now: float) -> float:
    """A moment: `30d`, `12h` from now, or an ISO 8601 date or time. Raises ValueError."""
    spans = {"d": 86_400, "h": 3_600, "m": 60}
    if text[-1:] in spans and text[:-1].isascii() and text[:-1].isdigit() and len(text) < 10:
        return now + int(text[:-1]) * spans[text[-1]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a span such as 30d nor a date such as 2030-01-31"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _key(row: KeyRow) -> dict[str, object]:
    return {
        "id": row.id,
        "user": row.user,
        "name": row.name,
        "group": row.group,
        "key": row.shown,
        "enabled": row.enabled,
        "expires": iso(row.expires_at),
        "budget_usd": None if row.budget is None else format_usd(row.budget),
        "period": row.budget_period,
        "spent_usd": format_usd(row.spent),
        "created": iso(row.created_at),
    }


def _only_plan(keeper: Keeper) -> str:
    plans = sorted(keeper.catalog.plans)
    if len(plans) == 1:
        return plans[0]
    if not plans:
        raise CommandError("there is no plan yet", "sluice catalog apply FILE with a [[plan]]")
    raise CommandError(f"which plan? there are {', '.join(plans)}", "name one with --plan")


def split_remedy(message: str) -> tuple[str, str]:
    """Storage writes `what is wrong: what to do` or `...; what to do` in one sentence."""
    for separator in (": ", "; "):
        what, _, remedy = message.rpartition(separator)
        if what and remedy.split(" ", 1)[0] in REMEDY_VERBS:
            return what, remedy
    return message, ""


Handler = Callable[[Office, Any], Awaitable[object]]
COMMANDS: dict[str, tuple[type[Arguments], Handler]] = {
    "user add": (UserAdd, user_add),
    "user list": (Arguments, user_list),
    "key add": (KeyAdd, key_add),
    "key list": (Listing, key_list),
    "key disable": (KeyDisable, key_disable),
    "wallet credit": (WalletCredit, wallet_credit),
    "wallet show": (WalletShow, wallet_show),
    "channel list": (Arguments, channel_list),
    "channel test": (ChannelTest, channel_test),
    "channel add": (ChannelAdd, channel_add),
    "catalog apply": (CatalogApply, catalog_apply),
    "catalog export": (Arguments, catalog_export),
    "usage": (UsageList, usage_list),
    "usage daily": (UsageDaily, usage_daily),
    "ledger rollup": (LedgerRollup, ledger_rollup),
    "ledger flush": (Arguments, ledger_flush),
}
