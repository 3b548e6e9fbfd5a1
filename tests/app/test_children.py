import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.app import children
from proxy.app.children import UNNUMBERED, Child, Order, Role


@contextmanager
def child(role: Role = Role.WORKER, number: int = 3) -> Iterator[tuple[Child, socket.socket]]:
    """A process that sleeps, with a link of which the test has the other end."""
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ours, theirs = socket.socketpair()
    try:
        yield Child(role, 0, number, sleeper.pid, ours, 0), theirs
    finally:
        ours.close()
        theirs.close()
        sleeper.kill()
        sleeper.communicate()


def test_messages_are_lines() -> None:
    with child() as (one, link):
        one.tell(do=Order.DRAIN)
        one.tell(alive=[1, 2])
        assert [json.loads(line) for line in link.recv(1000).splitlines()] == [
            {"do": "drain"},
            {"alive": [1, 2]},
        ]
        assert list(one.hear()) == []
        link.send(b'{"ready": true}\n{"a"')
        assert list(one.hear()) == [{"ready": True}]
        link.send(b": 1}\n")
        assert list(one.hear()) == [{"a": 1}]
        assert not one.mute
        link.close()
        assert list(one.hear()) == []
        assert one.mute
        one.tell(do=Order.STOP)


def test_who_does_not_read_is_killed() -> None:
    with child() as (one, _link):
        until = time.monotonic() + 20
        while one.reap() is None and time.monotonic() < until:
            one.tell(text="x" * 10_000)
        assert time.monotonic() < until


def test_who_sends_endlessly_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LINE_BYTES_MAX", 100)
    with child() as (one, link):
        link.send(b"x" * 101)
        list(one.hear())
        list(one.hear())
        assert os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1]) == -signal.SIGKILL
        assert one.reap() == 0, "nobody else's child is waited for"
        one.kill()


def test_a_child_is_named_by_what_it_is() -> None:
    with child() as (one, _), child(Role.KEEPER, UNNUMBERED) as (other, _):
        assert one.names() == {"role": "worker", "process": one.pid, "worker": 3}
        assert other.names() == {"role": "keeper", "process": other.pid}
        assert one.reap() is None


FORKED = """
import os, signal, sys
from proxy.app.children import Assignment, Child, Role, close_links, fork
told = []
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: told.append(number))
made = fork(Role.WORKER, 1, 5, 0, first=True)
if isinstance(made, Assignment):
    made.link.sendall(f"{made.role} {made.slot} {made.number} {made.first}\\n".encode())
    os.kill(os.getpid(), signal.SIGTERM)  # ignored, and nobody else's handler is called
    made.link.sendall(f"{told} {signal.getsignal(signal.SIGHUP)!r}".encode())
    os._exit(7)
text = b""
while data := made.link.recv(100):
    text += data
print(text.decode(), os.waitstatus_to_exitcode(os.waitpid(made.pid, 0)[1]))
close_links([made])
assert made.link.fileno() == -1
os.kill(os.getpid(), signal.SIGHUP)
assert told == [signal.SIGHUP], told
"""


def test_a_child_begins_without_its_parents_handlers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "worker 1 5 True"
    assert second.startswith("[] ")
    assert "SIG_IGN" in second
    assert second.endswith(" 7")
