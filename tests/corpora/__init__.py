"""Named bad and odd inputs with the answer each must get, as data for pure and socket tests.

Rules: a case says what is sent and what must come back (status, stable code, dialect); it knows
nothing of how that is done. One JSON object per line; big bodies are written as repetitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

import msgspec

from proxy.core.entities import Dialect

_HERE = Path(__file__).parent

Case = TypeVar("Case")


@dataclass(frozen=True, slots=True)
class BodyCase:
    """A request body. `status` 200: accepted, then `expect` holds fields of the parsed call."""

    name: str
    dialect: Dialect
    parts: tuple[str | Mapping[str, str | int], ...] = field(repr=False)
    status: int
    code: str | None = None
    param: str | None = None
    expect: Mapping[str, str | int | bool | None] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The bytes: text parts as UTF-8, `{"hex"}` parts raw, `{"repeat", "count"}` repeated.

        `{"members": n}` stands for n comma-separated members `"k0":0, ...`.
        """
        return b"".join(_bytes_of(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AuthCase:
    """The credential headers of a request to `path`.

    `{key}` in a value stands for a valid key; other placeholders name other keys (PLACEHOLDERS),
    `{key:flip:9}` a damaged one (`_damaged`). `peer` is the caller's address. Status 200: the
    caller is the key `{principal}`.
    """

    name: str
    path: str
    headers: tuple[tuple[str, str], ...]
    status: int
    dialect: Dialect
    code: str | None = None
    principal: str | None = None
    peer: str = "192.0.2.7"

    @property
    def is_sendable(self) -> bool:
        """Whether an HTTP/1.1 request can carry these headers at all."""
        text = "".join(name + value for name, value in self.headers)
        return all(letter == "\t" or (letter >= " " and letter != "\x7f") for letter in text)

    def headers_with(self, keys: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Fill the placeholders in from `keys`, by placeholder name."""
        return tuple((name, _filled(value, keys)) for name, value in self.headers)


PLACEHOLDERS = (
    "key",  # valid
    "other",  # valid, another one
    "unknown",  # well-formed, of nobody
    "disabled",  # its key is disabled
    "suspended",  # its user is disabled
    "expired",  # expires_at in the past
    "fresh",  # expires_at in the future
    "inside",  # networks: 192.0.2.0/24, 2001:db8::/32
    "outside",  # networks: 198.51.100.0/24
)


@dataclass(frozen=True, slots=True)
class UrlCase:
    """A request line. `endpoint` None: nothing is there; `model`: what a model path names."""

    name: str
    method: str
    path: str
    endpoint: str | None
    status: int
    dialect: Dialect
    code: str | None = None
    anthropic_version: bool = False
    model: str | None = None

    @property
    def is_sendable(self) -> bool:
        """Whether an HTTP/1.1 request line can carry this path, and it arrives as it is here."""
        return self.path.startswith("/") and all(
            "!" <= letter <= "~" and letter not in "%#\\" for letter in self.path
        )


@cache
def bodies() -> tuple[BodyCase, ...]:
    """Load the JSON bodies."""
    return _rows("bodies.jsonl", BodyCase)


@cache
def auth() -> tuple[AuthCase, ...]:
    """Load the credential headers."""
    return _rows("auth.jsonl", AuthCase)


@cache
def urls() -> tuple[UrlCase, ...]:
    """Load the request lines."""
    return _rows("urls.jsonl", UrlCase)


def _rows(name: str, kind: type[Case]) -> tuple[Case, ...]:
    decoder = msgspec.json.Decoder(kind)
    lines = (_HERE / name).read_bytes().splitlines()
    return tuple(decoder.decode(line) for line in lines)


def _bytes_of(part: str | Mapping[str, str | int]) -> bytes:
    if isinstance(part, str):
        return part.encode()
    if "hex" in part:
        return bytes.fromhex(str(part["hex"]))
    if "members" in part:
        return ",".join(f'"k{number}":0' for number in range(int(part["members"]))).encode()
    return str(part["repeat"]).encode() * int(part["count"])


def _filled(value: str, keys: Mapping[str, str]) -> str:
    for name in PLACEHOLDERS:
        value = value.replace("{" + name + "}", keys[name])
    before, opened, rest = value.partition("{key:")
    if not opened:
        return value
    damage, _, after = rest.partition("}")
    operation, _, position = damage.partition(":")
    return before + _damaged(keys["key"], operation, int(position or 0)) + after


def _damaged(key: str, operation: str, position: int) -> str:
    """Spoil one thing about a key."""
    if operation == "flip":
        other = "A" if key[position] != "A" else "B"
        return key[:position] + other + key[position:][1:]
    if operation == "drop":
        return key[:position] + key[position:][1:]
    if operation == "double":
        return key[:position] + key[position] + key[position:]
    if operation == "head":
        return key[:position]
    if operation == "tail":
        return key[position:]
    if operation == "swapcase":
        return key[:3] + key[3:].swapcase()
    if operation == "reverse":
        return key[:3] + key[3:][::-1]
    raise AssertionError(operation)
