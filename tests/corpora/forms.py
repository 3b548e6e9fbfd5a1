"""Named form-data bodies, bad and odd, with what must be read of them.

One JSON object per line of forms.jsonl. A case's `fault` is the stable kind of the first thing
that is wrong; without one `fields` and `files` are what is in it. In `parts` `{b}` stands for the
boundary. This module must not know who reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

from tests.corpora.framing import bytes_of

_DATA = Path(__file__).with_name("forms.jsonl")

BOUNDARY = "xYzZY"


@dataclass(frozen=True, slots=True)
class FormCase:
    """A body and what is in it: `fields` by name and value, `files` by name, file name and size."""

    name: str
    parts: tuple[str | Mapping[str, str | int], ...] = field(repr=False)
    fault: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str, int], ...] = ()

    @property
    def body(self) -> bytes:
        """What is sent."""
        return b"".join(
            bytes_of(part.replace("{b}", BOUNDARY) if isinstance(part, str) else part)
            for part in self.parts
        )


@cache
def forms() -> tuple[FormCase, ...]:
    """Load the cases."""
    decoder = msgspec.json.Decoder(FormCase)
    return tuple(decoder.decode(line) for line in _DATA.read_bytes().splitlines())
