"""Token tables by name, and estimates for families that publish none.

Rules: exact counts come from the tables inside the bpe-openai wheel, read once (`preload`, before
forking, so that workers share the memory); nothing is fetched. Estimates are characters times a
weight per model, learnt from reported usage and never trusted against it. Same observations in
the same order, same estimates. This module must not know calls, prices or wallets.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache, lru_cache
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from proxy.core.entities import Model, Tokenizer
from proxy.core.metering import Meter

COUNTED_CHARACTERS_MAX: Final = 262_144
"""Characters counted exactly in one go (5 to 10 ms); what lies beyond is extrapolated."""

SHORT_CHARACTERS_MAX: Final = 16
SHORT_MAX: Final = 4_096
"""Counts of short texts kept for each table: what a stream has said last is mostly one word."""
REMEMBERED_MAX: Final = 8_192
"""Counts of long texts kept for each table, some 150 bytes each."""
REMEMBERED_CHARACTERS_MIN: Final = 64
"""Shorter ones are counted sooner than found."""

_ENCODINGS: Final = {Tokenizer.O200K: "o200k_base", Tokenizer.CL100K: "cl100k_base"}

MICRO: Final = 1_000_000
NARROW_WEIGHT: Final = 250_000
"""Millionths of a token per character, before anything was observed: English prose and code."""
WIDE_WEIGHT: Final = 1_000_000
"""The same for CJK characters and emoji."""
WEIGHT_MIN: Final = 50_000
WEIGHT_MAX: Final = 4_000_000
PRIOR_CHARACTERS: Final = 2_000
"""How many observed characters the initial weight is worth."""
MEMORY_CHARACTERS_MAX: Final = 1_000_000
"""Beyond it, old observations lose half their weight, so that a model may change."""
OBSERVED_CHARACTERS_MIN: Final = 64
"""Shorter texts say more about a provider's fixed overhead than about its tokenizer."""
DISBELIEF_FACTOR: Final = 8
"""A report so many times off the estimate is a lie or hidden output, and is not learnt."""

_WIDE: Final = re.compile(
    r"[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f"
    r"\uff00-\uffef\U0001f000-\U0003ffff]"
)


class _Table(Protocol):
    def count(self, text: str) -> int: ...


@cache
def _table(encoding: str) -> _Table:
    # Not at the top: importing the package reads its tables (0.4 s and up), which an operator whose
    # models are all estimated never needs. Its public `Encoding` encodes but does not count.
    from bpe_openai import _bindings  # noqa: PLC0415 - loaded by the first who counts

    table: _Table = _bindings.tokenizer_for_encoding(encoding)
    table.count("")
    return table


def preload(*tokenizers: Tokenizer) -> None:
    """Load the tables of `tokenizers` (default: all) now instead of at their first use."""
    for tokenizer in tokenizers or tuple(_ENCODINGS):
        if tokenizer in _ENCODINGS:
            _table(_ENCODINGS[tokenizer])


