"""Call ids: 63-bit integers that sort by time, and their outward form.

Layout, high to low: 41 bits of milliseconds since 2020-01-01 UTC, 6 bits of worker, 16 bits of
sequence. Time-ordered keys keep SQLite's pages, and with them the commit tail, small (DESIGN.md
section 2). Outward: `req_` and thirteen digits of Crockford's base 32, lower case, so that text
sorts as the integers do. Ids are unguessable by no promise: every look-up also checks the owner.
"""

from functools import lru_cache

EPOCH_MS = 1_577_836_800_000
WORKERS_MAX = 64
SEQUENCE_MAX = 1 << 16
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_PAIRS = [first + second for first in _DIGITS for second in _DIGITS]
_LENGTH = 13
_PREFIX = "req_"
_LOW_BITS = 30
_LOW_MASK = (1 << _LOW_BITS) - 1


class IdSource:
    """Hands out this worker's ids, each greater than the last even if the clock steps back.

    `after`: the greatest id in use before this source, whatever the clock said then.
    """

    def __init__(self, worker: int, after: int = 0) -> None:
        if not 0 <= worker < WORKERS_MAX:
            raise AssertionError(f"worker {worker} does not fit six bits")
        self._worker_bits = worker << 16
        self._millisecond = after >> 22
        self._sequence = SEQUENCE_MAX - 1

    def next(self, now: float) -> int:
        """Return a fresh id for `now` (Unix seconds)."""
        millisecond = int(now * 1000) - EPOCH_MS
        if millisecond > self._millisecond:
            self._millisecond = millisecond
            self._sequence = 0
        else:
            self._sequence += 1
            if self._sequence == SEQUENCE_MAX:
                self._millisecond += 1
                self._sequence = 0
        return self._millisecond << 22 | self._worker_bits | self._sequence


def first_id_at(seconds: float) -> int:
    """Return the least id that a call of `seconds` (Unix time) can have, at least 0."""
    return max(0, int(seconds * 1000) - EPOCH_MS) << 22


def moment_of(call_id: int) -> float:
    """Return when `call_id` was made, in Unix seconds, to the millisecond."""
    return ((call_id >> 22) + EPOCH_MS) / 1000


def worker_of(call_id: int) -> int:
    """Return the number of the worker that made `call_id`."""
    return call_id >> 16 & WORKERS_MAX - 1


def format_id(call_id: int) -> str:
    """Return the outward form of `call_id`."""
    # What goes beyond thirty bits is dear, and the same for a quarter of a second.
    low, pairs = call_id & _LOW_MASK, _PAIRS
    high = _high(call_id >> _LOW_BITS)
    return f"{high}{pairs[low >> 20]}{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"


@lru_cache(maxsize=8)
def _high(high: int) -> str:
    """The outward form of all but the lowest thirty bits."""
    pairs = _PAIRS
    return (
        f"{_PREFIX}{_DIGITS[high >> 30]}{pairs[high >> 20 & 1023]}"
        f"{pairs[high >> 10 & 1023]}{pairs[high & 1023]}"
    )


def parse_id(text: str) -> int | None:
    """Return the id `text` stands for, or None if it is no call id."""
    digits = text.removeprefix(_PREFIX)
    if len(digits) != _LENGTH or len(text) != _LENGTH + len(_PREFIX):
        return None
    value = 0
    for digit in digits:
        step = _VALUES.get(digit)
        if step is None:
            return None
        value = value << 5 | step
    return value if value < 1 << 63 else None
