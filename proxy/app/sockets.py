"""The listening sockets: bound by us or handed over by systemd, one or more for each slot.

Rules: whoever opens them keeps them open for ever; a process that accepts on one does so on a
duplicate and closes only that, never with `shutdown`, so that what the kernel has queued waits
for the successor (closing one of several SO_REUSEPORT listeners resets its queue). Every socket
belongs to exactly one slot, whatever their numbers: none may be left that nobody accepts on.
This module must not know processes.

Source: sd_listen_fds(3) for LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES; socket(7) for SO_REUSEPORT.
"""

import errno
import os
import socket
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field

from proxy.app.control import CommandError
from proxy.app.settings import Settings, host_and_port

BACKLOG = 4096
PASSED_FIRST = 3
"""The first descriptor systemd passes (SD_LISTEN_FDS_START)."""
PASSED_MAX = 256
OPERATIONS_NAME = "operations"
CONSOLE_NAME = "console"
"""`FileDescriptorName=` of these listeners begins so; all others are for clients."""
IN_USE_SECONDS_MAX = 4.0
"""How long the last relay's workers may take to leave after their supervisor was killed."""
IN_USE_PAUSE_SECONDS = 0.05
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(slots=True)
class Listeners:
    """Every listening socket. `passed`: the addresses are systemd's choice, not the settings'."""

    clients: list[socket.socket] = field(default_factory=list)
    operations: list[socket.socket] = field(default_factory=list)
    console: list[socket.socket] = field(default_factory=list)
    demo: list[socket.socket] = field(default_factory=list)
    passed: bool = False

    def of_slot(self, slot: int, slots: int) -> list[socket.socket]:
        """The sockets one worker accepts on; with fewer sockets than slots some are shared."""
        if len(self.clients) <= slots:
            return [self.clients[slot % len(self.clients)]]
        return self.clients[slot::slots]

    def all(self) -> list[socket.socket]:
        """Every socket once."""
        return [*self.clients, *self.operations, *self.console, *self.demo]

    def close(self) -> None:
        """Close this process's hold on all of them."""
        for each in self.all():
            each.close()


def open_listeners(
    settings: Settings, environ: MutableMapping[str, str] | None = None, *, demo: bool = False
) -> Listeners:
    """Take what systemd passed, else bind what the settings say; `demo` adds a loopback one.

    With two or more workers there is one client socket for each slot and address, and an
    operations socket. The console's are taken last, so that its address is never the one that
    another relay is refused for. Blocks. Raises OSError, CommandError.
    """
    found = passed_listeners(os.environ if environ is None else environ)
    many = settings.workers > 1
    try:
        if not found.clients:
            found.clients = bind(settings.listen, settings.workers, patient=many)
        if not found.operations and many:
            found.operations = bind(settings.operations_listen, 1, patient=True)
        if demo:
            found.demo = bind("127.0.0.1:0", 1)
        take_console(found, settings)
    except BaseException:
        found.close()
        raise
    return found


def take_console(found: Listeners, settings: Settings) -> None:
    """Complete `found` by the console's sockets, or leave those out that nobody would accept on.

    Blocks. Raises OSError, CommandError.
    """
    if not settings.console_listen:
        for each in found.console:
            each.close()
        found.console = []
    elif not found.console:
        try:
            # Patient: the console of a relay that was killed lives a moment longer.
            found.console = bind(settings.console_listen, 1, patient=True)
        except OSError as error:
            raise CommandError(
                f"console_listen: {error.strerror or error}",
                "stop what listens there (ss -ltnp names it), set console_listen to another "
                'address, or to "" for no console',
            ) from None


def passed_listeners(environ: MutableMapping[str, str]) -> Listeners:
    """Take over the sockets systemd passed to this process; none if it passed none.

    The variables are removed, so that no child takes them for its own. Raises CommandError.
    """
    given = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS")}
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    found = Listeners()
    if given["LISTEN_PID"] != str(os.getpid()) or not given["LISTEN_FDS"].isdigit():
        return found
    for number in range(min(int(given["LISTEN_FDS"]), PASSED_MAX)):
        each = adopt(PASSED_FIRST + number)
        name = names[number] if number < len(names) else ""
        kind = found.clients
        if name.startswith(OPERATIONS_NAME):
            kind = found.operations
        elif name.startswith(CONSOLE_NAME):
            kind = found.console
        kind.append(each)
        found.passed = True
    return found


def adopt(descriptor: int) -> socket.socket:
    """A descriptor as the listening TCP socket it must be. Raises CommandError."""
    try:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the signature of the library
        each = socket.socket(fileno=descriptor)
        listening = each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise CommandError(
            f"descriptor {descriptor} is no socket: {error.strerror}", "check the socket unit"
        ) from None
    if not listening or each.family not in {socket.AF_INET, socket.AF_INET6}:
        each.close()
        raise CommandError(
            f"descriptor {descriptor} is no listening TCP socket",
            "use ListenStream=HOST:PORT with Accept=no",
        )
    each.settimeout(0)
    return each


def bind(address: str, slots: int, *, patient: bool = False) -> list[socket.socket]:
    """Listen on `address` once for each slot; socket `i` of the list belongs to slot `i % slots`.

    `patient`: wait a moment for the last owner of the address to leave. Raises OSError.
    """
    host, port = host_and_port(address)
    rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    found: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, where in dict.fromkeys((row[0], row[4]) for row in rows):
            place = (where[0], port, *where[2:])
            try:
                # SO_REUSEPORT would let two relays of one user share an address without a word.
                first = _free(family, place, patient=patient)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                missing = error  # `localhost` names both families also where one is switched off
                continue
            port = int(first.getsockname()[1])
            if slots == 1:
                found.append(first)
                continue
            first.close()
            place = (where[0], port, *where[2:])
            found += [_bound(family, place, shared=True) for _ in range(slots)]
        for each in found:
            each.listen(BACKLOG)
    except BaseException:
        for each in found:
            each.close()
        raise
    if not found and missing is not None:
        raise missing
    return found


def more(sockets: Sequence[socket.socket], slots: int) -> list[socket.socket]:
    """Further sockets on the address of `sockets`, so that each of `slots` has one of its own."""
    if len(sockets) >= slots or not sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        return []
    first = sockets[0]
    added = [
        _bound(first.family, first.getsockname(), shared=True) for _ in range(slots - len(sockets))
    ]
    for each in added:
        each.listen(BACKLOG)
    return added


def bound_address(listener: socket.socket) -> tuple[str, int]:
    """Host and port of a bound socket."""
    host, port = listener.getsockname()[:2]
    return str(host), int(port)


def _free(family: int, where: tuple[object, ...], *, patient: bool) -> socket.socket:
    until = time.monotonic() + (IN_USE_SECONDS_MAX if patient else 0.0)
    while True:
        try:
            return _bound(family, where)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= until:
                raise
        time.sleep(IN_USE_PAUSE_SECONDS)


def _bound(family: int, where: tuple[object, ...], *, shared: bool = False) -> socket.socket:
    each = socket.socket(family, socket.SOCK_STREAM)
    try:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        each.bind(where)
        each.settimeout(0)
    except OSError as error:
        each.close()
        shown = f"{where[0]}:{where[1]}"
        raise OSError(error.errno, f"{(error.strerror or '').lower()} ({shown})") from None
    return each
