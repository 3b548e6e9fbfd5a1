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

from collections.abc import Callable
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from proxy.core.deltas import UNREADABLE, RunKey, anthropic_event, openai_delta
from proxy.core.metering import Meter

SIZE_MAX: Final = 8_192
SIZES: Final = {b"%x" % size: size for size in range(SIZE_MAX + 1)}
"""Size by its chunk-size line."""
SIZE_LINE_BYTES_MAX: Final = len(b"%x\r\n" % SIZE_MAX)

CHUNK_END: Final = b"}\n\n\r\n"
"""How every chunk ends that is one event of one JSON object."""
OPENAI_START: Final = b"data: {"
BLOCK_DELTA_START: Final = b"event: content_block_delta\ndata: {"
_BLOCK_DELTA_DATA: Final = len(BLOCK_DELTA_START) - 1

Take = Callable[[bytes, int, int, Meter], bool]


class Reader(Protocol):
    """Takes one read off the wire."""

    def __call__(self, data: bytes) -> None:
        """Take `data`."""


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
TAILS_MAX: Final = 64
"""Ends of events one stream remembers."""
PADDING_MAX: Final = 32
"""Spaces before an event's last brace; Anthropic pads events so that their lengths tell less."""
LESSONS_MAX: Final = 8
"""Patterns learnt in a row that hardly paid, after which a stream is no more learnt from."""
MATCHES_MIN: Final = 8
"""Events a pattern must have let pass to have paid: learning costs about two decodings."""
ROOM_MAX: Final = 65_536
"""Characters, and so events, that pass before somebody must look at the hold again."""

CLOSINGS_MAX: Final = 32
TEXTS_MAX: Final = 4_096
"""Texts remembered of events that close alike."""
TEXTS_ALONE_MAX: Final = 64
"""The same while one stream alone closes so: what follows its texts may be its own for ever."""
TEXT_BYTES_MAX: Final = 16
_closings: dict[bytes, dict[bytes, str]] = {}
"""What short strings say: by each `closing`, texts by the bytes of a string and what follows it.
Few tokens make up most of any answer, and one look-up finds that a string is valid, what it says
and that it ends where it should. Shared by all streams, bounded, and it tells nothing but time."""

_NO_LENGTHS: Final[dict[int, tuple[bytes, int]]] = {}
_decode_string: Final = msgspec.json.Decoder(str).decode


def _discard(data: bytes) -> None:
    del data


