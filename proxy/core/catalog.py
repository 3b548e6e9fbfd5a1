"""The catalog: one immutable snapshot of who may call what, where it goes and under which limits.

Rules: a request sees one snapshot from start to end; nothing here is changed after `build`, a
change is a new catalog swapped in by reference, which shares with the one before what did not
change; every question a request asks is one look-up in an index made beforehand. This module must
not know where the rows come from, nor the state of any channel (core/routing.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from msgspec import Struct

from proxy.core.entities import (
    WIRE_ENDPOINTS,
    Channel,
    Group,
    Key,
    Model,
    Plan,
    Price,
    User,
    Wire,
)
from proxy.core.limits import EffectiveLimits, RateLimits
from proxy.core.pricing import Line, Rates, quote_line, rates_of

TRANSLATED = (Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES, Wire.GEMINI)
"""Wire forms that are carried over into each other, in the order upstreams of them are asked."""

Name = TypeVar("Name")
Row = TypeVar("Row")


class Route(Struct, frozen=True):
    """A model that a group's keys may call in one form: its contract, its price, who serves it.

    What every call of it needs, put together once for each snapshot.
    """

    group: Group
    model: Model
    price: Price
    channels: tuple[Channel, ...]
    """Highest priority first."""
    native: bool
    """Whether they serve the caller's own form, so that nothing is translated."""
    line: Line | None
    """What quotes a call, where that needs no tiers."""
    rates: Rates | None
    """What charges one that is but a prompt and a completion, where two rates do."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """One version of everything an operator configures. Make it with `build_catalog`.

    The mappings are plain dicts that nobody may change. `channels_by_route` is by (group, model,
    wire), `channels_by_model` by (group, model), both highest priority first; `limits_by_key` by
    key id.
    """

    version: int
    users: Mapping[int, User]
    plans: Mapping[str, Plan]
    groups: Mapping[str, Group]
    models: Mapping[str, Model]
    channels: Mapping[int, Channel]
    keys_by_digest: Mapping[bytes, Key]
    keys_by_id: Mapping[int, Key]
    channels_by_route: Mapping[tuple[str, str, Wire], tuple[Channel, ...]]
    channels_by_model: Mapping[tuple[str, str], tuple[Channel, ...]]
    models_by_group: Mapping[str, tuple[Model, ...]]
    groups_by_model: Mapping[str, tuple[str, ...]]
    limits_by_key: Mapping[int, EffectiveLimits]
    keys_changed: frozenset[int] | None = field(default=None, compare=False)
    """Ids of the keys that are not those of the version this one was made from; None: any."""
    routes: dict[tuple[str, str, Wire], Route] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """By (group, model, wire) what callers have asked for: at most `channels_by_route` and those
    translated, and gone with this snapshot. `remember_route` fills it."""
    unbound: dict[bytes, Key] = field(default_factory=dict, init=False, compare=False, repr=False)
    """By digest the keys that were shown and count from everywhere until this snapshot is over,
    whatever the time: at most all. Who recognises keys (edge/auth.py) fills it."""

    def key(self, digest: bytes) -> Key | None:
        """The key with this digest, enabled or not; None when there is none."""
        return self.keys_by_digest.get(digest)

    def channels_for(self, group: str, model: str, wire: Wire) -> tuple[Channel, ...]:
        """Enabled channels of `group` that serve `model` in `wire`, highest priority first."""
        return self.channels_by_route.get((group, model, wire), ())

    def channels_serving(self, group: str, model: str, wire: Wire) -> tuple[Channel, ...]:
        """The same, or those of another form where `wire` has none: they are translated.

        Never both: what the caller's own form serves passes byte for byte (DESIGN.md promise 1).
        """
        own = self.channels_by_route.get((group, model, wire))
        if own is not None or wire not in TRANSLATED:
            return own or ()
        others = [self.channels_for(group, model, other) for other in TRANSLATED]
        return next((found for found in others if found), ())

    def remember_route(self, group: Group, model: Model, price: Price, wire: Wire) -> Route:
        """Make the route by which `group` calls `model`, which is served in `wire`, and keep it."""
        served = self.channels_serving(group.name, model.name, wire)
        native = WIRE_ENDPOINTS[wire] in served[0].endpoints
        line = quote_line(price, group.multiplier)
        rates = rates_of(price, group.multiplier)
        route = Route(group, model, price, served, native, line, rates)
        self.routes[group.name, model.name, wire] = route
        return route

    def channels_for_endpoint(self, group: str, model: str, endpoint: str) -> tuple[Channel, ...]:
        """Enabled channels of `group` that serve `model` at `endpoint`, highest priority first."""
        found = self.channels_by_model.get((group, model), ())
        return tuple([channel for channel in found if endpoint in channel.endpoints])

    def groups_with(self, model: str) -> tuple[str, ...]:
        """Names of the groups with an enabled channel for `model`, sorted."""
        return self.groups_by_model.get(model, ())

    def models_for(self, group: str) -> tuple[Model, ...]:
        """Models an enabled channel of `group` serves, by name."""
        return self.models_by_group.get(group, ())

    def limits_of(self, key: Key) -> EffectiveLimits:
        """The limits that bind a call with `key`. Raises KeyError for a key of another catalog."""
        return self.limits_by_key[key.id]


def build_catalog(
    version: int,
    *,
    users: Iterable[User] = (),
    plans: Iterable[Plan] = (),
    groups: Iterable[Group] = (),
    models: Iterable[Model] = (),
    channels: Iterable[Channel] = (),
    keys: Iterable[Key] = (),
    secrets: Iterable[Key] = (),
) -> Catalog:
    """Index the rows of one version. `secrets`: keys once more, by further secrets of theirs.

    Raises ValueError when a row names another that does not exist, or a limit is below 1.
    Groups and models a channel names beyond the catalog are passed over: nobody can ask for them.
    """
    users_by_id = {user.id: user for user in users}
    plans_by_name = {plan.name: plan for plan in plans}
    groups_by_name = {group.name: group for group in groups}
    models_by_name = {model.name: model for model in models}
    channels_by_id = {channel.id: channel for channel in channels}
    keys_by_id = {key.id: key for key in keys}
    serving = _serving(channels_by_id.values(), groups_by_name, models_by_name)
    served = sorted(serving)
    _check_plans(users_by_id.values(), plans_by_name)
    return Catalog(
        version=version,
        users=users_by_id,
        plans=plans_by_name,
        groups=groups_by_name,
        models=models_by_name,
        channels=channels_by_id,
        keys_by_digest={key.digest: key for key in (*secrets, *keys_by_id.values())},
        keys_by_id=keys_by_id,
        channels_by_route=_routes(serving),
        channels_by_model=serving,
        models_by_group=_gather((group, models_by_name[model]) for group, model in served),
        groups_by_model=_gather((model, group) for group, model in served),
        limits_by_key=_limits(keys_by_id.values(), users_by_id, plans_by_name, groups_by_name),
    )


def renew_catalog(
    known: Catalog,
    version: int,
    *,
    users: Iterable[User] = (),
    key_ids: Iterable[int] = (),
    keys: Iterable[Key] = (),
    secrets: Iterable[Key] = (),
) -> Catalog:
    """Return `known` with these users, and with `keys` for all that it had of `key_ids`.

    A key of `key_ids` that is not in `keys` is gone; `secrets` are those of `keys`. It costs a
    copy of four indexes instead of making each row anew. Raises ValueError as `build_catalog` does.
    """
    changed = frozenset(key_ids)
    users_anew = {user.id: user for user in users}
    users_by_id = {**known.users, **users_anew}
    rows = {key.id: key for key in keys}
    keys_by_id = {id_: key for id_, key in known.keys_by_id.items() if id_ not in changed} | rows
    by_digest = {
        digest: key for digest, key in known.keys_by_digest.items() if key.id not in changed
    }
    by_digest |= {key.digest: key for key in (*secrets, *rows.values())}
    limits = {id_: one for id_, one in known.limits_by_key.items() if id_ not in changed}
    bound = list(rows.values())
    if users_anew:
        bound += [key for key in keys_by_id.values() if key.user_id in users_anew]
    _check_plans(users_anew.values(), known.plans)
    limits |= _limits(bound, users_by_id, known.plans, known.groups)
    return replace(
        known,
        version=version,
        users=users_by_id,
        keys_by_digest=by_digest,
        keys_by_id=keys_by_id,
        limits_by_key=limits,
        keys_changed=changed,
    )


def spoken(channel: Channel, wire: Wire) -> Wire:
    """The form `channel` is asked in by a caller of `wire`; `channels_serving` gave the channel."""
    if WIRE_ENDPOINTS[wire] in channel.endpoints:
        return wire
    for other in TRANSLATED:
        if WIRE_ENDPOINTS[other] in channel.endpoints:
            return other
    raise AssertionError(f"channel {channel.name} serves no form of conversation")


def _serving(
    channels: Iterable[Channel], groups: Mapping[str, Group], models: Mapping[str, Model]
) -> dict[tuple[str, str], tuple[Channel, ...]]:
    ordered = sorted(channels, key=lambda channel: (-channel.priority, channel.id))
    return _gather(
        ((group, model), channel)
        for channel in ordered
        if channel.enabled
        for group in sorted(channel.groups & groups.keys())
        for model in channel.models
        if model in models
    )


def _routes(
    serving: Mapping[tuple[str, str], tuple[Channel, ...]],
) -> dict[tuple[str, str, Wire], tuple[Channel, ...]]:
    return _gather(
        ((group, model, wire), channel)
        for (group, model), channels in serving.items()
        for channel in channels
        for wire, endpoint in WIRE_ENDPOINTS.items()
        if endpoint in channel.endpoints
    )


def _gather(pairs: Iterable[tuple[Name, Row]]) -> dict[Name, tuple[Row, ...]]:
    """Collect rows under their names, keeping the order of both."""
    found: dict[Name, list[Row]] = {}
    for name, row in pairs:
        found.setdefault(name, []).append(row)
    return {name: tuple(rows) for name, rows in found.items()}


def _limits(
    keys: Iterable[Key],
    users: Mapping[int, User],
    plans: Mapping[str, Plan],
    groups: Mapping[str, Group],
) -> dict[int, EffectiveLimits]:
    """A key's own limits override its user's plan for that key; the plan binds the user."""
    of_plan = {
        plan.name: RateLimits(plan.requests_per_minute, plan.tokens_per_minute, plan.concurrency)
        for plan in plans.values()
    }
    limits: dict[int, EffectiveLimits] = {}
    shared: dict[EffectiveLimits, EffectiveLimits] = {}
    for key in keys:
        _expect(key.user_id in users, f"key {key.name!r} belongs to user {key.user_id}")
        _expect(key.group in groups, f"key {key.name!r} is in group {key.group!r}")
        bound = of_plan[users[key.user_id].plan]
        own = RateLimits(
            _first(key.requests_per_minute, bound.requests_per_minute),
            _first(key.tokens_per_minute, bound.tokens_per_minute),
            _first(key.concurrency, bound.concurrency),
        )
        effective = EffectiveLimits(key=own, user=bound)
        limits[key.id] = shared.setdefault(effective, effective)
    return limits


def _check_plans(users: Iterable[User], plans: Mapping[str, Plan]) -> None:
    for user in users:
        _expect(user.plan in plans, f"user {user.name!r} has plan {user.plan!r}")


def _first(own: int | None, default: int | None) -> int | None:
    return default if own is None else own


def _expect(exists: bool, claim: str) -> None:  # noqa: FBT001 - the claim reads as a sentence
    if not exists:
        raise ValueError(f"{claim}, which does not exist")
