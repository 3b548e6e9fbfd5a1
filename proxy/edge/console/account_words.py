"""What the keeper says of accounts and teams, for the catalog of languages.

Rules: the keeper speaks English, in texts without a name in them, so that a page can look them up
and say them in its reader's language; a test compares these with what the keeper really says. This
module must not know who says them.
"""

from typing import Final

from proxy.edge.console.languages import later as _

WORDS: Final = (
    _("a team takes the plan of your own wallet, and you have none"),
    _("a team's name has at most 60 characters, and none of @ / : among them"),
    _("make another member one first"),
    _("make another one first"),
    _("registration is by invitation"),
    _("the provider does not vouch for your e-mail address"),
    _("there is no account for this e-mail address"),
    _("this account is disabled"),
    _("this address has an account already"),
    _("this invitation is not good any more, or for another address"),
    _("this is for the owners of the team"),
    _("this is the last administrator"),
    _("this is the last owner"),
    _("this link is not good any more"),
    _("this name is taken already"),
)
