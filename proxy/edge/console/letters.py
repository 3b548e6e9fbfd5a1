"""What the console's mails say, in the language of who gets them.

Rules: plain text; every link leads to the console's own URL as the operator set it, never to a host
that a request named. This module must not know how a mail is sent.
"""

from proxy.edge.console.languages import Translator
from proxy.edge.console.mail import Letter
from proxy.edge.console.render import usd

SIGNED = "\n\n-- \n"


def confirm_address(_: Translator, to: str, console: str, token: str) -> Letter:
    """Who registered proves that the address is theirs."""
    text = _(
        "Welcome to Sluice. Open this link to confirm that this address is yours:\n\n{link}\n\n"
        "It is good for two days. If you did not register, do nothing: without it nobody can sign "
        "in with your address.",
        link=f"{console}/verify?token={token}",
    )
    return Letter(to, _("Confirm your e-mail address"), text + SIGNED + console)


def already_registered(_: Translator, to: str, console: str) -> Letter:
    """Somebody registered with an address that has an account."""
    text = _(
        "Somebody, probably you, tried to register with this address. It has an account already, "
        "and nothing was changed.\n\nSign in: {sign_in}\nForgot the password: {reset}",
        sign_in=f"{console}/login",
        reset=f"{console}/password/reset",
    )
    return Letter(to, _("You have an account already"), text + SIGNED + console)


def set_password(_: Translator, to: str, console: str, token: str) -> Letter:
    """Who forgot the password sets a new one."""
    text = _(
        "Open this link to set a new password:\n\n{link}\n\nIt is good for one hour and once. If "
        "you did not ask for it, do nothing: your password stays as it is.",
        link=f"{console}/password/set?token={token}",
    )
    return Letter(to, _("Set a new password"), text + SIGNED + console)


def password_changed(_: Translator, to: str, console: str) -> Letter:
    """The password is another one now; who did not do that should know."""
    text = _(
        "The password of your account was changed, and every other session of yours was ended.\n\n"
        "If that was not you, set a new one at once: {reset}",
        reset=f"{console}/password/reset",
    )
    return Letter(to, _("Your password was changed"), text + SIGNED + console)


def new_address(_: Translator, to: str, console: str, token: str) -> Letter:
    """Who wants to sign in with this address proves that it is theirs."""
    text = _(
        "Open this link to sign in with this address from now on:\n\n{link}\n\nIt is good for one "
        "day and once. If you did not ask for it, do nothing.",
        link=f"{console}/account/email/take?token={token}",
    )
    return Letter(to, _("Confirm your new e-mail address"), text + SIGNED + console)


def address_taken(_: Translator, to: str, console: str) -> Letter:
    """Somebody wanted to change to an address that has an account."""
    text = _(
        "Somebody, probably you, wanted to make this the address of another account. It has an "
        "account already, and nothing was changed.\n\nSign in: {sign_in}",
        sign_in=f"{console}/login",
    )
    return Letter(to, _("You have an account already"), text + SIGNED + console)


def address_asked(_: Translator, to: str, console: str) -> Letter:
    """The old address hears of it while there is time to stop it."""
    text = _(
        "Somebody who knows your password asked for another e-mail address for your account. It is "
        "changed when a link that was sent there is used.\n\nIf that was not you, set a new "
        "password at once, which makes that link void: {reset}",
        reset=f"{console}/password/reset",
    )
    return Letter(to, _("Another e-mail address was asked for"), text + SIGNED + console)


def address_changed(_: Translator, to: str, console: str) -> Letter:
    """The old address hears that it is the account's no more."""
    text = _(
        "Your account has another e-mail address now, and nobody can sign in with this one any "
        "more. Sessions elsewhere were ended.\n\nIf that was not you, tell whoever runs this "
        "relay."
    )
    return Letter(to, _("Your e-mail address was changed"), text + SIGNED + console)


def account_deleted(_: Translator, to: str, console: str) -> Letter:
    """The account is gone; who did not do that should know."""
    text = _(
        "Your account was deleted: its keys work no more, and nobody can sign in to it.\n\n"
        "If that was not you, tell whoever runs this relay."
    )
    return Letter(to, _("Your account was deleted"), text + SIGNED + console)


def invitation(_: Translator, to: str, console: str, path: str, team: str | None) -> Letter:
    """Somebody is invited: to a team of that name, or to the relay."""
    link = f"{console}{path}"
    if team is None:
        text = _("You are invited to Sluice. Open this link to register:\n\n{link}", link=link)
    else:
        text = _(
            "You are invited to the team {team} on Sluice. Open this link to join it:\n\n{link}",
            team=team,
            link=link,
        )
    return Letter(to, _("You are invited"), text + SIGNED + console)


def low_balance(
    _: Translator, to: str, console: str, wallet: str, balance: int, threshold: int
) -> Letter:
    """A wallet has less left than its people want to know of."""
    text = _(
        "The wallet {wallet} has {balance} left, less than the {threshold} you wanted to be told "
        "of. When nothing is left, calls are refused.\n\nTop up: {link}",
        wallet=wallet,
        balance=usd(balance),
        threshold=usd(threshold),
        link=f"{console}/wallet",
    )
    return Letter(to, _("Your balance is low"), text + SIGNED + console)


def plan_ended(_: Translator, to: str, console: str, wallet: str, plan: str) -> Letter:
    """A wallet could not pay for its plan."""
    text = _(
        "The balance of the wallet {wallet} did not cover the next month of the plan {plan}, so it "
        "is on another one now.\n\nTop up and choose it again: {link}",
        wallet=wallet,
        plan=plan,
        link=f"{console}/wallet#plan",
    )
    return Letter(to, _("Your plan has ended"), text + SIGNED + console)
