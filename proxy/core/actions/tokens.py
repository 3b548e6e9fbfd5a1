"""Actions on tokens of the admin API.

Rules: a token never does more than its person may, nor more than its scopes say; one cannot make
another, so it cannot outgrow them.
"""

from proxy.core.actions.action import Action, OfSelf, Role


class TokenAdd(OfSelf, frozen=True):
    """`scopes`: see scopes.py. `role`: at most the person's, which it is if left out."""

    name: str
    scopes: tuple[str, ...]
    expires: str | None = "90d"
    role: Role | None = None


class TokenListing(OfSelf, frozen=True):
    """`everybody`: all tokens there are, for an admin."""

    everybody: bool = False


class TokenRevoke(OfSelf, frozen=True):
    """`number`: as the list has it; an admin may name anybody's."""

    number: int


ACTIONS = (
    Action(
        "token add",
        TokenAdd,
        "Make a token of the admin API; the answer alone holds it.",
        Role.USER,
        step_up=True,
        exposed=False,
    ),
    Action(
        "token list", TokenListing, "Tokens, without what opens them.", Role.USER, audited=False
    ),
    Action("token revoke", TokenRevoke, "End a token at once.", Role.USER),
)
