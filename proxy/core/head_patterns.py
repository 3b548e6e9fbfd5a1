"""Heads of responses that come again: those of one upstream differ in a few values, and in no more.

Rules: what is known again here is what `parse_head` would make of it, framing and all; whatever is
not known goes there. A pattern is learnt from heads that were parsed, and a value may vary where
two of them differed, unless the framing hangs on it. This module must not know what comes behind
a head.

Why a pattern is as good as the parser. Everything but the values is compared byte for byte with
what was parsed; a value ends at its first CR, which has to be that of its line end, and holds
neither LF nor NUL. So the lines are where the parser would cut them, under names it took, and of
a value it asks no more; what a noted one says is taken from it anew.

A provider's head has 15 to 25 lines, of which ten are never the same again (a date, what is left
of a rate limit, a cookie): 82,000 user instructions line by line, 30,000 so.
"""

from itertools import count
from typing import Final

from msgspec import Struct

from proxy.core.response_head import (
    LENGTHS,
    NOTED,
    PASSED_ON,
    Framing,
    ResponseHead,
    content_length,
)

HEAD_BYTES_MAX: Final = 4_096
"""Longer heads are parsed."""
SLACK_BYTES: Final = 256
"""By how much a head may be longer than the one its pattern was learnt from. What follows a value
is copied once to compare it, so the less of the body is looked at the better."""
PATTERNS_MAX: Final = 64
"""Heads, by the names of their lines, that are known or may be soon."""
VARIED_MAX: Final = 32
"""Lines of one head that may vary: a look costs two copies of what is behind each, a pattern."""
EAGER_MAX: Final = 256
"""Heads learnt from in turn; after so many, one of `RELUCTANCE`: some upstreams' never repeat."""
RELUCTANCE: Final = 16

_OK: Final = 200
_LF, _NUL = b"\n\0"
_LENGTH_NAME: Final = "content-length"
_FIXED: Final = NOTED - {_LENGTH_NAME, "x-request-id", "request-id", *PASSED_ON}
"""Headers that make another pattern of a head when they say something else."""


class _Pattern(Struct, frozen=True, gc=False):
    first: bytes
    """All up to the first value that varies: there it ends in the colon before it."""
    runs: tuple[bytes, ...]
    """What follows the CR behind each value, to the next one or the end of the head."""
    reach: int
    """How much of a read the head may take."""
    size: int
    """Of all that and the CRs."""
    marked: tuple[tuple[int, str], ...]
    """Which of the values that vary are noted, and under which names."""
    framing: Framing
    length: int
    """-1: among the values."""
    keep_alive: bool
    noted: dict[str, bytes]
    same: ResponseHead | None
    """Where nothing was seen to vary: the one that it is."""


class _Sketch(Struct):
    lines: list[bytes]
    varied: set[int]
    pattern: _Pattern | None = None


_sketches: Final[dict[tuple[bytes, ...], _Sketch]] = {}
"""Heads that were parsed, by the names of their lines and whatever may not vary."""
_patterns: Final[list[_Pattern]] = []
"""Those asked for most often come first, as each that was found moves up by one."""
_missed: Final = count()


def known_head(data: bytes) -> tuple[ResponseHead, bytes] | None:
    """Return the head that `data` begins with, and what is behind it; None: parse it.

    Raises FramingError for a length that is none.
    """
    for pattern in _patterns:
        same = pattern.same
        if same is not None:
            rest = data.removeprefix(pattern.first)
            if rest is data:
                continue
            if pattern is not _patterns[0]:
                _move_up(pattern)
            return same, rest
        start = data if len(data) <= pattern.reach else data[: pattern.reach]
        rest = start.removeprefix(pattern.first)
        if rest is start:  # saves the rest of the look; what decides is the sum of all lengths
            continue
        values: list[bytes] = []
        for run in pattern.runs:
            value, _, behind = rest.partition(b"\r")
            rest = behind.removeprefix(run)
            if rest is behind:
                break
            values.append(value)
        else:
            together = b"".join(values)
            end = pattern.size + len(together)
            if end != len(start) - len(rest) or _LF in together or _NUL in together:
                return None
            noted, length = pattern.noted.copy(), pattern.length
            for place, name in pattern.marked:
                noted[name] = values[place].strip(b" \t")
            if length < 0:
                said = noted[_LENGTH_NAME]
                length = LENGTHS.get(said) or content_length(said)
            if pattern is not _patterns[0]:
                _move_up(pattern)
            block = data[: end - 4]
            head = ResponseHead(_OK, block, pattern.framing, length, pattern.keep_alive, noted)
            return head, rest if start is data else data[end:]
    return None


def _move_up(pattern: _Pattern) -> None:
    place = _patterns.index(pattern)
    _patterns[place - 1 : place + 1] = pattern, _patterns[place - 1]


def learn_head(head: ResponseHead) -> None:
    """Take a head that was parsed for one whose like may come again."""
    if head.status != _OK or len(head.block) > HEAD_BYTES_MAX - 4:
        return
    missed = next(_missed)
    if missed > EAGER_MAX and missed % RELUCTANCE:
        return
    lines = head.block.split(b"\r\n")
    written = [line.partition(b":")[0] for line in lines]
    names = ["", *[name.decode("ascii").lower() for name in written[1:]]]
    if len([name for name in names if name in NOTED]) != len(head.noted):
        return  # one is repeated
    alike = zip(lines, written, names, strict=True)
    key = tuple([line if name in _FIXED or not name else as_is for line, as_is, name in alike])
    sketch = _sketches.get(key)
    if sketch is None:
        if len(_sketches) >= PATTERNS_MAX:
            _sketches.clear()
            _patterns.clear()
        _sketches[key] = _Sketch(lines, set())
        return
    pairs = enumerate(zip(sketch.lines, lines, strict=True))
    sketch.varied |= {place for place, (before, line) in pairs if before != line}
    if sketch.pattern is not None:
        _patterns.remove(sketch.pattern)
        sketch.pattern = None
    if len(sketch.varied) > VARIED_MAX:
        return
    sketch.pattern = _pattern(head, lines, written, names, sorted(sketch.varied))
    _patterns.append(sketch.pattern)


def _pattern(
    head: ResponseHead,
    lines: list[bytes],
    written: list[bytes],
    names: list[str],
    varied: list[int],
) -> _Pattern:
    """Put together what stands around the values of the lines `varied`."""
    parts, part = [], lines[0]
    for place, line in enumerate(lines[1:], 1):
        part += b"\r\n"
        if place in varied:
            parts.append(part + written[place] + b":")
            part = b""
        else:
            part += line
    first, *others = *parts, part + b"\r\n\r\n"
    marked = tuple([(at, names[place]) for at, place in enumerate(varied) if names[place] in NOTED])
    return _Pattern(
        first=first,
        runs=tuple([part[1:] for part in others]),
        reach=len(head.block) + 4 + SLACK_BYTES,
        size=sum(map(len, parts)) + len(part) + 4,
        marked=marked,
        framing=head.framing,
        length=-1 if any(name == _LENGTH_NAME for _, name in marked) else head.length,
        keep_alive=head.keep_alive,
        noted=head.noted,
        same=None if varied else head,
    )
