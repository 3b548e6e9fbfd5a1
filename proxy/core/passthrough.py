"""What may pass unopened: canonical chunks of ordinary events, and events like the one before.

Rules: canonical means lower-case hexadecimal without padding or extension (RFC 9112 section 7.1
allows more; the rest takes the slow way and is re-framed). Sizes beyond the table are rare. What
passes here is metered exactly as decoding it would; whatever is not ordinary changes nothing.
This module must not know holds, phases, nor what becomes of an event.

Why a pattern is as good as a decoder. The events of a stream repeat themselves but for their
text, and often one more string (OpenAI's `obfuscation`). JSON is read from left to right, and the
reader's state behind a string does not depend on what stood in it. So if one event is ordinary,
and a copy with another text differs in that text alone, then every event of the same bytes around
a valid string is ordinary too. The text ends at its first quote; a quote inside would be escaped,
and what follows it could not be what followed the text.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from struct import Struct
from typing import Final, TypeAlias

import msgspec

from proxy.core.deltas import UNREADABLE, RunKey, anthropic_event, openai_delta
from proxy.core.http1 import SIZE_LINE_BYTES_MAX, SIZES
from proxy.core.metering import Meter

CHUNK_END: Final = b"}\n\n\r\n"
"""How every chunk ends that is one event of one JSON object."""
OPENAI_START: Final = b"data: {"
BLOCK_DELTA_START: Final = b"event: content_block_delta\ndata: {"
_BLOCK_DELTA_DATA: Final = len(BLOCK_DELTA_START) - 1

Take = Callable[[bytes, int, int, Meter], bool]
Pattern: TypeAlias = tuple[bytes, bytes, bytes, frozenset[bytes]]
"""What is before an event's text; before and behind the letters and digits of its last string, if
they vary, else empty; and if not, all that may be behind the text."""


def take_openai(data: bytes, start: int, stop: int, meter: Meter) -> bool:
    """Meter the one event in `data[start:stop]` if it is ordinary; False changes nothing."""
    if not data.startswith(OPENAI_START, start):
        return False
    return meter.add_openai(openai_delta(data[start + 6 : stop - 2]), stop - start)


def take_anthropic(data: bytes, start: int, stop: int, meter: Meter) -> bool:
    """The same for a content_block_delta."""
    if not data.startswith(BLOCK_DELTA_START, start):
        return False
    return meter.add_anthropic(
        anthropic_event(data[start + _BLOCK_DELTA_DATA : stop - 2]), stop - start
    )


PATTERN_BYTES_MAX: Final = 1_024
"""Events with more around their text are decoded."""
LENGTHS_MAX: Final = 24
"""Chunk lengths one stream keeps a beginning for."""
SEVERAL_MAX: Final = 12
"""Lengths known, above which none of several chunks is kept: there may be too many sums."""
TAILS_MAX: Final = 64
"""Ends of events one stream remembers."""
PADDING_MAX: Final = 32
"""Spaces before an event's last brace; Anthropic pads events so that their lengths tell less."""
LESSONS_MAX: Final = 8
"""Patterns learnt in a row that hardly paid, after which a stream is no more learnt from."""
MATCHES_MIN: Final = 8
"""Events a pattern must have let pass to have paid: learning costs about two decodings."""
ROOM_MAX: Final = 65_536
"""Bytes of text, and so events, that pass before somebody must look at the hold again."""

TEXTS_MAX: Final = 8_192
TEXT_BYTES_MAX: Final = 16
_texts: dict[bytes, tuple[str, int]] = {}
"""What short strings say, and how long they are. Few tokens make up most of any answer, and a
look-up costs a third of decoding. Shared by all streams, bounded, and tells nothing but time."""

PROVEN_MAX: Final = 256
_proven: Final[set[tuple[Take, RunKey, bytes, bytes, bytes, bytes, bytes]]] = set()
"""What was found to be a pattern, but for the id and the time of its answer, in which the streams
of a model differ: no decoder reads them, and to prove it once more costs half a lesson."""
_STATELESS: Final = frozenset({take_openai, take_anthropic})

_NO_LENGTHS: Final[dict[int, tuple[bytes, int]]] = {}
_SEVERAL: Final = bytes(1 << 16)
"""Stands for the beginning of a read of several chunks: longer than any, so that none has it."""
_decode_string: Final = msgspec.json.Decoder(str).decode


def _refuse(_data: bytes) -> bool:
    return False


