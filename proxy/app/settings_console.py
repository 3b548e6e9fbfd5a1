"""The settings of the console: a part of `Settings`, with a table of its own in README.md.

Rules: as in `settings.py`. What belongs to one user, plan or price is in the database, not here.
"""

from dataclasses import dataclass
from typing import Annotated

from proxy.app.setting import About, amount
from proxy.app.settings_payments import PaymentSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSettings(PaymentSettings):
    """What `Settings` has for the console; empty texts mean what the help says."""

    console_listen: Annotated[
        str,
        About(
            "Where the console answers, pages and admin API; empty: there is no console.",
            "host:port",
            check="address or none",
        ),
    ] = "127.0.0.1:8082"
    console_url: Annotated[
        str,
        About(
            "How browsers reach the console; https makes its cookies secure. Empty: by "
            "`console_listen`.",
            "URL",
            reloadable=True,
            check="origin",
        ),
    ] = ""
    public_url: Annotated[
        str,
        About(
            "What users put into their SDK as base URL, shown by the console. Empty: by `listen`.",
            "URL",
            reloadable=True,
            check="url",
        ),
    ] = ""
    public_marketplace: Annotated[
        bool,
        About(
            "Whether models, prices and health are shown to who is not signed in.",
            reloadable=True,
        ),
    ] = True
    keys_per_person_max: Annotated[
        int,
        amount(
            "Keys that one person may have in one wallet; operators add as many as they like.",
            1,
            100_000,
            "",
            reloadable=False,
        ),
    ] = 100
    console_secret_file: Annotated[
        str,
        About(
            "File of the secret that signs sessions, where no systemd credential holds it; "
            "empty: in the data directory.",
            "path",
        ),
    ] = ""
