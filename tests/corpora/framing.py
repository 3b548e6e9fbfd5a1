"""Named HTTP requests, whole and broken, with the answer a client must get.

One JSON object per line of framing_cases.jsonl. This module must not know who answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

_DATA = Path(__file__).with_name("framing_cases.jsonl")


@dataclass(frozen=True, slots=True)
class FramingCase:
    """Bytes of one connection and the answers to them.

    `statuses` of the final (not 1xx) responses in order; empty: the connection ends without one.
    `also`: answers just as safe, such as refusing a whole write for what its end holds.
    `code` is the stable error code of the last response. `closed`: whether the connection must
    be (True), must not be (False) closed after it; None: either. `fin`: the client half-closes
    when all is sent. `dialect` of the error body where it must be Anthropic's. `bare`: what
    aiohttp does without any help (measured), where that differs from `statuses`.
    """

    name: str
    parts: tuple[str | Mapping[str, str | int], ...] = field(repr=False)
    statuses: tuple[int, ...]
    code: str | None = None
    closed: bool | None = None
    fin: bool = False
    dialect: str = "openai"
    bare: tuple[int, ...] | None = None
    also: tuple[tuple[int, ...], ...] = ()

    def request(self, key: str) -> bytes:
        """All bytes to send, with `{key}` filled in."""
        return b"".join(bytes_of(part) for part in self.parts).replace(b"{key}", key.encode())


@cache
def framing() -> tuple[FramingCase, ...]:
    """Load the cases."""
    decoder = msgspec.json.Decoder(FramingCase)
    return tuple(decoder.decode(line) for line in _DATA.read_bytes().splitlines())


def bytes_of(part: str | Mapping[str, str | int]) -> bytes:
    """Text as UTF-8, `{"hex"}` raw, `{"repeat", "count"}` repeated text."""
    if isinstance(part, str):
        return part.encode()
    if "hex" in part:
        return bytes.fromhex(str(part["hex"]))
    return str(part["repeat"]).encode() * int(part["count"])
