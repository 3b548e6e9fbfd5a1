"""A new program in the place of a running supervisor: what one image leaves to the next.

Rules: the process stays, `exec` replaces its program; sockets and links pass as inherited
descriptors and one environment variable says which is which. Before that, the new program is run
once to check itself and its files: one that cannot start must not replace one that serves.
This module must not know when to upgrade.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from proxy.app.children import HANDLED, Child, Role, adopt_link
from proxy.app.sockets import Listeners, adopt

STATE = "SLUICE_ADOPTED"
PREFLIGHT = "SLUICE_PREFLIGHT"
"""Set for a program that shall only say whether it could start."""
PREFLIGHT_SECONDS_MAX = 60.0


@dataclass(slots=True)
class Inherited:
    """What the last image left: its sockets, its children, and what it had told people."""

    listeners: Listeners
    children: list[Child] = field(default_factory=list)
    listen: str = ""
    last_number: int = 0


def command() -> list[str]:
    """How this program was started."""
    return [sys.executable, *sys.orig_argv[1:]]


def preflight() -> "subprocess.Popen[bytes]":
    """Start the program as it is on disk now, to check itself; status 0 means it could start."""
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    return subprocess.Popen(  # noqa: S603 - our own command line
        command(), env={**environment, PREFLIGHT: "1"}, stdin=subprocess.DEVNULL
    )


def replace_program(
    listeners: Listeners, children: Iterable[Child], listen: str, last_number: int
) -> NoReturn:
    """Become the new program. Raises OSError if that fails; nothing has changed then."""
    state = {
        "process": os.getpid(),
        "listen": listen,
        "last_number": last_number,
        "passed": listeners.passed,
        "clients": [each.fileno() for each in listeners.clients],
        "operations": [each.fileno() for each in listeners.operations],
        "console": [each.fileno() for each in listeners.console],
        "demo": [each.fileno() for each in listeners.demo],
        "children": [
            {
                "role": child.role.value,
                "slot": child.slot,
                "number": child.number,
                "process": child.pid,
                "link": child.link.fileno(),
                "born": child.born,
                "ready_at": child.ready_at,
                "leave_by": child.leave_by,
                "received": child.received.decode(errors="replace"),
            }
            for child in children
        ],
    }
    kept = [each.fileno() for each in listeners.all()]
    kept += [child.link.fileno() for child in children]
    # No signal may fall between the handlers of the two images: what comes meanwhile waits.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        for descriptor in kept:
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - the signature of the library
        sys.stdout.flush()
        sys.stderr.flush()
        environment = {**os.environ, STATE: json.dumps(state)}
        os.execve(sys.executable, command(), environment)  # noqa: S606 - that is the point
    finally:
        for descriptor in kept:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - the same
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_over(environ: MutableMapping[str, str]) -> Inherited | None:
    """What the image before this one left to it; None for a process that was just started.

    Signals stay blocked, as they were left, until the supervisor handles them. Raises CommandError.
    """
    text = environ.pop(STATE, "")
    if not text:
        return None
    state: dict[str, Any] = json.loads(text)
    if state["process"] != os.getpid():
        return None
    listeners = Listeners(
        clients=[adopt(each) for each in state["clients"]],
        operations=[adopt(each) for each in state["operations"]],
        console=[adopt(each) for each in state.get("console", ())],  # none before there was one
        demo=[adopt(each) for each in state["demo"]],
        passed=state["passed"],
    )
    children = [_child(row) for row in state["children"]]
    return Inherited(listeners, children, state["listen"], state["last_number"])


def _child(row: dict[str, Any]) -> Child:
    return Child(
        role=Role(row["role"]),
        slot=row["slot"],
        number=row["number"],
        pid=row["process"],
        link=adopt_link(row["link"]),
        generation=0,
        adopted=True,
        born=row["born"],
        ready_at=row["ready_at"],
        leave_by=row["leave_by"],
        received=row["received"].encode(),
    )
