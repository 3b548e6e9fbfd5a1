"""Call ids: 63-bit integers that sort by time, and their outward form.

Layout, high to low: 41 bits of milliseconds since 2020-01-01 UTC, 6 bits of worker, 16 bits of
sequence. Time-ordered keys keep SQLite's pages, and with them the commit tail, small (DESIGN.md
section 2). Outward: `req_` and thirteen digits of Crockford's base 32, lower case, so that text
sorts as the integers do. Ids are unguessable by no promise: every look-up also checks the owner.
"""

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
_SPELL_MS = 256
"""Ids of so many milliseconds differ in their lowest thirty bits alone."""
_SPELL_END = float(_SPELL_MS)
_STEPS = [millisecond << 22 for millisecond in range(_SPELL_MS)]
_FOLLOWING = [float(millisecond + 1) for millisecond in range(_SPELL_MS)]
"""The next millisecond, as what the clock says is compared with."""


class IdSource:
    """Hands out this worker's ids, each greater than the last even if the clock steps back.

    `after`: the greatest id in use before this source, whatever the clock said then.
    """

    def __init__(self, worker: int, after: int = 0) -> None:
        if not 0 <= worker < WORKERS_MAX:
            raise AssertionError(f"worker {worker} does not fit six bits")
        self._worker_bits = worker << 16
        self._sequence = SEQUENCE_MAX - 1
        self._ends = [_low_digits(step | self._worker_bits) for step in _STEPS]
        """How the first id of each millisecond of a spell ends."""
        self._spell = self._passed = self._ids = 0
        self._free_from = self._began = 0.0
        self._beginning = ""
        self._enter(after >> 22)

    def next(self, now: float) -> int:
        """Return a fresh id for `now` (Unix seconds)."""
        return self.named(now)[0]

    def named(self, now: float) -> tuple[int, str]:
        """Return a fresh id for `now` (Unix seconds), and its outward form."""
        passed = now * 1000.0 - self._began
        if not self._free_from <= passed < _SPELL_END:
            sequence = self._sequence + 1
            if passed >= self._free_from or sequence == SEQUENCE_MAX:
                return self._named_anew(now)
            # The same millisecond, as for most calls of one turn of the loop, or one before it.
            self._sequence = sequence
            low, pairs = _STEPS[self._passed] + sequence, _PAIRS
            call_id = self._ids + low
            low += self._worker_bits
            ending = pairs[low >> 20] + pairs[low >> 10 & 1023] + pairs[low & 1023]
            return call_id, self._beginning + ending
        # Another millisecond of the same spell, nearly always: bits of large numbers are dear.
        self._passed = step = int(passed)
        self._free_from = _FOLLOWING[step]
        self._sequence = 0
        return self._ids + _STEPS[step], self._beginning + self._ends[step]

    def _named_anew(self, now: float) -> tuple[int, str]:
        last = (self._spell * _SPELL_MS) + self._passed
        millisecond = int(now * 1000) - EPOCH_MS
        self._sequence += 1
        if millisecond > last:
            self._sequence = 0
            self._enter(millisecond)
        elif self._sequence == SEQUENCE_MAX:
            self._sequence = 0
            self._enter(last + 1)
        call_id = self._ids + _STEPS[self._passed] + self._sequence
        return call_id, self._beginning + _low_digits(call_id & _LOW_MASK)

    def _enter(self, millisecond: int) -> None:
        """Take ids of `millisecond` from now on, and of its spell: what goes beyond thirty bits."""
        self._spell, self._passed = divmod(millisecond, _SPELL_MS)
        self._free_from = _FOLLOWING[self._passed]
        self._began = float(self._spell * _SPELL_MS + EPOCH_MS)
        self._ids = self._spell << _LOW_BITS | self._worker_bits
        self._beginning = _high_digits(self._spell)


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
    return _high_digits(call_id >> _LOW_BITS) + _low_digits(call_id & _LOW_MASK)


def _low_digits(low: int) -> str:
    """How the lowest thirty bits are written."""
    pairs = _PAIRS
    return pairs[low >> 20] + pairs[low >> 10 & 1023] + pairs[low & 1023]


def _high_digits(high: int) -> str:
    """How all the others are."""
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