class Passage:
    """The pattern of one stream, and what has passed by it since it was drained.

    `texts` and `sizes` (bytes of each event, without chunk framing) wait for `drain`; `room` is how
    many characters may pass before the owner must look. Nothing passes until `learn`, nor
    after `close` until the next `learn`. What passes goes to `write`, the rest to `otherwise`.
    """

    __slots__ = (
        "_closing",
        "_end",
        "_granted",
        "_kin",
        "_lengths",
        "_lessons",
        "_limit",
        "_matches",
        "_middle",
        "_opening",
        "_room",
        "_run",
        "_said",
        "_said_max",
        "_tails",
        "_take",
        "_unlocked",
        "_weighed",
        "otherwise",
        "sizes",
        "texts",
        "write",
    )

    def __init__(self, take: Take, lessons: int = LESSONS_MAX) -> None:
        self._room = self._granted = self._weighed = self._limit = 0
        """What the first `_weighed` texts have left of the room; and how many texts of at most
        `TEXT_BYTES_MAX` characters there may be, the others left unweighed."""
        self.texts: list[str] = []
        self.sizes: list[int] = []
        self.write: Callable[[bytes], object] = _discard
        self.otherwise: Reader = _discard
        self._take = take
        self._unlocked = _NO_LENGTHS
        """`_lengths` while events may pass, else an empty one: one test for both."""
        self._lengths: dict[int, tuple[bytes, int]] = _NO_LENGTHS
        """By the length of a whole chunk: its size line with `_opening`, and its event's size."""
        self._opening = b""
        self._tails: frozenset[bytes] = frozenset()
        """What may follow the text's closing quote, to the end of the chunk."""
        self._middle = b""
        """Or this, then letters and digits, then `_end`; empty: nothing varies behind the text."""
        self._end = b""
        self._closing = b""
        self._said: dict[bytes, str] = {}
        """Of `_closings`, and how many it may be."""
        self._said_max = 0
        self._kin: frozenset[bytes] = frozenset()
        """Those of `_tails` that `_closing` stands for."""
        self._run: RunKey | None = None
        self._lessons = lessons
        self._matches = 0

    @property
    def room(self) -> int:
        """How many more characters may pass."""
        texts, weighed = self.texts, self._weighed
        if len(texts) > weighed:
            self._set_room(self._room - len("".join(texts[weighed:])))
        return self._room

    def data_received(self, data: bytes) -> None:
        """Give the read `data` to `write` if it `passes`, else to `otherwise`.

        The hot path of the relay: what can be told of a read that begins with a known line, says
        what was said before and closes as others did. No such text is empty or long, and none
        holds a line end, as what does not begin with `start` would.
        """
        known = self._unlocked.get(len(data))
        if known is not None:
            start, size = known
            rest, end = data.removeprefix(start), self._end
            if end:
                body = rest.removesuffix(end)
                said, _, hole = body.rpartition(b'"')
                text = self._said.get(said) if hole.isalnum() and body != rest else None
            else:
                text = self._said.get(rest)
            texts = self.texts
            if text is not None and len(texts) < self._limit:
                texts.append(text)
                self.sizes.append(size)
                write = self.write  # called as an attribute it would be looked up as a method
                write(data)
                return
        if self.passes(data):
            self.write(data)
        else:
            self.otherwise(data)

    def passes(self, data: bytes) -> bool:
        """Whether the read `data` is chunks of one ordinary event each, metered now.

        False changes nothing and says nothing.
        """
        if self._unlocked is _NO_LENGTHS:
            return False
        opening, end, texts, rest = self._opening, self._end, self.texts, data
        number, line, size = len(texts), b"", 0
        while rest:
            line, _, rest = rest.partition(b"\r\n")
            size = SIZES.get(line, -2)
            stop = size + 2
            event, rest = rest[:stop], rest[stop:]
            inside = event.removeprefix(opening)
            said = inside if len(event) == stop and event != inside else b""
            if end and said:
                body = inside.removesuffix(end)
                said, _, hole = body.rpartition(b'"')
                if body == inside or not hole.isalnum():
                    said = b""
            text = self._said.get(said)
            if text is not None and len(texts) < self._limit:
                texts.append(text)
                self.sizes.append(size)
            elif not said or not self._pass_new(said, size):
                room = self.room + len("".join(texts[number:]))
                del texts[number:]
                del self.sizes[number:]
                self._set_room(room)
                return False
        if len(texts) == number + 1 and len(texts[-1]) <= TEXT_BYTES_MAX:
            if len(self._lengths) >= LENGTHS_MAX:
                self._lengths.clear()
            self._lengths[len(data)] = b"%b\r\n%b" % (line, opening), size
        return True

    def _pass_new(self, said: bytes, size: int) -> bool:
        """Whether an event of `size` passes that says what is not remembered, or had no room."""
        tail = b""
        if self._end:
            raw = said.removesuffix(self._closing)
            alike = raw != said
        else:
            raw, _, tail = said.partition(b'"')
            alike = tail in self._tails
        # Without text nothing uses up the room, and the lists would grow without bound.
        if not raw or not alike:
            return False
        try:
            text = _decode_string(b'"%b"' % raw)
        except UNREADABLE:
            return False
        texts, more = self.texts, len(text) // TEXT_BYTES_MAX
        if len(texts) + more >= self._limit and self.room < len(text):
            return False
        self._limit -= more
        texts.append(text)
        self.sizes.append(size)
        if len(raw) <= TEXT_BYTES_MAX and (self._end or tail in self._kin):
            if len(self._said) >= self._said_max:
                self._said.clear()
            self._said[said] = text
        return True

    def grant(self, room: int) -> None:
        """Let up to `room` more characters pass; whatever has passed must be drained before."""
        self._granted = min(room, ROOM_MAX)
        self._set_room(self._granted)

    def _set_room(self, room: int) -> None:
        """Take `room` for what all texts have left."""
        self._room = room
        self._weighed = number = len(self.texts)
        self._limit = number + room // TEXT_BYTES_MAX

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
        middle, hole, end = _hole(tail)
        other_tail = middle + hole + b"0" + end if middle else tail
        probe = opening + raw + b'~"' + other_tail
        seen = Meter(len)
        if not (
            self._take(probe, 0, len(probe) - 2, seen)
            and seen.last == text + "~"
            and seen.run == run
        ):
            return
        fresh = opening != self._opening or run != self._run
        if fresh:
            self._lengths = {}
        if fresh or middle or self._middle or len(self._tails) >= TAILS_MAX:
            self._tails = frozenset()
        if middle:
            closing = b'"' + middle[:-1]
        else:
            closing, self._kin = _padded(tail)
            self._tails |= self._kin
        if closing != self._closing:
            self._said, self._said_max = _said_before(closing)
        self._opening, self._closing, self._run = opening, closing, run
        self._middle, self._end = middle, end
        self._unlocked = self._lengths

    def drain(self, meter: Meter) -> int:
        """Meter what has passed; return how many events it was."""
        events = len(self.sizes)
        if events:
            room = self.room
            meter.add_all(self.texts, self.sizes, self._granted - room)
            self._granted = room
            self._matches += events
            self.texts.clear()
            self.sizes.clear()
            self._set_room(room)
        return events

    def _is_tail(self, tail: bytes) -> bool:
        middle, end = self._middle, self._end
        if not middle:
            return tail in self._tails
        hole = tail[len(middle) : -len(end)]
        return hole.isalnum() and tail == middle + hole + end


