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

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

GEMINI: Final = "gemini:"
OWN: Final = "responses:"
"""Before the id and encrypted content of a reasoning item of OpenAI's Responses."""
_MARKS: Final = (GEMINI, OWN)


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
