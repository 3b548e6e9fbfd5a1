from collections.abc import Callable
from dataclasses import replace

import pytest

from proxy.core.catalog import Catalog, build_catalog, renew_catalog, spoken
from proxy.core.entities import (
    Channel,
    ChannelKey,
    Dialect,
    Group,
    Key,
    Model,
    Plan,
    Price,
    User,
    Wire,
)
from proxy.core.limits import EffectiveLimits, RateLimits


def channel(channel_id: int, *, models: str, groups: str = "default", **more: object) -> Channel:
    names = {name: f"{name}-upstream" for name in models.split()}
    fields: dict[str, object] = {"dialect": Dialect.OPENAI, "priority": 0, "enabled": True}
    fields.update(more)
    return Channel(
        id=channel_id,
        name=f"channel-{channel_id}",
        base_url="https://upstream.test",
        keys=(ChannelKey(channel_id, "secret"),),
        models=names,
        groups=frozenset(groups.split()),
        **fields,  # type: ignore[arg-type] # a driver's shorthand
    )


def key(key_id: int, *, user_id: int = 1, group: str = "default", **limits: int) -> Key:
    return Key(
        id=key_id,
        user_id=user_id,
        digest=bytes([key_id]),
        name=f"key-{key_id}",
        group=group,
        prefix="sk-a",
        last4="wxyz",
        requests_per_minute=limits.get("requests"),
        tokens_per_minute=limits.get("tokens"),
        concurrency=limits.get("concurrency"),
    )


MODELS = tuple(
    Model(name, 128_000, 16_384)
    for name in ("gpt-4o", "gpt-4o-mini", "gpt-4.1", "claude-sonnet-4-5", "ö")
)


def catalog(channels: tuple[Channel, ...] = (), keys: tuple[Key, ...] = ()) -> Catalog:
    return build_catalog(
        7,
        users=[User(1, "ada", "free"), User(2, "bob", "open")],
        plans=[Plan("free", 5, 10_000, 2), Plan("open")],
        groups=[Group("default"), Group("cheap")],
        models=MODELS,
        channels=channels,
        keys=keys,
    )


def test_rows_are_found_by_what_a_request_knows() -> None:
    ours = key(1)
    made = catalog(keys=(ours,))
    assert made.version == 7
    assert made.key(bytes([1])) is ours
    assert made.key(b"unknown") is None
    assert made.keys_by_id == {1: ours}
    assert made.users[2].name == "bob"
    assert made.plans["free"].concurrency == 2
    assert made.groups["cheap"].name == "cheap"
    assert made.models["gpt-4o"] is MODELS[0]


def test_channels_are_indexed_by_group_model_and_wire_in_order_of_priority() -> None:
    low = channel(1, models="gpt-4o gpt-4.1")
    high = channel(2, models="gpt-4o", groups="default cheap", priority=5)
    also_low = channel(3, models="gpt-4o")
    other = channel(4, models="claude-sonnet-4-5", dialect=Dialect.ANTHROPIC)
    off = channel(5, models="gpt-4o", enabled=False)
    made = catalog((also_low, other, low, off, high))
    assert made.channels_for("default", "gpt-4o", Wire.CHAT) == (high, low, also_low)
    assert made.channels_for("cheap", "gpt-4o", Wire.CHAT) == (high,)
    assert made.channels_for("default", "gpt-4o", Wire.MESSAGES) == ()
    assert made.channels_for("default", "claude-sonnet-4-5", Wire.MESSAGES) == (other,)
    assert made.channels_for("nowhere", "gpt-4o", Wire.CHAT) == ()
    assert made.channels[5] is off
    assert made.channels_serving("default", "gpt-4o", Wire.CHAT) == (high, low, also_low)
    assert made.channels_serving("default", "gpt-4o", Wire.MESSAGES) == (high, low, also_low)
    assert made.channels_serving("default", "claude-sonnet-4-5", Wire.CHAT) == (other,)
    assert made.channels_serving("nowhere", "gpt-4o", Wire.CHAT) == ()


