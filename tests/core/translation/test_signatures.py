import pytest

from proxy.core.translation.signatures import (
    Place,
    extra_content,
    from_extra_content,
    is_marked,
    marked,
    of_gemini,
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
