"""Which texts are e-mail addresses here, and how one is written.

Rules: lower case throughout, because people type their address in either and no provider tells
them apart; ASCII alone, because an address that looks like another is a way in (a domain in other
letters has an `xn--` form). What may never stand in a mail's head is refused. This module must not
know who owns an address.
"""

import re
from typing import Final

from proxy.core.sentences import Sentence

EMAIL_CHARS_MAX: Final = 254
"""RFC 5321 section 4.5.3.1.3, less the angle brackets."""
LOCAL_CHARS_MAX: Final = 64
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_EMAIL: Final = re.compile(
    rf"[a-z0-9!#$%&'*+/=?^_`{{|}}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@{_LABEL}(?:\.{_LABEL})*"
)
"""RFC 5322's dot-atom at a host's name; quoted local parts are in nobody's address book."""
NOT_AN_EMAIL: Final = Sentence("This is not an e-mail address.")


def read_email(text: str) -> str:
    """Return the address in `text` as it is kept and compared. Raises ValueError."""
    email = text.strip().lower()
    local, _, _ = email.partition("@")
    if len(email) > EMAIL_CHARS_MAX or len(local) > LOCAL_CHARS_MAX or not _EMAIL.fullmatch(email):
        raise ValueError(NOT_AN_EMAIL)
    return email
