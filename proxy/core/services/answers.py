"""What a service's answer says of itself as it passes: usage, images, an error, the last event.

Rules: never raises, never keeps a piece; a megabyte of base64 costs one look. A figure that cannot
be true is an anomaly and counts as absent (usage.py). Usage in one body is one report; in a stream
of pictures every completed one reports its own, so those add up. This module must not know what
was asked for, nor prices.

Sources, all openai-python `src/openai/types`: `create_embedding_response.py` (prompt_tokens),
`images_response.py` (input_tokens, input_tokens_details of image and text tokens, output_tokens;
size, quality), `image_gen_completed_event.py` and `image_edit_completed_event.py` ("the number of
image tokens in the output image"), `audio/transcription.py` (usage of type tokens with
input_token_details, or of type duration with seconds), `audio/transcription_verbose.py`
(duration), `audio/transcription_text_done_event.py`; the OpenAI specification's
SpeechAudioDoneEvent, and its guide to speech (`pcm` is 24 kHz, 16 bits, no header). Rerank:
Cohere's `meta.billed_units.search_units` and Jina's `usage.total_tokens`.
"""

import re
from collections.abc import Mapping
from typing import Final

import orjson
from msgspec.structs import replace

from proxy.core.deltas import as_dict
from proxy.core.entities import Usage
from proxy.core.json_members import Member, MemberScanner, Watch
from proxy.core.services.service import AnswerReader, Measured
from proxy.core.services.speech import MINUTE_TOKENS
from proxy.core.sound.length import SoundLength
from proxy.core.usage import UsageTally
from proxy.core.usage_reports import TOKENS_MAX

REPORT_BYTES_MAX: Final = 16_384
"""A usage object larger than this is none."""
AUDIO_SECONDS_MAX: Final = 1_000_000
_REPORT: Final = Watch(keep_bytes_max=REPORT_BYTES_MAX)
_WORD: Final = Watch(keep_bytes_max=64)
_COUNTED: Final = Watch(measure=True)
_BODY: Final = {
    "usage": _REPORT,
    "meta": _REPORT,
    "error": _WORD,
    "data": _COUNTED,
    "duration": _WORD,
    "size": _WORD,
    "quality": _WORD,
}
_EVENT: Final = {
    "type": _WORD,
    "usage": _REPORT,
    "error": _WORD,
    "size": _WORD,
    "quality": _WORD,
}
_PICTURES: Final = frozenset({"image_generation.completed", "image_edit.completed"})
_TERMINAL: Final = _PICTURES | {"speech.audio.done", "transcript.text.done"}
PLAIN_BYTES_A_SECOND: Final = 48_000
"""`pcm` is 24,000 samples of 2 bytes a second."""
_PLAIN: Final = frozenset({"audio/pcm", "audio/l16"})
_LINE_END: Final = re.compile(rb"[\r\n]")
_DATA: Final = b"data:"
_SPACE, _LF, _CR = b" \n\r"


class BodyAnswer:
    """Reads a plain JSON answer; an `AnswerReader`."""

    __slots__ = ("_drawn", "_scanner")

    def __init__(self, *, drawn: bool = False) -> None:
        self._scanner = MemberScanner(_BODY)
        self._drawn = drawn
        """Whether output tokens are of images, where nothing says otherwise."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        self._scanner.feed(piece)

    def finish(self) -> Measured:
        """Tell what was seen."""
        members = self._scanner.members
        usage, anomalies = _usage(members, drawn=self._drawn)
        data = members.get("data")
        return Measured(
            usage=usage,
            anomalies=anomalies,
            images=data.elements if data is not None and data.kind == "array" else None,
            size=_word(members, "size"),
            quality=_word(members, "quality"),
            error=_is_error(members),
            readable=self._scanner.complete,
        )


class EventAnswer:
    """Reads a stream of server-sent events, however large each is; an `AnswerReader`."""

    __slots__ = ("_after_cr", "_drawn", "_head", "_is_data", "_measured", "_scanner")

    def __init__(self, *, drawn: bool = False) -> None:
        self._drawn = drawn
        self._measured = Measured(terminal=False)
        self._scanner: MemberScanner | None = None
        """Of the event that has begun, if it has data."""
        self._head = b""
        """The first bytes of the line, until they tell whether it is data."""
        self._is_data: bool | None = None
        self._after_cr = False
        """A line feed that comes next belongs to the line end before it."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        position = 0
        if self._after_cr and piece:
            self._after_cr = False
            position = 1 if piece[0] == _LF else 0
        while (found := _LINE_END.search(piece, position)) is not None:
            end = found.start()
            self._text(piece[position:end])
            self._line_ended()
            position = end + 1
            if piece[end] == _CR:
                if position == len(piece):
                    self._after_cr = True
                elif piece[position] == _LF:
                    position += 1
        self._text(piece[position:])

    def finish(self) -> Measured:
        """Tell what was seen in whole events."""
        return self._measured

    def _text(self, text: bytes) -> None:
        """Take a part of a line."""
        if not text or self._is_data is False:
            return
        if self._is_data is None:
            self._head += text
            if len(self._head) <= len(_DATA):
                return
            self._is_data = self._head.startswith(_DATA)
            if not self._is_data:
                return
            text, self._head = self._head[len(_DATA) :], b""
            if self._scanner is not None:
                self._scanner.feed(b"\n")
        if self._scanner is None:
            self._scanner = MemberScanner(_EVENT)
        self._scanner.feed(text)

    def _line_ended(self) -> None:
        blank = self._is_data is None and not self._head
        self._is_data, self._head = None, b""
        if blank and self._scanner is not None:
            members, complete = self._scanner.members, self._scanner.complete
            self._scanner = None
            if complete:
                self._take(members)

    def _take(self, members: Mapping[str, Member]) -> None:
        """Add what one event says."""
        kind = _word(members, "type")
        usage, anomalies = _usage(members, drawn=self._drawn)
        before = self._measured
        picture = kind in _PICTURES
        if usage is not None and picture and before.usage is not None:
            usage = _sum(before.usage, usage)
        self._measured = replace(
            before,
            usage=before.usage if usage is None else usage,
            anomalies=before.anomalies + anomalies,
            images=(before.images or 0) + 1 if picture else before.images,
            size=_word(members, "size") or before.size,
            quality=_word(members, "quality") or before.quality,
            error=before.error or _is_error(members) or kind == "error",
            terminal=before.terminal or kind in _TERMINAL,
        )


