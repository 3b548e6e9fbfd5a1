"""Actions on people: who signs in, what they are to the relay, their passwords.

What is not exposed is asked by the console's process alone, which has checked a password, a link or
a provider's word before; passwords are hashed there and never get here.
"""

from typing import Final

from proxy.core.actions.action import Action, Arguments, OfSelf, Role

HASHES: Final = frozenset({"password_hash", "earlier_password_hash", "token", "invitation"})


class PersonAdd(Arguments, frozen=True):
    """`plan` and `credit` are of the wallet; `credit` USD."""

    email: str
    role: Role = Role.USER
    plan: str | None = None
    credit: str | None = None


class PersonListing(Arguments, frozen=True):
    """`text`: part of an address; `before`: the id of the last one that was told."""

    text: str = ""
    before: int | None = None
    rows_max: int = 50


class PersonNamed(Arguments, frozen=True):
    email: str


class PersonRole(Arguments, frozen=True):
    email: str
    role: Role


class PersonRegister(Arguments, frozen=True):
    """`confirmed`: the address is known to be theirs, not only said to be. `prove`: else a link to
    prove it is answered, and the credit waits for that.
    """

    email: str
    password_hash: str | None
    confirmed: bool = False
    prove: bool = False
    plan: str | None = None
    credit: str | None = None
    language: str | None = None
    invitation: str | None = None
    must_be_invited: bool = False


class PersonVerify(Arguments, frozen=True):
    """`must_be_invited`: whom a team invited brings no credit, as of `person register`."""

    token: str
    credit: str | None = None
    must_be_invited: bool = False


class PersonLanguage(OfSelf, frozen=True):
    language: str | None


class PersonIdentify(Arguments, frozen=True):
    """What a provider that signs people in says. `email` only if it vouches for it."""

    issuer: str
    subject: str
    email: str | None = None
    may_register: bool = False
    plan: str | None = None
    credit: str | None = None
    language: str | None = None


class PasswordSet(Arguments, frozen=True):
    """`keep`: the session that stays, where the person changes it themselves."""

    person: int
    password_hash: str
    keep: str | None = None


class PasswordRehash(Arguments, frozen=True):
    person: int
    earlier_password_hash: str
    password_hash: str


class PasswordReset(Arguments, frozen=True):
    token: str
    password_hash: str


class InvitationAdd(Arguments, frozen=True):
    """`email`: for this address alone; without it, for whoever has the link."""

    email: str | None = None
    days: int = 7


class InvitationOf(Arguments, frozen=True):
    invitation: int


class EmailChange(Arguments, frozen=True):
    """`email`: the address that a person wants to have."""

    person: int
    email: str


class EmailConfirm(Arguments, frozen=True):
    """`keep`: the session of whoever opened the link, if it is one of the person's."""

    token: str
    keep: str | None = None


class AccountDelete(Arguments, frozen=True):
    person: int


ACTIONS = (
    Action(
        "person add", PersonAdd,
        "Add a person with a wallet; the answer alone holds the link that sets their password.",
        Role.ADMIN, step_up=True,
    ),
    Action("person list", PersonListing, "People, the newest first.", audited=False),
    Action(
        "person link", PersonNamed,
        "Make a link by which a person sets a new password; it is told once.",
        Role.ADMIN, step_up=True,
    ),
    Action(
        "person role", PersonRole, "Make a person a user, an operator or an administrator.",
        Role.ADMIN, step_up=True,
    ),
    Action(
        "person disable", PersonNamed,
        "Let a person sign in no more; their sessions end and their keys stop working at once.",
        Role.ADMIN, step_up=True,
    ),
    Action(
        "person enable", PersonNamed, "Let a person sign in again.", Role.ADMIN, step_up=True,
    ),
    Action(
        "person delete", PersonNamed,
        "Delete a person's account: who it was is forgotten, what was paid and used stays.",
        Role.ADMIN, step_up=True,
    ),
    Action("person language", PersonLanguage, "Set one's language.", Role.USER, audited=False),
    Action(
        "person register", PersonRegister, "Register a person.", Role.ADMIN,
        exposed=False, secrets=HASHES & {*PersonRegister.__struct_fields__},
    ),
    Action(
        "person verify", PersonVerify, "Confirm a person's address by the link of a mail.",
        Role.ADMIN, exposed=False, secrets=frozenset({"token"}),
    ),
    Action(
        "person verify again", PersonNamed, "Make another link that confirms an address.",
        Role.ADMIN, audited=False, exposed=False,
    ),
    Action(
        "person identify", PersonIdentify, "Find, link or register whom a provider vouches for.",
        Role.ADMIN, exposed=False,
    ),
    Action(
        "password forget", PersonNamed, "Make a link by which a person sets a new password.",
        Role.ADMIN, audited=False, exposed=False,
    ),
    Action(
        "password reset", PasswordReset, "Set a password by a link; every session ends.",
        Role.ADMIN, exposed=False, secrets=HASHES & {*PasswordReset.__struct_fields__},
    ),
    Action(
        "password set", PasswordSet, "Set a person's password; their other sessions end.",
        Role.ADMIN, exposed=False, secrets=frozenset({"password_hash"}),
    ),
    Action(
        "password rehash", PasswordRehash, "Keep a password by a better hash.",
        Role.ADMIN, audited=False, exposed=False,
        secrets=HASHES & {*PasswordRehash.__struct_fields__},
    ),
    Action(
        "email change", EmailChange, "Make a link that gives a person another address.",
        Role.ADMIN, exposed=False,
    ),
    Action(
        "email confirm", EmailConfirm,
        "Give a person their new address by the link of a mail; their other sessions end.",
        Role.ADMIN, exposed=False, secrets=frozenset({"token", "keep"}),
    ),
    Action(
        "account delete", AccountDelete, "Delete the account of whoever asks for it.",
        Role.ADMIN, exposed=False,
    ),
    Action(
        "invitation add", InvitationAdd,
        "Invite somebody to the relay; the answer alone holds the link.",
    ),
    Action("invitation list", Arguments, "Open invitations to the relay.", audited=False),
    Action("invitation revoke", InvitationOf, "Take an invitation to the relay back."),
)  # fmt: skip
