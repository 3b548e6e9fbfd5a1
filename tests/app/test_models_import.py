from typing import Any

from proxy.app.models_import import Listed, Status, plan, wanted
from proxy.storage.documents import read_document

KNOWN: dict[str, Any] = {
    "name": "known", "context_window": 1000, "output_tokens_max": 100, "hidden_output": True,
    "price": {"input": "1.00", "output": "2.00", "image": "0.5", "call": "0.1"},
}  # fmt: skip
BARE: dict[str, Any] = {"name": "bare", "context_window": 1000, "output_tokens_max": 100}
DOCUMENT: dict[str, Any] = {
    "version": 7,
    "plan": [],
    "group": [],
    "model": [KNOWN, BARE],
    "channel": [
        {"name": "c", "base_url": "https://a/v1", "models": {"known": "up"}},
        {"name": "d", "base_url": "https://b/v1", "models": {"other": "x"}},
    ],
}


def one(name: str, price: dict[str, Any] | None, **more: Any) -> Listed:
    return Listed(**{"provider": "p", "name": name, "context_window": None, "price": price, **more})


def status(*found: Listed) -> Status:
    (row,) = plan(DOCUMENT, found).rows
    return row.status


def test_a_new_model_gets_what_is_known_and_says_what_was_assumed() -> None:
    made = plan(
        DOCUMENT, [one("gpt-4o", {"input": "2.5"}, context_window=8_000), one("x", {"input": "1"})]
    )
    assert [row.status for row in made.rows] == [Status.NEW, Status.NEW]
    first, second = made.tables
    assert (first["context_window"], first["output_tokens_max"]) == (8_000, 8_000)
    assert (first["tokenizer"], second["tokenizer"]) == ("o200k", "estimate")
    assert "was assumed" in made.rows[1].notes
    assert "assumed" not in made.rows[0].notes
    assert "endpoints" not in made.rows[0].notes
    (spoken,) = plan(DOCUMENT, [one("tts", {"character": "15"})]).rows
    assert "name its endpoints" in spoken.notes
    assert [model["name"] for model in made.document["model"]] == ["known", "bare", "gpt-4o", "x"]
    assert made.document["version"] == 7, "what was shown is what is applied"
    read_document({**made.document, "channel": []})


def test_a_changed_price_is_shown_old_and_new_and_keeps_what_was_set_by_hand() -> None:
    made = plan(DOCUMENT, [one("known", {"input": "1.5", "output": "2", "cache_read": "0.1"})])
    (row,) = made.rows
    assert row.status is Status.CHANGED
    assert row.prices["input"] == "1.00 -> 1.5"
    assert row.prices["output"] == "2"
    assert row.prices["cache_read"] == "0.1"
    (table,) = made.tables
    assert table["hidden_output"] is True
    assert table["price"]["image"] == "0.5"
    assert table["price"]["call"] == "0.1"


def test_audio_of_the_list_replaces_whatever_unit_was_written_by_hand() -> None:
    hand = {"input": "1", "audio_minute": "0.5", "search": "0.01"}
    document = {**DOCUMENT, "model": [{**KNOWN, "price": hand}]}
    made = plan(document, [one("known", {"audio_hour": "0.111"})])
    assert made.tables[0]["price"] == {"audio_hour": "0.111", "search": "0.01"}
    made = plan(document, [one("known", {"input": "2"})])
    assert made.tables[0]["price"] == {"input": "2", "audio_minute": "0.5", "search": "0.01"}


def test_tiers_are_shown_in_one_cell() -> None:
    tiers = [{"over": 200_000, "input": "2.5", "output": "3"}]
    (row,) = plan(DOCUMENT, [one("known", {"input": "1", "output": "2", "tiers": tiers})]).rows
    assert row.prices["tiers"] == "over 200,000: input 2.5, output 3"


def test_a_model_without_a_price_gets_one() -> None:
    assert status(one("bare", {"input": "1"})) is Status.CHANGED


def test_a_price_that_goes_back_to_its_default_is_shown() -> None:
    document = {**DOCUMENT, "model": [{**KNOWN, "price": {"input": "1", "cache_read": "0.5"}}]}
    (row,) = plan(document, [one("known", {"input": "1"})]).rows
    assert row.prices["cache_read"] == "0.5 -> input's"


def test_the_same_price_in_other_words_is_unchanged() -> None:
    same = {"input": "1", "output": "2.000", "cache_read": "1", "image": "0.50", "call": "0.1"}
    assert status(one("known", same)) is Status.UNCHANGED
    assert status(one("known", same, context_window=1000)) is Status.UNCHANGED
    (row,) = plan(DOCUMENT, [one("known", same, context_window=2000)]).rows
    assert (row.status, row.context_window) == (Status.CHANGED, "1000 -> 2000")


def test_what_cannot_be_imported_says_why() -> None:
    cases = [
        ([one("x", None, problem="tiers")], "tiers"),
        ([one("x", {"input": "1"}), one("x", {"input": "2"}, provider="q")], "choose one"),
        ([one("x", {"input": "1"}), one("x", None, provider="q", problem="t")], "choose one"),
        ([one("x", {"input": "0.12345678901"})], "is not a price"),
    ]
    for found, reason in cases:
        made = plan(DOCUMENT, found)
        assert [row.status for row in made.rows] == [Status.SKIPPED]
        assert reason in made.rows[0].notes
        assert made.tables == []
        assert made.document["model"] == DOCUMENT["model"]
    assert status(one("x", {"input": "1"}), one("x", {"input": "1"}, provider="q")) is Status.NEW


def test_what_is_wanted_is_named_or_in_the_catalog() -> None:
    asked: list[Any] = []

    def listed(providers: Any, patterns: Any) -> list[Listed]:
        asked.append((providers, patterns))
        return []

    def look_up(name: str, places: Any) -> list[Listed]:
        asked.append((name, places))
        return []

    wanted(DOCUMENT, ("p",), (), listed=listed, look_up=look_up)
    wanted(DOCUMENT, (), ("m*",), listed=listed, look_up=look_up)
    wanted(DOCUMENT, (), (), listed=listed, look_up=look_up)
    assert asked == [
        (("p",), ()),
        ((), ("m*",)),
        ("known", [("https://a/v1", "up")]),
        ("bare", []),
    ]
