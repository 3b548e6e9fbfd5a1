"""Chunks of a text completion's stream: texts, end, error, usage.

Rules: as for core/deltas.py: never raises, and refuses nothing a sane upstream sends. With `echo`
each choice begins with its prompt, which is no output: that many characters are not counted. This
module must not know framing or billing.

Sources: the OpenAI specification's CreateCompletionResponse; WIRE.md section 1.
"""

from typing import Final

import msgspec
from msgspec import Struct

from proxy.core.deltas import (
    UNREADABLE,
    RunKey,
    as_dict,
    as_index,
    as_list,
    as_reason,
    countable_text,
    load_object,
)
from proxy.core.metering import Meter
from proxy.core.sights import FAILED, GARBAGE, Sight

_START: Final = b"data: {"
_DONE: Final = b"[DONE]"
_TERMINAL: Final = Sight(terminal=True)


class TextChoice(Struct, frozen=True, gc=False):
    """One choice of a chunk."""

    text: str | None = None
    index: int = 0
    finish_reason: str | None = None


class TextChunk(Struct, frozen=True, gc=False):
    """One `text_completion` chunk."""

    choices: tuple[TextChoice, ...] = ()
    usage: object = None
    error: object = None


_decode: Final = msgspec.json.Decoder(TextChunk).decode


def text_chunk(data: bytes) -> TextChunk | None:
    """Decode the data of one event (not `[DONE]`), None if it is no object; never raises."""
    try:
        return _decode(data)
    except UNREADABLE:
        value = load_object(data)
    if value is None:
        return None
    choices = [as_dict(choice) for choice in as_list(value.get("choices"))]
    return TextChunk(
        tuple(
            [
                TextChoice(
                    countable_text(choice.get("text")),
                    as_index(choice.get("index")),
                    as_reason(choice.get("finish_reason")),
                )
                for choice in choices
            ]
        ),
        value.get("usage"),
        value.get("error"),
    )


class TextChunks:
    """Looks at the chunks of one stream; `echoed` characters by choice repeat its prompt."""

    __slots__ = ("_echoed",)

    def __init__(self, echoed: tuple[int, ...] = ()) -> None:
        self._echoed = {index: size for index, size in enumerate(echoed) if size}
        """What is still to come of them."""

    def take(self, data: bytes, start: int, stop: int, meter: Meter) -> bool:
        """Meter the event in `data[start:stop]` if it is text alone; False changes nothing."""
        if not data.startswith(_START, start):
            return False
        chunk = text_chunk(data[start + 6 : stop - 2])
        if chunk is None or len(chunk.choices) != 1 or chunk.usage is not None or chunk.error:
            return False
        choice = chunk.choices[0]
        if choice.finish_reason or choice.index in self._echoed:
            return False
        meter.add_run((choice.index, "text", 0), choice.text or "", stop - start)
        return True

    def runs(self, data: bytes) -> list[tuple[RunKey, str]]:
        """The countable texts of one event's data; changes nothing."""
        chunk = text_chunk(data)
        return [] if chunk is None else self._texts(chunk)

    def ends(self, _name: str, data: bytes) -> bool:
        """Whether this event is the last of its answer."""
        return data.startswith(_DONE)

    def see(self, _name: str, data: bytes) -> Sight:
        """What an event means; after `runs` of the same one, and once for each."""
        if data.startswith(_DONE):
            return _TERMINAL
        chunk = text_chunk(data)
        if chunk is None:
            return GARBAGE
        if chunk.error:
            return FAILED
        runs = self._texts(chunk)
        for choice in chunk.choices:
            left = self._echoed.pop(choice.index, 0) - len(choice.text or "")
            if left > 0:
                self._echoed[choice.index] = left
        return Sight(
            tuple(runs),
            usage=chunk.usage,
            only_usage=not chunk.choices,
            finished=tuple(
                [
                    (choice.index, choice.finish_reason)
                    for choice in chunk.choices
                    if choice.finish_reason
                ]
            ),
            content=any(choice.text for choice in chunk.choices),
        )

    def _texts(self, chunk: TextChunk) -> list[tuple[RunKey, str]]:
        texts = [
            (choice.index, (choice.text or "")[self._echoed.get(choice.index, 0) :])
            for choice in chunk.choices
        ]
        return [((index, "text", 0), text) for index, text in texts if text]
