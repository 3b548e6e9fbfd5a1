"""The console's line to Stripe: begin a payment, look at one, check what Stripe sends.

Rules: every function waits for a network or imports a heavy library, so it runs in a thread; the
library signs, verifies and speaks, we read no more than a few fields of what it brings; an error
of it never shows a key. Nothing is credited here. This module must not know pages or the keeper.

Source: Stripe's documentation of Checkout sessions and of webhook signatures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from proxy.edge.console.payment_options import PaymentOptions
from proxy.storage.secret_files import read_word
from proxy.storage.secrets import SecretError

PROVIDER: Final = "stripe"
CONNECT_SECONDS_MAX: Final = 5.0
ANSWER_SECONDS_MAX: Final = 15.0
TOLERANCE_SECONDS: Final = 300
"""How old a message may be; Stripe's own bound."""
MESSAGE_BYTES_MAX: Final = 256 * 1024
SIGNATURE_CHARS_MAX: Final = 4_096
PAID: Final = "paid"
AMOUNT_MAX: Final = (1 << 63) - 1
"""In the smallest unit; what is beyond has no place in a file or in JSON of ours."""


class StripeError(Exception):
    """Stripe could not be asked, or said no; the message is for people and holds no secret."""


class ForgedError(ValueError):
    """A message that Stripe did not sign, not for us, or too long ago; or no message at all."""


class Session(msgspec.Struct, frozen=True):
    """A Checkout session, as far as we believe and need it."""

    id: str
    url: str | None = None
    client_reference_id: str | None = None
    amount_total: Annotated[int, msgspec.Meta(ge=-AMOUNT_MAX, le=AMOUNT_MAX)] | None = None
    currency: str | None = None
    payment_status: str | None = None
    status: str | None = None
    payment_intent: str | None = None


class Charge(msgspec.Struct, frozen=True):
    """What was paid, or what is disputed of it. `amount_refunded`: in all, of a charge alone."""

    payment_intent: str | None = None
    amount_refunded: Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)] | None = None
    currency: str | None = None


class _Data(msgspec.Struct, frozen=True):
    object: msgspec.Raw


class Message(msgspec.Struct, frozen=True):
    """Something that Stripe says has happened."""

    id: str
    type: str
    data: _Data

    def session(self) -> Session:
        """The Checkout session that it is about. Raises ForgedError."""
        try:
            return msgspec.json.decode(self.data.object, type=Session)
        except msgspec.MsgspecError as error:
            raise ForgedError(f"no Checkout session: {error}") from None

    def charge(self) -> Charge:
        """The charge or dispute that it is about. Raises ForgedError."""
        try:
            return msgspec.json.decode(self.data.object, type=Charge)
        except msgspec.MsgspecError as error:
            raise ForgedError(f"no charge: {error}") from None


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody is to pay. `minor` in the smallest unit; the URLs are the console's own."""

    reference: str
    currency: str
    minor: int
    title: str
    email: str
    success_url: str
    cancel_url: str


def check(options: PaymentOptions) -> None:
    """Read both secrets, so that a bad one is told at start. Raises SecretError."""
    if options.takes_cards:
        _secret(options.stripe_key_file)
        _secret(options.stripe_webhook_secret_file)


def open_session(options: PaymentOptions, order: Order) -> Session:
    """Let Stripe make a page to pay on. Raises StripeError, SecretError."""
    params: dict[str, Any] = {
        "mode": "payment",
        "client_reference_id": order.reference,
        "customer_email": order.email,
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": order.currency,
                    "unit_amount": order.minor,
                    "product_data": {"name": order.title},
                },
            }
        ],
        "success_url": order.success_url,
        "cancel_url": order.cancel_url,
    }
    session = _asked(
        options,
        lambda client: client.v1.checkout.sessions.create(
            params=params, options={"idempotency_key": f"sluice-{order.reference}"}
        ),
    )
    if session.url is None or not session.url.startswith(("https://", "http://127.0.0.1:")):
        raise StripeError("Stripe gave no page to pay on")
    return session


def read_session(options: PaymentOptions, session_id: str) -> Session:
    """Ask Stripe how far a payment is. Raises StripeError, SecretError."""
    return _asked(options, lambda client: client.v1.checkout.sessions.retrieve(session_id))


def verify(options: PaymentOptions, body: bytes, signature: str) -> Message:
    """Check that Stripe sent a message to us, and when. Raises ForgedError, SecretError."""
    import stripe  # noqa: PLC0415 - heavy, and only who takes cards needs it

    secret = _secret(options.stripe_webhook_secret_file)
    if len(signature) > SIGNATURE_CHARS_MAX or not signature.isascii():
        raise ForgedError("no signature of Stripe's")
    try:
        text = body.decode()
        stripe.WebhookSignature.verify_header(text, signature, secret, TOLERANCE_SECONDS)
        return msgspec.json.decode(body, type=Message)
    except stripe.SignatureVerificationError as error:
        raise ForgedError(str(error.user_message or error).partition(":")[0]) from None
    except UnicodeDecodeError:
        raise ForgedError("the message is not UTF-8") from None
    except msgspec.MsgspecError as error:
        raise ForgedError(f"no event of Stripe's: {error}") from None


def _asked(options: PaymentOptions, ask: Any) -> Session:
    import stripe  # noqa: PLC0415 - see above

    base = {"api": options.stripe_api_base} if options.stripe_api_base else None
    client = stripe.StripeClient(
        _secret(options.stripe_key_file),
        base_addresses=base,  # type: ignore[arg-type] # a TypedDict of which one key is enough
        max_network_retries=1,
        http_client=stripe.RequestsClient(timeout=(CONNECT_SECONDS_MAX, ANSWER_SECONDS_MAX)),
    )
    try:
        found = ask(client)
        return msgspec.convert(found.to_dict(), Session)
    except stripe.StripeError as error:
        said = error.user_message or type(error).__name__
        raise StripeError(f"Stripe could not be asked: {said}") from None
    except msgspec.MsgspecError as error:
        raise StripeError(f"Stripe said what is no session: {error}") from None


def _secret(path: str) -> str:
    word = read_word(Path(path)).strip()
    if not word:
        raise SecretError(f"{path} is empty", "write the secret into it")
    return word
