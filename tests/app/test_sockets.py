import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxy.app import sockets as listening
from proxy.app.control import CommandError
from proxy.app.settings import Settings
from proxy.app.sockets import (
    Listeners,
    adopt,
    bind,
    bound_address,
    more,
    open_listeners,
    passed_listeners,
    take_console,
)

ROOT = Path(__file__).parents[2]
PASSED = """
import fcntl, json, os, socket, sys
from proxy.app.sockets import passed_listeners
given = json.loads(sys.argv[1])
# Out of the way first, to numbers that none of them has.
aside = [fcntl.fcntl(each, fcntl.F_DUPFD, 500) for each in given["sockets"]]
for number, descriptor in enumerate(aside):
    os.dup2(descriptor, 3 + number)
os.environ.update(LISTEN_PID=given.get("pid", str(os.getpid())),
    LISTEN_FDS=str(len(given["sockets"])), LISTEN_FDNAMES=":".join(given["names"]))
found = passed_listeners(os.environ)
left = [name for name in os.environ if name.startswith("LISTEN_")]
print(json.dumps([[s.getsockname()[1] for s in found.clients],
    [s.getsockname()[1] for s in found.operations], [s.getsockname()[1] for s in found.console],
    found.passed, left,
    [s.get_inheritable() for s in found.all()]]))
os._exit(0)
"""


@pytest.mark.parametrize(("sockets", "slots"), [(1, 1), (1, 3), (2, 2), (3, 2), (5, 2), (4, 6)])
def test_every_socket_belongs_to_a_slot_and_every_slot_has_one(sockets: int, slots: int) -> None:
    listeners = Listeners(clients=[socket.socket() for _ in range(sockets)])
    try:
        rows = [listeners.of_slot(slot, slots) for slot in range(slots)]
        assert {id(each) for row in rows for each in row} == {id(s) for s in listeners.clients}
        assert all(rows)
        if sockets >= slots:
            assert sum(map(len, rows)) == sockets, "none is shared without need"
    finally:
        listeners.close()


def test_slots_share_an_address_and_no_other_relay_does() -> None:
    found = bind("127.0.0.1:0", 3)
    try:
        (address,) = {bound_address(each) for each in found}
        assert len(found) == 3
        for slots in (1, 2):
            with pytest.raises(OSError, match=r"address already in use \(127.0.0.1:\d+\)"):
                bind(f"127.0.0.1:{address[1]}", slots)
    finally:
        Listeners(clients=found).close()


def test_who_is_patient_waits_for_the_last_owner_to_leave() -> None:
    (last,) = bind("127.0.0.1:0", 1)
    timer = threading.Timer(0.2, last.close)
    timer.start()
    found = bind(f"127.0.0.1:{last.getsockname()[1]}", 2, patient=True)
    timer.join()
    Listeners(clients=found).close()


def test_a_queue_waits_for_whoever_accepts_next() -> None:
    (listener,) = bind("127.0.0.1:0", 1)
    with socket.create_connection(listener.getsockname()):
        duplicate = listener.dup()
        duplicate.close()
        listener.settimeout(10)
        accepted, _ = listener.accept()
        accepted.close()
    listener.close()


def test_more_slots_get_sockets_of_their_own_where_that_can_be() -> None:
    shared, alone = bind("127.0.0.1:0", 2), bind("127.0.0.1:0", 1)
    added = more(shared, 4)
    try:
        assert {bound_address(each) for each in added} == {bound_address(shared[0])}
        assert (len(added), more(shared, 2), more(alone, 3)) == (2, [], [])
    finally:
        Listeners(clients=[*shared, *alone, *added]).close()


def test_localhost_is_bound_in_every_family_there_is() -> None:
    found = bind("localhost:0", 2)
    try:
        families = {each.family for each in found}
        assert len(found) == 2 * len(families)
        assert len({each.getsockname()[1] for each in found}) == 1
        for slot in range(2):
            assert {each.family for each in found[slot::2]} == families
    finally:
        Listeners(clients=found).close()