def string_text(raw: bytes) -> tuple[str, int] | None:
    """Return what the JSON string of the bytes `raw` between its quotes says, and their number.

    None if it is invalid, or empty. In UTF-8 a text has no more bytes than it has here.
    """
    try:
        text = _decode_string(b'"%b"' % raw)
    except UNREADABLE:
        return None
    if not text:
        return None
    found = text, len(raw)
    if len(raw) <= TEXT_BYTES_MAX:
        if len(_texts) >= TEXTS_MAX:
            _texts.clear()
        _texts[raw] = found
    return found


class Passage:
    """The pattern of one stream, and what has passed by it since it was drained.

    `texts` and `sizes` (bytes of each event, without chunk framing) wait for `drain`; `room` is how
    many bytes of text may pass before the owner must look. Nothing passes until `learn`, nor
    after `close` until the next `learn`.
    """

    __slots__ = (
        "_end",
        "_granted",
        "_lengths",
        "_lessons",
        "_matches",
        "_middle",
        "_opening",
        "_run",
        "_tails",
        "_take",
        "_unlocked",
        "forward",
        "otherwise",
        "room",
        "sizes",
        "texts",
    )

    def __init__(self, take: Take, lessons: int = LESSONS_MAX) -> None:
        self.room = self._granted = 0
        self.texts: list[str] = []
        self.sizes: list[int] = []
        self.forward: Callable[[bytes], object] = len
        """Who is given what passes; nobody, as yet."""
        self.otherwise: Callable[[bytes], object] = _refuse
        """Who is given what does not."""
        self._take = take
        self._unlocked = _NO_LENGTHS
        """`_lengths` while events may pass, else an empty one: one test for both."""
        self._lengths: dict[int, tuple[bytes, int]] = _NO_LENGTHS
        """By the length of a whole chunk: its size line with `_opening`, and its event's size.

        By that of a read of several alike: `_SEVERAL`, and the length of each."""
        self._opening = b""
        self._tails: frozenset[bytes] = frozenset()
        """What may follow the text's closing quote, to the end of the chunk."""
        self._middle = b""
        """Or this, then letters and digits, then `_end`; empty: nothing varies behind the text."""
        self._end = b""
        self._run: RunKey | None = None
        self._lessons = lessons
        self._matches = 0

    def receive(self, data: bytes) -> object:
        """Give the read `data` to `forward`, metered, if it passes; else to `otherwise`.

        The hot path of the relay: whoever reads the socket calls this and nothing before it.
        """
        try:
            start, size = self._unlocked[len(data)]
        except KeyError:
            known = self._fit(data)
            if known is None:
                return self._receive_several(data)
            start, size = known
        # Where there is nothing to take off, CPython returns the very object (a test fails if one
        # does not), and `is` costs a fifth of comparing.
        rest = data.removeprefix(start)
        if rest is data:
            return self._receive_several(data)
        raw, _, tail = rest.partition(b'"')
        middle = self._middle
        if middle:
            behind = tail.removeprefix(middle)
            hole = behind.removesuffix(self._end)
            if behind is tail or hole is behind or not hole.isalnum():
                return self._receive_several(data)
        elif tail not in self._tails:
            return self._receive_several(data)
        found = _texts.get(raw) or string_text(raw)
        # Without text nothing uses up the room, and the lists would grow without bound.
        if found is None:
            return self.otherwise(data)
        text, length = found
        room = self.room - length
        if room < 0:
            return self.otherwise(data)
        self.room = room
        self.texts.append(text)
        self.sizes.append(size)
        # By a name of its own: Python 3.11 looks up `self.forward(...)` as a method each time.
        forward = self.forward
        forward(data)
        return True

    def passes(self, data: bytes) -> bool:
        """Whether the read `data` is chunks of one ordinary event each, metered now.

        As `receive`, but nobody is given it. False changes nothing and says nothing.
        """
        return self._pass_all(((data,),))

    def grant(self, room: int) -> None:
        """Let up to `room` more bytes of text pass; what has passed must be drained before."""
        self.room = self._granted = min(room, ROOM_MAX)

    def close(self) -> None:
        """Let nothing pass until the next `learn`."""
        self._unlocked = _NO_LENGTHS

    def look(self, data: bytes, meter: Meter) -> tuple[int, int]:
        """Meter the whole chunks of whole ordinary events that `data` begins with, decoding each.

        Returns how many bytes of `data` that is, and how many events. Learns from the last one,
        unless something else follows.
        """
        end = len(data)
        position = events = start = stop = 0
        while position < end:
            start = data.find(b"\r\n", position + 1, position + SIZE_LINE_BYTES_MAX) + 2
            size = SIZES.get(data[position : start - 2])
            if size is None:
                break
            stop = start + size
            if data[stop - 3 : stop + 2] != CHUNK_END or not self._take(data, start, stop, meter):
                break
            position = stop + 2
            events += 1
        if events and position == end:
            self.learn(data[start:stop], meter)
        return position, events

    def learn(self, event: bytes, meter: Meter) -> None:
        """Take `event`, which was the last to be metered and ordinary, as the pattern."""
        run, text = meter.run, meter.last
        # What was learnt before holds while the text of such events goes to the run it went to.
        self._unlocked = self._lengths if run == self._run else _NO_LENGTHS
        if self._matches >= MATCHES_MIN:
            self._matches, self._lessons = 0, LESSONS_MAX
        if not self._lessons:
            return
        found = _around(event, text)
        if found is None or len(event) - len(text) > PATTERN_BYTES_MAX:
            return
        opening, raw, tail = found
        if opening == self._opening and run == self._run and self._is_tail(tail):
            return
        self._matches = 0
        self._lessons -= 1
        middle, value, end = hole(tail)
        shape = (self._take, run, *_without_identity(opening), middle, end or tail)
        if shape not in _proven:
            other_tail = middle + value + b"0" + end if middle else tail
            probe = opening + raw + b'~"' + other_tail
            seen = Meter(len)
            if not (
                self._take(probe, 0, len(probe) - 2, seen)
                and seen.last == text + "~"
                and seen.run == run
            ):
                return
            if self._take in _STATELESS:
                if len(_proven) >= PROVEN_MAX:
                    _proven.clear()
                _proven.add(shape)
        fresh = opening != self._opening or run != self._run
        if fresh:
            self._lengths = {}
        if fresh or middle or self._middle or len(self._tails) >= TAILS_MAX:
            self._tails = frozenset()
        if not middle:
            self._tails |= _padded(tail)
        self._opening, self._run, self._middle, self._end = opening, run, middle, end
        self._unlocked = self._lengths

    def expect(self, own: bytes, pattern: Pattern, run: RunKey) -> None:
        """Take `pattern`, which other streams showed, for this one's; `first` finds out.

        This one's openings begin with `own`.
        """
        opening, self._middle, self._end, self._tails = pattern
        self._opening = own + opening
        self._run = run
        self._lengths = {}

    def first(self, data: bytes) -> tuple[bytes, str] | None:
        """Take the read `data` for the first event of the pattern expected; None, if it is not.

        As `receive`, but the owner meters it: returns the event and its text. From then on others
        pass.
        """
        line, _, chunk = data.partition(b"\r\n")
        rest = chunk.removeprefix(self._opening)
        size = SIZES.get(line)
        if size is None or rest is chunk or len(chunk) != size + 2:
            return None
        raw, _, tail = rest.partition(b'"')
        if self._middle:
            behind = tail.removeprefix(self._middle)
            value = behind.removesuffix(self._end)
            if behind is tail or value is behind or not value.isalnum():
                return None
        elif tail not in self._tails:
            return None
        found = _texts.get(raw) or string_text(raw)
        if found is None or found[1] > self.room:
            return None
        self.room = self._granted = self.room - found[1]
        self._lengths[len(data)] = (b"%b\r\n%b" % (line, self._opening), size)
        self._unlocked = self._lengths
        return chunk[:size], found[0]

    @property
    def pattern(self) -> Pattern:
        """What was learnt last."""
        return self._opening, self._middle, self._end, self._tails

    @property
    def run(self) -> RunKey | None:
        """Where the text of the pattern goes; None while there is none."""
        return self._run

    def drain(self, meter: Meter) -> int:
        """Meter what has passed; return how many events it was."""
        events = len(self.sizes)
        if events:
            room = self.room
            self.texts, self.sizes = meter.add_all(self.texts, self.sizes, self._granted - room)
            self._granted = room
            self._matches += events
        return events

    def _is_tail(self, tail: bytes) -> bool:
        middle, end = self._middle, self._end
        if not middle:
            return tail in self._tails
        hole = tail[len(middle) : -len(end)]
        return hole.isalnum() and tail == middle + hole + end

    def _pass_several(self, data: bytes) -> bool:
        """Whether `data` is more than one chunk and all of them pass."""
        lengths, length = self._unlocked, len(data)
        if lengths is _NO_LENGTHS:
            return False
        known = lengths.get(length)
        if known is not None and known[0] is _SEVERAL:
            if self._pass_all(_pieces(known[1])(data)):
                return True
            # One chunk may be as long as several are, and others be cut elsewhere.
            if self._fit(data) is not None:
                return self.passes(data)
        chunks = data.split(CHUNK_END)
        if len(chunks) < 3 or chunks.pop():
            return False
        if not self._pass_all([(chunk + CHUNK_END,) for chunk in chunks]):
            return False
        each = len(chunks[0]) + len(CHUNK_END)
        alike = each * len(chunks) == length < len(_SEVERAL)
        if known is None and len(lengths) < SEVERAL_MAX and alike:
            lengths[length] = (_SEVERAL, each)
        return True

    def _receive_several(self, data: bytes) -> object:
        """As `receive`, of what is not one chunk that passes."""
        if self._pass_several(data):
            self.forward(data)
            return True
        return self.otherwise(data)

    def _pass_all(self, chunks: Iterable[tuple[bytes]]) -> bool:
        """Whether all of `chunks` pass, of which nobody is given any; if not, none has."""
        forward, otherwise = self.forward, self.otherwise
        self.forward, self.otherwise = len, _refuse
        receive, room, number = self.receive, self.room, len(self.texts)
        try:
            for (chunk,) in chunks:
                if not receive(chunk):
                    self.room = room
                    del self.texts[number:]
                    del self.sizes[number:]
                    return False
        finally:
            self.forward, self.otherwise = forward, otherwise
        return True

    def _fit(self, data: bytes) -> tuple[bytes, int] | None:
        """Return what a chunk as long as `data` begins with, None if `data` does not."""
        lengths, length = self._unlocked, len(data)
        if lengths is _NO_LENGTHS:
            return None
        line = data.partition(b"\r\n")[0]
        size = SIZES.get(line)
        if size is None or length != len(line) + size + 4:  # more than one chunk
            return None
        start = b"%b\r\n%b" % (line, self._opening)
        if not data.startswith(start):
            return None
        if len(lengths) >= LENGTHS_MAX:
            lengths.clear()
        known = lengths[length] = (start, size)
        return known


