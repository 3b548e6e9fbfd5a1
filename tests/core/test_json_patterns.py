import pytest

from proxy.core import json_patterns
from proxy.core.json_patterns import NUMBERS, ONE_NUMBER, STRINGS, TEXT


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", b"0"), (b"-12", b"-12"), (b"1.5", b"1.5"), (b"1e5", b"1e5"), (b"1.5E-7x", b"1.5E-7"),
        (b"1.", b"1"), (b"1e", b"1"), (b"1.5e+", b"1.5"), (b"1.e5", b"1"), (b"1ex", b"1"),
    ],
)  # fmt: skip
def test_a_number_ends_where_it_ends(text: bytes, number: bytes) -> None:
    found = ONE_NUMBER.match(text)
    assert found is not None
    assert found[0] == number


@pytest.mark.parametrize("text", [b"", b"-", b"01", b".5", b"+1", b"e5"])
def test_what_is_no_number(text: bytes) -> None:
    assert ONE_NUMBER.match(text) is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b'ab"', b"ab"), (rb'a\n\u0041b"', rb"a\n\u0041b"), (rb"ab\u12", b"ab"), (rb"ab\q", b"ab"),
        (rb"\ud83d\ude00x", rb"\ud83d\ude00x"), (rb"a\ud83d\u0041", b"a"), (b"a\nb", b"a"),
    ],
)  # fmt: skip
def test_a_text_is_read_up_to_what_is_none(text: bytes, read: bytes) -> None:
    found = TEXT.match(text)
    assert found is not None
    assert found[0] == read


@pytest.mark.parametrize(
    ("pattern", "text", "read"),
    [
        (NUMBERS, b"1, 2.5 ,3", b"1, 2.5 ,"), (NUMBERS, b"1", b""), (NUMBERS, b"1,2e,3", b"1,"),
        (STRINGS, b'"a" , "b","c"', b'"a" , "b",'), (STRINGS, b'"a"', b""), (STRINGS, b'"a","b', b'"a",'),
    ],
)  # fmt: skip
def test_a_list_is_read_up_to_its_last_comma(pattern: object, text: bytes, read: bytes) -> None:
    assert pattern in vars(json_patterns).values()
    found = pattern.match(text)  # type: ignore[attr-defined] # a pattern, as was just seen
    assert found[0] == read
