"""What a worker has learnt of its channels, and when it forgets."""

from proxy.core.breaker import FAILURES_MIN, Outcome
from proxy.core.catalog import Catalog, build_catalog
from proxy.core.entities import Channel, ChannelKey, Dialect, UsageOption
from proxy.edge.health import ChannelHealth


def channel(number: int = 1, *, keys: int = 2, omit: bool = False) -> Channel:
    return Channel(
        id=number,
        name=f"c{number}",
        dialect=Dialect.OPENAI,
        base_url="https://x.test/v1",
        keys=tuple(ChannelKey(position, f"secret-{position}") for position in range(keys)),
        models={},
        groups=frozenset(),
        usage_option=UsageOption.OMIT if omit else UsageOption.SEND,
    )


def catalog(*channels: Channel) -> Catalog:
    return build_catalog(1, channels=channels)


def test_a_channel_is_usable_until_its_breaker_opens() -> None:
    health, one = ChannelHealth(), channel()
    assert health.usable(one, 0.0)
    for _ in range(FAILURES_MIN):
        permit = health.of(one).breaker.acquire(0.0)
        assert permit is not None
        health.of(one).breaker.report(permit, Outcome.FAILURE, 0.0)
    assert not health.usable(one, 0.1)
    assert health.usable(one, 1_000.0)
    assert list(health.breakers(catalog(one))) == [("c1", 2)]
    assert list(health.breakers(catalog(channel(2)))) == []


def test_a_channel_is_usable_while_a_key_is_awake() -> None:
    health, one = ChannelHealth(), channel()
    for key in one.keys:
        assert health.usable(one, 0.0)
        health.of(one).keys.cool(key, 401, None, 0.0)
    assert not health.usable(one, 1.0)


def test_resting_keys_are_counted_by_channel() -> None:
    health, one = ChannelHealth(), channel()
    assert list(health.resting(catalog(one), 0.0)) == []
    health.of(one).keys.cool(one.keys[0], 401, None, 0.0)
    assert list(health.resting(catalog(one), 1.0)) == [("c1", 1)]
    assert list(health.resting(catalog(one), 1_000.0)) == []
    assert list(health.resting(catalog(channel(2)), 1.0)) == []


def test_an_option_is_left_out_by_setting_or_by_experience() -> None:
    health, one = ChannelHealth(), channel()
    assert not health.omits_usage(one)
    assert health.omits_usage(channel(2, omit=True))
    health.learn_omit(one)
    assert health.omits_usage(one)


def test_a_new_catalog_keeps_what_is_known_of_the_same_and_forgets_the_gone() -> None:
    health, one, two = ChannelHealth(), channel(1), channel(2)
    for each in (one, two):
        assert not health.of(each).omits_usage
        health.learn_omit(each)
        health.of(each).keys.cool(each.keys[0], 401, None, 0.0)
    first_breaker = health.of(one).breaker
    health.adopt(catalog(channel(1, keys=1)))
    assert not health.usable(one, 1.0), "its one key still rests"
    assert health.of(one).breaker is first_breaker
    assert health.omits_usage(one)
    assert not health.omits_usage(two)
    assert health.of(two).keys.ready(1.0)