@lru_cache(maxsize=64)
def _pieces(size: int) -> Callable[[bytes], Iterable[tuple[bytes]]]:
    """Return what cuts bytes into pieces of `size`; a slice costs twice as much."""
    return Struct(f"{size}s").iter_unpack


def _around(event: bytes, text: str) -> tuple[bytes, bytes, bytes] | None:
    """Split `event` around the string value that says `text`: before, its bytes, and after."""
    raw = text.encode("utf-8", "replace")
    for quote in (b':"', b': "'):
        before, found, after = event.partition(b'%b%b"' % (quote, raw))
        if raw and found:
            return before + quote, raw, after + b"\r\n"
    return None


def _without_identity(opening: bytes) -> tuple[bytes, bytes, bytes]:
    """Take the answer's id and time out of what is before an event's text: the parts around them.

    Both are values of what they are in, whatever that is: letters and digits leave the JSON what
    it was, for as long as the event was decoded with them.
    """
    before, _, rest = opening.partition(b'"id":"')
    value, quote, after = rest.partition(b'"')
    if not quote or not value.translate(None, b"-_").isalnum():
        return opening, b"", b""
    between, _, rest = after.partition(b'"created":')
    number, comma, end = rest.partition(b",")
    if not comma or not number.isdigit():
        return before, after, b""
    return before, between, end


@lru_cache(maxsize=64)  # hardly anything of a stream's own is in it
def _padded(tail: bytes) -> frozenset[bytes]:
    """Return `tail`, and if it is padded the same with any padding: JSON does not tell them apart.

    The last brace closes the whole object, so what is before it is in no string.
    """
    before, _, end = tail.rpartition(b"}")
    bare = before.rstrip(b" ")
    if bare == before:
        return frozenset([tail])
    return frozenset([b"%b%b}%b" % (bare, b" " * n, end) for n in range(PADDING_MAX + 1)]) | {tail}


def hole(tail: bytes) -> tuple[bytes, bytes, bytes]:
    """Split `tail` around the value of its last string; empty parts if that is not alphanumeric."""
    before, _, end = tail.rpartition(b'"')
    middle, _, value = before.rpartition(b':"')
    if middle and value.isalnum():
        return middle + b':"', value, b'"' + end
    return b"", b"", b""