def repair(text: str) -> str:
    """Join surrogate pairs that arrived apart; a half left alone becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@cache
def exact_count(tokenizer: Tokenizer) -> Callable[[str], int]:
    """Return the token counter of a published table; KeyError for `Tokenizer.ESTIMATE`."""
    table_count = _table(_ENCODINGS[tokenizer]).count

    def whole(text: str) -> int:
        try:
            return table_count(text)
        except UnicodeEncodeError:
            return table_count(repair(text))

    short = lru_cache(maxsize=SHORT_MAX)(whole)

    def count(text: str) -> int:
        return short(text) if len(text) <= SHORT_CHARACTERS_MAX else whole(text)

    return count


@cache
def _recurring_count(tokenizer: Tokenizer) -> Callable[[str], int]:
    """Return the same for texts that recur: each turn of a conversation brings all before it.

    A digest costs a hundredth of a count. Of the texts themselves nothing is kept.
    """
    count = exact_count(tokenizer)
    known: dict[bytes, int] = {}

    def remembered(text: str) -> int:
        if len(text) < REMEMBERED_CHARACTERS_MIN:
            return count(text)
        digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
        tokens = known.get(digest)
        if tokens is None:
            if len(known) >= REMEMBERED_MAX:
                del known[next(iter(known))]
            tokens = known[digest] = count(text)
        return tokens

    return remembered


class Characters(NamedTuple):
    """The size of a text as an estimator sees it."""

    narrow: int
    wide: int
    """CJK characters and emoji, which weigh about four times as much."""


# A measure must add up over windows, so both counts travel in one integer.
_ESTIMATE: Final = Tokenizer.ESTIMATE  # a member of an enum costs ten globals on Python 3.11
_WIDE_SHIFT: Final = 48


def measure_characters(text: str) -> int:
    """Measure `text` for an estimating `Meter`: both counts of `Characters` in one integer."""
    if text.isascii():
        return len(text)
    wide = len(_WIDE.findall(text))
    return len(text) - wide + (wide << _WIDE_SHIFT)


def unpack_characters(measured: int) -> Characters:
    """Read the sum of `measure_characters` over any number of texts."""
    return Characters(measured & ((1 << _WIDE_SHIFT) - 1), measured >> _WIDE_SHIFT)


def characters(text: str) -> Characters:
    """Measure one text."""
    return unpack_characters(measure_characters(text))


class _Weight:
    """Tokens per character of one kind, as a running mean around a prior."""

    __slots__ = ("characters", "micro_tokens")

    def __init__(self, prior: int) -> None:
        self.characters = PRIOR_CHARACTERS
        self.micro_tokens = PRIOR_CHARACTERS * prior

    def value(self) -> int:
        """Millionths of a token per character, within the bounds."""
        return min(max(self.micro_tokens // self.characters, WEIGHT_MIN), WEIGHT_MAX)

    def learn(self, seen: int, micro_tokens: int) -> None:
        """Add an observation; forget half of the past when it grows too long."""
        self.characters += seen
        self.micro_tokens += micro_tokens
        while self.characters > MEMORY_CHARACTERS_MAX:
            self.characters //= 2
            self.micro_tokens //= 2


class Calibration:
    """Tokens per character of each model, learnt from reported usage.

    Holds `models_max` models; a new one replaces the one observed longest ago.
    """

    def __init__(self, models_max: int = 1_000) -> None:
        self._models_max = models_max
        self._weights: dict[str, tuple[_Weight, _Weight]] = {}

    def observe(self, model: str, size: Characters, tokens: int) -> bool:
        """Learn that a text of `size` was reported as `tokens`; False when it is not believed.

        Give it only complete calls of models without hidden output. The report is credited to
        the kind of character that makes up most of it.
        """
        narrow, wide = self._weights.get(model) or (
            _Weight(NARROW_WEIGHT),
            _Weight(WIDE_WEIGHT),
        )
        narrow_part = size.narrow * narrow.value()
        wide_part = size.wide * wide.value()
        expected = narrow_part + wide_part
        micro_tokens = tokens * MICRO
        if size.narrow + size.wide < OBSERVED_CHARACTERS_MIN:
            return False
        if not expected <= micro_tokens * DISBELIEF_FACTOR <= expected * DISBELIEF_FACTOR**2:
            return False
        self._weights.pop(model, None)
        self._weights[model] = (narrow, wide)
        if len(self._weights) > self._models_max:
            del self._weights[next(iter(self._weights))]
        if wide_part > narrow_part:
            wide.learn(size.wide, max(0, micro_tokens - narrow_part))
        else:
            narrow.learn(size.narrow, max(0, micro_tokens - wide_part))
        return True

    def tokens(self, model: str, size: Characters) -> int:
        """Estimate the tokens of a text of `size`, rounded up; 0 for none."""
        narrow, wide = self._now(model)
        return -(-(size.narrow * narrow + size.wide * wide) // MICRO)

    def estimator(self, model: str) -> Callable[[int], int]:
        """Return tokens of a sum of `measure_characters`, by the weights of this moment.

        A call keeps its estimator, so that its count does not move when others are observed.
        """
        narrow, wide = self._now(model)

        def tokens(measured: int) -> int:
            size = unpack_characters(measured)
            return -(-(size.narrow * narrow + size.wide * wide) // MICRO)

        return tokens

    def density(self, model: str) -> int:
        """Return the most tokens that `estimator` makes of one byte of text, in whole tokens.

        A wide character has three bytes or more.
        """
        narrow, wide = self._now(model)
        return -(-max(3 * narrow, wide) // (3 * MICRO))

    def _now(self, model: str) -> tuple[int, int]:
        weights = self._weights.get(model)
        if weights is None:
            return NARROW_WEIGHT, WIDE_WEIGHT
        return weights[0].value(), weights[1].value()

    def __len__(self) -> int:
        return len(self._weights)


def new_meter(model: Model, calibration: Calibration) -> Meter:
    """Return the meter for a call of `model`: exact where its family publishes a table."""
    if model.tokenizer is _ESTIMATE:
        estimator, density = calibration.estimator(model.name), calibration.density(model.name)
        return Meter(measure_characters, estimator, exact=False, density=density)
    return Meter(exact_count(model.tokenizer))  # a token of a table is at least one byte


class Count(Struct, frozen=True, gc=False):
    """The tokens of some texts, and whether every character was tokenised."""

    tokens: int
    exact: bool


def count_texts(
    texts: Iterable[str],
    model: Model,
    calibration: Calibration,
    characters_max: int = COUNTED_CHARACTERS_MAX,
) -> Count:
    """Count texts, each tokenised apart: a prompt's pieces, or the choices of a plain answer.

    Beyond `characters_max` the count is extrapolated from what was counted, because counting a
    32 MB prompt would hold up every other stream for half a second.
    """
    if model.tokenizer is _ESTIMATE:
        measured = sum([measure_characters(text) for text in texts])
        return Count(calibration.tokens(model.name, unpack_characters(measured)), exact=False)
    count = _recurring_count(model.tokenizer)
    tokens = counted = beyond = 0
    for text in texts:
        part = text[: characters_max - counted]
        if part:
            tokens += count(part)
            counted += len(part)
        beyond += len(text) - len(part)
    if not beyond:
        return Count(tokens, exact=True)
    return Count(tokens + -(-beyond * max(tokens, 1) // max(counted, 1)), exact=False)
