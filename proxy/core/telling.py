"""Puts what a call cost into the usage it reports: `usage.cost`, for callers who ask for it.

Rules: the usage event of a stream is held from the moment it comes until the charge is posted,
and leaves, edited, right before the last event; every other event passes as it is, in order. A
stream that reports nothing gets a report of our own, from what was billed. In a plain answer one
member is edited or added, every other one keeps its bytes. `cost` is USD, an exact decimal;
`cost_nano_usd` and `balance_nano_usd` are integers. This module must not know who asked, nor when
a charge is posted.

Sources: OpenRouter's usage accounting (`usage.cost`); WIRE.md sections 1, 3 and 5 for where each
form reports usage.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import orjson
from msgspec import Raw, Struct

from proxy.core.entities import Usage, Wire
from proxy.core.money import format_usd
from proxy.core.sse import EVENT_BYTES_MAX, EventSplitter, fields
from proxy.core.translation import chat_streams, messages_streams, responses_items

LOOKED_AT_BYTES_MAX: Final = 8 << 20
"""The largest last event of a Responses stream that is edited: it holds the whole answer."""

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_RESPONSE_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Cost(Struct, frozen=True, gc=False):
    """What is told: nano-USD, and the usage it was for, should the answer not report any."""

    charged: int
    balance: int
    usage: Usage


def _chat_chunk(seen: Mapping[str, object], usage: object) -> bytes:
    """A usage event like the chunks before it."""
    kept = {name: seen[name] for name in ("id", "object", "created", "model") if name in seen}
    return _data({**kept, "choices": [], "usage": usage})


def _message_delta(_seen: Mapping[str, object], usage: object) -> bytes:
    delta = {"stop_reason": None, "stop_sequence": None}
    return _named("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})


class _Form(Struct, frozen=True):
    """How one wire form reports usage."""

    is_report: Callable[[Mapping[str, object]], bool]
    """Whether an event with a usage object is nothing but its report."""
    report: Callable[[Mapping[str, object], object], bytes]
    usage_object: Callable[[Usage], dict[str, object]]


_CHUNKS: Final = _Form(
    lambda event: event.get("choices") == [], _chat_chunk, chat_streams.usage_object
)
_FORMS: Final = {
    Wire.CHAT: _CHUNKS,
    Wire.COMPLETIONS: _CHUNKS,
    Wire.MESSAGES: _Form(
        lambda event: event.get("type") == "message_delta",
        _message_delta,
        messages_streams.usage_object,
    ),
}
_OBJECTS: Final[Mapping[Wire, Callable[[Usage], dict[str, object]]]] = {
    **{wire: form.usage_object for wire, form in _FORMS.items()},
    Wire.RESPONSES: responses_items.usage_object,
}
TELLABLE: Final = frozenset(_OBJECTS)
"""Forms in which usage can carry a cost."""


class UsageEvents:
    """One stream on its way: `feed` events, then write what `end` returns when all is posted."""

    __slots__ = ("_first", "_form", "_splitter", "_wire", "held")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._form = _FORMS.get(wire)
        self._splitter = EventSplitter(EVENT_BYTES_MAX)
        self._first: dict[str, object] | None = None
        self.held = b""
        """The newest report, kept back."""

    def feed(self, events: bytes) -> bytes:
        """Take whole events; return those that pass, in order."""
        if self._form is None:  # the report is in the last event, which comes by `end`
            return events
        out: list[bytes] = []
        for event, whole in self._splitter.receive(events):
            if whole and self._is_report(event):
                out.append(self.held)
                self.held = event
            else:
                out.append(event)
        return b"".join(out)

    def end(self, terminal: bytes, cost: Cost) -> bytes:
        """Return the report with its cost, and the last event."""
        if self._form is None:
            return _ended(terminal, self._wire, cost)
        rest, _ = self._splitter.receive_eof()
        held, self.held = self.held, b""
        if not held:
            usage = _told({}, self._wire, cost)
            return rest + self._form.report(self._first or {}, usage) + terminal
        name, data, _ = fields(held)
        event = orjson.loads(data or b"")
        event["usage"] = _told(event["usage"], self._wire, cost)
        return rest + _named(name, event) + terminal

    def _is_report(self, event: bytes) -> bool:
        if self._first is not None and b'"usage"' not in event:
            return False
        data = fields(event)[1]
        value = None if data is None else _object(data)
        if value is None or self._form is None:
            return False
        if self._first is None:
            self._first = value
        return isinstance(value.get("usage"), dict) and self._form.is_report(value)


def tell_plain(body: bytes, wire: Wire, cost: Cost) -> bytes:
    """Return a plain answer with its cost in `usage`; as it is, where that cannot be."""
    try:
        members = _MEMBERS.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return body
    reported = members.get("usage", Raw(b"null"))
    usage = _object(bytes(reported)) or {}
    rows: dict[str, bytes | Raw] = {**members}
    rows["usage"] = orjson.dumps(_told(usage, wire, cost))
    return b"{" + b",".join([orjson.dumps(name) + b":" + rows[name] for name in rows]) + b"}"


def _ended(terminal: bytes, wire: Wire, cost: Cost) -> bytes:
    """The last event of a Responses stream, which reports usage inside its response."""
    name, data, _ = fields(terminal)
    if data is None or len(data) > LOOKED_AT_BYTES_MAX:
        return terminal
    event = _object(data)
    response = None if event is None else event.get("response")
    if event is None or not isinstance(response, dict) or event.get("type") not in _RESPONSE_ENDS:
        return terminal
    usage = response.get("usage")
    response["usage"] = _told(usage if isinstance(usage, dict) else {}, wire, cost)
    return _named(name, event)


def _told(usage: dict[str, object], wire: Wire, cost: Cost) -> dict[str, object]:
    """A usage object with its cost; what an upstream said of its own price is not the caller's."""
    return {
        **(usage or _OBJECTS[wire](cost.usage)),
        "cost": orjson.Fragment(format_usd(cost.charged)),
        "cost_nano_usd": cost.charged,
        "balance_nano_usd": cost.balance,
    }


def _object(data: bytes) -> dict[str, object] | None:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _data(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _named(name: str, value: object) -> bytes:
    line = b"event: " + name.encode() + b"\n" if name else b""
    return line + _data(value)
