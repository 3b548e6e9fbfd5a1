"""What a call may cost before it starts."""

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from proxy.core.catalog import Catalog, build_catalog
from proxy.core.entities import (
    Channel,
    ChannelKey,
    Dialect,
    Group,
    Key,
    Model,
    Plan,
    Price,
    Tier,
    User,
)
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.requests import parse_call
from proxy.core.searches import SEARCHES_HELD, SEARCHES_MAX
from proxy.core.translation.conversation import Wire
from proxy.edge.offer import Offer, limit_cost, limit_field, make_offer, route_of
from tests.edge.harness import body

PRICE = Price("m", 1, input=10**9, output=2 * 10**9)
KEY = Key(1, 1, b"k", "first", "default", "sk-a", "wxyz")


def catalog(group: Group | None = None, **model: Any) -> Catalog:
    size: dict[str, Any] = {
        "context_window": 100_000,
        "output_tokens_max": 2_000,
        "price": PRICE,
    } | model
    channel = Channel(
        id=1,
        name="main",
        dialect=Dialect.OPENAI,
        base_url="https://x.test",
        keys=(ChannelKey(1, "secret"),),
        models={"m": "up"},
        groups=frozenset({"default"}),
    )
    return build_catalog(
        1,
        users=[User(1, "ann", "free")],
        plans=[Plan("free")],
        groups=[group or Group("default")],
        models=[Model("m", **size)],
        channels=[channel],
        keys=[KEY],
    )


def offer(known: Catalog | None = None, *, slice_tokens: int = 100, **fields: Any) -> Offer:
    known = known or catalog()
    request = parse_call(body(**fields), Dialect.OPENAI)
    return make_offer(KEY, route_of(known, KEY, request), request, slice_tokens)


@pytest.mark.parametrize(
    ("endpoints", "wire", "remedy"),
    [
        ({"chat"}, Wire.MESSAGES, "does not work with /v1/messages. Use POST /v1/chat/completions"),
        ({"chat", "messages"}, Wire.RESPONSES, "/v1/chat/completions or POST /v1/messages"),
        ({"messages"}, Wire.CHAT, "Use POST /v1/messages, or another model"),
        ({"gemini_stream"}, Wire.CHAT, "does not work with /v1/chat/completions"),
        ({"realtime"}, Wire.CHAT, "Use another model"),
    ],
)
def test_a_model_is_used_where_its_operator_says(
    endpoints: set[str], wire: Wire, remedy: str
) -> None:
    known = catalog(endpoints=frozenset(endpoints))
    asked = {"input": "hi"} if wire is Wire.RESPONSES else {"messages": [{}], "max_tokens": 5}
    dialect = Dialect.ANTHROPIC if wire is Wire.MESSAGES else Dialect.OPENAI
    request = parse_call(json.dumps({"model": "m"} | asked).encode(), dialect, wire)
    with pytest.raises(RelayError) as raised:
        route_of(known, KEY, request)
    assert raised.value.code is ErrorCode.MODEL_ENDPOINT_MISMATCH
    assert remedy in raised.value.message
    chat = parse_call(body(), Dialect.OPENAI)
    if "chat" in endpoints:
        assert route_of(known, KEY, chat).model.name == "m"


def test_a_form_that_no_channel_serves_is_a_mismatch_and_a_wrong_name_is_not() -> None:
    request = parse_call(b'{"model":"m","prompt":"hi"}', Dialect.OPENAI, Wire.COMPLETIONS)
    assert route_of(catalog(), KEY, request).model.name == "m"
    only_chat = catalog()
    (channel,) = only_chat.channels.values()
    known = build_catalog(
        1,
        users=only_chat.users.values(),
        plans=only_chat.plans.values(),
        groups=only_chat.groups.values(),
        models=only_chat.models.values(),
        channels=[replace(channel, endpoints=frozenset({"chat"}))],
        keys=[KEY],
    )
    with pytest.raises(RelayError, match="Use POST /v1/chat/completions"):
        route_of(known, KEY, request)
    wrong = parse_call(b'{"model":"mm","prompt":"hi"}', Dialect.OPENAI, Wire.COMPLETIONS)
    with pytest.raises(RelayError) as raised:
        route_of(known, KEY, wrong)
    assert raised.value.code is ErrorCode.MODEL_NOT_FOUND


