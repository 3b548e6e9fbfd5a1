"""Which passwords are taken: long enough, and not the first that anybody would try.

Rules: length is what counts (NIST SP 800-63B section 5.1.1.2), so nothing is asked about kinds of
characters; the same text typed on another keyboard is the same password (NFKC). Nothing here
hashes or remembers. This module must not know whose password it is, beyond the address.
"""

import re
import unicodedata
from typing import Final

CHARS_MIN: Final = 10
BYTES_MAX: Final = 1_024
"""What argon2 is given at most: longer ones cost an attacker nothing and us time."""
DISTINCT_MIN: Final = 4
TOO_SHORT: Final = "A password has at least 10 characters."
TOO_LONG: Final = "A password has at most 1,024 bytes."
TOO_SIMPLE: Final = "This password is too easy to guess."
_SEQUENCES: Final = (
    "01234567890123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm", "1q2w3e4r5t6y7u8i9o0p",
)  # fmt: skip
_WORDS: Final = re.compile(
    r"(?:password|passwort|passw0rd|p@ssw0rd|letmein|welcome|administrator|admin|changeme|iloveyou"
    r"|secret|sluice|monkey|dragon|football|baseball|sunshine|princess)"
)


def normal(password: str) -> str:
    """The password as it is hashed."""
    return unicodedata.normalize("NFKC", password)


def weakness(password: str, email: str) -> str | None:
    """Why a new password for this address is not taken, in English; None if it is.

    The texts are TOO_SHORT, TOO_LONG and TOO_SIMPLE.
    """
    password = normal(password)
    if len(password) < CHARS_MIN:
        return TOO_SHORT
    if len(password.encode("utf-8", "surrogatepass")) > BYTES_MAX:
        return TOO_LONG
    folded = password.casefold()
    # What is left of it without the words and sequences that everybody tries first.
    local, _, domain = email.partition("@")
    bare = _WORDS.sub("", folded)
    for known in (email, local, domain):
        if len(known) > 3:
            bare = bare.replace(known, "")
    simple = len(set(bare)) < DISTINCT_MIN or any(
        bare in sequence or bare in sequence[::-1] for sequence in _SEQUENCES
    )
    return TOO_SIMPLE if simple else None
