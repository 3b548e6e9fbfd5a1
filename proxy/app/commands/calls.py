"""Calls as the usage log's pages show them: a page of them, what they come to, one's receipt.

Rules: a person without a role sees the wallet they name, as a member of a team the calls of their
own keys. This module must not know how calls are stored.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, TypeVar

import orjson

from proxy.app.commands.shapes import (
    DAY_SECONDS,
    Desk,
    Report,
    day_text,
    iso,
    last_day,
    money,
    parse_period,
)
from proxy.core.actions.action import Actor
from proxy.core.actions.unfit import UnfitError
from proxy.core.actions.usage import CallList, CallShow, CallSums
from proxy.core.ids import format_id, parse_id
from proxy.core.sentences import Sentence
from proxy.edge.generation import receipt
from proxy.storage.reports import usage_log
from proxy.storage.reports.call_lines import fields
from proxy.storage.reports.usage_log import CallRow, OpenRow, Sum, Wanted

FAILED: Final = "failed"
KEY_DIGITS_MAX: Final = 15
Name = TypeVar("Name", int, str)


async def call_list(desk: Desk, actor: Actor, a: CallList) -> object:
    """Ended calls, latest first, and with the first page those that run."""
    since, until = parse_period(a.since, a.until, desk.now)
    before = None if a.before is None else _call_id("before", a.before)
    wanted = await _wanted(desk, actor, a, since, until)
    page = await usage_log.page(desk.reader, wanted, before=before, rows_max=a.rows_max)
    running = [] if a.before else await usage_log.open_calls(desk.reader, wanted)
    return {
        "calls": [_ended(row) for row in page.calls],
        "running": [_open(row) for row in running],
        "older": None if page.older is None else format_id(page.older),
        "searched_to": iso(page.searched_to),
    }


async def call_sums(desk: Desk, actor: Actor, a: CallSums) -> object:
    """What a wallet's calls come to, by day, model and key."""
    last = last_day(a.until, desk.now)
    first = last - a.days + 1
    since, until = float(first * DAY_SECONDS), float((last + 1) * DAY_SECONDS)
    wanted = await _wanted(desk, actor, a, since, until)
    sums = await desk.day_sums.sums(desk.reader, wanted, desk.now)
    choices = await usage_log.choices(desk.reader, wanted.wallet, wanted.person)
    names = {key.id: key.name for key in choices.keys}
    return {
        "since": day_text(first),
        "until": day_text(last),
        "back_to": iso(sums.back_to),
        "total": _sum(sums.total),
        "days": [
            {"day": day_text(day), **_sum(sums.by_day.get(day, Sum()))}
            for day in range(first, last + 1)
        ],
        "models": [{"model": name, **_sum(one)} for name, one in _by_charge(sums.by_model)],
        "keys": [
            {"key": key, "name": names.get(key), **_sum(one)}
            for key, one in _by_charge(sums.by_key)
        ],
    }


async def call_show(desk: Desk, actor: Actor, a: CallShow) -> object:
    """One ended call's receipt, as the relay's own endpoint gives it."""
    call_id = _call_id("call", a.call)
    wanted = await _wanted(desk, actor, a, None, None)
    found = await usage_log.record(desk.reader, wanted, call_id)
    if found is None:
        raise UnfitError(
            {
                "call": Sentence(
                    "no ended call has the id {call!r}, or its detail is no longer kept",
                    call=a.call,
                )
            }
        )
    made: dict[str, object] = orjson.loads(receipt(found))["data"]
    # The endpoint's JSON numbers of US dollars are exact as they are written, and not once read.
    for name in ("total_cost", "usage"):
        made.pop(name)
    return made | money(charge=found.charge, refunded=found.refunded)


async def _wanted(
    desk: Desk,
    actor: Actor,
    a: CallList | CallSums | CallShow,
    since: float | None,
    until: float | None,
) -> Wanted:
    """The question, about the wallet that is named. Raises UnfitError if there is none."""
    wallet = None
    if a.user is not None:
        wallet = await usage_log.wallet_named(desk.reader, a.user)
        if wallet is None:
            raise UnfitError({"user": Sentence("there is no user {name!r}", name=a.user)})
    person = None if actor.owner else actor.person
    of_wallet = Wanted(wallet, person)
    if isinstance(a, CallShow):
        return of_wallet
    return replace(
        of_wallet,
        key=None if a.key is None else await _key(desk, of_wallet, a.key),
        model=a.model,
        group=a.group,
        verdict=None if a.verdict == FAILED else a.verdict,
        failed=a.verdict == FAILED,
        since=since,
        until=until,
    )


async def _key(desk: Desk, wanted: Wanted, text: str) -> int:
    """A key's id, by that or its name. Raises UnfitError."""
    if text.isascii() and text.isdigit() and len(text) <= KEY_DIGITS_MAX:
        return int(text)
    found = await usage_log.keys_named(desk.reader, wanted, text)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnfitError({"key": Sentence("there is no key {named!r}", named=text)})
    ids = ", ".join(str(each) for each in found)
    said = Sentence(
        "several keys are named {named!r}: {ids}; name one by its id", named=text, ids=ids
    )
    raise UnfitError({"key": said})


def _call_id(field: str, text: str) -> int:
    found = parse_id(text)
    if found is None:
        raise UnfitError({field: Sentence("{call!r} is not a request id", call=text)})
    return found


def _ended(row: CallRow) -> dict[str, object]:
    """A call by the names of an export, its wallet among them, and amounts in nano-USD too."""
    amounts = money(charge=row.charge, balance_after=row.balance_after)
    return {"user": row.wallet, **fields(row), "stream": row.stream, **amounts}


def _open(row: OpenRow) -> dict[str, object]:
    """A call under way; `charge` is what it would cost if it ended now."""
    return {
        "user": row.wallet,
        "time": iso(row.started_at),
        "request_id": format_id(row.id),
        "key": row.key,
        "model": row.model,
        "group": row.group,
        "endpoint": row.endpoint,
        "stream": row.stream,
        **money(charge=row.charge, held=row.hold),
        "client_reference": row.client_reference,
        "channel": row.channel or None,
    }


def _sum(one: Sum) -> dict[str, object]:
    return {
        "calls": one.calls,
        "errors": one.errors,
        "input_tokens": one.input_tokens,
        "output_tokens": one.output_tokens,
        **money(charge=one.charge),
    }


def _by_charge(found: Mapping[Name, Sum]) -> list[tuple[Name, Sum]]:
    return sorted(found.items(), key=lambda each: -each[1].charge)


REPORTS: Mapping[str, Report] = {
    "call list": call_list,
    "call sums": call_sums,
    "call show": call_show,
}
