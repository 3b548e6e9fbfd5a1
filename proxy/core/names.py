"""Which known names somebody may have meant: for a 404 that helps.

Rules: what people change when they type or paste a model's name weighs little: case, dots, dashes,
slashes, a vendor before it, a date, a label or a variant behind it, two letters in the wrong order.
It is only ever a question back, never a substitution. Cheap, because anybody can ask for anything:
names are cut, candidates are counted. This module must not know what the names are of.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

SUGGESTIONS_MAX: Final = 3
CANDIDATES_MAX: Final = 2_000
"""Names compared with a wrong one."""
NAME_CHARS_MAX: Final = 100
_SIMILARITY_MIN: Final = 0.3
_SAME_STEM: Final = 1.0
_SAME_LETTERS: Final = 0.95
_LABELS: Final = re.compile(
    r"[-@_. ]+(?:20\d\d-?[01]\d-?[0-3]\d|[01]\d-?[0-3]\d|00\d|latest|preview|exp|v\d+)$"
)
"""A date, as vendors write it, or a label behind a name."""
_LABELS_MAX: Final = 4
_LOOK_ALIKE: Final = str.maketrans("0il", "o11")


class _Form(NamedTuple):
    """A name as it is compared."""

    letters: str
    stem: str
    sorted_stem: str
    trigrams: frozenset[str]
    stem_trigrams: frozenset[str]


def similar(wanted: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return up to 3 of `known` that resemble `wanted`, the likeliest first."""
    form = _form(wanted)
    if not form.letters:
        return ()
    scored: list[tuple[float, str]] = []
    for number, name in enumerate(known):
        if number == CANDIDATES_MAX:
            break
        score = _score(form, _known_form(name))
        if score >= _SIMILARITY_MIN:
            scored.append((-score, name))
    scored.sort()
    return tuple([name for _, name in scored[:SUGGESTIONS_MAX]])


def _form(name: str) -> _Form:
    text = name[:NAME_CHARS_MAX].lower()
    bare = text.rpartition("/")[2].partition(":")[0].rpartition("anthropic.")[2]
    for _ in range(_LABELS_MAX):
        bare = _LABELS.sub("", bare)
    letters, stem = _letters(text), _letters(bare).translate(_LOOK_ALIKE)
    return _Form(letters, stem, "".join(sorted(stem)), _trigrams(letters), _trigrams(stem))


@lru_cache(maxsize=CANDIDATES_MAX)
def _known_form(name: str) -> _Form:
    return _form(name)


def _score(one: _Form, other: _Form) -> float:
    """0: nothing in common; 1: the same but for what weighs nothing."""
    if one.stem == other.stem:
        return _SAME_STEM
    if one.sorted_stem == other.sorted_stem:
        return _SAME_LETTERS
    return max(
        _overlap(one.trigrams, other.trigrams), _overlap(one.stem_trigrams, other.stem_trigrams)
    )


def _letters(text: str) -> str:
    return "".join([letter for letter in text if letter.isalnum()])


def _trigrams(letters: str) -> frozenset[str]:
    return frozenset([letters[at : at + 3] for at in range(max(1, len(letters) - 2))])


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard index: 0 nothing in common, 1 the same groups."""
    return len(one & other) / len(one | other)