def test_a_form_that_a_channel_serves_itself_is_preferred_to_any_translation() -> None:
    chat = channel(1, models="gpt-4o", priority=9)
    both = channel(2, models="gpt-4o", endpoints=frozenset({"responses", "messages"}))
    speech = channel(3, models="gpt-4.1", endpoints=frozenset({"speech"}))
    gemini = channel(4, models="gpt-4o-mini", dialect=Dialect.GEMINI)
    made = catalog((chat, both, speech, gemini))
    served = {wire: made.channels_serving("default", "gpt-4o", wire) for wire in Wire}
    assert served == {
        Wire.CHAT: (chat,),
        Wire.MESSAGES: (both,),
        Wire.RESPONSES: (both,),
        Wire.COMPLETIONS: (chat,),
        Wire.GEMINI: (chat,),
    }
    assert made.channels_serving("default", "gpt-4.1", Wire.CHAT) == ()
    for wire in (Wire.GEMINI, Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES):
        assert made.channels_serving("default", "gpt-4o-mini", wire) == (gemini,)
    assert made.channels_serving("default", "gpt-4o-mini", Wire.COMPLETIONS) == ()
    assert [spoken(chat, wire) for wire in (Wire.CHAT, Wire.MESSAGES)] == [Wire.CHAT, Wire.CHAT]
    assert spoken(both, Wire.RESPONSES) is Wire.RESPONSES
    assert spoken(both, Wire.CHAT) is Wire.MESSAGES
    with pytest.raises(AssertionError, match="no form of conversation"):
        spoken(speech, Wire.CHAT)


def test_channels_are_found_by_any_endpoint_they_serve() -> None:
    low = channel(1, models="gpt-4o")
    high = channel(2, models="gpt-4o", priority=5, endpoints=frozenset({"speech"}))
    made = catalog((low, high))
    assert made.channels_for_endpoint("default", "gpt-4o", "speech") == (high, low)
    assert made.channels_for_endpoint("default", "gpt-4o", "embeddings") == (low,)
    assert made.channels_for_endpoint("default", "gpt-4o", "realtime") == ()
    assert made.channels_for_endpoint("cheap", "gpt-4o", "speech") == ()
    assert made.models_for("default") == (MODELS[0],)


def test_groups_and_models_follow_enabled_channels() -> None:
    made = catalog(
        (
            channel(1, models="gpt-4o gpt-4.1 not-in-catalog", groups="default unknown"),
            channel(2, models="gpt-4o", groups="cheap"),
            channel(3, models="gpt-4o-mini", groups="cheap", enabled=False),
        )
    )
    assert made.groups_with("gpt-4o") == ("cheap", "default")
    assert made.groups_with("gpt-4o-mini") == ()
    assert made.groups_with("not-in-catalog") == ()
    assert [model.name for model in made.models_for("default")] == ["gpt-4.1", "gpt-4o"]
    assert [model.name for model in made.models_for("cheap")] == ["gpt-4o"]
    assert made.models_for("unknown") == ()


