"""A provider that signs people in (OpenID Connect): what it says of itself, and what of them.

Rules: authorization code with PKCE; the ID token is believed only if it is signed by a key of the
provider with one of two algorithms, for us, by it, now, and for the very question that was asked.
No redirect is followed, and every answer is bounded. This module must not know pages or people.

Sources: OpenID Connect Core 1.0 section 3.1, Discovery 1.0 section 4; RFC 7636 (PKCE); RFC 8725
section 3 (best current practices for tokens); RFC 9207 (`iss` in the answer).
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

ALGORITHMS: Final[Mapping[str, str]] = {"RS256": "RSA", "ES256": "EC"}
"""What a token may be signed with, and the kind of key that is for."""
ANSWER_BYTES_MAX: Final = 262_144
ANSWER_SECONDS_MAX: Final = 10.0
KEPT_SECONDS: Final = 3_600.0
"""How long what a provider says of itself is believed."""
AGAIN_SECONDS: Final = 60.0
"""Keys are not asked for again sooner, whatever key a token names."""
KEYS_MAX: Final = 100
RSA_BITS_MIN: Final = 2_048
LEEWAY_SECONDS: Final = 60.0
TOKEN_CHARS_MAX: Final = 16_384
_REQUIRED: Final = ("exp", "iat", "aud", "iss", "sub")


class ProviderError(Exception):
    """Nobody is signed in by this: why, for the operator's log."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who we are to a provider. `secret` is None where it gave us none."""

    issuer: str
    id: str
    secret: str | None
    redirect: str


