"""Secrets of thinking that go through a caller who cannot read them, and come back.

Rules: only its maker can read a signature, so one that is shown under another dialect carries a
mark of who made it, and Gemini's also what it stood on: there a signature belongs to a part, and
is checked in that place. A marked one is never shown to another maker. In the hub such a
signature is one of thoughts that stand where it stood, before a call and after a text. This
module must not know any dialect's requests or answers.

Sources: Google's guide to thought signatures (`ai.google.dev/gemini-api/docs/thought-signatures`):
the first of parallel calls carries it, each step of a turn has its own, without calls it is in the
last part, which may be an empty text; `extra_content.google.thought_signature` is its place in
Google's own chat completions (`.../docs/openai`).
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from proxy.core.translation.conversation import Thinking

GEMINI: Final = "gemini:"
OWN: Final = "responses:"
"""Before the id and encrypted content of a reasoning item of OpenAI's Responses."""
NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""Google's word for a call that has no signature to be checked."""
_MARKS: Final = (GEMINI, OWN)
_RELAYED: Final = "relayed:"
_REDACTED: Final = "relayed-redacted:"
_STANDARD: Final = str.maketrans("-_", "+/", "=")
"""From base64's alphabet for URLs to the usual one."""


class Place(StrEnum):
    """What a signature of Gemini's stood on."""

    CALL = "call"
    TEXT = "text"
    THOUGHT = "thought"


_PLACES: Final = {f"{GEMINI}{place.value}:": place for place in Place}


def marked(place: Place, signature: str) -> str:
    """Gemini's signature, as others carry it."""
    return f"{GEMINI}{place.value}:{signature}"


def of_gemini(signature: str | None) -> tuple[Place, str] | None:
    """Where a signature of Gemini's stood, and itself; None for another maker's."""
    if signature is None or not signature.startswith(GEMINI):
        return None
    for mark, place in _PLACES.items():
        if signature.startswith(mark):
            return place, signature[len(mark) :]
    return None


def is_marked(signature: str) -> bool:
    """Whether a signature was made by another maker than the one whose form it is in."""
    return signature.startswith(_MARKS)


def extra_content(signature: str) -> Mapping[str, object]:
    """Where Google's own chat completions have a signature, as does who calls a chat here."""
    return {"google": {"thought_signature": signature}}


def from_extra_content(found: object, place: Place) -> str | None:
    """The signature that came back in a chat, marked; None where there is none."""
    google = found.get("google") if isinstance(found, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return marked(place, signature) if isinstance(signature, str) and signature else None


def sealed(part: Thinking) -> str | None:
    """What goes through a caller of Gemini in the place of a signature; None for none.

    There it must be base64: SDKs decode it and encode it again, in either alphabet.
    """
    if part.redacted is not None:
        return b64encode((_REDACTED + part.redacted).encode()).decode()
    signature = of_gemini(part.signature)
    if signature is not None:
        return signature[1]
    if not part.signature:
        return None
    return b64encode((_RELAYED + part.signature).encode()).decode()


def unsealed(place: Place, text: str, secret: str) -> Thinking:
    """Thoughts that come back from a caller of Gemini, as their maker signed them."""
    try:
        plain = b64decode(secret.translate(_STANDARD) + "==").decode()
    except ValueError:
        plain = ""
    if plain.startswith(_REDACTED):
        return Thinking("", redacted=plain[len(_REDACTED) :])
    if plain.startswith(_RELAYED):
        return Thinking(text, plain[len(_RELAYED) :])
    return Thinking(text, marked(place, secret))
