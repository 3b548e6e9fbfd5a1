"""The nouns: their derived facts, what they never show, and that they never change."""

import dataclasses

import msgspec
import pytest

from proxy.core import entities
from proxy.core.entities import (
    DIALECT_ENDPOINTS,
    ENDPOINTS,
    MULTIPLIER_ONE,
    WIRE_ENDPOINTS,
    Channel,
    ChannelKey,
    Dialect,
    Formula,
    Group,
    Key,
    Model,
    Plan,
    Price,
    Usage,
    UsageSource,
    Verdict,
    Wire,
)

RECORDS = [
    value
    for value in vars(entities).values()
    if dataclasses.is_dataclass(value) and isinstance(value, type)
]
STRUCTS = [
    value
    for value in vars(entities).values()
    if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct
]


def test_input_kinds_exclude_each_other_and_add_up() -> None:
    usage = Usage(
        input_uncached=1, cache_read=20, cache_write_5m=300, cache_write_1h=4000, output=5, images=6
    )
    assert usage.input_total == usage.prompt_total == 4321
    assert usage.completion_total == 5
    other = Usage(
        image_input=1, image_output=2, cache_read_audio=30, cache_read_image=400,
        audio_input=5000, audio_output=60,
    )  # fmt: skip
    assert (other.input_total, other.prompt_total, other.completion_total) == (0, 5431, 62)
    assert (other.cached_total, usage.cached_total) == (430, 20)


def test_one_call_that_used_nothing_is_still_one_call() -> None:
    assert Usage().calls == 1
    assert Usage().input_total == 0


def test_the_verdicts_are_the_published_ones() -> None:
    assert {verdict.value for verdict in Verdict} == {
        "complete", "client_gone", "upstream_truncated", "upstream_error", "timeout",
        "cut_for_balance", "cut_for_max_cost", "cut_by_shutdown", "cut_by_revocation",
        "rejected", "internal_error",
    }  # fmt: skip


def test_sources_stand_in_falling_order_of_truth() -> None:
    order = (UsageSource.REPORTED, UsageSource.COUNTED, UsageSource.ESTIMATED, UsageSource.NONE)
    assert tuple(UsageSource)[:4] == order
    assert tuple(UsageSource)[4:] == (UsageSource.CACHED,), "of whatever source it was then"


def test_neutral_defaults_neither_raise_nor_lower_a_charge() -> None:
    assert Group(name="g").multiplier == MULTIPLIER_ONE
    price = Price(model="m", version=1)
    assert price.formula is Formula.TOKENS
    assert (price.completion_ratio, price.cache_ratio) == (MULTIPLIER_ONE, MULTIPLIER_ONE)
    assert Model(name="m", context_window=1, output_tokens_max=1).price is None


def test_no_secret_and_no_digest_shows_in_a_log() -> None:
    assert "hush" not in repr(ChannelKey(id=1, secret="hush"))
    key = Key(
        id=1, user_id=1, digest=b"hush", name="k", group="g", prefix="sk-ab", last4="wxyz"
    )  # fmt: skip
    assert "hush" not in repr(key)
    assert "sk-ab" in repr(key)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_is_frozen_and_slotted(record: type) -> None:
    parameters = getattr(record, "__dataclass_params__")  # noqa: B009 - not in the stub
    assert parameters.frozen
    assert "__dict__" not in dir(record)


@pytest.mark.parametrize("record", STRUCTS, ids=lambda record: record.__name__)
def test_every_record_of_a_call_is_frozen_and_leaves_nothing_to_collect(record: type) -> None:
    config = getattr(record, "__struct_config__")  # noqa: B009 - not in the stub
    assert config.frozen
    assert not config.gc
    assert "__dict__" not in dir(record)


def test_a_price_is_found_by_its_name_and_compared_by_its_figures() -> None:
    price = Price(model="m", version=1, input=5)
    dearer = dataclasses.replace(price, input=6)
    assert hash(price) == hash(dearer)
    assert {price: "cheap"}.get(dearer) is None
    assert {price: "cheap"}[dataclasses.replace(price)] == "cheap"


def test_a_channel_serves_what_its_dialect_has_unless_it_says_otherwise() -> None:
    channel = Channel(1, "c", Dialect.ANTHROPIC, "http://h/v1", (), {}, frozenset())
    assert channel.endpoints == {"messages", "count_tokens"}
    native = dataclasses.replace(channel, endpoints=frozenset({"responses"}))
    assert native.endpoints == {"responses"}
    assert DIALECT_ENDPOINTS.keys() >= set(Dialect)
    assert {"responses", "realtime", "chat", "gemini_stream"} <= ENDPOINTS
    assert set(WIRE_ENDPOINTS.values()) <= ENDPOINTS
    assert WIRE_ENDPOINTS.keys() == set(Wire)


def test_a_plan_with_a_fee_or_a_credit_has_months() -> None:
    assert not Plan("free").monthly
    assert Plan("paid", monthly_fee=1).monthly
    assert Plan("gift", monthly_credit=1).monthly