def test_a_stream_holds_its_prompt_and_a_slice() -> None:
    made = offer()
    prompt = made.request.input_tokens_estimate
    assert made.hold == (prompt + 2 * 100) * 1_000
    assert made.ceiling == (prompt + 2 * 2_000) * 1_000
    assert made.tokens == prompt + 100
    assert not made.strict
    assert made.tokens_affordable(prompt, made.hold) == 100
    assert made.quote(prompt, 100) == made.hold


@pytest.mark.parametrize("more", [{"stream": False}, {"max_tokens": 50}])
def test_a_plain_or_short_call_holds_its_ceiling(more: dict[str, Any]) -> None:
    made = offer(**more)
    assert made.hold == made.ceiling


def test_hidden_output_holds_its_ceiling_and_trusts_no_bound_of_the_prompt() -> None:
    made = offer(catalog(hidden_output=True))
    assert made.strict
    assert made.hold == made.ceiling
    assert made.terms.input_tokens_max is None
    assert offer().terms.input_tokens_max == 100_000


SEARCH = {"type": "web_search_20250305", "name": "web_search"}


@pytest.mark.parametrize(
    ("more", "held", "most"),
    [
        ({}, 0, SEARCHES_MAX),
        ({"tools": [SEARCH]}, SEARCHES_HELD, SEARCHES_MAX),
        ({"tools": [SEARCH | {"max_uses": 3}]}, 3, 3),
        ({"web_search_options": {}}, SEARCHES_HELD, SEARCHES_MAX),
    ],
)
def test_searches_that_have_a_price_are_held_for(
    more: dict[str, Any], held: int, most: int
) -> None:
    free = offer(**more)
    made = offer(catalog(price=replace(PRICE, search=10_000_000)), **more)
    assert (made.searches, made.terms.searches_max) == (held, most)
    assert made.ceiling == free.ceiling + held * 10_000_000
    assert made.strict is bool(held), "what a search finds is billed unseen"
    prompt = made.request.input_tokens_estimate
    assert made.quote(prompt, 2_000) == made.ceiling
    assert made.tokens_affordable(prompt, made.ceiling) == 2_000
    assert free.searches == 0


def test_a_long_prompt_holds_at_the_prices_of_its_tier() -> None:
    tiers = (Tier(10, input=4 * 10**9, output=8 * 10**9),)
    assert offer(catalog(price=replace(PRICE, tiers=tiers))).hold == 4 * offer().hold


def test_a_group_lowers_the_limit_and_several_choices_multiply_it() -> None:
    made = offer(catalog(Group("default", output_tokens_max=300)), n=2)
    assert (made.output_limit, made.output_tokens_max) == (300, 600)
    assert offer(max_tokens=10, n=3).output_tokens_max == 30
    assert (
        offer(catalog(Group("default", output_tokens_max=300)), max_tokens=10).output_limit is None
    )


def test_a_multiplier_is_in_the_hold() -> None:
    assert offer(catalog(Group("default", multiplier=2_000_000))).hold == 2 * offer().hold


def test_a_model_that_cannot_be_called_says_why() -> None:
    request = parse_call(body(max_tokens=5), Dialect.OPENAI)
    with pytest.raises(RelayError) as caught:
        route_of(catalog(price=None), KEY, request)
    assert caught.value.code is ErrorCode.MODEL_NOT_PRICED
    assert caught.value.param == "model"
    request = parse_call(body(model="nothing"), Dialect.OPENAI)
    with pytest.raises(RelayError, match="nothing"):
        route_of(catalog(), KEY, request)


