"""How streams begin: the event before the first content, and the pattern of the content behind it.

Rules: the streams of a provider and model begin alike but for the answer's id and time, and often
one more string. What one stream showed is remembered, so that the next one's first events pass as
later ones do (`core/passthrough.py`), without being decoded while somebody waits for them. Only an
event that says nothing is remembered, and only what was found to be a pattern is expected behind
it. Shared by all streams, bounded, and tells nothing but time. This module must not know phases,
holds, nor what becomes of an event.

Why an id and a time may differ unread: no decoder of ours reads them, and a string of letters,
digits, hyphens and underscores, or a number without a leading zero, leaves the JSON what it was.
The same holds of the letters and digits in a last string: had the decoder looked at them, it would
have found something to say in the event that was remembered, or not in the copy with others.
"""

from typing import Final, TypeAlias

from proxy.core.deltas import has_other_content, openai_first
from proxy.core.http1 import SIZES
from proxy.core.metering import MAIN_RUN, Meter
from proxy.core.passthrough import (
    CHUNK_END,
    OPENAI_START,
    PATTERN_BYTES_MAX,
    Passage,
    Pattern,
    hole,
)

BEGINNINGS_MAX: Final = 256
TIME_DIGITS_MAX: Final = 18
_ID: Final = b'"id":"'
_TIME: Final = b'"created":'
_ZERO: Final = ord("0")
_CR: Final = b"\r"
_DATA: Final = len(OPENAI_START) - 1

Shared: TypeAlias = tuple[bytes, bytes, bytes, bytes]
"""What an event has in common with those of other streams: all up to its id; from behind its quote
up to its time; from there up to the letters and digits of its last string, and what is behind them;
or what is behind the time and nothing, where it has no such string."""
_known: Final[dict[Shared, Pattern]] = {}
"""What followed: the pattern, whose opening is without the event's own part of it."""
_by_size: Final[dict[int, tuple[Shared, Pattern]]] = {}
"""Of those the last that was seen in an event of so many bytes: it is cheaper to see whether an
event is one of these than which."""


def begun(data: bytes) -> tuple[bytes, bytes, Pattern, bytes] | None:
    """Take the event that `data`, which begins a chunk, begins with, if a stream began so before.

    Returns it, its part of the openings to come, the rest of their pattern, and what of `data` is
    behind it.
    """
    line, _, rest = data.partition(b"\r\n")
    size = SIZES.get(line)
    # None that is longer was learnt; and an event may be too large to hold.
    if size is None or size > PATTERN_BYTES_MAX or rest[size - 3 : size + 2] != CHUNK_END:
        return None
    event = rest[:size]
    likely = _by_size.get(size)
    own = b"" if likely is None else _own(event, likely[0])
    if likely is None or not own:
        found = _split(event)
        if found is None:
            return None
        shared, own = found
        pattern = _known.get(shared)
        if pattern is None:
            return None
        if len(_by_size) >= BEGINNINGS_MAX:
            _by_size.clear()
        likely = _by_size[size] = shared, pattern
    return event, own, likely[1], rest[size + 2 :]


def _own(event: bytes, shared: Shared) -> bytes:
    """Return what `_split` does of an event that shares `shared` with others; b"" says nothing."""
    before, between, middle, end = shared
    if end:
        inner, _, value = event.removesuffix(end).rpartition(middle)
        if not value.isalnum():
            return b""
    else:
        inner = event.removesuffix(middle)
    part = inner.removeprefix(before)
    value, _, rest = part.partition(b'"')
    number = rest.removeprefix(between)
    # CPython's very object, where there is nothing to take off.
    if part is inner or number is rest or not _may_vary(value, number):
        return b""
    return inner


def learn(event: bytes, passage: Passage) -> None:
    """Remember that content in the pattern of `passage` came behind `event`, if that said nothing.

    Best done when nobody waits for it: it decodes an event like it, the first time.
    """
    found = _split(event) if len(event) <= PATTERN_BYTES_MAX and passage.run == MAIN_RUN else None
    if found is None:
        return
    shared, own = found
    opening, middle, end, tails = passage.pattern
    if not opening.startswith(own + b",") or (shared not in _known and not _says_nothing(shared)):
        return
    if len(_known) >= BEGINNINGS_MAX:
        _known.clear()
    _by_size.clear()
    _known[shared] = opening[len(own) :], middle, end, tails


def forget() -> None:
    """Forget everything, for tests: it makes no difference but time."""
    _known.clear()
    _by_size.clear()


def _split(event: bytes) -> tuple[Shared, bytes] | None:
    """Return what `event` shares with others, and all of it up to the end of its time."""
    before, _, rest = event.partition(_ID)
    value, quote, rest = rest.partition(b'"')
    between, _, rest = rest.partition(_TIME)
    number, comma, _ = rest.partition(b",")
    if not quote or not comma or not _may_vary(value, number):
        return None
    rest = rest.removeprefix(number)
    own = event[: len(event) - len(rest)]
    middle, value, end = hole(rest)
    return (before + _ID, between + _TIME, *((middle, end) if value else (rest, b""))), own


def _may_vary(answer_id: bytes, time: bytes) -> bool:
    """Whether an id and a time are such that others in their place would change nothing."""
    return (
        time.isdigit()
        and time[0] != _ZERO
        and len(time) <= TIME_DIGITS_MAX
        # Hyphens are nearly always all that it has besides, and a table costs three times that.
        and (answer_id.replace(b"-", b"").isalnum() or answer_id.translate(None, b"-_").isalnum())
    )


def _says_nothing(shared: Shared) -> bool:
    """Whether an event around another id and time, and with another last string, says nothing."""
    before, between, middle, end = shared
    event = b"".join((before, b'1-a_"', between, b"1", middle, b"1a" if end else b"", end))
    if not event.startswith(OPENAI_START) or event.find(b"\n") != len(event) - 2 or _CR in event:
        return False
    data, seen = event[_DATA:-2], Meter(len)
    chunk, read = openai_first(data)
    return (
        seen.add_openai(chunk, len(event))
        and not seen.last
        and seen.run == MAIN_RUN
        and (read or not has_other_content(data))
    )
