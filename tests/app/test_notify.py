"""The service manager hears exactly what was said, or nothing, and never breaks who says it."""

import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.app import notify
from proxy.app.notify import READY, STOPPING, WATCHDOG, status


class Manager:
    """The service manager's end: a bound datagram socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(10)

    def heard(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


def environ_of(path: Path) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(path / "notify")}


def test_one_message_carries_all_assignments(manager: Manager, tmp_path: Path) -> None:
    assert notify.notify(READY, status("serving\non two\tlines"), environ=environ_of(tmp_path))
    assert manager.heard() == ["READY=1", "STATUS=serving on two lines"]
    assert notify.notify(STOPPING, notify.extend_timeout(31.5), environ=environ_of(tmp_path))
    assert manager.heard() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=31500000"]
    assert notify.notify(WATCHDOG, environ=environ_of(tmp_path))
    assert manager.heard() == ["WATCHDOG=1"]


def test_an_abstract_socket_is_reached_by_its_name_after_the_at() -> None:
    name = f"sluice-test-{secrets.token_hex(8)}"
    manager = Manager("\0" + name)
    try:
        assert notify.notify(READY, environ={"NOTIFY_SOCKET": f"@{name}"})
        assert manager.heard() == [READY]
    finally:
        manager.socket.close()


def test_the_environment_of_the_process_is_what_counts(
    manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    assert notify.notify(READY)
    assert manager.heard() == [READY]
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify.notify(READY)


def test_a_reload_carries_the_manager_s_own_clock(manager: Manager, tmp_path: Path) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    assert notify.notify(notify.reloading(), environ=environ_of(tmp_path))
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    first, second = manager.heard()
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= after


@pytest.mark.parametrize(
    "named", ["", "relative", "vsock:2:1234", "/nowhere/at/all", "@nobody-here", "/" + "x" * 200,
              "/with\0zero", "/with\udc80surrogate"],
)  # fmt: skip
def test_nobody_to_tell_is_no_error(named: str) -> None:
    assert not notify.notify(READY, environ={"NOTIFY_SOCKET": named})


def test_a_manager_that_does_not_read_holds_nobody_up(manager: Manager, tmp_path: Path) -> None:
    environ = environ_of(tmp_path)
    sent = 0
    while notify.notify(WATCHDOG, status("x" * 100_000), environ=environ):
        sent += 1
        assert sent < 100_000, "the queue of a datagram socket is bounded"
    assert sent, "the first ones were taken"
    heard = manager.heard()
    assert heard[0] == WATCHDOG
    assert len(heard[1]) == len("STATUS=") + notify.STATUS_CHARACTERS_MAX, "bounded"
    assert notify.notify(READY, environ=environ), "and there is room again"


def test_text_that_is_not_unicode_is_still_told(manager: Manager, tmp_path: Path) -> None:
    assert notify.notify(status("a\udc80b"), environ=environ_of(tmp_path))
    assert manager.heard() == ["STATUS=a?b"]


def test_the_time_to_beat_is_for_the_process_it_was_meant_for() -> None:
    seconds = notify.watchdog_seconds
    assert seconds({}) is None
    assert seconds({"WATCHDOG_USEC": "30000000"}) == 30.0
    mine = {"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}
    assert seconds(mine) == 1.5
    parents = {"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getppid())}
    assert seconds(parents) is None
    assert seconds(parents, os.getppid()) == 1.5
    for odd in ("x", "", "-1", "0"):
        assert seconds({"WATCHDOG_USEC": odd}) is None
    assert seconds({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "me"}) is None
