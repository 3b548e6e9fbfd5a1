"""What is said to people, so that it can be said in their language as well.

Rules: a sentence is its English text, and remembers the pattern it was made by and what was put in;
whoever speaks another language looks that pattern up. What is put in may be a sentence again. On a
wire both go: the finished text for whom English will do, and the pattern. This module must not know
any language but English, nor who reads it.
"""

from collections.abc import Mapping
from typing import Final, Self, TypeGuard

Value = str | int | float
"""What is put into a pattern; a `Sentence` is a `str`."""
DEPTH_MAX: Final = 8
"""Sentences within sentences that are read from a wire."""
REMEDY_VERBS: Final = frozenset(
    {"see", "add", "set", "export", "make", "write", "leave", "remove", "check", "name", "stop"}
)
"""What to do begins with one of these."""


class Sentence(str):
    """`Sentence("{n} keys", n=3)`: the text `3 keys`.

    `pattern` is as for `str.format`, but without values it is the text, whatever braces it has.
    """

    __slots__ = ("pattern", "values")

    pattern: str
    values: Mapping[str, Value]

    def __new__(cls, pattern: str, /, **values: Value) -> Self:
        """Put the values into the pattern."""
        made = super().__new__(cls, pattern.format(**values) if values else pattern)
        made.pattern, made.values = pattern, values
        return made


def spoken(text: str, sentence: Sentence, values: Mapping[str, Value]) -> Sentence:
    """The same sentence in the words of another language."""
    made = str.__new__(Sentence, text)
    made.pattern, made.values = sentence.pattern, values
    return made


def pattern_of(text: str) -> str:
    """The pattern a text was made by; any other text is its own."""
    return text.pattern if isinstance(text, Sentence) else text


def sentence(text: str) -> Sentence:
    """A text as a sentence: as it is, or its own pattern without values."""
    return text if isinstance(text, Sentence) else Sentence(text)


def text_of(error: BaseException) -> Sentence:
    """What an error says, as it was put into it."""
    first = error.args[0] if len(error.args) == 1 else None
    return sentence(first if isinstance(first, str) else str(error))


def to_wire(text: str) -> object:
    """A text as JSON: itself, or pattern and values of a sentence."""
    if not isinstance(text, Sentence):
        return text
    values = {
        name: to_wire(value) if isinstance(value, str) else value
        for name, value in text.values.items()
    }
    return {"pattern": text.pattern, "values": values}


def from_wire(said: object, depth: int = 0) -> str | None:
    """What `to_wire` wrote; None for anything else."""
    if isinstance(said, str):
        return said
    if not isinstance(said, dict) or depth > DEPTH_MAX:
        return None
    pattern, given = said.get("pattern"), said.get("values")
    if not isinstance(pattern, str) or not isinstance(given, dict):
        return None
    values: dict[str, Value] = {}
    for name, value in given.items():
        read = value if _is_number(value) else from_wire(value, depth + 1)
        if read is None or not isinstance(name, str):
            return None
        values[name] = read
    try:
        return Sentence(pattern, **values)
    except (LookupError, ValueError, AttributeError, TypeError):  # a pattern its values do not fit
        return None


def split_remedy(text: str) -> tuple[str, str]:
    """Refusals are written `what is wrong: what to do` or `...; what to do` in one sentence.

    A sentence is parted by its pattern, or where the sentence that ends it is.
    """
    pattern = pattern_of(text)
    for separator in (": ", "; "):
        what, _, remedy = pattern.rpartition(separator)
        if what and remedy.split(" ", 1)[0] in REMEDY_VERBS:
            return _part(text, what), _part(text, remedy)
    if isinstance(text, Sentence) and pattern.endswith("}"):
        last = pattern.rpartition("{")[2][:-1]
        inner = text.values.get(last)
        if isinstance(inner, Sentence):
            what, remedy = split_remedy(inner)
            if remedy:
                return Sentence(pattern, **{**text.values, last: what}), remedy
    return text, ""


def joined(what: str, remedy: str) -> Sentence:
    """Both parts of a refusal in one."""
    return Sentence("{what}: {remedy}", what=what, remedy=remedy)


def _part(text: str, pattern: str) -> str:
    """A part of a text, with the values that may be in it."""
    return Sentence(pattern, **text.values) if isinstance(text, Sentence) else pattern


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
