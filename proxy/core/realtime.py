"""What passes through a realtime session, as far as it costs anything.

Rules: a session is billed by its responses: each is a call of its own, held for before it can
begin, billed by the usage in its `response.done`, and by what was delivered of it where that never
came. The transcription of what a user says is another model's work and billed as that. Messages
are looked at and never changed; what is no JSON object, or of another type, says nothing. This
module must not know sockets, frames or wallets.

Sources: openai-python `src/openai/types/realtime`: `realtime_response_usage.py` ("this will
correspond to billing"), `response_done_event.py`, `session_updated_event.py`,
`conversation_item_input_audio_transcription_completed_event.py` ("billed according to the ASR
model's pricing"); names of the earlier protocol from `types/beta/realtime`. OpenAI's guide to
realtime costs: costs accrue per response, over the whole conversation; a token of sound is 100 ms
of a user's and 50 ms of an assistant's.
"""

from enum import Enum, auto
from typing import Final

import msgspec
import orjson
from msgspec import Raw, Struct
from msgspec.structs import replace

from proxy.core.deltas import as_dict
from proxy.core.entities import Usage, UsageSource
from proxy.core.services.answers import milliseconds
from proxy.core.usage import UsageTally, bounded

CONTEXT_TOKENS: Final = 1_024
"""What a session's default instructions and frame may weigh."""
SENT_BYTES_A_TOKEN: Final = 500
"""Base64 bytes of a user's sound for a token, at the lowest rate there is (prompts.py)."""
_SENT_BYTES_A_TOKEN: Final = 6_400
"""The same at the usual rate, 48,000 bytes a second."""
_CHARS_A_TOKEN: Final = {
    "audio/pcm": 3_200, "pcm16": 3_200,  # 48,000 bytes a second
    "audio/pcmu": 533, "audio/pcma": 533, "g711_ulaw": 533, "g711_alaw": 533,  # 8,000
}  # fmt: skip
"""Base64 characters of an assistant's sound for a token, by its format."""
_CHARS_A_TOKEN_MIN: Final = 533
_TEXT_BYTES_A_TOKEN: Final = 4


class Moment(Enum):
    """What a server's message means for the bill."""

    NOTHING = auto()
    BEGUN = auto()
    """A response has begun."""
    DELIVERS = auto()
    """Some of a response."""
    DONE = auto()
    """A response has ended; its usage is known."""
    CONFIGURED = auto()
    """The session has said how it is set up."""
    TRANSCRIBED = auto()
    """Something a user said was written down; its usage is known."""


class _Event(Struct, gc=False):
    type: str = ""
    delta: Raw = Raw(b"")
    response: Raw = Raw(b"null")
    session: Raw = Raw(b"null")
    usage: Raw = Raw(b"null")


class TurnBill(Struct, frozen=True):
    """What one response is billed for."""

    usage: Usage
    source: UsageSource
    anomalies: tuple[str, ...] = ()


_EVENT: Final = msgspec.json.Decoder(_Event)
_TRANSCRIBED: Final = "conversation.item.input_audio_transcription.completed"
_CONFIGURED: Final = frozenset({"session.created", "session.updated"})
_ITEMS: Final = frozenset(
    {"conversation.item.created", "conversation.item.added", "conversation.item.done"}
)


