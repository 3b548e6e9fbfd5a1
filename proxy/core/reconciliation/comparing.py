"""Compares a provider's export with our attempts, and says what explains each difference.

Rules: lines that name requests are compared with the attempt of that id, one by one; others by day
and model. What an export does not say is not compared. Where it has no cost, its tokens are priced
by the channel's own cost. Every line and every attempt is in exactly one row, so the sums of the
rows are the sums of both sides. This module must not know files or databases.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from proxy.core.entities import MULTIPLIER_ONE, Price, Usage, UsageSource
from proxy.core.pricing import charge
from proxy.core.reconciliation.records import (
    TOKEN_KINDS,
    Comparison,
    Our,
    Reason,
    Row,
    State,
    Sum,
    Their,
    day_of,
    tokens_of,
)

MONEY_SLACK: Final = 1_000
"""Nano-USD by which a line may differ and match: providers round (a millionth of a dollar)."""
SERVED: Final = "served"
_DATED: Final = re.compile(
    r"[-@](?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}|[0-9]{4}|latest)$", re.ASCII
)
_UNSAID: Final = frozenset({UsageSource.COUNTED, UsageSource.ESTIMATED, UsageSource.NONE})


class _Names:
    """By which name of ours an export's model goes: dated snapshots, a maker's prefix."""

    def __init__(self, names: Iterable[str]) -> None:
        self._ours: dict[str, str] = {}
        for name in sorted(names, reverse=True):
            self._ours[_bare(name)] = name
            self._ours[name] = name

    def __getitem__(self, model: str) -> str:
        return self._ours.get(model) or self._ours.get(_bare(model), model)


def _bare(model: str) -> str:
    return _DATED.sub("", model.rpartition("/")[2])


def compare(theirs: Sequence[Their], ours: Sequence[Our], costs: Mapping[str, Price]) -> Comparison:
    """Compare; `costs` are the channel's prices by the upstream's name of the model."""
    by_request = all(row.request_id is not None for row in theirs)
    if by_request and any(row.day is not None for row in theirs):
        # Ids of another kind than the answers named say nothing about single requests.
        known = {our.request_id for our in ours}
        by_request = any(row.request_id in known for row in theirs)
    names = _Names({*costs, *(our.model for our in ours)})
    named = {names[model]: price for model, price in costs.items()}
    if by_request:
        made = _by_request(theirs, ours, names, named)
    else:
        made = _by_day(theirs, ours, names, named)
    rows = sorted(made, key=lambda row: -abs(row.money or 0))
    sums: dict[tuple[State, Reason], Sum] = {}
    for row in rows:
        found = sums.setdefault((row.state, row.reason), Sum())
        found.rows += 1
        our = 0 if row.our is None else row.our.cost
        found.ours += our
        found.money += row.money or 0
        found.theirs += our + (row.money or 0)
    return Comparison(
        by_request=by_request,
        rows=rows,
        sums=sums,
        theirs=sum(found.theirs for found in sums.values()),
        ours=sum(found.ours for found in sums.values()),
        unpriced=sum(row.money is None for row in rows),
    )


def _by_request(
    theirs: Iterable[Their], ours: Iterable[Our], names: _Names, costs: Mapping[str, Price]
) -> Iterable[Row]:
    lines: dict[str, Their] = {}
    for line in theirs:
        name = line.request_id or ""
        lines[name] = _joined(lines[name], line) if name in lines else line
    for our in ours:
        # An id that comes twice is the first attempt's; the other one stands alone.
        their = None if our.request_id is None else lines.pop(our.request_id, None)
        yield _alone(our) if their is None else _both(their, our, costs.get(names[our.model]))
    for their in lines.values():
        yield _unknown(their, costs.get(names[their.model]))


def _by_day(
    theirs: Iterable[Their], ours: Sequence[Our], names: _Names, costs: Mapping[str, Price]
) -> Iterable[Row]:
    lines: dict[tuple[int | None, str], Their] = {}
    for line in theirs:
        at = line.day, names[line.model]
        lines[at] = _joined(lines[at], line) if at in lines else line
    days: defaultdict[tuple[int | None, str], list[Our]] = defaultdict(list)
    for our in ours:
        days[(day_of(our.at), names[our.model])].append(our)
    for at, found in days.items():
        their = lines.pop(at, None)
        our = _together(found)
        unsaid = sum(each.source in _UNSAID for each in found)
        row = _alone(our) if their is None else _both(their, our, costs.get(names[our.model]))
        yield _counted(row, len(found), unsaid)
    for their in lines.values():
        yield _unknown(their, costs.get(names[their.model]))


def _counted(row: Row, attempts: int, unsaid: int) -> Row:
    reason = row.reason
    if row.state is State.DIFFERING and unsaid and reason is Reason.TOKENS:
        reason = Reason.CUT_SHORT
    return Row(
        row.state, reason, row.their, row.our, row.differences, row.money, row.priced,
        attempts, unsaid,
    )  # fmt: skip


def _both(their: Their, our: Our, price: Price | None) -> Row:
    counts = tokens_of(our.usage)
    said = {kind: getattr(their, kind) for kind in TOKEN_KINDS}
    differences = {
        kind: count - counts[kind]
        for kind, count in said.items()
        if count is not None and count != counts[kind]
    }
    cost, priced = _cost(their, our.usage, price)
    money = None if cost is None else cost - our.cost
    if not differences and (money is None or abs(money) <= MONEY_SLACK):
        return Row(State.MATCHED, Reason.NONE, their, our, {}, money, priced)
    reason = _reason(our, differences)
    return Row(State.DIFFERING, reason, their, our, differences, money, priced)


def _reason(our: Our, differences: Mapping[str, int]) -> Reason:
    if not differences:
        return Reason.PRICE if our.cost else Reason.NO_COST
    if our.source is UsageSource.NONE:
        return Reason.NOT_SERVED if our.outcome != SERVED else Reason.CUT_SHORT
    if our.source in _UNSAID:
        return Reason.CUT_SHORT
    return Reason.CACHE if differences.keys() <= {"cached", "written"} else Reason.TOKENS


def _alone(our: Our) -> Row:
    if our.outcome != SERVED and not our.cost:
        reason = Reason.UNBILLED
    else:
        reason = Reason.NO_ID if our.request_id is None else Reason.MISSING
    return Row(State.ONLY_OURS, reason, None, our, {}, -our.cost)


def _unknown(their: Their, price: Price | None) -> Row:
    cost, priced = _cost(their, Usage(calls=their.requests), price)
    return Row(State.ONLY_THEIRS, Reason.NOT_OURS, their, None, {}, cost, priced, attempts=0)


def _cost(their: Their, ours: Usage, price: Price | None) -> tuple[int | None, bool]:
    """What they ask, as they say it or reckoned from their tokens (then True)."""
    if their.cost is not None:
        return their.cost, False
    if price is None:
        return None, False
    cached, written = their.cached or 0, their.written or 0
    read = 0 if their.input is None else max(0, their.input - cached - written)
    # Kinds that an export sums up (audio, images) are told apart as ours were.
    counts = tokens_of(ours)
    if all(getattr(their, kind) in {None, counts[kind]} for kind in TOKEN_KINDS):
        return charge(ours, price, MULTIPLIER_ONE), True
    usage = Usage(
        input_uncached=read,
        cache_read=cached,
        cache_write_5m=written,
        output=their.output or 0,
        calls=their.requests,
    )
    return charge(usage, price, MULTIPLIER_ONE), True


def _joined(one: Their, other: Their) -> Their:
    """Two lines about the same."""
    sums = {name: _add(getattr(one, name), getattr(other, name)) for name in (*TOKEN_KINDS, "cost")}
    requests = one.requests if one.request_id is not None else one.requests + other.requests
    return Their(one.line, one.request_id, one.day, one.model, **sums, requests=requests)


def _add(one: int | None, other: int | None) -> int | None:
    return other if one is None else one + (other or 0)


def _together(found: Sequence[Our]) -> Our:
    """Attempts of one day and model as one."""
    first = found[0]
    sums = {
        name: sum(getattr(each.usage, name) for each in found)
        for name in Usage.__struct_fields__
        if name != "variant"
    }
    served = any(each.outcome == SERVED for each in found)
    return Our(
        first.call_id, first.number, first.at, None, SERVED if served else first.outcome, "",
        first.model, first.public_model, Usage(**sums), UsageSource.REPORTED,
        sum(each.cost for each in found), sum(each.charge for each in found), "",
    )  # fmt: skip