class SpokenAnswer:
    """Measures sound, for a price by tokens of it; an `AnswerReader`."""

    __slots__ = ("_is_plain", "_sound")

    def __init__(self, *, is_plain: bool) -> None:
        self._sound = SoundLength()
        self._is_plain = is_plain
        """Samples without any header."""

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""
        self._sound.feed(piece)

    def finish(self) -> Measured:
        """Tell how much was spoken, if the sound says how long it is."""
        length = self._sound.milliseconds()
        if self._is_plain:
            length = self._sound.size * 1_000 // PLAIN_BYTES_A_SECOND
        return Measured(spoken=None if length is None else -(-length * MINUTE_TOKENS // 60_000))


class OpaqueAnswer:
    """Passes over an answer that says nothing of itself: text, subtitles; an `AnswerReader`."""

    __slots__ = ()

    def feed(self, piece: bytes) -> None:
        """Take the next bytes of the body."""

    def finish(self) -> Measured:
        """Tell nothing."""
        return Measured()


def open_answer(endpoint: str, content_type: str) -> AnswerReader:
    """Return the reader for a service's answer of this content type (any case, parameters)."""
    media = content_type.partition(";")[0].strip().lower()
    drawn = endpoint.startswith("images_")
    if media == "text/event-stream":
        return EventAnswer(drawn=drawn)
    if media == "application/json" or media.endswith("+json"):
        return BodyAnswer(drawn=drawn)
    if endpoint == "speech":
        return SpokenAnswer(is_plain=media in _PLAIN)
    return OpaqueAnswer()


def _usage(members: Mapping[str, Member], *, drawn: bool) -> tuple[Usage | None, tuple[str, ...]]:
    """Read what is reported in whatever place; None when nothing is."""
    tally = UsageTally()
    report = as_dict(_value(members, "usage"))
    audio_ms = milliseconds(report.get("seconds"))
    if audio_ms is None:
        audio_ms = milliseconds(_value(members, "duration"))
    units = as_dict(as_dict(_value(members, "meta")).get("billed_units"))
    searches = _count(units.get("search_units"))
    if report:
        tally.openai(_plain(report))
    if not tally.seen and audio_ms is None and searches is None:
        return None, tally.anomalies
    usage = replace(tally.usage(), audio_ms=audio_ms or 0, searches=searches or 0)
    return _with_images(usage, report, drawn=drawn), tally.anomalies


def _with_images(usage: Usage, report: dict[str, object], *, drawn: bool) -> Usage:
    """Count what an image call wrote as images, but for the text it says it wrote."""
    if not drawn or usage.image_output:
        return usage
    made = as_dict(report.get("output_tokens_details"))
    text = min(_count(made.get("text_tokens")) or 0, usage.output)
    return replace(usage, output=text, image_output=usage.output - text)


def _plain(report: dict[str, object]) -> dict[str, object]:
    """Bring a usage object to the names core/usage.py knows."""
    if "input_token_details" in report:
        details = as_dict(report["input_token_details"])
        report = {**report, "prompt_tokens_details": details}
    if report.keys() & {"prompt_tokens", "input_tokens"} or "total_tokens" not in report:
        return report
    return {**report, "prompt_tokens": report["total_tokens"]}


def _sum(one: Usage, other: Usage) -> Usage:
    return replace(
        one,
        input_uncached=one.input_uncached + other.input_uncached,
        cache_read=one.cache_read + other.cache_read,
        image_input=one.image_input + other.image_input,
        output=one.output + other.output,
        image_output=one.image_output + other.image_output,
    )


def milliseconds(value: object) -> int | None:
    """Read seconds, which may have a fraction, rounding up; None for what cannot be a length."""
    if isinstance(value, str) and len(value) <= 16 and value.replace(".", "", 1).isdecimal():
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= AUDIO_SECONDS_MAX:
        return None
    return -int(-value * 1000 // 1)


def _count(value: object) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None


def _is_error(members: Mapping[str, Member]) -> bool:
    """Whether there is a truthy error."""
    member = members.get("error")
    if member is None or member.kind == "null":
        return False
    return member.value not in {b"false", b"{}", b'""', b"0", b"[]"}


def _word(members: Mapping[str, Member], name: str) -> str:
    value = _value(members, name)
    return value if isinstance(value, str) else ""


def _value(members: Mapping[str, Member], name: str) -> object:
    """Return a small member's value; None for none, or one that is not all there."""
    member = members.get(name)
    if member is None or member.value is None:
        return None
    try:
        value: object = orjson.loads(member.value)
    except orjson.JSONDecodeError:  # A number beyond every float.
        return None
    return value
