"""Taking secrets out of text that an upstream wrote before a caller or a log sees it.

Rules: known secrets go first and exactly, then whatever looks like a credential; too much removed
is better than too little; the text is bounded. This module must not know where text goes.
"""

import re
from collections.abc import Iterable

REDACTED = "[redacted]"
TEXT_CHARS_MAX = 8_192
"""Longer texts are cut: an error message is read by a person."""
_SECRET_CHARS_MIN = 4
"""Shorter than this is no secret, and replacing it would shred the text."""

# Masked echoes such as `sk-abcd****wxyz` count: they still give away both ends.
# Long ones count after a letter too, which may be the end of an escape such as `\n`.
_KEY = re.compile(r"(?<![0-9A-Za-z])sk-[0-9A-Za-z_*.\-]+|sk-[0-9A-Za-z_*.\-]{16,}")
_BEARER = re.compile(r"(?i)(bearer)(?:\s|%20|\+)+[^\s\"',;<>\\]+")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without any of `secrets`, any `sk-...` and any `Bearer ...`, cut to a bounded length.

    Secrets of fewer than 4 characters are passed over. The cut comes last, so that no secret
    survives by straddling it.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SECRET_CHARS_MIN:
            text = text.replace(secret, REDACTED)
    text = _BEARER.sub(rf"\1 {REDACTED}", text)
    text = _KEY.sub(REDACTED, text)
    if len(text) > TEXT_CHARS_MAX:
        text = text[:TEXT_CHARS_MAX] + "…"
    return text
