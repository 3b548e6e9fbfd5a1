"""Actions on payments by a provider.

All but the list are asked by the console's process alone: it speaks with the provider, checks
what that signs, and says here what was said; whether that is credited is decided by the keeper.
"""

from enum import StrEnum

from proxy.core.actions.action import Action, Arguments, Role


class Said(StrEnum):
    """What a provider can say of a payment."""

    PAID = "paid"
    EXPIRED = "expired"
    REFUNDED = "refunded"
    """Money was given back to who paid: `minor` in all."""
    NOTED = "noted"
    """Something that a person has to look at: a dispute."""


class PaymentBegin(Arguments, frozen=True):
    """`minor`: in the smallest unit of `currency`; `rate`: USD for one of it, decimal text."""

    user: str
    provider: str
    currency: str
    minor: int
    rate: str


class PaymentOpen(Arguments, frozen=True):
    payment: int
    session: str


class PaymentSaid(Arguments, frozen=True):
    """`message`: the provider's id of the message, where it came by itself; `reference`: as of
    `payment begin`; `kind`: the provider's own word; `intent`: what it calls the payment when it
    speaks of money that goes back.
    """

    provider: str
    said: Said
    kind: str
    message: str | None = None
    reference: str | None = None
    session: str | None = None
    currency: str | None = None
    minor: int | None = None
    intent: str | None = None


class PaymentListing(Arguments, frozen=True):
    user: str | None = None
    before: int | None = None
    rows_max: int = 50


class PaymentNotes(Arguments, frozen=True):
    rows_max: int = 50


ACTIONS = (
    Action(
        "payment begin", PaymentBegin, "Note that somebody goes to pay.", Role.USER, exposed=False
    ),
    Action("payment open", PaymentOpen, "Note where they pay.", Role.ADMIN, exposed=False),
    Action(
        "payment said", PaymentSaid, "Act on what the provider says.", Role.ADMIN, exposed=False
    ),
    Action("payment list", PaymentListing, "Payments and what became of them.", audited=False),
    Action(
        "payment notes",
        PaymentNotes,
        "What a provider said that moved nothing and somebody has to look at.",
        audited=False,
    ),
)
