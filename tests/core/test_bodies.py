"""A body's members, their places, and edits of it; what is refused is in the corpus of bodies."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from proxy.core import bodies
from proxy.core.bodies import (
    MEMBERS_MAX,
    NAMES_OUTSIDE_MAX,
    Layout,
    apply,
    cut,
    flag,
    integer,
    is_array,
    is_dense,
    layout_of,
    names_size,
    read_members,
    walk,
)
from proxy.core.errors import ErrorCode, RelayError


def layout(body: bytes) -> Layout:
    members = read_members(body)
    return layout_of(body, members, names_size(members))


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","n":1}',
        b'{ "model" : "m" , "n": 1 }',
        b' {"model":"m","n":1}\n',
        b'{"mod\\u0065l":"m","n":1}',
    ],
)
def test_each_value_has_its_place(body: bytes) -> None:
    made = layout(body)
    assert (made.walked is None) is (body == b'{"model":"m","n":1}')
    for name, value in (("model", b'"m"'), ("n", b"1")):
        start, end = made.spans()[name]
        assert body[start:end] == value
    assert list(made.spans()) == ["model", "n"]
    assert made.spans() is made.spans(), "worked out once"


def test_where_the_model_begins_is_known_of_a_dense_body() -> None:
    for body, before in (
        (b'{"model":"m","n":1}', ()),
        (b'{"messages":[{}],"n":1,"model":"m"}', ("messages", "n")),
    ):
        members = read_members(body)
        at = sum(len(name) + 4 for name in before) + len('{"model":')
        made = layout_of(body, members, names_size(members), at, before)
        assert made.model_start == made.spans()["model"][0]
    loose = b'{ "model":"m"}'
    members = read_members(loose)
    assert layout_of(loose, members, names_size(members), 9).model_start == 0
    assert layout(b'{"model":"m"}').model_start == 0, "nobody asked"


def test_nothing_of_a_prompt_is_shown() -> None:
    assert "hush" not in repr(layout(b'{"model":"hush"}'))


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", ErrorCode.INVALID_JSON, "is empty"),
        (b" ", ErrorCode.INVALID_JSON, "is empty"),
        (b"[]", ErrorCode.INVALID_JSON, "must be a JSON object"),
        (b"{", ErrorCode.INVALID_JSON, "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, ErrorCode.INVALID_JSON, "too deeply"),
        (b'{"a":1,"a":2}', ErrorCode.INVALID_REQUEST, "`a` is there twice"),
        (b'{"\\n":1,"\\n":2}', ErrorCode.INVALID_REQUEST, "`.` is there twice"),
        (b'{"m":"x", "a":1000, "b":2, "a":1}', ErrorCode.INVALID_REQUEST, "`a` is there twice"),
        (b'{"a":1.5,"a":1}', ErrorCode.INVALID_REQUEST, "`a` is there twice"),
        (b'{"a" : 1e3 ,"a":1 }', ErrorCode.INVALID_REQUEST, "`a` is there twice"),
    ],
)
def test_what_is_no_clear_object_is_refused(body: bytes, code: ErrorCode, says: str) -> None:
    with pytest.raises(RelayError, match=says) as caught:
        layout(body)
    assert caught.value.code is code


def test_the_number_of_names_is_bounded() -> None:
    many = ",".join(f'"k{number}":0' for number in range(MEMBERS_MAX + 1))
    with pytest.raises(RelayError, match="too many members"):
        read_members(b"{%b}" % many.encode())
    names = ",".join(f'"k{number}":0' for number in range(NAMES_OUTSIDE_MAX + 1)).encode()
    assert read_members(b'{"tools":[{%b}]}' % names).keys() == {"tools"}
    with pytest.raises(RelayError, match="too many members"):
        read_members(b'{"other":[{%b}]}' % names)


@pytest.mark.parametrize(
    ("name", "left"),
    [("a", b'{"b":2,"c":3}'), ("b", b'{"a":1,"c":3}'), ("c", b'{"a":1,"b":2}')],
)
def test_a_member_is_cut_with_its_comma(name: str, left: bytes) -> None:
    body = b'{"a":1,"b":2,"c":3}'
    start, end = cut(body, layout(body).spans(), name)
    assert body[:start] + body[end:] == left


def test_edits_are_made_in_order_and_never_overlap() -> None:
    assert apply(b"abcdef", [(4, 5, b"X"), (1, 1, b"Y"), (2, 3, b"")]) == b"aYbdXf"
    with pytest.raises(AssertionError, match="overlap"):
        apply(b"abcdef", [(1, 3, b""), (2, 4, b"")])


@pytest.mark.parametrize(
    ("text", "array"),
    [
        (b"[{}]", True), (b"[ 1]", True), (b'["a"]', True), (b"[]", False), (b"[ \n]", False),
        (b"{}", False), (b"7", False), (b'"[1]"', False),
    ],
)  # fmt: skip
def test_arrays_of_something(text: bytes, array: bool) -> None:
    assert is_array(Raw(text)) is array


def test_flags_and_integers() -> None:
    assert [flag(Raw(text)) for text in (b"true", b"false", b"null", b"1")] == [
        True, False, False, None,
    ]  # fmt: skip
    assert flag(None) is False
    assert integer(b"null", "n", 5) is None
    assert (integer(b"1", "n", 5), integer(b"5", "n", 5), integer(b"0", "n", 5, 0)) == (1, 5, 0)
    for odd in (b"0", b"6", b"-1", b"1.0", b'"1"', b"9" * 30, b"true"):
        with pytest.raises(RelayError, match="from 1 to 5") as caught:
            integer(odd, "n", 5)
        assert caught.value.param == "n"


def test_texts_are_validated_before_anything_is_read() -> None:
    for body in (b'{"a":"\xff"}', b'{"a":"\\ud800"}'):
        with pytest.raises(RelayError):
            read_members(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=6), VALUES, max_size=5), st.booleans())
def test_any_object_is_found_again(value: dict[str, object], dense: bool) -> None:
    separators = (",", ":") if dense else (" ,\n", " : ")
    body = json.dumps(value, separators=separators, ensure_ascii=False).encode()
    found = read_members(body)
    assert found.keys() == value.keys()
    spans = walk(body, found)
    assert {name: json.loads(body[start:end]) for name, (start, end) in spans.items()} == value
    if is_dense(body, found):
        assert layout_of(body, found, names_size(found)).spans() == spans
    assert msgspec.json.decode(body) == value
    assert bodies.MEMBERS_MAX
