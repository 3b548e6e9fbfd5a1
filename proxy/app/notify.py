"""What the service manager is told of this process: the `sd_notify` protocol, in one function.

Rules: one datagram to the socket named by NOTIFY_SOCKET, or nothing when it is unset, as on
a machine without systemd. Telling never raises and never waits: a manager that does not listen
must not stop a relay that serves. This module must not know when there is something to tell.

Source: sd_notify(3) and sd_watchdog_enabled(3).
"""

import os
import socket
from collections.abc import Mapping
from time import CLOCK_MONOTONIC, clock_gettime_ns

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"
STATUS_CHARACTERS_MAX = 200


def notify(*assignments: str, environ: Mapping[str, str] | None = None) -> bool:
    """Send `assignments` (`READY`, `status("..."), ...`) as one message.

    Returns whether the manager's socket took it: False too where there is none, so that the
    answer is worth a log line only to who knows that there is one.
    """
    address = _address(os.environ if environ is None else environ)
    if address is None:
        return False
    try:
        # Closed at once and never inherited: a message a second at most is not worth keeping one.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(0)
            sender.sendto("\n".join(assignments).encode(errors="replace"), address)
    except (OSError, ValueError):  # ValueError: a path with a zero byte
        return False
    return True


def status(text: str) -> str:
    """One line about the state, shown by `systemctl status`."""
    line = " ".join(text.split())
    return f"STATUS={line[:STATUS_CHARACTERS_MAX]}"


def reloading() -> str:
    """The settings are being read again; `READY` must follow, also when they were refused."""
    # Not time.monotonic(): that it is the same clock is CPython's choice, and the manager compares.
    now = clock_gettime_ns(CLOCK_MONOTONIC) // 1_000
    return f"RELOADING=1\nMONOTONIC_USEC={now}"


def extend_timeout(seconds: float) -> str:
    """Starting or stopping may take this much longer from now, whatever the unit file says."""
    return f"EXTEND_TIMEOUT_USEC={max(0, round(seconds * 1e6))}"


def watchdog_seconds(environ: Mapping[str, str] | None = None, pid: int = 0) -> float | None:
    """Within how many seconds `WATCHDOG` is expected each time; None when nobody expects it.

    `pid` is the process the manager must have meant: the caller by default, its parent for the
    child of a supervisor.
    """
    environ = os.environ if environ is None else environ
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
        meant = int(environ.get("WATCHDOG_PID", "0"))
    except ValueError:
        return None
    if microseconds <= 0 or meant not in {0, pid or os.getpid()}:
        return None
    return microseconds / 1e6


def _address(environ: Mapping[str, str]) -> str | None:
    """The socket's address for Python: a leading `@` means the abstract name space."""
    named = environ.get("NOTIFY_SOCKET", "")
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else None
