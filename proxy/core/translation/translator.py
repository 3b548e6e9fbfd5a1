"""One call translated: the caller's request for another dialect's upstream, and its answer back.

Rules: a table names what each form on the wire brings; an arrow is two of its rows. Streams pass
event by event; the caller's end of stream is `end`, which waits for the bill, and what must stand
before it comes from `finish`. Nothing follows a failure, and no event is passed over because of
its size. This module must not know sockets, money or time.

Sources: DESIGN.md section 4.
"""

from collections.abc import Callable
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from proxy.core.sse import EVENT_BYTES_MAX, EventSplitter, fields
from proxy.core.translation import (
    chat_answers,
    chat_incoming,
    chat_outgoing,
    chat_streams,
    gemini_answers,
    gemini_incoming,
    gemini_outgoing,
    gemini_streams,
    gemini_writer,
    messages_answers,
    messages_incoming,
    messages_outgoing,
    messages_streams,
    responses_answers,
    responses_incoming,
    responses_outgoing,
    responses_streams,
    responses_writer,
)
from proxy.core.translation.conversation import Answer, Event, Failed, Request, Started, Wire


class Reader(Protocol):
    """Reads the data of one event after the other."""

    def read(self, data: bytes) -> list[Event]:
        """What the event says."""
        ...

    def end(self) -> list[Event]:
        """What it means that a complete stream ended without a last event."""
        ...


class Writer(Protocol):
    """Writes one event after the other."""

    failure: Failed | None

    def write(self, event: Event) -> bytes:
        """What the event becomes on the wire; nothing after a failure."""
        ...

    def end(self) -> bytes:
        """The last event, once `Finished` was written; nothing after a failure."""
        ...


class Side(Struct, frozen=True):
    """What one form on the wire can do, as the caller's and as the upstream's."""

    read_request: Callable[[bytes], Request]
    write_request: Callable[[Request, int], bytes]
    unsaid: Callable[[Request], tuple[str, ...]]
    read_answer: Callable[[bytes], Answer]
    write_answer: Callable[[Answer, int, Request], bytes]
    reader: Callable[[], Reader]
    writer: Callable[[int, bool, Request], Writer]
    event_bytes_max: int = EVENT_BYTES_MAX
    """The largest event read; held whole while it comes in."""


SIDES: Final = {
    Wire.CHAT: Side(
        read_request=chat_incoming.read_request,
        write_request=lambda request, _limit: chat_outgoing.write_request(request),
        unsaid=chat_outgoing.unsaid,
        read_answer=chat_answers.read_answer,
        write_answer=lambda answer, created, _asked: chat_answers.write_answer(answer, created),
        reader=chat_streams.ChunkReader,
        writer=lambda created, usage, _asked: chat_streams.ChunkWriter(
            created, include_usage=usage
        ),
    ),
    Wire.MESSAGES: Side(
        read_request=messages_incoming.read_request,
        write_request=messages_outgoing.write_request,
        unsaid=messages_outgoing.unsaid,
        read_answer=messages_answers.read_answer,
        write_answer=lambda answer, _created, _asked: messages_answers.write_answer(answer),
        reader=messages_streams.EventReader,
        writer=lambda _created, _usage, _asked: messages_streams.EventWriter(),
    ),
    Wire.RESPONSES: Side(
        read_request=responses_incoming.read_request,
        write_request=lambda request, _limit: responses_outgoing.write_request(request),
        unsaid=responses_outgoing.unsaid,
        read_answer=responses_answers.read_answer,
        write_answer=responses_answers.write_answer,
        reader=responses_streams.EventReader,
        writer=lambda created, _usage, asked: responses_writer.EventWriter(created, asked),
        event_bytes_max=responses_streams.EVENT_BYTES_MAX,
    ),
    Wire.GEMINI: Side(
        read_request=gemini_incoming.read_request,
        write_request=lambda request, _limit: gemini_outgoing.write_request(request),
        unsaid=gemini_outgoing.unsaid,
        read_answer=gemini_answers.read_answer,
        write_answer=lambda answer, _created, _asked: gemini_writer.write_answer(answer),
        reader=gemini_streams.EventReader,
        writer=lambda _created, _usage, _asked: gemini_writer.EventWriter(),
    ),
}
NOTHING_ASKED: Final = Request("", ())


