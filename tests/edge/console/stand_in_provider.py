"""A provider that signs people in, of the tests' own making: real HTTP, real signatures, ours alone.

It asks nobody for a password: who is sent to it is signed in as `person` at once. It is strict about
what a client owes it (PKCE, redirect, secret, each code once), and `spoil` lets a test change what it
says: the ID token's claims, how it is signed, what it says of itself.
"""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time
from typing import Any
from urllib.parse import urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

CLIENT, SECRET = "relay", "s3cret:of/ours"
RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
P384_KEY = ec.generate_private_key(ec.SECP384R1())
PUBLIC_PEM = RSA_KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
Claims = dict[str, Any]


def signed(claims: Claims, key: Any = RSA_KEY, algorithm: str = "RS256", **head: Any) -> str:
    """An ID token."""
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "rsa", **head})


@dataclass
class Spoil:
    """What a hostile or broken provider says otherwise."""

    claims: Callable[[Claims], Claims] = lambda claims: claims
    token: Callable[[Claims], str] = signed
    metadata: Claims = field(default_factory=dict)
    answer: dict[str, str] = field(default_factory=dict)


@dataclass
class StandIn:
    """One provider; `url` is its name."""

    url: str = ""
    person: Claims = field(
        default_factory=lambda: {
            "sub": "ann-7", "email": "ann@example.com", "email_verified": True,
        }
    )  # fmt: skip
    spoil: Spoil = field(default_factory=Spoil)
    asked: list[dict[str, str]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    key_questions: int = 0

    async def discovery(self, _request: web.Request) -> web.Response:
        said = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }
        return web.json_response(said | self.spoil.metadata)

    async def keys(self, _request: web.Request) -> web.Response:
        self.key_questions += 1
        rows = [
            {**RSAAlgorithm.to_jwk(RSA_KEY.public_key(), as_dict=True), "kid": "rsa", "use": "sig"},
            {**ECAlgorithm.to_jwk(EC_KEY.public_key(), as_dict=True), "kid": "ec"},
            {"kty": "oct", "k": "AAAA", "kid": "shared"},
            {"kty": "unheard of", "kid": "strange"},
            {**ECAlgorithm.to_jwk(P384_KEY.public_key(), as_dict=True), "kid": "long"},
            {**RSAAlgorithm.to_jwk(OTHER_KEY.public_key(), as_dict=True), "use": "enc"},
        ]
        return web.json_response({"keys": rows})

    async def authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        self.asked.append(asked)
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        back = {"code": code, "state": asked["state"], **self.spoil.answer}
        url = f"{asked['redirect_uri']}?{urlencode(back)}"
        return web.Response(status=302, headers={"location": url})

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        pair = base64.b64decode(request.headers.get("authorization", " ").split()[-1]).decode()
        given = pair == "relay:s3cret%3Aof%2Fours" or form.get("client_secret") == SECRET
        asked = self.codes.pop(str(form["code"]), None)
        challenge = base64.urlsafe_b64encode(
            hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        )
        if (
            not given
            or asked is None
            or asked["redirect_uri"] != form["redirect_uri"]
            or asked["code_challenge"] != challenge.rstrip(b"=").decode()
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time())
        claims: Claims = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": asked["nonce"],
            **self.person,
        }
        claims = self.spoil.claims(claims)
        return web.json_response({"id_token": self.spoil.token(claims), "access_token": "x"})


@asynccontextmanager
async def stand_in() -> AsyncIterator[StandIn]:
    """A provider that listens."""
    made = StandIn()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", made.discovery)
    app.router.add_get("/keys", made.keys)
    app.router.add_get("/authorize", made.authorize)
    app.router.add_post("/token", made.token)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}"
    try:
        yield made
    finally:
        await runner.cleanup()
        await asyncio.sleep(0)