def _said_before(closing: bytes) -> tuple[dict[bytes, str], int]:
    """Return what was said before `closing`, and how much of it to remember."""
    said = _closings.get(closing)
    if said is not None:
        return said, TEXTS_MAX
    if len(_closings) >= CLOSINGS_MAX:
        _closings.clear()
    said = _closings[closing] = {}
    return said, TEXTS_ALONE_MAX


def _around(event: bytes, text: str) -> tuple[bytes, bytes, bytes] | None:
    """Split `event` around the string value that says `text`: before, its bytes, and after."""
    raw = text.encode("utf-8", "replace")
    for quote in (b':"', b': "'):
        before, found, after = event.partition(b'%b%b"' % (quote, raw))
        if raw and found:
            return before + quote, raw, after + b"\r\n"
    return None


@lru_cache(maxsize=64)  # hardly anything of a stream's own is in it
def _padded(tail: bytes) -> tuple[bytes, frozenset[bytes]]:
    """Return the quote before `tail` and what it begins with, and all tails that go on alike.

    That is `tail`, and if it is padded the same with any padding: JSON does not tell them apart.
    The last brace closes the whole object, so what is before it is in no string.
    """
    before, _, end = tail.rpartition(b"}")
    bare = before.rstrip(b" ")
    if bare == before:
        return b'"' + tail, frozenset([tail])
    padded = [b"%b%b}%b" % (bare, b" " * n, end) for n in range(PADDING_MAX + 1)]
    return b'"' + bare, frozenset([*padded, tail])


def _hole(tail: bytes) -> tuple[bytes, bytes, bytes]:
    """Split `tail` around the value of its last string, if it is one of letters and digits."""
    before, _, end = tail.rpartition(b'"')
    middle, _, value = before.rpartition(b':"')
    if middle and value.isalnum():
        return middle + b':"', value, b'"' + end
    return b"", b"", b""
