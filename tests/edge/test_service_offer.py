"""What a service call may cost before it starts, and that no kind of work is free by mistake."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.core.catalog import Catalog, build_catalog
from proxy.core.entities import (
    Channel,
    ChannelKey,
    Dialect,
    Formula,
    Group,
    Key,
    Model,
    Plan,
    Price,
    User,
)
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.services.endpoints import open_request
from proxy.core.services.service import ServiceRequest
from proxy.core.urls import Endpoint
from proxy.edge import service_offer
from tests.edge.services import asked

MILLION = 10**6
KEY = Key(1, 1, b"digest", "first", "default", "sk-a", "last")
PRICED = Price("m", 1, input=1_000 * MILLION, output=2_000 * MILLION)


def catalog(model: Model, **changes: object) -> Catalog:
    channel = Channel(
        id=1, name="main", dialect=Dialect.OPENAI, base_url="http://127.0.0.1:9/v1",
        keys=(ChannelKey(1, "sk"),), models={"m": "up-m"}, groups=frozenset({"default"}),
    )  # fmt: skip
    return build_catalog(
        1,
        users=[User(1, "ann", "free")],
        plans=[Plan("free")],
        groups=[Group("default", multiplier=2 * MILLION)],
        models=[model],
        channels=[replace(channel, **changes)],  # type: ignore[arg-type]
        keys=[KEY],
    )


def model(price: Price | None = PRICED, endpoints: frozenset[str] | None = None) -> Model:
    return Model("m", 1_000, 100, price=price, endpoints=endpoints)


def request(endpoint: Endpoint, **fields: Any) -> ServiceRequest:
    reader = open_request(endpoint, "application/json")
    reader.feed(asked(**fields))
    return reader.finish()


EMBED = request(Endpoint.EMBEDDINGS, input="x" * 10)
DRAW = request(Endpoint.IMAGES_GENERATIONS, prompt="x", n=2)
DALL_E = request(Endpoint.IMAGES_GENERATIONS, model="dall-e-3", prompt="x", n=2, size="1024x1024")
SPEAK = request(Endpoint.SPEECH, input="hello", voice="x")
RANK = request(Endpoint.RERANK, query="x", documents=["a", "b"])
COUNT = request(Endpoint.COUNT_TOKENS, messages=[{}])


def test_a_model_is_callable_where_a_channel_serves_it_and_its_operator_lets_it() -> None:
    found = service_offer.callable_at(catalog(model()), KEY, "m", Endpoint.EMBEDDINGS)
    assert found.name == "m"
    for shut in (
        catalog(model(), endpoints=frozenset({"chat"})),
        catalog(model(endpoints=frozenset({"chat"}))),
    ):
        with pytest.raises(RelayError) as refused:
            service_offer.callable_at(shut, KEY, "m", Endpoint.EMBEDDINGS)
        assert refused.value.code is ErrorCode.MODEL_ENDPOINT_MISMATCH
        assert "/v1/embeddings. Use POST /v1/chat/completions" in refused.value.message
        assert refused.value.status == 400
    with pytest.raises(RelayError) as nowhere:
        service_offer.callable_at(
            catalog(model(endpoints=frozenset({"realtime"}))), KEY, "m", Endpoint.EMBEDDINGS
        )
    assert nowhere.value.message.endswith("Use another model.")


def test_who_may_not_use_a_model_is_told_as_everywhere() -> None:
    with pytest.raises(RelayError) as unknown:
        service_offer.callable_at(catalog(model()), KEY, "n", Endpoint.EMBEDDINGS)
    assert unknown.value.code is ErrorCode.MODEL_NOT_FOUND
    with pytest.raises(RelayError) as unpriced:
        service_offer.callable_at(catalog(model(None)), KEY, "m", Endpoint.EMBEDDINGS)
    assert unpriced.value.code is ErrorCode.MODEL_NOT_PRICED


def test_all_it_may_cost_is_held() -> None:
    made = service_offer.make_service_offer(
        catalog(model()), KEY, model(), EMBED, Endpoint.EMBEDDINGS
    )
    tokens = EMBED.usage_max.input_uncached
    assert (made.hold, made.ceiling) == (2 * 1_000 * tokens, made.hold)
    assert made.tokens == tokens
    assert [channel.name for channel in made.channels] == ["main"]
    assert made.remedy(5) is None


@pytest.mark.parametrize(
    ("asking", "price", "priced"),
    [
        (EMBED, Price("m", 1, input=1), True),
        (EMBED, Price("m", 1, output=1), False),
        (EMBED, Price("m", 1, call=1), True),
        (EMBED, Price("m", 1), True),
        (EMBED, Price("m", 1, formula=Formula.RATIO, model_ratio=1), True),
        (EMBED, Price("m", 1, formula=Formula.RATIO, model_ratio=0), True),
        (DRAW, Price("m", 1, input=1), False),
        (DRAW, Price("m", 1, image_output=1), True),
        (DRAW, Price("m", 1, image=1), True),
        (DRAW, Price("m", 1, character=1), False),
        (DALL_E, Price("m", 1, input=1, output=1), False),
        (DALL_E, Price("m", 1, image_variants={"1024x1024": 1}), True),
        (DALL_E, Price("m", 1, image_variants={"hd": 1}), False),
        (DALL_E, Price("m", 1, image_variants={"hd": 0}), True),
        (SPEAK, Price("m", 1, input=1), False),
        (SPEAK, Price("m", 1, character=1), True),
        (SPEAK, Price("m", 1, output=1), True),
        (RANK, Price("m", 1, search=1), True),
        (RANK, Price("m", 1, input=1), True),
        (RANK, Price("m", 1, image=1), False),
        (COUNT, Price("m", 1, image=1), True),
    ],
)
def test_what_the_price_is_silent_about_is_not_free(
    asking: ServiceRequest, price: Price, priced: bool
) -> None:
    assert service_offer.is_priced(asking, price) is priced
    endpoint = Endpoint(asking.endpoint)
    books = catalog(model(price))
    if priced:
        service_offer.make_service_offer(books, KEY, model(price), asking, endpoint)
        return
    with pytest.raises(RelayError) as refused:
        service_offer.make_service_offer(books, KEY, model(price), asking, endpoint)
    assert refused.value.code is ErrorCode.MODEL_NOT_PRICED


def test_a_callers_limit_binds_the_whole_call() -> None:
    made = service_offer.make_service_offer(
        catalog(model()), KEY, model(), EMBED, Endpoint.EMBEDDINGS
    )
    bound = service_offer.limit_service_cost(made, made.hold)
    assert (bound.cost_max, bound.hold) == (made.hold, made.hold)
    with pytest.raises(RelayError) as refused:
        service_offer.limit_service_cost(made, made.hold - 1)
    assert refused.value.code is ErrorCode.MAX_COST_EXCEEDED


def test_an_unpriced_model_is_a_broken_assumption() -> None:
    with pytest.raises(AssertionError, match="unpriced"):
        service_offer.make_service_offer(
            catalog(model(None)), KEY, model(None), EMBED, Endpoint.EMBEDDINGS
        )
