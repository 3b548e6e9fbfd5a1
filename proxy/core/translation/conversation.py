"""What a chat request and its answer mean, in no dialect: the hub every translation goes through.

Rules: a dialect's module reads its wire form into these records and writes them back; it knows no
other dialect, so that a new one is one module and not an arrow to each of the others. What a
dialect cannot say is refused with a `RelayError` where the meaning would change, and otherwise
named in `Request.left_out`, which the caller is told; nothing is dropped in silence. JSON that
passes through (schemas, tool arguments) stays the bytes it was. This module must not know any
dialect.

Sources: DESIGN.md section 4, FEATURES.md row 2, WIRE.md sections 1, 3 and 5.
"""

from enum import StrEnum
from typing import TypeAlias

import msgspec
from msgspec import Raw, Struct

from proxy.core.deltas import UNREADABLE
from proxy.core.entities import Usage
from proxy.core.entities import Wire as Wire  # noqa: PLC0414 - the hub speaks of it
from proxy.core.errors import ErrorCode, RelayError


class Text(Struct, frozen=True):
    """Words. `cache`: the sender asks for a prompt cache up to and including this part."""

    text: str
    cache: bool = False


class Image(Struct, frozen=True):
    """A picture: at `url`, or `data` (base64) of `media_type`. `detail` is OpenAI's hint."""

    url: str | None = None
    media_type: str | None = None
    data: str | None = None
    detail: str | None = None
    cache: bool = False


class Document(Struct, frozen=True):
    """A file to read: at `url`, or `data` (base64) of `media_type`."""

    url: str | None = None
    media_type: str | None = None
    data: str | None = None
    name: str | None = None
    cache: bool = False


class Thinking(Struct, frozen=True):
    """What a model thought before it spoke; `redacted`: in a form only its maker can read."""

    text: str
    signature: str | None = None
    redacted: str | None = None


class Refusal(Struct, frozen=True):
    """Words by which a model declines."""

    text: str


class ToolCall(Struct, frozen=True):
    """A model asks for `name` to be run; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


def object_arguments(call: ToolCall) -> bytes:
    """A call's arguments as JSON that is an object, for who demands one. Raises RelayError 400."""
    try:
        found = msgspec.json.decode(call.arguments or "{}")
    except UNREADABLE:
        found = None
    if not isinstance(found, dict):
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            f"The arguments of the call `{call.id}` of `{call.name}` are not a JSON object, which "
            "this model's provider demands.",
        )
    return (call.arguments or "{}").encode()


class ToolResult(Struct, frozen=True):
    """What running a tool gave."""

    call_id: str
    parts: "tuple[Text | Image | Document, ...]"
    failed: bool = False


Part: TypeAlias = Text | Image | Document | Thinking | Refusal | ToolCall | ToolResult


class Role(StrEnum):
    """Who speaks. Instructions of the operator stand apart, in `Request.system`."""

    USER = "user"
    ASSISTANT = "assistant"


class Message(Struct, frozen=True):
    """One turn, or a part of one: neighbours of one role may be joined by who writes."""

    role: Role
    parts: tuple[Part, ...]


class Tool(Struct, frozen=True):
    """A function the model may ask for; `schema` is the JSON Schema of its arguments.

    `free_form`: for the caller it takes plain text; `schema` is then an object of the one string
    `input`. `group`: for the caller it is the tool of a group, and `name` is `{group}__{its name}`.
    """

    name: str
    description: str | None = None
    schema: Raw | None = None
    strict: bool | None = None
    free_form: bool = False
    group: str | None = None


class Choice(StrEnum):
    """Whether a tool is to be called."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


class ToolChoice(Struct, frozen=True):
    """Which tool, where one is demanded by name."""

    choice: Choice
    name: str | None = None


class Format(Struct, frozen=True):
    """The answer is JSON; of `schema`, if there is one."""

    schema: Raw | None = None
    name: str = "answer"
    strict: bool | None = None


class Effort(StrEnum):
    """How hard to think; the names both OpenAI and Anthropic use."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class Request(Struct, frozen=True):
    """A chat request. `left_out` names fields that no other dialect could be told."""

    model: str
    messages: tuple[Message, ...]
    system: tuple[Text, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    output_tokens_max: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    format: Format | None = None
    effort: Effort | None = None
    thinking_tokens: int | None = None
    """A budget for thinking; 0: none at all."""
    user: str | None = None
    stream: bool = False
    left_out: tuple[str, ...] = ()


def effort_of(request: Request) -> Effort | None:
    """How hard to think, for a dialect without budgets: their order of size, as a level."""
    if request.effort is not None or request.thinking_tokens is None:
        return request.effort
    for most, level in ((0, Effort.NONE), (4_096, Effort.LOW), (16_384, Effort.MEDIUM)):
        if request.thinking_tokens <= most:
            return level
    return Effort.HIGH


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    TOOLS = "tools"
    REFUSED = "refused"
    PAUSED = "paused"


class Answer(Struct, frozen=True):
    """A whole answer. `usage` is None where the provider reported none."""

    id: str
    model: str
    parts: tuple[Part, ...]
    finish: Finish
    usage: Usage | None = None
    stop_sequence: str | None = None


# What a stream says, in order: Started, then per part Opened, pieces, Closed, then Finished.


class Kind(StrEnum):
    """What a streamed part is made of."""

    TEXT = "text"
    THINKING = "thinking"
    REDACTED = "redacted"
    REFUSAL = "refusal"
    TOOL = "tool"


class Started(Struct, frozen=True, gc=False):
    """The provider has begun; `usage` is what it knows by then."""

    id: str
    model: str
    usage: Usage | None = None


class Opened(Struct, frozen=True, gc=False):
    """A part begins; one is open at a time. `call_id` and `name` belong to a tool call."""

    kind: Kind
    call_id: str = ""
    name: str = ""


class Piece(Struct, frozen=True, gc=False):
    """More of the open part: words, thoughts, or a stretch of a tool call's JSON."""

    text: str


class Signed(Struct, frozen=True, gc=False):
    """The signature of the thoughts that are open."""

    signature: str


class Closed(Struct, frozen=True, gc=False):
    """The open part is whole."""


class Finished(Struct, frozen=True, gc=False):
    """Why the answer ends, and what it used. Comes once, after every part."""

    finish: Finish
    usage: Usage | None = None
    stop_sequence: str | None = None


class Failed(Struct, frozen=True, gc=False):
    """The provider reported an error inside the stream; nothing follows.

    `code` is for an error that is not the provider's: ours, as its caller knows it.
    """

    kind: str
    message: str
    code: str | None = None


class Ping(Struct, frozen=True, gc=False):
    """A sign of life without meaning."""


Event: TypeAlias = Started | Opened | Piece | Signed | Closed | Finished | Failed | Ping
