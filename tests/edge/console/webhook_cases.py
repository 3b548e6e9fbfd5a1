"""Messages to /webhooks/stripe by name: what each is answered, and that next to none is a credit.

A case gets a payment of 10 USD that is open (`Payment`), and the same of somebody else; it returns
the body and the signature, None for no header.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.edge.console.stripe_stand_in import SECRET, header, signed


class Payment(NamedTuple):
    """What is known of an open payment. `at`: now, Unix seconds."""

    name: str
    reference: str
    session: str
    at: int
    other_reference: str
    other_session: str


class Case(NamedTuple):
    """`status`: of the answer; `credited`: whether the wallet gets its 10 USD."""

    name: str
    status: int
    make: Callable[[Payment], tuple[bytes, str | None]]
    credited: bool = False
    said: str = ""


def event(given: Payment, **session: Any) -> dict[str, Any]:
    """A good message of a paid session, some of it otherwise; `...` leaves a field out."""
    fields = {
        "id": given.session, "object": "checkout.session", "amount_total": 1_000,
        "currency": "usd", "client_reference_id": given.reference, "payment_status": "paid",
        "status": "complete",
    }  # fmt: skip
    fields = {name: value for name, value in (fields | session).items() if value is not ...}
    return {
        "id": f"evt_{given.name}", "object": "event", "type": "checkout.session.completed",
        "livemode": False, "data": {"object": fields},
    }  # fmt: skip


def body(given: Payment, **session: Any) -> bytes:
    return json.dumps(event(given, **session)).encode()


def with_header(make: Callable[[bytes, int], str | None]) -> Callable[..., Any]:
    """A good body under another header."""
    return lambda given: (body(given), make(body(given), given.at))


def with_body(make: Callable[[Payment], bytes]) -> Callable[..., Any]:
    """Another body, rightly signed."""
    return lambda given: (made := make(given), header(made, given.at))


def changed(change: Callable[[bytes], bytes]) -> Callable[..., Any]:
    """A body that was changed after it was signed."""
    return lambda given: (change(body(given)), header(body(given), given.at))


def flipped(at: int) -> Callable[[bytes, int], str]:
    """A signature with one digit changed."""

    def make(text: bytes, moment: int) -> str:
        right = signed(text, moment)
        wrong = "0" if right[at] != "0" else "1"
        return f"t={moment},v1={right[:at]}{wrong}{right[at + 1 :]}"

    return make


def of_session(**session: Any) -> Callable[..., Any]:
    return with_body(lambda given: body(given, **session))


def of_type(kind: str) -> Callable[..., Any]:
    return with_body(lambda given: json.dumps(event(given) | {"type": kind}).encode())


GOOD = [
    Case("plain", 200, with_body(body), credited=True),
    Case("async payment", 200, of_type("checkout.session.async_payment_succeeded"), credited=True),
    Case("pretty-printed", 200, with_body(lambda g: json.dumps(event(g), indent=4).encode()),
         credited=True),
    Case("of a text in every script", 200, of_session(metadata={"é": "日本 🎁"}), credited=True),
    Case("live", 200, with_body(lambda g: json.dumps(event(g) | {"livemode": True}).encode()),
         credited=True),
    Case("large", 200, of_session(padding="x" * 200_000), credited=True),
    Case("299 seconds old", 200, with_header(lambda b, t: header(b, t - 290)), credited=True),
    Case("a wrong signature beside the right one", 200,
         with_header(lambda b, t: f"t={t},v1={'0' * 64},v1={signed(b, t)}"), credited=True),
    Case("a scheme of old beside the right one", 200,
         with_header(lambda b, t: f"t={t},v0={'0' * 64},v1={signed(b, t)}"), credited=True),
    Case("signature before time", 200, with_header(lambda b, t: f"v1={signed(b, t)},t={t}"),
         credited=True),
]  # fmt: skip
FORGED = [
    Case("no signature", 400, with_header(lambda _b, _t: None)),
    Case("empty signature", 400, with_header(lambda _b, _t: "")),
    Case("only a comma", 400, with_header(lambda _b, _t: ",")),
    Case("only words", 400, with_header(lambda _b, _t: "let me in")),
    Case("only a time", 400, with_header(lambda _b, t: f"t={t}")),
    Case("no time", 400, with_header(lambda b, t: f"v1={signed(b, t)}")),
    Case("a time in words", 400, with_header(lambda b, t: f"t=now,v1={signed(b, t)}")),
    Case("a time with decimals", 400, with_header(lambda b, t: f"t={t}.0,v1={signed(b, t)}")),
    Case("a time below nothing", 400, with_header(lambda b, t: header(b, -t))),
    Case("time 0", 400, with_header(lambda b, _t: header(b, 0))),
    Case("301 seconds old", 400, with_header(lambda b, t: header(b, t - 330))),
    Case("an hour old", 400, with_header(lambda b, t: header(b, t - 3_600))),
    Case("a year old", 400, with_header(lambda b, t: header(b, t - 31_536_000))),
    Case("old, with a new time written over", 400,
         with_header(lambda b, t: f"t={t},v1={signed(b, t - 3_600)}")),
    Case("old, with a second time behind", 400,
         with_header(lambda b, t: f"t={t - 3_600},t={t},v1={signed(b, t - 3_600)}")),
    Case("empty secret", 400, with_header(lambda b, t: header(b, t, ""))),
    Case("secret of a space", 400, with_header(lambda b, t: header(b, t, " "))),
    Case("wrong secret", 400, with_header(lambda b, t: header(b, t, "whsec_of_others"))),
    Case("secret without its prefix", 400, with_header(lambda b, t: header(b, t, SECRET[6:]))),
    Case("secret with the newline of its file", 400,
         with_header(lambda b, t: header(b, t, SECRET + "\n"))),
    Case("the words None for a secret", 400, with_header(lambda b, t: header(b, t, "None"))),
    Case("scheme v0 alone", 400, with_header(lambda b, t: f"t={t},v0={signed(b, t)}")),
    Case("scheme v2 alone", 400, with_header(lambda b, t: f"t={t},v2={signed(b, t)}")),
    Case("scheme in capitals", 400, with_header(lambda b, t: f"t={t},V1={signed(b, t)}")),
    Case("signature in capitals", 400, with_header(lambda b, t: f"t={t},v1={signed(b, t).upper()}")),
    Case("signature cut", 400, with_header(lambda b, t: header(b, t)[:-1])),
    Case("signature of 8 digits", 400, with_header(lambda b, t: f"t={t},v1={signed(b, t)[:8]}")),
    Case("empty v1", 400, with_header(lambda _b, t: f"t={t},v1=")),
    Case("signature and more", 400, with_header(lambda b, t: header(b, t) + "0")),
    Case("signature of the body without its time", 400,
         with_header(lambda b, t: f"t={t},v1={signed(b, t)[::-1]}")),
    Case("signature of another body", 400, with_header(lambda _b, t: header(b"{}", t))),
    Case("signature of an empty body", 400, with_header(lambda _b, t: header(b"", t))),
    Case("a header of 5,000 characters", 400,
         with_header(lambda b, t: header(b, t) + ",v1=" + "0" * 5_000)),
    Case("many signatures", 400, with_header(lambda _b, t: f"t={t}" + f",v1={'0' * 64}" * 50)),
    *(Case(f"digit {at} of the signature changed", 400, with_header(flipped(at)))
      for at in (0, 1, 15, 31, 32, 47, 62, 63)),
]  # fmt: skip
CHANGED = [
    Case("amount changed", 400, changed(lambda b: b.replace(b"1000", b"9999"))),
    Case("currency changed", 400, changed(lambda b: b.replace(b'"usd"', b'"eur"'))),
    Case("status changed", 400, changed(lambda b: b.replace(b'"complete"', b'"open"'))),
    Case("session changed", 400, changed(lambda b: b.replace(b"cs_test", b"cs_other"))),
    Case("id changed", 400, changed(lambda b: b.replace(b"evt_", b"evt_again_"))),
    Case("type changed", 400, changed(lambda b: b.replace(b".completed", b".expired"))),
    Case("a space behind", 400, changed(lambda b: b + b" ")),
    Case("a newline behind", 400, changed(lambda b: b + b"\n")),
    Case("a byte order mark before", 400, changed(lambda b: b"\xef\xbb\xbf" + b)),
    Case("cut", 400, changed(lambda b: b[:-1])),
    Case("emptied", 400, changed(lambda _b: b"")),
    Case("twice", 400, changed(lambda b: b + b)),
    Case("bytes that are no text", 400, changed(lambda b: b + b"\xff")),
]
OTHER_AMOUNTS: list[Any] = [0, -1_000, 1, 999, 1_001, 10_000, 10**18, None, ...]
OTHER_CURRENCIES: list[Any] = ["eur", "USD", "usd ", "", None, ...]
OTHER_REFERENCES: list[tuple[str, Any]] = [
    ("none", None), ("left out", ...), ("empty", ""), ("a number alone", "1"), ("minus", "-1"),
    ("a dash alone", "-"), ("an unknown one", "99999-1"), ("another moment", "1-1"),
    ("other digits", "١-1"), ("far too long", "1" * 5_000), ("SQL", "1 OR 1=1"),
    ("of hex", "0x1-1"), ("a path", "../1"), ("NUL", "1\x00"),
]  # fmt: skip
OTHER_SESSIONS: list[tuple[str, Any]] = [
    ("an unknown one", "cs_test_unknown"),
    ("empty", ""),
    ("far too long", "c" * 5_000),
]
DIFFERENT = [
    *(Case(f"amount {value!r}", 200, of_session(amount_total=value), said="another amount")
      for value in OTHER_AMOUNTS),
    *(Case(f"amount {value!r} of another type", 400, of_session(amount_total=value))
      for value in (1_000.5, "1000", True, [1_000], {"value": 1_000})),
    Case("amount beyond any integer", 400, of_session(amount_total=10**30)),
    *(Case(f"currency {value!r}", 200, of_session(currency=value), said="another amount")
      for value in OTHER_CURRENCIES),
    Case("currency of another type", 400, of_session(currency=840)),
    *(Case(f"reference: {name}", 200, of_session(client_reference_id=value), said="no such")
      for name, value in OTHER_REFERENCES),
    Case("reference with a space", 200,
         with_body(lambda g: body(g, client_reference_id=g.reference + " ")), said="no such"),
    Case("reference of somebody else's payment", 200,
         with_body(lambda g: body(g, client_reference_id=g.other_reference)), said="another session"),
    Case("session of somebody else's payment", 200,
         with_body(lambda g: body(g, id=g.other_session)), said="another session"),
    *(Case(f"session: {name}", 200, of_session(id=value), said="another session")
      for name, value in OTHER_SESSIONS),
    Case("session: none", 400, of_session(id=None)),
    Case("session left out", 400, of_session(id=...)),
    *(Case(f"payment status {value!r}", 200, of_session(payment_status=value), said="not for us")
      for value in ("unpaid", "no_payment_required", "PAID", "paid ", "", None, ...)),
    Case("payment status of another type", 400, of_session(payment_status=True)),
    *(Case(f"type {kind!r}", 200, of_type(kind), said="not for us")
      for kind in ("payment_intent.succeeded", "charge.succeeded", "invoice.paid", "ping", "",
                   "checkout.session", "checkout.session.completed ", "CHECKOUT.SESSION.COMPLETED",
                   "checkout.session.completed.v2", "customer.subscription.created",
                   "payout.paid", "x" * 5_000)),
    Case("expired", 200, of_type("checkout.session.expired"), said="expired"),
    Case("failed later", 200, of_type("checkout.session.async_payment_failed"), said="expired"),
    Case("refunded", 200, of_type("charge.refunded"), said="noted"),
    Case("disputed", 200, of_type("charge.dispute.created"), said="noted"),
]  # fmt: skip
NONSENSE: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("a space", b" "),
    ("null", b"null"),
    ("true", b"true"),
    ("a number", b"5"),
    ("a text", b'"evt"'),
    ("a list", b"[]"),
    ("an empty object", b"{}"),
    ("cut", b'{"id": "evt'),
    ("without data", b'{"id": "e", "type": "checkout.session.completed"}'),
    ("data of null", b'{"id": "e", "type": "checkout.session.completed", "data": null}'),
    ("no object", b'{"id": "e", "type": "checkout.session.completed", "data": {}}'),
    (
        "object of null",
        b'{"id": "e", "type": "checkout.session.completed", "data": {"object": null}}',
    ),
    (
        "object of a list",
        b'{"id": "e", "type": "checkout.session.completed", "data": {"object": []}}',
    ),
    ("id of a number", b'{"id": 5, "type": "ping", "data": {"object": {}}}'),
    ("no type", b'{"id": "e", "data": {"object": {}}}'),
    ("NaN", b'{"id": "e", "type": "ping", "data": {"object": NaN}}'),
    ("something behind", b'{"id": "e", "type": "ping", "data": {"object": {}}} x'),
    ("a form", b"id=evt&type=checkout.session.completed"),
    ("XML", b"<event/>"),
    ("deep", b"[" * 100_000),
    ("not UTF-8", b"\xff\xfe{}"),
    ("NUL", b"\x00"),
]
BROKEN = [
    *(Case(f"no event: {name}", 400, with_body(lambda _g, text=text: text))  # type: ignore[misc]
      for name, text in NONSENSE),
    Case("more than 256 KiB", 413, of_session(padding="x" * 300_000)),
]  # fmt: skip
CASES = [*GOOD, *FORGED, *CHANGED, *DIFFERENT, *BROKEN]
