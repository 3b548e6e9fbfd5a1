from dataclasses import replace
from typing import Any

import pytest

from proxy.core.catalog_faults import faults
from proxy.core.entities import ENDPOINTS, Channel, Dialect, Formula, Model, Price, Tier

OPENAI = Channel(0, "o", Dialect.OPENAI, "http://h/v1", (), {"m": "up"}, frozenset())
ANTHROPIC = replace(OPENAI, name="a", dialect=Dialect.ANTHROPIC, endpoints=frozenset())
PAID = {"input": 5}


def found(
    endpoints: set[str] | None, price: dict[str, Any] | None, *channels: Channel
) -> list[str]:
    meant = None if endpoints is None else frozenset(endpoints)
    made = None if price is None else Price("m", 1, **price)
    model = Model("m", 1_000, 100, price=made, endpoints=meant)
    return [fault.reason for fault in faults([model], channels or (OPENAI,))]


@pytest.mark.parametrize(
    ("endpoints", "price"),
    [
        (None, None),
        (None, {"image": 5}),
        (set(), PAID),
        ({"chat", "messages", "responses"}, PAID),
        ({"images_generations", "images_edits"}, {"image_variants": {"hd": 1}}),
        ({"images_generations"}, {"output": 1}),
        ({"images_generations"}, {"call": 1}),
        ({"images_generations"}, {}),
        ({"speech"}, {"character": 1}),
        ({"transcriptions", "translations"}, {"audio_hour": 1}),
        ({"transcriptions"}, {"audio_input": 1}),
        ({"embeddings"}, PAID),
        ({"embeddings"}, {"formula": Formula.RATIO, "model_ratio": 1}),
        ({"rerank"}, {"search": 1}),
        ({"chat"}, {"tiers": (Tier(999),), "output": 1}),
    ],
)
def test_what_is_sound(endpoints: set[str] | None, price: dict[str, Any] | None) -> None:
    assert found(endpoints, price) == []


def test_an_endpoint_that_no_channel_serves() -> None:
    said = "model 'm' is for {}, which no channel of it serves (a)"
    assert found({"embeddings", "messages"}, PAID, ANTHROPIC) == [said.format("embeddings")]
    assert found({"realtime"}, PAID, ANTHROPIC) == [said.format("realtime")]
    assert found({"gemini_stream", "chat"}, PAID, ANTHROPIC) in (
        [],
        [said.format("gemini_stream")],
    ), "by translation, if there is one"
    both = [ANTHROPIC, replace(OPENAI, enabled=False)]
    assert found({"embeddings"}, PAID, *both) == [], "one that is off may come back"
    assert found({"embeddings"}, PAID, replace(ANTHROPIC, models={})) == [], "said elsewhere"


@pytest.mark.parametrize(
    ("endpoint", "price", "words"),
    [
        ("images_generations", {"input": 5}, "would be free"),
        ("speech", {"input": 5}, "would be free"),
        ("transcriptions", {"output": 5}, "would be free"),
        ("embeddings", {"output": 5}, "would be free"),
        ("rerank", {"output": 5}, "would be free"),
        ("chat", {"search": 5}, "would be free"),
        ("chat", {"input": 5, "image": 5}, "has a price of image, and none"),
        ("chat", {"input": 5, "image_variants": {"hd": 1}}, "has a price of image_variants, and"),
        ("embeddings", {"input": 5, "character": 5}, "has a price of character, and none"),
        ("chat", {"input": 5, "audio_hour": 5}, "has a price of audio_minute, and none"),
        ("chat", {"input": 5, "tiers": (Tier(1_000, input=6),)}, "is never above that"),
    ],
)
def test_a_price_that_does_not_fit(endpoint: str, price: dict[str, Any], words: str) -> None:
    (said,) = found({endpoint}, price)
    assert words in said
    assert said.startswith("model 'm' ")


def test_a_remedy_is_in_the_words_of_a_document() -> None:
    model = Model("m", 1, 1, price=Price("m", 1, input=1), endpoints=frozenset({"speech"}))
    (fault,) = faults([model], [OPENAI])
    assert fault.remedy == "price audio_minute or audio_output or character or output, or call"


def test_every_endpoint_may_be_named_with_any_price() -> None:
    every = replace(OPENAI, endpoints=ENDPOINTS)
    assert found(set(ENDPOINTS), {"call": 1}, every) == []
