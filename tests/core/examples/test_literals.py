import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.examples.literals import (
    PYTHON,
    RUBY,
    indented,
    json_text,
    literal,
    quoted,
    quoted_ascii,
    single_quoted,
)
from tests.core.examples import ODD

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "bc", "model"]), inner),
    max_leaves=12,
)


@given(VALUES, st.integers(0, 8))
def test_python_reads_back_what_was_written(value: Any, indent: int) -> None:
    assert ast.literal_eval(literal(value, PYTHON, indent)) == value


@given(VALUES)
def test_json_reads_back_what_was_written(value: Any) -> None:
    text = json_text(value, unquotable="'`")
    assert json.loads(text) == value
    assert text.isascii()
    assert not set(text) & set("'`")


@given(TEXTS)
def test_quoted_texts_are_one_literal(text: str) -> None:
    assert ast.literal_eval(quoted(text)) == text
    assert json.loads(quoted_ascii(text)) == text
    assert quoted_ascii(text).isascii()
    single = single_quoted(text)
    assert single[0] == single[-1] == "'"
    inner = single[1:-1].replace("\\\\", "").replace("\\'", "")
    assert "'" not in inner
    assert not inner.endswith("\\")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], "[]"),
        ({}, "{  }"),
        ({"a": 1, "b": True}, "{ a: 1, b: true }"),
        ([{"a": "x"}], "[{ a: 'x' }]"),
        ({"a": [1]}, "{\n    a: [1]\n  }"),
        (["long " * 9] * 2, "[\n    '" + "long " * 9 + "',\n    '" + "long " * 9 + "'\n  ]"),
    ],
)
def test_lines_are_broken_where_they_must_be(value: Any, expected: str) -> None:
    assert literal(value, RUBY, 2, 2) == expected


def test_odd_names_stay_inside_their_quotes() -> None:
    assert single_quoted("a'b\\") == "'a\\'b\\\\'"
    assert ast.literal_eval(quoted(ODD)) == ODD


def test_empty_lines_stay_empty() -> None:
    assert indented("a\n\nb\n", 2) == "  a\n\n  b\n"
