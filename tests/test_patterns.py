"""Regular expressions that mean the same on every Python there is.

Before 3.11.5 a group repeated possessively was left where its last, failed try had come to
(CPython issue 106052): the JSON `1e` was read whole as a number. The cure is a last alternative
that always fails, as core/json_patterns.py says.
"""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants, _parser  # there is no public parser
from typing import Any

import pytest

from tests import tree

SINGLE = (_constants.IN, _constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY)
NEVER = repr(_parser.parse(r"(?!)"))
MODULES = tuple(path for path in tree.python_files("proxy") if "re.compile(" in tree.text(path))


def patterns(path: Path) -> Iterator[re.Pattern[Any]]:
    module = importlib.import_module(tree.module_name(path))
    for value in vars(module).values():
        for one in (*value.values(),) if isinstance(value, dict) else (value,):
            if isinstance(one, re.Pattern):
                yield one


def left_behind(parsed: Any) -> Iterator[Any]:
    """Repeated groups that an older Python may leave in the middle."""
    for operator, argument in parsed:
        if operator is _constants.POSSESSIVE_REPEAT:
            first, found = argument[2][0]
            cured = first is _constants.BRANCH and repr(found[1][-1]) == NEVER
            if not cured and (first not in SINGLE or len(argument[2]) > 1):
                yield argument[2]
        for inner in nested(argument):
            yield from left_behind(inner)


def nested(argument: Any) -> Iterator[Any]:
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for one in argument:
            yield from nested(one)


def test_the_test_sees_what_it_is_for() -> None:
    assert [*left_behind(_parser.parse(r"a(?:b|c(?:d+e)*+)"))]
    assert [*left_behind(_parser.parse(r"(?:de)?+"))]
    assert not [*left_behind(_parser.parse(r"(?:de|(?!))*+[a-z]*+.?+"))]


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_repeated_group_is_left_in_the_middle(path: Path) -> None:
    wrong = [one.pattern for one in patterns(path) if [*left_behind(_parser.parse(one.pattern))]]
    assert not wrong
