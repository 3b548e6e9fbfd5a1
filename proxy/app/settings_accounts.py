"""The settings of accounts: who may register, mail, and a provider that signs people in.

Rules: as in `settings.py`; a part of `Settings`, with a table of its own in README.md. What fits by
itself and not together is told by `faults_of`. This module must not know who uses a setting.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from proxy.app.setting import About, amount


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """What `Settings` has for accounts; empty texts mean what the help says."""

    registration: Annotated[
        Literal["open", "invitation", "closed"],
        About("Who may register: anybody, who was invited, or nobody.", reloadable=True),
    ] = "invitation"
    email_verification: Annotated[
        bool,
        About(
            "Who registers confirms their address by a mail before they sign in.", reloadable=True
        ),
    ] = False
    starting_credit: Annotated[
        str,
        About("What a new person's wallet begins with.", "USD", reloadable=True, check="amount"),
    ] = "0"
    default_plan: Annotated[
        str,
        About("Plan of a new person's wallet; empty: the only one, or `default`.", reloadable=True),
    ] = ""
    smtp_host: Annotated[
        str, About("Server that takes the console's mails; empty: none are sent.", reloadable=True)
    ] = ""
    smtp_port: Annotated[int, amount("Its port.", 1, 65_535, "")] = 587
    smtp_security: Annotated[
        Literal["starttls", "tls", "none"],
        About("How it is spoken to; a certificate must be good.", reloadable=True),
    ] = "starttls"
    smtp_user: Annotated[str, About("Who we are to it; empty: nobody.", reloadable=True)] = ""
    smtp_password_file: Annotated[
        str, About("File of the password for it.", "path", reloadable=True)
    ] = ""
    mail_from: Annotated[
        str, About("Address the mails are from.", reloadable=True, check="email")
    ] = ""
    oidc_issuer: Annotated[
        str,
        About(
            "Provider that people may sign in with (OpenID Connect); empty: none.",
            "URL",
            reloadable=True,
            check="url",
        ),
    ] = ""
    oidc_client_id: Annotated[str, About("Who we are to it.", reloadable=True)] = ""
    oidc_client_secret_file: Annotated[
        str,
        About("File of our secret there; empty: it gave us none.", "path", reloadable=True),
    ] = ""
    oidc_name: Annotated[
        str, About("What the button calls it; empty: by its host.", reloadable=True)
    ] = ""


def faults_of(settings: AccountSettings) -> Iterator[tuple[str, str, str]]:
    """What does not fit together: the setting, the reason, the remedy."""
    if settings.email_verification and not settings.smtp_host:
        yield "email_verification", "needs mails, and there is no smtp_host", "set smtp_host"
    if settings.smtp_host and not settings.mail_from:
        yield "smtp_host", "mails need an address they are from", "set mail_from"
    if bool(settings.smtp_user) != bool(settings.smtp_password_file):
        yield (
            "smtp_user" if settings.smtp_user else "smtp_password_file",
            "a user and a password go together",
            "set smtp_user and smtp_password_file, or neither",
        )
    elif settings.smtp_user and settings.smtp_security == "none" and not _here(settings.smtp_host):
        yield (
            "smtp_security",
            "the password would go over the network in the clear",
            'set it to "starttls" or "tls"',
        )
    if not settings.oidc_issuer:
        return
    where = urlsplit(settings.oidc_issuer)
    if where.scheme != "https" and not _here(where.hostname or ""):
        yield "oidc_issuer", "whoever is on the way could sign in as anybody", "use https"
    if not settings.oidc_client_id:
        yield "oidc_issuer", "the provider must know who we are", "set oidc_client_id"


def _here(host: str) -> bool:
    """Whether a host is this machine by what it is called."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