class Translator:
    """Carries one call between a caller and an upstream of different dialects.

    `created`: Unix seconds, for dialects that say when an answer was made. `include_usage`: the
    caller asked for a usage report in its stream. `request` comes first: an answer may repeat
    what was asked.
    """

    def __init__(
        self, caller: Wire, upstream: Wire, created: int, *, include_usage: bool = False
    ) -> None:
        self._caller = SIDES[caller]
        self._upstream = SIDES[upstream]
        self._created = created
        self._include_usage = include_usage
        self._asked = NOTHING_ASKED
        self._reader = self._upstream.reader()
        self._writer = self._caller.writer(created, include_usage, self._asked)
        self._splitter = EventSplitter(self._upstream.event_bytes_max)

    @property
    def failure(self) -> Failed | None:
        """What the caller was told went wrong inside the stream; nothing follows it."""
        return self._writer.failure

    def request(
        self,
        body: bytes,
        *,
        model: str,
        output_tokens_max: int | None,
        limit: int,
        stream: bool = False,
    ) -> tuple[bytes, tuple[str, ...]]:
        """The upstream's request, and the names of what could not be said in it.

        `output_tokens_max`: a lowered limit, None to keep the caller's; `limit` stands where
        there is none but the upstream must be told one. `stream`: a stream is asked for, where
        the path says so and not the body. Raises RelayError 400.
        """
        asked = self._caller.read_request(body)
        wanted = asked.output_tokens_max if output_tokens_max is None else output_tokens_max
        self._asked = told = replace(
            asked, model=model, output_tokens_max=wanted, stream=asked.stream or stream
        )
        self._writer = self._caller.writer(self._created, self._include_usage, told)
        left_out = sorted({*asked.left_out, *self._upstream.unsaid(told)})
        return self._upstream.write_request(told, limit), tuple(left_out)

    def answer(self, body: bytes) -> bytes:
        """A whole answer in the caller's dialect. Raises RelayError 502."""
        answer = self._upstream.read_answer(body)
        answer = replace(answer, model=answer.model or self._asked.model)
        return self._caller.write_answer(answer, self._created, self._asked)

    def feed(self, events: bytes) -> bytes:
        """Whole events of the upstream as the caller's; its end is `finish`, not an event here."""
        out = b""
        for event, whole in self._splitter.receive(events):
            out += self._event(event) if whole else self._write(_TOO_LARGE)
        return out

    def finish(self, terminal: bytes) -> bytes:
        """What the caller is told before `end`; `terminal` is the upstream's, maybe empty."""
        if terminal:
            return self._event(terminal)
        return b"".join([self._write(event) for event in self._reader.end()])

    def fail(self, failure: Failed, *, anew: bool = False) -> bytes:
        """Tell the caller of a failure that the upstream did not: nothing follows it.

        Also between `finish` and `end`, in place of the end. `anew`: nothing that was written
        before has reached the caller, so what must come first is written again.
        """
        if anew:
            self._writer = self._caller.writer(self._created, self._include_usage, self._asked)
        return self._write(failure)

    def end(self) -> bytes:
        """The caller's last event, for after the bill; nothing if it was told of a failure."""
        return self._writer.end()

    def _event(self, event: bytes) -> bytes:
        data = fields(event)[1]
        if data is None:
            return b""
        return b"".join([self._write(each) for each in self._reader.read(data)])

    def _write(self, event: Event) -> bytes:
        if isinstance(event, Started) and not event.model:
            event = replace(event, model=self._asked.model)
        return self._writer.write(event)


_TOO_LARGE: Final = Failed("api_error", "An event of the provider is too large to be translated.")
