import pytest

from proxy.core.translation.conversation import Thinking
from proxy.core.translation.signatures import (
    Place,
    extra_content,
    from_extra_content,
    is_marked,
    marked,
    of_gemini,
    sealed,
    unsealed,
)


@pytest.mark.parametrize("place", Place)
def test_a_signature_comes_back_as_it_was_and_from_where_it_stood(place: Place) -> None:
    assert of_gemini(marked(place, "a:b==")) == (place, "a:b==")


@pytest.mark.parametrize("signature", [None, "ErUB==", "responses:rs_1:x", "gemini:nowhere:x"])
def test_other_makers_are_told_apart(signature: str | None) -> None:
    assert of_gemini(signature) is None


def test_marked_ones_are_not_for_their_carrier() -> None:
    assert is_marked(marked(Place.TEXT, "x"))
    assert is_marked("responses:rs_1:x")
    assert not is_marked("ErUB==")


def test_a_chat_carries_it_in_googles_own_place() -> None:
    assert from_extra_content(extra_content("s"), Place.CALL) == marked(Place.CALL, "s")


@pytest.mark.parametrize(
    "found",
    [None, "s", {}, {"google": None}, {"google": {}}, {"google": {"thought_signature": 1}},
     {"google": {"thought_signature": ""}}],
)  # fmt: skip
def test_what_is_no_signature_is_none(found: object) -> None:
    assert from_extra_content(found, Place.CALL) is None


@pytest.mark.parametrize(
    "part",
    [Thinking("hm", "ErUB==ü?"), Thinking("hm", "responses:rs:x"), Thinking("", redacted="?")],
)
def test_other_makers_secrets_go_through_a_caller_of_gemini(part: Thinking) -> None:
    secret = sealed(part)
    assert secret is not None
    assert unsealed(Place.THOUGHT, part.text, secret) == part
    for_urls = secret.translate(str.maketrans("+/", "-_"))
    assert unsealed(Place.CALL, part.text, for_urls) == part


@pytest.mark.parametrize("secret", ["c2ln", "/+8=", "x"])
def test_geminis_own_are_told_apart(secret: str) -> None:
    part = unsealed(Place.CALL, "", secret)
    assert part == Thinking("", marked(Place.CALL, secret))
    assert sealed(part) == secret


def test_nothing_is_sealed_for_thoughts_without_a_secret() -> None:
    assert sealed(Thinking("hm")) is None
    assert sealed(Thinking("hm", "")) is None