class RealtimeMeter:
    """Reads the server's messages of one session; see the module docstring."""

    __slots__ = (
        "_audio_chars", "_chars_a_token", "_context", "_pending", "_response", "_sent", "_tally",
        "_text_bytes", "status", "transcribed", "transcriber",
    )  # fmt: skip

    def __init__(self) -> None:
        self.transcriber = ""
        """The model that writes down what a user says, as the upstream calls it; empty: none."""
        self.transcribed: Usage | None = None
        """Usage of the newest transcription, if it was reported."""
        self.status = ""
        """How the newest response ended, by its own word."""
        self._chars_a_token = _CHARS_A_TOKEN_MIN
        self._context: int | None = None
        """Tokens of the conversation up to the newest response's end, once there is one."""
        self._pending = 0
        """Tokens of text that the server has taken into it since, at most."""
        self._sent = 0
        """Bytes a client sent since."""
        self._response = False
        self._audio_chars = 0
        self._text_bytes = 0
        self._tally = UsageTally()

    @property
    def in_response(self) -> bool:
        """Whether a response has begun and not ended."""
        return self._response

    @property
    def delivered(self) -> bool:
        """Whether anything of the response at hand has come."""
        return self._audio_chars + self._text_bytes > 0

    @property
    def input_max(self) -> int:
        """Tokens the next response, or the one at hand, may have to read; leans up."""
        context = CONTEXT_TOKENS if self._context is None else self._context
        return context + self._pending + self._sent // SENT_BYTES_A_TOKEN

    @property
    def output_max(self) -> int:
        """Tokens delivered of the response at hand, at most."""
        return -(-self._audio_chars // self._chars_a_token) + self._text_bytes

    def sent(self, size: int) -> None:
        """Take note of bytes a client sent."""
        self._sent += size

    def look(self, payload: bytes) -> Moment:
        """Look at one message of the server's."""
        try:
            event = _EVENT.decode(payload)
        except (msgspec.DecodeError, RecursionError):
            return Moment.NOTHING
        kind = event.type
        if kind.startswith("response.") and kind.endswith(".delta"):
            return self._delta(kind, event.delta)
        if kind == "response.created":
            self._response = True
            return Moment.BEGUN
        if kind == "response.done":
            return self._done(event.response)
        if kind in _CONFIGURED:
            return self._configured(event.session)
        if kind == _TRANSCRIBED:
            self.transcribed = _transcribed(as_dict(_load(event.usage)))
            return Moment.TRANSCRIBED
        if kind in _ITEMS:
            self._pending += len(payload) // 2
        return Moment.NOTHING

    def bill(self, output_tokens_max: int, input_tokens_max: int) -> TurnBill:
        """Return what the response at hand comes to: as reported, else by what was delivered."""
        tally = self._tally
        if tally.seen:
            usage, anomalies = bounded(
                tally.usage(), output_tokens_max, input_tokens_max=input_tokens_max
            )
            both = tuple(sorted({*tally.anomalies, *anomalies}))
            return TurnBill(usage, UsageSource.REPORTED, both)
        if not self.delivered:
            return TurnBill(Usage(calls=0), UsageSource.NONE, tally.anomalies)
        usage, _ = bounded(
            Usage(
                input_uncached=self._pending // 2,
                cache_read=self._context or 0,
                audio_input=self._sent // _SENT_BYTES_A_TOKEN,
                output=-(-self._text_bytes // _TEXT_BYTES_A_TOKEN),
                audio_output=-(-self._audio_chars // self._chars_a_token),
            ),
            output_tokens_max,
            input_tokens_max=input_tokens_max,
        )
        return TurnBill(usage, UsageSource.ESTIMATED, tally.anomalies)

    def next(self) -> None:
        """The response at hand was billed: what comes is another's."""
        if self._tally.seen:
            usage = self._tally.usage()
            self._context = usage.prompt_total + usage.completion_total
        else:
            self._context = self.input_max + self.output_max
        self._pending = self._sent = self._audio_chars = self._text_bytes = 0
        self._response = False
        self.status = ""
        self._tally = UsageTally()

    def _delta(self, kind: str, delta: Raw) -> Moment:
        size = max(0, len(delta) - 2)
        if kind.endswith("audio.delta"):
            self._audio_chars += size
        else:
            self._text_bytes += size
        self._response = True
        return Moment.DELIVERS

    def _done(self, raw: Raw) -> Moment:
        response = as_dict(_load(raw))
        if response.get("usage") is not None:
            self._tally.openai(response["usage"])
        status = response.get("status")
        self.status = status if isinstance(status, str) else ""
        self._response = False
        return Moment.DONE

    def _configured(self, raw: Raw) -> Moment:
        """Read how sound is written, and which model transcribes, in either form of a session."""
        session = as_dict(_load(raw))
        audio = as_dict(session.get("audio"))
        given, made = as_dict(audio.get("input")), as_dict(audio.get("output"))
        form = as_dict(made.get("format")).get("type") or session.get("output_audio_format")
        self._chars_a_token = _CHARS_A_TOKEN.get(str(form), _CHARS_A_TOKEN_MIN)
        transcription = as_dict(
            given.get("transcription") or session.get("input_audio_transcription")
        )
        model = transcription.get("model")
        self.transcriber = model if isinstance(model, str) else ""
        self._pending += len(raw) // 2
        return Moment.CONFIGURED


def _transcribed(report: dict[str, object]) -> Usage | None:
    """Read usage of either kind: tokens, or a duration."""
    tally = UsageTally()
    length = milliseconds(report.get("seconds"))
    if report:
        tally.openai(report)
    if not tally.seen and length is None:
        return None
    return replace(tally.usage(), audio_ms=length or 0)


def _load(raw: Raw) -> object:
    try:
        value: object = orjson.loads(bytes(raw))
    except orjson.JSONDecodeError:  # A number beyond every float.
        return None
    return value
