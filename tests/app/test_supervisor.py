"""The supervisor as a real process over children that do next to nothing (toy_relay.py)."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.app import supervisor
from proxy.app.children import Child, Role
from proxy.app.supervisor import BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_MIN, Place
from tests.integration.relay_process import children_of, is_running, until_gone

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 30.0

Event = dict[str, Any]


class Toy:
    """A running toy; see toy_relay.py for what its files say."""

    def __init__(self, directory: Path, process: "subprocess.Popen[bytes]") -> None:
        self.directory = directory
        self.process = process

    def events(self, what: str, **wanted: object) -> list[Event]:
        """What has happened so far, in order."""
        file = self.directory / "events"
        rows = file.read_text().splitlines() if file.exists() else []
        found = [json.loads(row) for row in rows]
        return [
            row for row in found
            if row["what"] == what and all(row.get(k) == v for k, v in wanted.items())
        ]  # fmt: skip

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def until(self, reached: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS_MAX
        while not reached():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.01)

    def until_logged(self, text: str, count: int = 1) -> None:
        self.until(lambda: self.log().count(text) >= count)

    def until_event(self, what: str, count: int = 1, **wanted: object) -> list[Event]:
        self.until(lambda: len(self.events(what, **wanted)) >= count)
        return self.events(what, **wanted)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def set(self, name: str, text: str = "") -> None:
        (self.directory / name).write_text(text)

    def unset(self, name: str) -> None:
        (self.directory / name).unlink()

    def connect(self) -> socket.socket:
        port = int((self.directory / "address").read_text())
        return socket.create_connection(("127.0.0.1", port), SECONDS_MAX)

    def ask(self) -> tuple[int, int]:
        """Number and process of the worker that answers a new connection."""
        with self.connect() as connection:
            return exchange(connection)

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.process.wait(SECONDS_MAX)


def exchange(connection: socket.socket) -> tuple[int, int]:
    connection.sendall(b"?\n")
    number, process = connection.recv(100).split()
    return int(number), int(process)


@contextmanager
def toy(directory: Path, workers: int = 2, *, ready: bool = True, **files: str) -> Iterator[Toy]:
    for name, text in files.items():
        (directory / name.replace("_", "-")).write_text(text)
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.app.toy_relay", str(directory), str(workers)],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "error"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    one = Toy(directory, process)
    try:
        if ready:
            one.until_event("announced")
        yield one
    finally:
        children = children_of(process.pid)
        process.kill()
        process.wait()
        for child in children:
            if is_running(child):
                os.kill(child, signal.SIGKILL)
        until_gone(children)
    assert "Traceback" not in one.log(), one.log()


def test_the_keeper_comes_first_and_goes_after_the_workers(tmp_path: Path) -> None:
    with toy(tmp_path) as one:
        born = one.events("born")
        assert [row["role"] for row in born[:1]] == ["keeper"]
        assert sorted((row["role"], row["number"], row["slot"]) for row in born) == [
            ("console", -1, 0), ("keeper", -1, 0), ("worker", 0, 0), ("worker", 1, 1),
        ]  # fmt: skip
        assert one.events("announced") == [
            {"what": "announced", "process": one.process.pid, "said": "hello"}
        ]
        assert one.events("alive")[-1]["numbers"] == [0, 1]
        assert one.stop() == 0
        left = [(row["role"], row["order"]) for row in one.events("leaving")]
        assert left == [
            ("worker", "drain"), ("worker", "drain"), ("keeper", "stop"), ("console", "stop"),
        ]  # fmt: skip
        assert one.events("alive")[-1]["numbers"] == []


@pytest.mark.parametrize("role", ["worker", "keeper", "console"])
def test_who_is_killed_is_replaced(tmp_path: Path, role: str) -> None:
    with toy(tmp_path) as one:
        victim = one.events("born", role=role)[0]
        count = len(one.events("born", role=role))
        os.kill(victim["process"], signal.SIGKILL)
        born = one.until_event("born", count + 1, role=role)[-1]
        assert born["slot"] == victim["slot"]
        if role == "worker":
            assert born["number"] == 2, "a number is not given again at once"
            alive = sorted({0, 1, 2} - {victim["number"]})  # whichever was born first
            one.until(lambda: one.events("alive")[-1]["numbers"] == alive)
        if role == "keeper":
            one.until_event("alive", process=born["process"], numbers=[0, 1])
        one.until_logged("child ready", 5)
        assert len(one.events("announced")) == 1
        assert one.stop() == 0


def test_a_connection_waits_for_the_successor_of_a_dead_worker(tmp_path: Path) -> None:
    with toy(tmp_path, workers=1) as one:
        number, process = one.ask()
        os.kill(process, signal.SIGSTOP)  # it accepts nothing more
        with one.connect() as waiting:
            waiting.sendall(b"?\n")
            os.kill(process, signal.SIGKILL)
            assert waiting.recv(100).split()[0] == b"%d" % (number + 1)


def test_a_worker_that_dies_again_and_again_is_started_at_ever_longer_pauses(
    tmp_path: Path,
) -> None:
    with toy(tmp_path) as one:
        one.set("crash-worker", "3")
        os.kill(one.events("born", role="worker")[0]["process"], signal.SIGKILL)
        one.until_logged("exit status 3", 3)
        waiting = [one.connect() for _ in range(40)]
        for connection in waiting:
            connection.sendall(b"?\n")
        assert select.select(waiting, [], [], SECONDS_MAX)[0], "the other worker serves its queue"
        one.unset("crash-worker")
        for connection in waiting:
            assert connection.recv(100), "and this one's has waited"
            connection.close()
        assert one.stop() == 0


def test_pauses_double_to_a_bound_and_begin_anew_after_a_steady_time() -> None:
    ours, theirs = socket.socketpair()
    child = Child(Role.WORKER, 0, 1, 1, ours, 0)
    place = Place(Role.WORKER)
    pauses = []
    for _ in range(9):
        place.lost(child, 100.0)
        pauses.append(round(place.due - 100.0, 6))
    assert pauses[:3] == [BACKOFF_SECONDS_MIN, 2 * BACKOFF_SECONDS_MIN, 4 * BACKOFF_SECONDS_MIN]
    assert pauses[-1] == BACKOFF_SECONDS_MAX
    child.ready_at = 100.0 - supervisor.STEADY_SECONDS
    place.lost(child, 100.0)
    assert place.due == 100.0
    child.ready_at = 100.0
    place.lost(child, 100.0)
    assert place.due == 100.0 + BACKOFF_SECONDS_MIN
    ours.close()
    theirs.close()


def test_a_relay_that_cannot_start_ends(tmp_path: Path) -> None:
    with toy(tmp_path, ready=False, crash_keeper="1") as one:
        assert one.process.wait(SECONDS_MAX) == 1
        assert [row["role"] for row in one.events("born")] == ["keeper"]


def test_good_files_reach_everybody_and_bad_ones_nobody(tmp_path: Path) -> None:
    with toy(tmp_path) as one:
        one.set("heartbeat", "12345")
        one.set("bad-files")
        one.signal(signal.SIGHUP)
        one.until_logged("reload refused")
        one.unset("bad-files")
        one.set("bad-catalog")
        one.signal(signal.SIGHUP)
        one.until_event("reloaded", role="keeper")
        one.unset("bad-catalog")
        assert not one.events("reloaded", role="worker"), "the keeper alone can refuse a catalog"
        one.signal(signal.SIGHUP)
        one.until_event("reloaded", 5)  # the keeper twice: it alone was asked the first time
        one.until_logged('"reloaded"')
        assert len(one.events("reloaded", heartbeat=12345)) >= 4
        roles = sorted(row["role"] for row in one.events("reloaded"))
        assert roles == ["console", "keeper", "keeper", "worker", "worker"]
        assert one.stop() == 0


def test_a_second_word_to_stop_leaves_nobody_any_time(tmp_path: Path) -> None:
    with toy(tmp_path, deaf="") as one:
        one.signal(signal.SIGTERM)
        one.until_logged("draining")
        one.signal(signal.SIGTERM)
        # Deaf as they are, they are killed when their time is up.
        assert one.process.wait(SECONDS_MAX) == 0
        assert "child does not leave, killing it" in one.log()
        assert not children_of(one.process.pid)


def test_children_leave_when_their_supervisor_is_gone(tmp_path: Path) -> None:
    with toy(tmp_path) as one:
        children = children_of(one.process.pid)
        assert len(children) == 4
        one.process.kill()
        one.process.wait()
        until_gone(children)
        assert len(one.events("leaving", deserted=True, order="stop")) == 4


def test_signals_to_the_whole_group_are_the_supervisors_alone(tmp_path: Path) -> None:
    with toy(tmp_path) as one:
        children = children_of(one.process.pid)
        for child in children:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
                os.kill(child, number)
        assert one.ask()
        assert children_of(one.process.pid) == children
        one.signal(signal.SIGINT)
        assert one.process.wait(SECONDS_MAX) == 0


def test_a_new_program_takes_over_one_child_after_the_other(tmp_path: Path) -> None:
    with toy(tmp_path) as one, one.connect() as kept:
        exchange(kept)
        before = children_of(one.process.pid)
        one.signal(signal.SIGUSR2)
        one.until_logged('"upgraded"')
        assert one.events("supervising") == [
            {"what": "supervising", "process": one.process.pid, "adopted": adopted}
            for adopted in (False, True)
        ]
        born = [(row["role"], row["number"]) for row in one.events("born")[4:]]
        assert born == [("keeper", -1), ("worker", 2), ("worker", 3), ("console", -1)]
        until_gone(before)
        orders = [(row["role"], row["number"], row["order"]) for row in one.events("leaving")]
        assert orders[0] == ("keeper", -1, "stop")
        assert sorted(orders[1:]) == [
            ("console", -1, "stop"), ("worker", 0, "retire"), ("worker", 1, "retire"),
        ]  # fmt: skip
        assert one.ask()[0] in {2, 3}
        assert len(one.events("announced")) == 1
        one.signal(signal.SIGUSR2)
        one.until_logged('"upgraded"', 2)
        assert one.stop() == 0


def test_a_new_program_that_cannot_start_takes_nothing_over(tmp_path: Path) -> None:
    with toy(tmp_path, wrong_program="") as one:
        before = children_of(one.process.pid)
        one.signal(signal.SIGUSR2)
        one.until_logged("upgrade refused, the old program stays")
        assert children_of(one.process.pid) == before
        one.unset("wrong-program")
        one.signal(signal.SIGUSR2)
        one.until_logged('"upgraded"')
        assert one.stop() == 0


def test_a_crash_during_an_upgrade_leaves_the_old_one_serving(tmp_path: Path) -> None:
    with toy(tmp_path, workers=1) as one:
        old = one.ask()
        one.set("crash-worker", "4")
        one.signal(signal.SIGUSR2)
        one.until_logged("exit status 4", 2)
        assert one.ask() == old
        one.unset("crash-worker")
        one.until_logged('"upgraded"')
        assert one.ask() != old
        assert one.stop() == 0
