from proxy.core.catalog import Catalog, build_catalog
from proxy.core.entities import Channel, Dialect, Group, Model, Price
from proxy.core.urls import Endpoint
from proxy.edge.console.market_view import Offer, offers
from proxy.storage.reports.market import Health, Measured

NOTHING = Measured({}, whole=True)
PRICE = Price("m", 1, input=10**9, cache_read=10**9, output=2 * 10**9)


def catalog() -> Catalog:
    chat = Channel(
        1, "a", Dialect.OPENAI, "https://a", (), {"m": "x", "embed": "y"}, frozenset({"g"})
    )
    native = Channel(2, "b", Dialect.ANTHROPIC, "https://b", (), {"m": "x"}, frozenset({"h"}))
    return build_catalog(
        1,
        groups=[Group("g"), Group("h", 1_500_000), Group("empty")],
        models=[
            Model("m", 10, 5, price=PRICE),
            Model("embed", 10, 5, endpoints=frozenset({"embeddings"})),
        ],
        channels=[chat, native],
    )


def shown(found: list[Offer]) -> list[tuple[str, str]]:
    return [(one.model.name, one.group.name) for one in found]


def test_offers_are_by_model_then_group_and_filtered() -> None:
    made = catalog()
    assert shown(offers(made, NOTHING, NOTHING)) == [("embed", "g"), ("m", "g"), ("m", "h")]
    assert shown(offers(made, NOTHING, NOTHING, words="EM b")) == [("embed", "g")]
    assert shown(offers(made, NOTHING, NOTHING, group="h")) == [("m", "h")]
    assert shown(offers(made, NOTHING, NOTHING, endpoint="embeddings")) == [("embed", "g")]
    assert offers(made, NOTHING, NOTHING, group="none") == []


def test_a_price_has_the_multiplier_in_it_and_none_is_none() -> None:
    embed, at_g, at_h = offers(catalog(), NOTHING, NOTHING)
    assert (at_g.amount("input"), at_h.amount("output"), at_h.multiplier) == ("1.00", "3.00", "1.5")
    assert (embed.price, embed.amount("input"), at_g.amount("cache_read")) == (None, None, None)


def test_it_is_said_how_a_model_is_called() -> None:
    embed, at_g, at_h = offers(catalog(), NOTHING, NOTHING)
    assert [(way.endpoint, way.translated) for way in embed.ways] == [(Endpoint.EMBEDDINGS, False)]
    assert embed.dialects == ["OpenAI"]
    translated = {way.endpoint for way in at_g.ways if way.translated}
    assert Endpoint.MESSAGES in translated
    assert Endpoint.CHAT not in translated
    assert Endpoint.CHAT in {way.endpoint for way in at_h.ways if way.translated}
    assert at_h.dialects == ["OpenAI", "Anthropic", "Gemini"]


def test_health_is_of_the_last_hour_or_else_the_day() -> None:
    good, bad = Health(9, 9, 1.0, 2.0), Health(9, 1, None, None)
    hour = Measured({("g", "m"): good}, whole=True)
    day = Measured({("g", "m"): bad, ("h", "m"): bad}, whole=True)
    _, at_g, at_h = offers(catalog(), hour, day)
    assert (at_g.lately, at_g.day, at_h.hour, at_h.lately) == (good, bad, None, bad)
