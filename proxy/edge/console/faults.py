"""Where on a form a refusal belongs: next to the field that it names.

Rules: the catalog's refusals say `channel 'x': base_url must be ...`, so the field is the first
word behind the entry; what names no field of the form is about the form as a whole. This module
must not know any form.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from proxy.core.actions.refusals import MOVED
from proxy.core.sentences import Sentence
from proxy.edge.console.keeper_line import Refused

WHOLE: Final = ""
_NAMED: Final = re.compile(
    r"(?:channel|group|model|plan)\b.*?'(?: price| costs '.*?')*(?: tiers \d+| image_variants)?: "
    r"('[^']*'|\w+) (.+)",
    re.DOTALL,
)
_PART: Final = re.compile(r"'(?: price)? (costs|tiers|image_variants)\b")


class Fault(NamedTuple):
    """`fields`: what is wrong by field, the form as a whole under ``. `moved`: it was changed."""

    fields: Mapping[str, str]
    remedy: str
    moved: bool


def fault_of(refused: Refused, fields: Collection[str]) -> Fault:
    """Put a refusal to the field of a form it is about."""
    english = refused.english
    whole = f"{english.message}: {english.remedy}" if english.remedy else english.message
    moved = MOVED in whole
    named = None if moved else _NAMED.match(whole)
    if named is not None:
        part = _PART.search(whole, 0, named.start(1))
        name = part[1] if part is not None and part[1] in fields else named[1]
        if name in fields:
            said = _judgement(refused) or named[2]
            said = said if name == named[1] else f"{named[1]} {said}"
            return Fault({name: said[:1].upper() + said[1:]}, "", moved=False)
    return Fault({WHOLE: refused.message}, refused.remedy, moved)


def _judgement(refused: Refused) -> str | None:
    """What is said of the field, in the reader's language, if the keeper told its parts."""
    message = refused.message
    what = message.values.get("what") if isinstance(message, Sentence) else None
    if not isinstance(what, Sentence):
        return None
    return f"{what}: {refused.remedy}" if refused.remedy else what
