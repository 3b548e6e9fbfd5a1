"""The relay's addresses as people are to see them, where the settings leave them open.

Rules: what a setting says is taken as it is; else a URL follows from the socket that is bound: it
knows the port when 0 was asked for and the address when it was systemd's choice. This module must
not know who shows them.
"""

from dataclasses import dataclass, replace

from proxy.app.settings import Settings
from proxy.app.sockets import Listeners, bound_address


@dataclass(frozen=True, slots=True)
class Bound:
    """Where clients and console were bound, as `host:port` to call; `console` may be empty."""

    clients: str
    console: str = ""

    @classmethod
    def of(cls, listeners: Listeners) -> "Bound":
        """Read the first socket of each kind, before any is closed."""
        first = [found[:1] for found in (listeners.clients, listeners.console)]
        clients, console = (
            shown_address(*bound_address(kind[0])) if kind else "" for kind in first
        )
        return cls(clients, console)

    def completing(self, settings: Settings) -> Settings:
        """`settings` with both URLs said."""
        return replace(
            settings,
            public_url=settings.public_url or f"http://{self.clients}",
            console_url=settings.console_url or (f"http://{self.console}" if self.console else ""),
        )


def shown_address(host: str, port: int) -> str:
    """`host:port` as a client on this machine may use it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - shown, not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
