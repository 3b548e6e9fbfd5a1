"""One call translated: the caller's request for another dialect's upstream, and its answer back.

Rules: a table names what each dialect brings; an arrow is two of its rows. Streams pass event by
event in constant memory; the caller's end of stream is `end`, which waits for the bill, and what
must stand before it comes from `finish`. This module must not know sockets, money or time.

Sources: DESIGN.md section 4.
"""

from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from proxy.core.entities import Dialect
from proxy.core.sse import EventSplitter, fields
from proxy.core.translation import (
    chat_answers,
    chat_incoming,
    chat_outgoing,
    chat_streams,
    messages_answers,
    messages_incoming,
    messages_outgoing,
    messages_streams,
)
from proxy.core.translation.conversation import Answer, Event, Failed, Request


class Reader(Protocol):
    """Reads the data of one event after the other."""

    def read(self, data: bytes) -> list[Event]:
        """What the event says."""
        ...


class Writer(Protocol):
    """Writes one event after the other."""

    def write(self, event: Event) -> bytes:
        """What the event becomes on the wire."""
        ...


class Side(Struct, frozen=True):
    """What one dialect can do, as the caller's and as the upstream's."""

    read_request: Callable[[bytes], Request]
    write_request: Callable[[Request, int], bytes]
    unsaid: Callable[[Request], tuple[str, ...]]
    read_answer: Callable[[bytes], Answer]
    write_answer: Callable[[Answer, int], bytes]
    reader: Callable[[], Reader]
    writer: Callable[[int, bool], Writer]
    end: bytes


SIDES: Final = {
    Dialect.OPENAI: Side(
        read_request=chat_incoming.read_request,
        write_request=lambda request, _limit: chat_outgoing.write_request(request),
        unsaid=chat_outgoing.unsaid,
        read_answer=chat_answers.read_answer,
        write_answer=chat_answers.write_answer,
        reader=chat_streams.ChunkReader,
        writer=lambda created, usage: chat_streams.ChunkWriter(created, include_usage=usage),
        end=chat_streams.DONE,
    ),
    Dialect.ANTHROPIC: Side(
        read_request=messages_incoming.read_request,
        write_request=messages_outgoing.write_request,
        unsaid=messages_outgoing.unsaid,
        read_answer=messages_answers.read_answer,
        write_answer=lambda answer, _created: messages_answers.write_answer(answer),
        reader=messages_streams.EventReader,
        writer=lambda _created, _usage: messages_streams.EventWriter(),
        end=messages_streams.STOP,
    ),
}


class Translator:
    """Carries one call between a caller and an upstream of different dialects.

    `created`: Unix seconds, for dialects that say when an answer was made. `include_usage`: the
    caller asked for a usage report in its stream.
    """

    def __init__(
        self, caller: Dialect, upstream: Dialect, created: int, *, include_usage: bool = False
    ) -> None:
        self._caller = SIDES[caller]
        self._upstream = SIDES[upstream]
        self._created = created
        self._reader = self._upstream.reader()
        self._writer = self._caller.writer(created, include_usage)
        self._splitter = EventSplitter()
        self.end = self._caller.end
        """The caller's last event."""

    def request(
        self, body: bytes, *, model: str, output_tokens_max: int | None, limit: int
    ) -> tuple[bytes, tuple[str, ...]]:
        """The upstream's request, and the names of what could not be said in it.

        `output_tokens_max`: a lowered limit, None to keep the caller's; `limit` stands where
        there is none but the upstream must be told one. Raises RelayError 400.
        """
        asked = self._caller.read_request(body)
        wanted = asked.output_tokens_max if output_tokens_max is None else output_tokens_max
        told = replace(asked, model=model, output_tokens_max=wanted)
        left_out = sorted({*asked.left_out, *self._upstream.unsaid(told)})
        return self._upstream.write_request(told, limit), tuple(left_out)

    def answer(self, body: bytes) -> bytes:
        """A whole answer in the caller's dialect. Raises RelayError 502."""
        return self._caller.write_answer(self._upstream.read_answer(body), self._created)

    def feed(self, events: bytes) -> bytes:
        """Whole events of the upstream as the caller's; its end is `finish`, not an event here."""
        out = [self._event(event) for event, whole in self._splitter.receive(events) if whole]
        return b"".join(out)

    def finish(self, terminal: bytes) -> bytes:
        """What the caller is told before `end`; `terminal` is the upstream's, maybe empty."""
        return self._event(terminal or self._upstream.end)

    def _event(self, event: bytes) -> bytes:
        data = fields(event)[1]
        if data is None:
            return b""
        out = b""
        for each in self._reader.read(data):
            out += self._writer.write(each)
            if isinstance(each, Failed):
                break
        return out
