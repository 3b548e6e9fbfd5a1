"""Named event streams, bad and odd, with what must reach the client and the verdict.

One JSON object per line of sse_cases.jsonl. This module must not know who relays.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

from proxy.core.entities import Dialect, TerminalRule, Verdict
from tests.corpora.framing import bytes_of

_DATA = Path(__file__).with_name("sse_cases.jsonl")

Segment = tuple[str | Mapping[str, str | int], bool | None]


@dataclass(frozen=True, slots=True)
class SseCase:
    """An upstream body in segments: bytes, and whether they must reach the client.

    True: they must; False: they must not; None: they may (an error event of the upstream, the
    torso of a cut event). `status` is the client's: a failure before content has its own, and
    then `code` is in the body; after content it is in-band. `text` is all countable text of the
    segments that must pass, `usage` the provider's (input, output) figure; None means that the
    case says nothing about it.
    """

    name: str
    dialect: Dialect
    segments: tuple[Segment, ...] = field(repr=False)
    verdict: Verdict
    status: int
    code: str | None = None
    text: str | None = field(default=None, repr=False)
    usage: tuple[int, int] | None = None
    usage_asked: bool = True
    terminal: TerminalRule = TerminalRule.DONE

    @property
    def body(self) -> bytes:
        """What the upstream sends."""
        return b"".join(bytes_of(raw) for raw, _ in self.segments)

    @property
    def required(self) -> bytes:
        """What must reach the client, in this order, heartbeats and our error event apart."""
        return b"".join(bytes_of(raw) for raw, sent in self.segments if sent)

    @property
    def tolerated(self) -> bytes:
        """What may follow `required` before our own error event."""
        return b"".join(bytes_of(raw) for raw, sent in self.segments if sent is None)


@cache
def sse() -> tuple[SseCase, ...]:
    """Load the cases."""
    decoder = msgspec.json.Decoder(SseCase)
    return tuple(decoder.decode(line) for line in _DATA.read_bytes().splitlines())