def test_a_route_is_found_once_and_is_no_way_round_what_a_key_may_call() -> None:
    known, request = catalog(), parse_call(body(), Dialect.OPENAI)
    found = route_of(known, KEY, request)
    assert route_of(known, KEY, request) is found
    assert route_of(known, replace(KEY, id=2, models=frozenset({"m"})), request) is found
    with pytest.raises(RelayError) as raised:
        route_of(known, replace(KEY, models=frozenset({"other"})), request)
    assert raised.value.code is ErrorCode.MODEL_NOT_ALLOWED
    assert route_of(catalog(), KEY, request) is not found, "a snapshot of its own"
    for name, dialect in (("nothing", Dialect.OPENAI), ("m", Dialect.ANTHROPIC)):
        other = parse_call(body(model=name, max_tokens=5), dialect)
        with contextlib.suppress(RelayError):
            assert not route_of(known, KEY, other).native
    assert list(known.routes) == [("default", "m", Wire.CHAT), ("default", "m", Wire.MESSAGES)]


@given(
    st.integers(0, 10**12),
    st.integers(0, 10**12),
    st.integers(0, 10**7),
    st.integers(0, 10**9),
    st.none() | st.integers(1, 10**6),
    st.integers(1, 9_999),
    st.booleans(),
)
def test_an_offer_is_the_same_however_it_is_quoted(
    given_price: int, made_price: int, call: int, multiplier: int, limit: int | None,
    slice_tokens: int, stream: bool,
) -> None:  # fmt: skip
    price = Price("m", 1, input=given_price, output=made_price, call=call)
    known = catalog(Group("default", multiplier=multiplier), price=price)
    more: dict[str, Any] = {} if limit is None else {"max_tokens": limit}
    request = parse_call(body(stream=stream, **more), Dialect.OPENAI)
    route = route_of(known, KEY, request)
    offers = [
        make_offer(KEY, one, request, slice_tokens)
        for one in (route, structs.replace(route, line=None))
    ]
    assert structs.replace(offers[0], line=None) == offers[1]
    for held in (0, offers[0].hold, offers[0].ceiling):
        estimate = request.input_tokens_estimate
        assert len({one.tokens_affordable(estimate, held) for one in offers}) == 1
    assert offers[0].hold <= offers[0].ceiling


def test_channels_of_the_other_dialect_serve_where_there_are_none_of_the_callers() -> None:
    known, request = catalog(), parse_call(body(max_tokens=5), Dialect.ANTHROPIC)
    made = make_offer(KEY, route_of(known, KEY, request), request, 100)
    assert [one.dialect for one in made.channels] == [Dialect.OPENAI]


def test_a_limit_of_cost_bounds_hold_and_ceiling_but_never_the_terms() -> None:
    made = offer(max_tokens=1_000)
    limited = limit_cost(made, made.hold - 1)
    assert (limited.hold, limited.ceiling, limited.cost_max) == (made.hold - 1,) * 3
    assert limited.terms == made.terms
    wide = limit_cost(made, made.ceiling + 1)
    assert (wide.hold, wide.ceiling, wide.cost_max) == (made.hold, made.ceiling, made.ceiling + 1)


@pytest.mark.parametrize("more", [{"stream": False}, {"stream": True, "reasoning_effort": "low"}])
def test_what_cannot_be_cut_must_fit_whole_and_is_told_what_would(more: dict[str, Any]) -> None:
    made = offer(max_tokens=100, **more)
    assert limit_cost(made, made.ceiling).cost_max == made.ceiling
    prompt = made.request.input_tokens_estimate
    with pytest.raises(RelayError, match="`max_tokens` of at most 60") as raised:
        limit_cost(made, made.quote(prompt, 60))
    assert (raised.value.code, raised.value.param) == (ErrorCode.MAX_COST_EXCEEDED, "x-max-cost")
    assert "0.000" in raised.value.message


def test_a_stream_needs_its_prompt_and_one_token() -> None:
    made = offer(n=3)
    least = made.quote(made.request.input_tokens_estimate, 3)
    assert limit_cost(made, least).hold == least
    with pytest.raises(RelayError, match="Raise the limit"):
        limit_cost(made, least - 1)


def test_a_limit_is_named_as_the_body_names_it() -> None:
    chat = parse_call(body(), Dialect.OPENAI)
    assert limit_field(chat) == "max_tokens"
    newer = parse_call(body(max_completion_tokens=5), Dialect.OPENAI)
    assert limit_field(newer) == "max_completion_tokens"
    asked = parse_call(b'{"model":"m","input":"hi"}', Dialect.OPENAI, Wire.RESPONSES)
    assert limit_field(asked) == "max_output_tokens"