@dataclass(frozen=True, slots=True)
class Question:
    """What one attempt to sign in asked, which its answer must fit."""

    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the provider vouches for. `email` only if it says that it is theirs."""

    issuer: str
    subject: str
    email: str | None
    signed_in_at: float | None
    """When they proved to it who they are, if it says so."""


@dataclass(frozen=True, slots=True)
class _Metadata:
    issuer: str
    authorization: str
    token: str
    keys: str
    posts_secret: bool
    names_itself: bool
    until: float


class Provider:
    """One provider, from making to `close`; what it said is kept for an hour."""

    def __init__(self, issuer: str) -> None:
        self.issuer: Final = issuer
        self._metadata: _Metadata | None = None
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._keys_at = -KEPT_SECONDS
        self._session: aiohttp.ClientSession | None = None
        self._asking = asyncio.Lock()

    async def close(self) -> None:
        """End the connections; safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def address(self, client: Client, question: Question, now: float, *, again: bool) -> str:
        """Where to send the browser. `again`: they prove anew who they are.

        Raises ProviderError.
        """
        metadata = await self._discovered(now)
        digest = hashlib.sha256(question.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": client.id,
            "redirect_uri": client.redirect,
            "scope": "openid email",
            "state": question.state,
            "nonce": question.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        if again:
            asked |= {"prompt": "login", "max_age": "0"}
        separator = "&" if urlsplit(metadata.authorization).query else "?"
        return f"{metadata.authorization}{separator}{urlencode(asked)}"

    async def identify(
        self, client: Client, question: Question, answer: Mapping[str, str], now: float
    ) -> Identity:
        """Whom the provider's answer, the query it sent the browser back with, is about.

        Raises ProviderError.
        """
        metadata = await self._discovered(now)
        state = answer.get("state", "")
        if not hmac.compare_digest(state.encode(), question.state.encode()):
            raise ProviderError("the answer is to another question (state)")
        if "error" in answer:
            raise ProviderError(f"the provider said no: {answer['error'][:200]}")
        named = answer.get("iss")
        if named != metadata.issuer and (named is not None or metadata.names_itself):
            raise ProviderError("the answer is of another provider (iss)")
        if not answer.get("code"):
            raise ProviderError("the answer has no code")
        token = await self._redeemed(metadata, client, question, answer["code"])
        return await self._read(metadata, client, question, token, now)

    async def _discovered(self, now: float) -> _Metadata:
        async with self._asking:
            if self._metadata is None or now >= self._metadata.until:
                url = f"{self.issuer}/.well-known/openid-configuration"
                self._metadata = _metadata(self.issuer, await self._ask("GET", url), now)
            return self._metadata

    async def _redeemed(
        self, metadata: _Metadata, client: Client, question: Question, code: str
    ) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.redirect,
            "client_id": client.id,
            "code_verifier": question.verifier,
        }
        headers = {}
        if client.secret is not None and metadata.posts_secret:
            form["client_secret"] = client.secret
        elif client.secret is not None:
            # RFC 6749 section 2.3.1: both are percent-encoded before they are joined.
            pair = f"{quote(client.id, safe='')}:{quote(client.secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        answer = await self._ask("POST", metadata.token, form, headers)
        token = answer.get("id_token")
        if not isinstance(token, str) or len(token) > TOKEN_CHARS_MAX:
            raise ProviderError("the provider gave no ID token")
        return token

    async def _read(
        self, metadata: _Metadata, client: Client, question: Question, token: str, now: float
    ) -> Identity:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise ProviderError(f"the ID token cannot be read: {error}") from None
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise ProviderError(f"the ID token is signed with {algorithm!s:.20}")
        if "crit" in header:
            raise ProviderError("the ID token asks for an extension (crit)")
        key = await self._key(metadata, header.get("kid"), ALGORITHMS[algorithm], now)
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=client.id,
                issuer=metadata.issuer,
                # Times are compared below, with the clock that is given.
                options={"require": [*_REQUIRED], "verify_exp": False, "verify_iat": False,
                         "verify_nbf": False},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ProviderError(f"the ID token is not good: {error}") from None
        return _identity(claims, client, question, now)

    async def _key(self, metadata: _Metadata, name: object, kind: str, now: float) -> jwt.PyJWK:
        found = self._find(name, kind)
        age = now - self._keys_at
        if age >= KEPT_SECONDS or (found is None and age >= AGAIN_SECONDS):
            self._keys_at = now
            self._keys = _keys(await self._ask("GET", metadata.keys))
            found = self._find(name, kind)
        if found is None:
            raise ProviderError("the ID token is signed with a key that the provider does not name")
        return found

    def _find(self, name: object, kind: str) -> jwt.PyJWK | None:
        if name is None:
            fitting = [key for key in self._keys.values() if key.key_type == kind]
            return fitting[0] if len(fitting) == 1 else None
        found = self._keys.get(name) if isinstance(name, str) else None
        return found if found is not None and found.key_type == kind else None

    async def _ask(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
            self._session = aiohttp.ClientSession(timeout=timeout, trust_env=True)
        where = urlsplit(url).path
        try:
            async with self._session.request(
                method,
                url,
                data=form,
                headers={"accept": "application/json", **(headers or {})},
                allow_redirects=False,
            ) as response:
                body = await response.content.read(ANSWER_BYTES_MAX + 1)
                while len(body) <= ANSWER_BYTES_MAX and (
                    more := await response.content.read(ANSWER_BYTES_MAX + 1 - len(body))
                ):
                    body += more
                status = response.status
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ProviderError(f"{where}: {str(error) or type(error).__name__}") from None
        if status != 200 or len(body) > ANSWER_BYTES_MAX:
            raise ProviderError(f"{where}: status {status}, {len(body)} bytes")
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise ProviderError(f"{where}: no JSON object")
        return found


def _identity(
    claims: Mapping[str, Any], client: Client, question: Question, now: float
) -> Identity:
    """What verified claims say. Raises ProviderError."""
    expires, issued, subject = claims["exp"], claims["iat"], claims["sub"]
    if not all(isinstance(one, int | float) for one in (expires, issued)):
        raise ProviderError("the ID token's times are no numbers")
    if now >= expires + LEEWAY_SECONDS:
        raise ProviderError("the ID token has expired")
    if issued > now + LEEWAY_SECONDS:
        raise ProviderError("the ID token is of the future")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(
        nonce.encode("utf-8", "surrogatepass"), question.nonce.encode()
    ):
        raise ProviderError("the ID token is for another question (nonce)")
    audience, party = claims["aud"], claims.get("azp")
    if (isinstance(audience, list) and len(audience) > 1 and party is None) or (
        party is not None and party != client.id
    ):
        raise ProviderError("the ID token is for somebody else (azp)")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise ProviderError("the ID token has no subject")
    email, proved = claims.get("email"), claims.get("auth_time")
    # Whoever can write any address into their profile there would be anybody here.
    vouched = isinstance(email, str) and claims.get("email_verified") is True
    return Identity(
        str(claims["iss"]),
        subject,
        email if vouched else None,
        float(proved) if isinstance(proved, int | float) else None,
    )


def _metadata(issuer: str, said: Mapping[str, Any], now: float) -> _Metadata:
    named = said.get("issuer")
    # The setting has no slash at its end; what the provider calls itself may, and that counts.
    if not isinstance(named, str) or named.rstrip("/") != issuer:
        raise ProviderError("the provider calls itself by another name (issuer)")
    endpoints = []
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        url = said.get(name)
        if not isinstance(url, str) or not _is_safe(url):
            raise ProviderError(f"the provider has no {name} with https")
        endpoints.append(url)
    ways = said.get("token_endpoint_auth_methods_supported")
    posts = isinstance(ways, list) and "client_secret_basic" not in ways
    names = said.get("authorization_response_iss_parameter_supported") is True
    authorization, token, keys = endpoints
    return _Metadata(named, authorization, token, keys, posts, names, now + KEPT_SECONDS)


def _keys(said: Mapping[str, Any]) -> dict[str | None, jwt.PyJWK]:
    listed = said.get("keys")
    found: dict[str | None, jwt.PyJWK] = {}
    for row in listed[:KEYS_MAX] if isinstance(listed, list) else ():
        if not isinstance(row, dict) or row.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(row)
        except (jwt.PyJWTError, ValueError, TypeError, binascii.Error):
            continue  # of a kind that we have no use for
        if _is_strong(key.key):
            found[key.key_id if isinstance(key.key_id, str) else None] = key
    return found


def _is_strong(key: object) -> bool:
    """Whether a key is what its algorithm asks for (RFC 7518 sections 3.3 and 3.4)."""
    if isinstance(key, RSAPublicKey):
        return key.key_size >= RSA_BITS_MIN
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)


def _is_safe(url: str) -> bool:
    """Whether nobody on the way can answer: TLS, or this machine."""
    try:
        where = urlsplit(url)
        host = where.hostname or ""
    except ValueError:
        return False
    if where.scheme == "https":
        return bool(host)
    try:
        return where.scheme == "http" and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return where.scheme == "http" and host == "localhost"
