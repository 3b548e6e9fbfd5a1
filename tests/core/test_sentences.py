import orjson
import pytest

from proxy.core.sentences import (
    DEPTH_MAX,
    Sentence,
    from_wire,
    joined,
    pattern_of,
    sentence,
    split_remedy,
    spoken,
    text_of,
    to_wire,
)

NESTED = Sentence("{what} of {n:,}", what=Sentence("a key {name!r}", name="x{y}"), n=1_000)


def test_a_sentence_is_its_english_text() -> None:
    assert NESTED == "a key 'x{y}' of 1,000"
    assert (pattern_of(NESTED), pattern_of("plain")) == ("{what} of {n:,}", "plain")
    assert Sentence("braces {stay}") == "braces {stay}"
    assert sentence(NESTED) is NESTED
    assert pattern_of(sentence("plain")) == "plain"
    chinese = spoken("共 1,000", NESTED, NESTED.values)
    assert (chinese, chinese.pattern, chinese.values) == ("共 1,000", NESTED.pattern, NESTED.values)


def test_an_error_says_what_was_put_into_it() -> None:
    assert text_of(ValueError(NESTED)) is NESTED
    assert text_of(ValueError("plain")) == "plain"
    assert text_of(OSError(2, "no such file")) == "[Errno 2] no such file"


def test_what_goes_over_a_wire_comes_back() -> None:
    sent = orjson.loads(orjson.dumps(to_wire(NESTED)))
    read = from_wire(sent)
    assert isinstance(read, Sentence)
    assert (read, read.pattern) == (NESTED, NESTED.pattern)
    assert isinstance(read.values["what"], Sentence)
    assert from_wire(to_wire("plain")) == "plain"


def test_what_is_no_sentence_is_none() -> None:
    deep: object = "x"
    for _ in range(DEPTH_MAX + 2):
        deep = {"pattern": "{a}", "values": {"a": deep}}
    for bad in (
        None,
        7,
        {},
        {"pattern": 1, "values": {}},
        {"pattern": "x", "values": []},
        {"pattern": "{a}", "values": {"b": 1}},
        {"pattern": "{a.b}", "values": {"a": 1}},
        {"pattern": "{", "values": {"a": 1}},
        {"pattern": "{a:d}", "values": {"a": "text"}},
        {"pattern": "{a}", "values": {"a": True}},
        {"pattern": "{a}", "values": {1: "a"}},
        deep,
    ):
        assert from_wire(bad) is None


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        ("no x: see `y`", "no x", "see `y`"),
        ("a: b; remove it", "a: b", "remove it"),
        ("price: not a number", "price: not a number", ""),
        ("see this", "see this", ""),
        (Sentence("no {n}: see {m}", n="a: see b", m=2), "no a: see b", "see 2"),
        (Sentence("{a}: {b}", a=1, b=Sentence("is so; remove it")), "1: is so", "remove it"),
        (Sentence("{a}: {b}", a=1, b=Sentence("is so")), "1: is so", ""),
        (Sentence("{a}: {b}", a=1, b="name me: see it"), "1: name me: see it", ""),
        (Sentence("{a} ends", a=Sentence("x: see y")), "x: see y ends", ""),
    ],
)
def test_remedies_are_told_from_colons_in_messages(text: str, what: str, remedy: str) -> None:
    assert split_remedy(text) == (what, remedy)
    if remedy:
        assert joined(what, remedy) == f"{what}: {remedy}"
