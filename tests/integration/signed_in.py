"""Somebody who is signed in to the console of a real relay, without a page: by its own means.

The person and the session are made by actions over the control socket, as the console's process
makes them; the cookie is signed with the relay's own secret. What pages do about passwords is
tested by pages.
"""

import time
from pathlib import Path
from typing import Any

from proxy.app.control import ask
from proxy.core.actions.action import Role
from proxy.edge.console import sessions, visit


def cookie_of(data: Path, email: str, role: Role = Role.USER, *, secure: bool = False) -> str:
    """Make a person with a session; returns the value of their `cookie` header.

    `data`: the relay's directory. `secure`: the console is reached by https.
    """
    control = data / "control.sock"
    person: Any = ask(control, "person add", {"email": email, "role": role.value})
    session: Any = ask(control, "session open", {"person": person["id"]})
    secret = bytes.fromhex((data / "secrets" / "console").read_text())
    token = sessions.issue(secret, session["session"], person["id"], time.time())
    return f"{'__Host-' if secure else ''}{visit.SESSION}={token}"
