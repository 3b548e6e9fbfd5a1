"""What the operator set for accounts, as the console's pages ask for it.

Rules: the fields are settings of the same names (app/settings_accounts.py), so that a reload is a
new record; secrets are named by their files and read where they are used. This module must not
know any page.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

OPEN = "open"
INVITATION = "invitation"
CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """See app/settings_accounts.py for what each means."""

    registration: str = INVITATION
    email_verification: bool = False
    starting_credit: str = "0"
    default_plan: str = ""
    smtp_host: str = ""
    smtp_port: int = 587
    smtp_security: str = "starttls"
    smtp_user: str = ""
    smtp_password_file: str = ""
    mail_from: str = ""
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret_file: str = ""
    oidc_name: str = ""

    @property
    def mails(self) -> bool:
        """Whether the console can send mails."""
        return bool(self.smtp_host)

    @property
    def confirms(self) -> bool:
        """Whether who registers has to confirm their address first."""
        return self.email_verification and self.mails

    @property
    def provider(self) -> str | None:
        """What the provider is called that people may sign in with; None if there is none."""
        if not self.oidc_issuer:
            return None
        return self.oidc_name or urlsplit(self.oidc_issuer).hostname
