"""Members of a service's body as typed values, and the errors that name them.

Rules: what the relay must know is checked, with messages in the style of requests.py; everything
else is the upstream's to judge. A form and a JSON body are read alike, so that one reader does for
both. This module must not know any endpoint.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

import orjson

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.json_members import Fault, Member, MemberScanner, Watch
from proxy.core.requests import MODEL_CHARS_MAX
from proxy.core.services.service import ModelPlace, ServiceRequest

WORD: Final = Watch(keep_bytes_max=512)
"""A member that is a word or a number."""
MODEL: Final = Watch(keep_bytes_max=MODEL_CHARS_MAX * 12 + 2)
"""The model's name: twelve bytes a character, if each is escaped as a pair."""
MEASURED: Final = Watch(measure=True)
"""A member whose size is all that matters."""
_INTEGER_DIGITS_MAX: Final = 10


class TextSize(NamedTuple):
    """The size of a text: its ASCII characters, and the others."""

    narrow: int = 0
    wide: int = 0

    @property
    def characters(self) -> int:
        """All characters."""
        return self.narrow + self.wide

    @property
    def tokens_known(self) -> int:
        """Estimate its tokens: one for 4 ASCII characters, one for any other (tokenizers.py)."""
        return -(-self.narrow // 4) + self.wide

    @property
    def tokens_max(self) -> int:
        """Estimate, leaning up: one token for 2 bytes of UTF-8, 3 a character (prompts.py)."""
        return -(-self.tokens_bound // 2)

    @property
    def tokens_bound(self) -> int:
        """What no tokenizer exceeds: one for each byte of UTF-8, 4 a character."""
        return self.narrow + 4 * self.wide


class NamedModel(NamedTuple):
    """The model a body asks for; `given` False: the endpoint's default."""

    name: str
    place: ModelPlace
    given: bool


class Fields(Protocol):
    """What a reader asks of a body. Every method raises RelayError for a wrong type."""

    def model(self, default: str | None = None) -> NamedModel:
        """Return the model; without a default it must be there."""

    def has(self, name: str) -> bool:
        """Tell whether a member is there and is not null."""

    def word(self, name: str) -> str:
        """Return a short string; empty for none."""

    def integer(self, name: str, maximum: int, *, minimum: int = 1) -> int | None:
        """Return an integer of a range; None for none."""

    def flag(self, name: str) -> bool:
        """Return true or false; False for none."""

    def text(self, name: str) -> TextSize:
        """Return the size of a member that must be a string, if it is there."""


class JsonFields:
    """The watched members of a JSON object that was read to its end."""

    __slots__ = ("first", "members", "named")

    def __init__(self, members: Mapping[str, Member], first: int, named: str = "") -> None:
        self.members = members
        self.first = first
        """Where the first member begins, or could."""
        self.named = named
        """The model that the path names, for a body that names none."""

    def model(self, default: str | None = None) -> NamedModel:
        """Return the model; without a default it must be there. `null` is as good as none."""
        default = self.named or default
        member = self.members.get("model")
        if member is not None and (default is None or member.kind != "null"):
            name = _text(member)
            return NamedModel(check_model(name), ModelPlace(member.start, member.end), given=True)
        if default is None:
            raise missing_model()
        if member is not None:
            return NamedModel(default, ModelPlace(member.start, member.end), given=False)
        # A service's body has another member, or it would have been refused: a comma is right.
        place = ModelPlace(self.first, self.first, b'"model":', b",")
        return NamedModel(default, place, given=False)

    def has(self, name: str) -> bool:
        """Tell whether a member is there and is not null."""
        return self._given(name) is not None

    def word(self, name: str) -> str:
        """Return a short string; empty for none."""
        member = self._given(name)
        if member is None:
            return ""
        if member.kind != "string" or member.value is None:
            raise invalid(name, "must be a short string or null")
        return _text(member)

    def integer(self, name: str, maximum: int, *, minimum: int = 1) -> int | None:
        """Return an integer of a range; None for none."""
        member = self._given(name)
        if member is None:
            return None
        return integer_of(name, member.value or b"", maximum, minimum)

    def flag(self, name: str) -> bool:
        """Return true or false; False for none."""
        member = self._given(name)
        if member is None:
            return False
        if member.kind != "boolean":
            raise invalid(name, "must be true, false or null")
        return member.value == b"true"

    def text(self, name: str) -> TextSize:
        """Return the size of a member that must be a string, if it is there."""
        member = self._given(name)
        if member is None:
            return TextSize()
        if member.kind != "string":
            raise invalid(name, "must be a string")
        return TextSize(member.narrow, member.wide)

    def _given(self, name: str) -> Member | None:
        member = self.members.get(name)
        return None if member is None or member.kind == "null" else member


class JsonReader:
    """Reads a JSON body member by member; a `RequestReader`."""

    __slots__ = ("_named", "_read", "_scanner")

    def __init__(
        self,
        watched: Mapping[str, Watch],
        read: Callable[[JsonFields], ServiceRequest],
        named: str = "",
    ) -> None:
        self._scanner = MemberScanner(watched)
        self._read = read
        self._named = named

    @property
    def members(self) -> Mapping[str, Member]:
        """The watched members found so far; grows as the body is read."""
        return self._scanner.members

    @property
    def size(self) -> int:
        """Bytes fed."""
        return self._scanner.size

    def feed(self, piece: bytes) -> None:
        """Take the next bytes. Raises RelayError."""
        self._scanner.feed(piece)
        if self._scanner.fault is not None:
            raise refused(self._scanner.fault)

    def finish(self) -> ServiceRequest:
        """Say that the body has ended. Raises RelayError."""
        self._scanner.finish()
        if self._scanner.fault is not None:
            raise refused(self._scanner.fault)
        return self._read(JsonFields(self._scanner.members, self._scanner.first, self._named))


def refused(fault: Fault) -> RelayError:
    """Say in the caller's words what is wrong with a body."""
    if fault.name is not None:
        return invalid(fault.name, "is there twice: send it once")
    return RelayError(ErrorCode.INVALID_JSON, f"The request body {fault.problem}.")


def invalid(param: str, problem: str) -> RelayError:
    """Refuse a member by name."""
    return RelayError(ErrorCode.INVALID_REQUEST, f"`{param}` {problem}.", param=param)


def missing_model() -> RelayError:
    """Refuse a body that names no model."""
    return invalid("model", "is required: send the name of a model (GET /v1/models lists them)")


def check_model(model: str) -> str:
    """Return a model's name if it can be one. Raises RelayError."""
    if not model or len(model) > MODEL_CHARS_MAX or not model.isprintable():
        raise invalid(
            "model",
            f"must be a string of 1 to {MODEL_CHARS_MAX} printable characters "
            "(GET /v1/models lists the models)",
        )
    return model


def integer_of(name: str, text: bytes, maximum: int, minimum: int) -> int:
    """Read an integer from its digits. Raises RelayError."""
    if text.isdigit() and len(text) <= _INTEGER_DIGITS_MAX and minimum <= int(text) <= maximum:
        return int(text)
    raise invalid(name, f"must be an integer from {minimum} to {maximum}")


def _text(member: Member) -> str:
    """Return the text of a small string; empty for anything else, or a larger one."""
    if member.kind != "string" or member.value is None:
        return ""
    text: str = orjson.loads(member.value)
    return text