def test_an_address_that_is_nobodys_is_refused() -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        bind("192.0.2.1:0", 1)


@pytest.mark.parametrize(("workers", "operations"), [(1, 0), (3, 1)])
def test_the_settings_say_what_is_bound(workers: int, operations: int) -> None:
    any_port = "127.0.0.1:0"
    settings = Settings(
        listen=any_port, operations_listen=any_port, console_listen=any_port, workers=workers
    )
    found = open_listeners(settings, {}, demo=True)
    try:
        kinds = (found.clients, found.operations, found.console, found.demo)
        assert [len(kind) for kind in kinds] == [workers, operations, 1, 1]
        assert not found.passed
        assert not any(each.get_inheritable() for each in found.all())
    finally:
        found.close()


def test_nothing_stays_open_when_one_address_is_taken() -> None:
    (taken,) = bind("127.0.0.1:0", 1)
    (free,) = bind("127.0.0.1:0", 1)
    port = free.getsockname()[1]
    free.close()
    settings = Settings(listen=f"127.0.0.1:{port}", operations_listen="x.invalid:1", workers=2)
    with pytest.raises(OSError, match=r"Name|name"):
        open_listeners(settings, {})
    bind(f"127.0.0.1:{port}", 1)[0].close()
    taken.close()


def test_a_console_is_listened_for_where_one_is_wanted() -> None:
    none, some = Settings(console_listen=""), Settings(console_listen="127.0.0.1:0")
    (passed,) = bind("127.0.0.1:0", 1)
    found = Listeners(console=[passed])
    take_console(found, some)
    assert found.console == [passed], "what was passed or inherited stays"
    take_console(found, none)
    assert (found.console, passed.fileno()) == ([], -1), "nobody would accept on it"
    take_console(found, none)
    take_console(found, some)
    assert len(found.console) == 1
    found.close()


def test_a_console_whose_address_is_taken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "IN_USE_SECONDS_MAX", 0.0)
    (taken,) = bind("127.0.0.1:0", 1)
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    found = Listeners()
    with pytest.raises(CommandError, match=r"console_listen: address already in use") as refused:
        take_console(found, Settings(console_listen=address))
    assert "for no console" in refused.value.remedy
    assert found == Listeners()
    taken.close()


def ask_passed(names: list[str], sockets: list[socket.socket], **more_given: str) -> list[object]:
    given = {"sockets": [each.fileno() for each in sockets], "names": names, **more_given}
    done = subprocess.run(
        [sys.executable, "-c", PASSED, json.dumps(given)],
        cwd=ROOT,
        pass_fds=[each.fileno() for each in sockets],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found: list[object] = json.loads(done.stdout)
    return found


def test_systemds_sockets_are_known_by_their_names() -> None:
    sockets = [bind("127.0.0.1:0", 1)[0] for _ in range(4)]
    first, second, third, fourth = (each.getsockname()[1] for each in sockets)
    found = ask_passed(["clients", "operations", "sluice.socket", "console"], sockets)
    assert found == [[first, third], [second], [fourth], True, [], [False] * 4]
    assert ask_passed([], sockets[:1]) == [[first], [], [], True, [], [False]]
    assert ask_passed(["clients"], sockets[:1], pid="1") == [[], [], [], False, [], []]
    Listeners(clients=sockets).close()


def test_sockets_meant_for_nobody_are_not_taken() -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x", "LISTEN_FDNAMES": "a", "B": "b"}
    assert passed_listeners(environ) == Listeners()
    assert environ == {"B": "b"}


def test_what_is_no_listening_tcp_socket_is_refused() -> None:
    with socket.socket() as idle, socket.socket(socket.AF_UNIX) as other:
        for each in (idle, other):
            with pytest.raises(CommandError, match="no listening TCP socket"):
                adopt(os.dup(each.fileno()))
    read, write = os.pipe()
    for end in (read, write):
        with pytest.raises(CommandError, match="is no socket"):
            adopt(end)
        os.close(end)
