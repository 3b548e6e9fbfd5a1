"""The session cookie: a signed token that is good as long as its session is.

Rules: one algorithm, every claim required; the token is for fifteen minutes and is made anew while
the session's row in the database lives, so a revoked session is out at the next request, whatever
its token says. A token that is wrong in any way is no token. This module must not know pages.

Source: RFC 8725 (JSON Web Token best current practices) sections 3.1, 3.8 and 3.9.
"""

from dataclasses import dataclass
from typing import Final

import jwt

from proxy.core.actions.action import Role
from proxy.storage.reader import Reader

ALGORITHM: Final = "HS256"
ISSUER: Final = "sluice-console"
TOKEN_SECONDS: Final = 900.0
CONFIRMED_SECONDS: Final = 300.0
"""For how long after a password was given dangerous actions do not ask for it again."""
_CLAIMS: Final = ("exp", "iat", "aud", "iss", "sub", "sid")
_PERSON: Final = (
    "SELECT person.id, email, person.role, language, verified_at, session.id, confirmed_at, "
    "session.expires_at FROM session JOIN person ON person.id = person_id "
    "WHERE session.id = ? AND person_id = ? AND revoked_at IS NULL AND session.expires_at > ? "
    "AND person.enabled = 1"
)


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in, and by which session. Times Unix seconds."""

    id: int
    email: str
    role: Role
    language: str | None
    verified_at: float | None
    session: str
    confirmed_at: float
    session_expires_at: float


@dataclass(frozen=True, slots=True)
class Claim:
    """What a genuine token says. `stale`: its fifteen minutes are over."""

    session: str
    person: int
    stale: bool


def issue(secret: bytes, session: str, person: int, now: float) -> str:
    """Make a token for a session."""
    claims = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": str(person),
        "sid": session,
        "iat": int(now),
        "exp": int(now + TOKEN_SECONDS),
    }
    return jwt.encode(claims, secret, algorithm=ALGORITHM)


def read(secret: bytes, token: str, now: float) -> Claim | None:
    """Return what a token says, or None if it is not one of ours."""
    try:
        claims = jwt.decode(
            token,
            secret,
            algorithms=[ALGORITHM],
            audience=ISSUER,
            issuer=ISSUER,
            # Times are compared here, with the clock that is given.
            options={"require": [*_CLAIMS], "verify_exp": False, "verify_iat": False},
        )
    except (jwt.PyJWTError, UnicodeError):  # the latter: bytes that no text has
        return None
    subject, session = str(claims["sub"]), claims["sid"]
    if not subject.isascii() or not subject.isdigit() or not isinstance(session, str):
        return None
    expires = claims["exp"]
    return Claim(session, int(subject), stale=not isinstance(expires, int) or expires <= now)


async def find_person(reader: Reader, claim: Claim, now: float) -> Person | None:
    """Return who has this session, if it lives and they may. Raises sqlite3.Error."""
    rows = await reader.rows(_PERSON, (claim.session, claim.person, now))
    if not rows:
        return None
    number, email, role, *rest = rows[0]
    return Person(number, email, Role(role), *rest)
