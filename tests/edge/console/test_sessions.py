import jwt
import pytest

from proxy.edge.console import sessions
from proxy.edge.console.sessions import ALGORITHM, ISSUER, TOKEN_SECONDS, issue, read

SECRET = b"s" * 32
NOW = 1_800_000_000.0
CLAIMS = {"iss": ISSUER, "aud": ISSUER, "sub": "7", "sid": "abc", "iat": 1, "exp": int(NOW) + 9}


def test_a_token_is_read_back_and_goes_stale() -> None:
    token = issue(SECRET, "abc", 7, NOW)
    assert read(SECRET, token, NOW) == sessions.Claim("abc", 7, stale=False)
    assert read(SECRET, token, NOW + TOKEN_SECONDS) == sessions.Claim("abc", 7, stale=True)


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "somebody"}, {"aud": "somebody"}, {"sub": "x"}, {"sub": "²"}, {"sub": "-1"},
        {"sid": 5}, {"iss": None}, {"aud": None}, {"sub": None}, {"sid": None}, {"exp": None},
        {"iat": None}, {"sub": ""},
    ],
    ids=str,
)  # fmt: skip
def test_a_token_with_a_wrong_claim_is_none(change: dict[str, object]) -> None:
    said = {name: value for name, value in (CLAIMS | change).items() if value is not None}
    assert read(SECRET, jwt.encode(said, SECRET, algorithm=ALGORITHM), NOW) is None


def test_a_token_that_others_signed_is_none() -> None:
    assert read(SECRET, jwt.encode(CLAIMS, b"t" * 32, algorithm=ALGORITHM), NOW) is None
    assert read(SECRET, jwt.encode(CLAIMS, SECRET + SECRET, algorithm="HS512"), NOW) is None
    assert read(SECRET, jwt.encode(CLAIMS, "", algorithm="none"), NOW) is None
    crit = jwt.encode(CLAIMS, SECRET, algorithm=ALGORITHM, headers={"crit": ["x"], "x": 1})
    assert read(SECRET, crit, NOW) is None
    for nonsense in ("", ".", "a.b.c", "é"):
        assert read(SECRET, nonsense, NOW) is None
