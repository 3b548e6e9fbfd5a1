"""A stand-in of Stripe over real HTTP: Checkout sessions, and the signing of what it sends.

Our own, because localstripe 1.15 has no Checkout sessions. It keeps to Stripe's documentation
(form-encoded requests, idempotency keys, `Stripe-Signature`), and signs without the library that
the console checks with.
"""

import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from proxy.edge.console.surroundings import Options

KEY = "sk_test_of_nobody"
SECRET = "whsec_of_nobody"


def signed(body: bytes, at: int, secret: str = SECRET) -> str:
    """The signature of a body, hexadecimal."""
    return hmac.new(secret.encode(), f"{at}.".encode() + body, "sha256").hexdigest()


def header(body: bytes, at: int, secret: str = SECRET) -> str:
    """`Stripe-Signature` for a body."""
    return f"t={at},v1={signed(body, at, secret)}"


@dataclass(slots=True)
class StandIn:
    """Sessions by id; `broken`: every answer is an error."""

    url: str = ""
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    broken: bool = False
    asked: list[str] = field(default_factory=list)

    def options(self, path: Path, **changes: Any) -> Options:
        """Settings of a console that speaks with it."""
        for name, word in (("key", KEY), ("secret", SECRET)):
            file = path / f"stripe-{name}"
            file.write_text(word + "\n")
            file.chmod(0o600)
        given: dict[str, Any] = {
            "stripe_key_file": str(path / "stripe-key"),
            "stripe_webhook_secret_file": str(path / "stripe-secret"),
            "stripe_api_base": self.url,
        }
        return Options(**given | changes)

    def message(self, session: str, kind: str = "checkout.session.completed") -> bytes:
        """What is sent of a session."""
        event = {
            "id": f"evt_{session}_{kind}", "object": "event", "type": kind,
            "data": {"object": self.sessions[session]},
        }  # fmt: skip
        return json.dumps(event).encode()

    def refund(self, session: str, minor: Any, message: str = "r1", **charge: Any) -> bytes:
        """What is sent when `minor` in all has gone back to who paid."""
        known = self.sessions[session]
        given = {
            "id": "ch_1", "object": "charge", "amount": known["amount_total"],
            "amount_refunded": minor, "currency": known["currency"],
            "payment_intent": known["payment_intent"],
        }  # fmt: skip
        event = {
            "id": f"evt_{message}", "object": "event", "type": "charge.refunded",
            "data": {"object": given | charge},
        }  # fmt: skip
        return json.dumps(event).encode()

    async def create(self, request: web.Request) -> web.Response:
        """POST /v1/checkout/sessions."""
        self.asked.append("create")
        if self.broken or request.headers.get("authorization") != f"Bearer {KEY}":
            return web.json_response({"error": {"message": "no", "type": "api_error"}}, status=401)
        form = await request.post()
        key = request.headers["idempotency-key"]
        found = self.keys.get(key)
        if found is None:
            found = self.keys[key] = f"cs_test_{len(self.sessions) + 1}"
            price = "line_items[0][price_data]"
            self.sessions[found] = {
                "id": found, "object": "checkout.session",
                "amount_total": int(str(form[f"{price}[unit_amount]"])),
                "currency": form[f"{price}[currency]"],
                "client_reference_id": form["client_reference_id"],
                "payment_status": "unpaid", "status": "open",
                "payment_intent": f"pi_{len(self.sessions) + 1}",
                "success_url": form["success_url"], "url": f"https://checkout.example/{found}",
            }  # fmt: skip
        return web.json_response(self.sessions[found])

    async def retrieve(self, request: web.Request) -> web.Response:
        """GET /v1/checkout/sessions/{id}."""
        self.asked.append("retrieve")
        found = self.sessions.get(request.match_info["id"])
        if self.broken or found is None:
            error = {"message": "none", "type": "invalid_request_error"}
            return web.json_response({"error": error}, status=404)
        return web.json_response(found)


@asynccontextmanager
async def stand_in() -> AsyncIterator[StandIn]:
    """A stand-in that answers."""
    stripe = StandIn()
    app = web.Application()
    app.router.add_post("/v1/checkout/sessions", stripe.create)
    app.router.add_get("/v1/checkout/sessions/{id}", stripe.retrieve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stripe.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stripe
    finally:
        await runner.cleanup()