def test_a_key_overrides_its_plan_for_itself_only() -> None:
    made = catalog(keys=(key(1), key(2), key(3, requests=50, concurrency=1), key(4, user_id=2)))
    free = RateLimits(5, 10_000, 2)
    assert made.limits_of(made.keys_by_id[1]) == EffectiveLimits(free, free)
    assert made.limits_of(made.keys_by_id[2]) is made.limits_of(made.keys_by_id[1])
    own = RateLimits(50, 10_000, 1)
    assert made.limits_of(made.keys_by_id[3]) == EffectiveLimits(own, free)
    assert made.limits_of(made.keys_by_id[4]) == EffectiveLimits()
    with pytest.raises(KeyError):
        made.limits_of(key(9))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: build_catalog(1, users=[User(1, "ada", "gone")]),
            "user 'ada' has plan 'gone', which does not exist",
        ),
        (lambda: catalog(keys=(key(1, user_id=9),)), "belongs to user 9, which does not exist"),
        (lambda: catalog(keys=(key(1, group="gone"),)), "is in group 'gone', which does not exist"),
        (lambda: catalog(keys=(key(1, requests=0),)), "requests per minute must be at least 1"),
    ],
)
def test_rows_that_name_nothing_are_refused(build: Callable[[], Catalog], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_key_is_known_by_every_secret_of_its_own() -> None:
    ours = key(1)
    other = replace(ours, digest=b"old", expires_at=5.0)
    made = build_catalog(
        7, users=[User(1, "ada", "free")], plans=[Plan("free")], groups=[Group("default")],
        keys=[ours], secrets=[other],
    )  # fmt: skip
    assert (made.key(ours.digest), made.key(b"old")) == (ours, other)
    assert made.keys_by_id == {1: ours}
    assert made.limits_of(other) == made.limits_of(ours)


PRICE = Price("gpt-4o", 1, input=10**9, output=2 * 10**9)


def test_a_route_has_what_every_call_on_it_needs_and_is_remembered() -> None:
    chat = channel(1, models="gpt-4o")
    made = catalog((chat,))
    group, model = made.groups["default"], made.models["gpt-4o"]
    own = made.remember_route(group, model, PRICE, Wire.CHAT)
    assert (own.group, own.model, own.price, own.channels) == (group, model, PRICE, (chat,))
    assert own.native
    assert own.line == (0, 1_000, 2_000, 1)
    other = made.remember_route(group, model, PRICE, Wire.MESSAGES)
    assert (other.native, other.channels) == (False, (chat,))
    assert made.routes == {
        ("default", "gpt-4o", Wire.CHAT): own,
        ("default", "gpt-4o", Wire.MESSAGES): other,
    }


def test_what_a_snapshot_remembers_ends_with_it() -> None:
    made = catalog((channel(1, models="gpt-4o"),), (key(1),))
    made.remember_route(made.groups["default"], made.models["gpt-4o"], PRICE, Wire.CHAT)
    made.unbound[bytes([1])] = key(1)
    for after in (renew_catalog(made, 8), replace(made, version=8)):
        assert after.routes == {}
        assert after.unbound == {}
    assert made == replace(made), "what was asked of it makes it no other"


def test_some_keys_and_users_anew_make_the_catalog_that_all_of_them_would() -> None:
    channels = (channel(1, models="gpt-4o"),)
    first, second, third = key(1), key(2, user_id=2, requests=9), key(3)
    lent = replace(first, digest=b"lent", expires_at=5.0)
    before = build_catalog(
        7,
        users=[User(1, "ada", "free"), User(2, "bob", "open")],
        plans=[Plan("free", 5, 10_000, 2), Plan("open")],
        groups=[Group("default"), Group("cheap")],
        models=MODELS,
        channels=channels,
        keys=(first, second, third),
        secrets=(lent,),
    )
    assert before.keys_changed is None
    rotated, added = replace(first, digest=b"other"), key(4, user_id=3, group="cheap")
    users = [User(2, "bob", "free"), User(3, "cy", "open")]
    after = renew_catalog(before, 9, users=users, key_ids=(1, 3, 4), keys=(rotated, added))
    whole = build_catalog(
        9,
        users=[User(1, "ada", "free"), *users],
        plans=before.plans.values(),
        groups=before.groups.values(),
        models=MODELS,
        channels=channels,
        keys=(rotated, second, added),
    )
    assert after == whole
    assert after.keys_changed == frozenset({1, 3, 4})
    assert after.limits_by_key[2].user.concurrency == 2, "whose plan is another now"
    assert after.channels_by_route is before.channels_by_route
    assert [before.key(one.digest) for one in (first, lent, third)] == [first, lent, third]
    again = renew_catalog(after, 10, key_ids=(4,), keys=(added,), secrets=(lent,))
    assert again.key(b"lent") == lent
    assert again.keys_changed == frozenset({4})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"users": [User(1, "ada", "gone")]}, "user 'ada' has plan 'gone'"),
        ({"key_ids": (9,), "keys": (key(9, user_id=9),)}, "belongs to user 9"),
        ({"key_ids": (9,), "keys": (key(9, group="gone"),)}, "is in group 'gone'"),
    ],
)
def test_what_is_anew_has_to_fit_what_is_there(rows: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        renew_catalog(catalog(), 8, **rows)  # type: ignore[arg-type] # one of several
