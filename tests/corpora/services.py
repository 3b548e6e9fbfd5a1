"""Named bodies of service endpoints, good and bad, with what must be said of them.

One JSON object per line of services.jsonl. In `parts` `{b}` stands for the boundary of a form.
This module must not know who reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec

from tests.corpora.forms import BOUNDARY
from tests.corpora.framing import bytes_of

_DATA = Path(__file__).with_name("services.jsonl")

FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True, slots=True)
class ServiceCase:
    """A request body. `status` 200: accepted, then `expect` holds figures of its known usage.

    `form`: whether it is sent as form data; `content_type`: the header where it is another one.
    """

    name: str
    endpoint: str
    parts: tuple[str | Mapping[str, str | int], ...] = field(repr=False)
    status: int
    form: bool = False
    content_type: str | None = None
    code: str | None = None
    param: str | None = None
    model: str | None = None
    expect: Mapping[str, int] = field(default_factory=dict)

    @property
    def header(self) -> str:
        """The content type it is sent with."""
        if self.content_type is not None:
            return self.content_type
        return FORM if self.form else "application/json"

    @property
    def body(self) -> bytes:
        """What is sent."""
        return b"".join(
            bytes_of(part.replace("{b}", BOUNDARY) if isinstance(part, str) else part)
            for part in self.parts
        )


@cache
def services() -> tuple[ServiceCase, ...]:
    """Load the cases."""
    decoder = msgspec.json.Decoder(ServiceCase)
    return tuple(decoder.decode(line) for line in _DATA.read_bytes().splitlines())
