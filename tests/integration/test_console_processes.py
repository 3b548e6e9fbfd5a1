"""The console as a process: beside one, and under a supervisor; killed, upgraded, left behind."""

import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.app.console_site import NICENESS
from proxy.app.sockets import bind
from tests.integration.raw_client import RawClient, request_bytes
from tests.integration.relay_process import RelayProcess, until_gone
from tests.integration.signed_in import cookie_of

MODES = pytest.mark.parametrize("workers", [1, 2])


def relay_with_console(path: Path, workers: int, **settings: object) -> RelayProcess:
    return RelayProcess(path, [], settings={"workers": workers, **settings}, console=True)


def page(relay: RelayProcess, path: str = "/") -> int:
    """The status of a page; the queue waits for a console that is being started."""
    try:
        with urllib.request.urlopen(relay.console_url + path, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def console_of(relay: RelayProcess, count: int = 1) -> int:
    """The process id of the `count`th console there was, once it is ready."""
    while True:
        ready = [
            line["process"]
            for line in relay.log_lines()
            if line["event"] == "child ready" and line["role"] == "console"
        ]
        if len(ready) >= count:
            return int(ready[count - 1])
        relay.wait_for(
            "child ready", sum(line["event"] == "child ready" for line in relay.log_lines()) + 1
        )


def niceness(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[16])


@MODES
def test_it_answers_gives_way_and_is_gone_after_the_drain(tmp_path: Path, workers: int) -> None:
    relay = relay_with_console(tmp_path, workers)
    with relay:
        assert page(relay) == 200
        assert page(relay, "/nothing-here") == 404
        console = console_of(relay)
        assert niceness(console) == min(19, niceness(relay.process_id) + NICENESS)
        assert os.getsid(console) == os.getsid(relay.process_id), "it counts within a session only"
        assert os.sched_getaffinity(console) == {max(os.sched_getaffinity(relay.process_id))}
        own_group = os.getpgid(console) == console
        assert own_group == (workers == 1), "an interrupt reaches the relay, which tells it"
        for role, processes in relay.children().items():
            for each in processes:
                assert (niceness(each) > niceness(relay.process_id)) == (role == "console")
                if role != "console":
                    assert os.sched_getaffinity(each) == os.sched_getaffinity(relay.process_id)
        assert relay.terminate() == 0
        until_gone([console])
    said = [line for line in relay.log_lines() if line["level"] == "error"]
    assert not said


@MODES
def test_one_that_is_killed_is_missed_by_nobody_for_long(tmp_path: Path, workers: int) -> None:
    with relay_with_console(tmp_path, workers) as relay:
        first = console_of(relay)
        os.kill(first, signal.SIGKILL)
        assert page(relay) == 200, "the connection waits for the next console"
        assert console_of(relay, 2) != first
        (ended,) = [line for line in relay.log_lines() if line["event"] == "child ended"]
        assert (ended["role"], ended["process"]) == ("console", first)
        relay.until_ready()


@MODES
def test_it_ends_with_its_parent_and_the_next_relay_has_its_address(
    tmp_path: Path, workers: int
) -> None:
    relay = relay_with_console(tmp_path, workers)
    with relay:
        assert page(relay) == 200
        before = console_of(relay)
        relay.kill_main()
        relay.start()
        until_gone([before])
        assert page(relay) == 200
        assert console_of(relay, 2) != before


@pytest.mark.parametrize("end", [RelayProcess.terminate, RelayProcess.kill_main])
@MODES
def test_who_looks_on_keeps_no_relay_from_ending(
    tmp_path: Path, workers: int, end: Callable[[RelayProcess], object]
) -> None:
    """A live log is a request without end: it ends with a drain, and with the relay's death."""
    with relay_with_console(tmp_path, workers) as relay:
        cookie = cookie_of(relay.data, "ann@example.com")
        sent = request_bytes("/usage/live", method="GET", headers={"cookie": cookie})
        with RawClient(relay.console_port) as browser:
            browser.send(sent).read_until(b": hello\n\n")
            children = relay.children()
            end(relay)
            for processes in children.values():
                until_gone(processes)
            browser.read_until(b"\0")
            assert browser.ended is not None
    said = [line for line in relay.log_lines() if line["level"] == "error"]
    assert not said


@MODES
def test_an_address_in_use_refuses_the_start_and_says_which(tmp_path: Path, workers: int) -> None:
    relay = relay_with_console(tmp_path, workers)
    (taken,) = bind(f"127.0.0.1:{relay.console_port}", 1)
    try:
        said = relay.start_refused()
    finally:
        taken.close()
    assert f"console_listen: address already in use (127.0.0.1:{relay.console_port})" in said
    assert "for no console" in said
    assert "Traceback" not in said


@MODES
def test_a_bad_secret_refuses_the_start(tmp_path: Path, workers: int) -> None:
    weak = tmp_path / "weak"
    weak.write_text("ab" * 32)
    weak.chmod(0o600)
    said = relay_with_console(
        tmp_path / "relay", workers, console_secret_file=str(weak)
    ).start_refused()
    assert f"{weak} is weak" in said
    assert "Traceback" not in said


@MODES
def test_a_reload_reaches_it(tmp_path: Path, workers: int) -> None:
    def policy(relay: RelayProcess) -> str:
        with urllib.request.urlopen(relay.console_url + "/", timeout=30) as answer:
            return str(answer.headers["content-security-policy"])

    with relay_with_console(tmp_path, workers) as relay:
        console_of(relay)
        assert relay.url in policy(relay), "by default the address that is bound"
        with relay.settings_file.open("a") as file:
            file.write('public_url = "https://relay.example.com"\n')
        relay.reload()
        relay.wait_for("reloaded")
        while "https://relay.example.com" not in policy(relay):
            pass


@MODES
def test_none_is_wanted_none_is_there(tmp_path: Path, workers: int) -> None:
    with RelayProcess(tmp_path, [], settings={"workers": workers}) as relay:
        with pytest.raises(OSError, match="refused"):
            page(relay)
        if workers == 1:
            assert not relay.children()
            assert not (relay.data / "secrets" / "console").exists()


@pytest.mark.parametrize("taken", [False, True])
def test_an_upgrade_brings_a_console_where_there_was_none(tmp_path: Path, *, taken: bool) -> None:
    with RelayProcess(tmp_path, [], settings={"workers": 2}) as relay:
        address = f"127.0.0.1:{relay.console_port}"
        text = relay.settings_file.read_text()
        relay.settings_file.write_text(
            text.replace('console_listen = ""', f'console_listen = "{address}"')
        )
        other = bind(address, 1) if taken else []
        relay.upgrade()
        relay.wait_for("upgraded")
        for each in other:
            each.close()
        if not taken:
            assert page(relay) == 200
            return
        (said,) = [line for line in relay.log_lines() if line["event"] == "there is no console"]
        assert "address already in use" in said["reason"]
        relay.until_ready()  # calls go on without it


def test_an_upgrade_keeps_its_socket(tmp_path: Path) -> None:
    """Pages asked for all the while are all answered, and the socket is the same."""
    with relay_with_console(tmp_path, 2) as relay:
        first = console_of(relay)
        over = threading.Event()
        statuses: list[int] = []

        def ask() -> None:
            while not over.is_set():
                statuses.append(page(relay))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            relay.upgrade()
            relay.wait_for("upgraded")
        finally:
            over.set()
            asking.join()
        assert set(statuses) == {200}
        assert page(relay) == 200
        until_gone([first])
        assert console_of(relay, 2) != first
