"""The README's quick start, run as written: `make run`, the printed curl, and again."""

import contextlib
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests import programs, tree

SLUICE = [sys.executable, "-c", "from proxy.app.cli import main; main()"]


def run_command(data: Path) -> list[str]:
    """What `make run` starts, on free ports and with its data elsewhere."""
    make = programs.need("make")
    dry = subprocess.run(
        [make, "--dry-run", "run", f"DATA={data}"],
        cwd=tree.ROOT,
        env=programs.make_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    command = shlex.split(dry.stdout.strip().splitlines()[-1])
    assert command[:3] == ["exec", ".venv/bin/sluice", "serve"]
    free = ["--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0"]
    free += ["--console", "127.0.0.1:0"]
    return [*SLUICE, *command[2:], *free]


@contextlib.contextmanager
def relay(data: Path) -> Iterator[str]:
    """A relay started as `make run` does; yields what it printed. It ends by SIGTERM, cleanly."""
    log = (data.parent / "stderr").open("a+")
    process = subprocess.Popen(
        run_command(data), cwd=tree.ROOT, stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        assert process.stdout is not None
        printed: list[str] = []
        for line in process.stdout:
            printed.append(line)
            if '"event":"serving"' in line or line.strip().startswith("-d "):
                break
        yield "".join(printed)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        log.seek(0)
        assert process.returncode == 0, log.read()
    finally:
        process.kill()
        process.wait()
        log.close()


def curl_command(printed: str) -> list[str]:
    """The one curl command in the relay's greeting, its continued lines joined."""
    match = re.search(r"^ *(curl (?:.*\\\n)*.*)$", printed, re.MULTILINE)
    assert match, printed
    return shlex.split(match[1].replace("\\\n", " "))


def stream(command: list[str]) -> list[str]:
    """The events of one streamed answer."""
    done = subprocess.run(
        [*command, "--silent", "--show-error", "--max-time", "30"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [event for event in done.stdout.split("\n\n") if event]


def test_make_run_prints_a_key_once_and_a_curl_that_streams(tmp_path: Path) -> None:
    programs.need("curl")
    data = tmp_path / "data"
    with relay(data) as printed:
        command = curl_command(printed)
        key = re.findall(r"sk-\w+", printed)
        assert len(set(key)) == 1, printed
        events = stream(command)
        assert len(events) > 5
        assert events[-1] == "data: [DONE]"
        console = re.search(r"browser: +(http://127\.0\.0\.1:\d+)\n", printed)
        assert console, printed
        with urllib.request.urlopen(console[1], timeout=30) as page:
            assert b"<html" in page.read()
        link = re.search(rf"{re.escape(console[1])}/password/set\?token=\S+", printed)
        assert link, printed
        with urllib.request.urlopen(link[0], timeout=30) as page:
            assert b'type="password"' in page.read()
    with relay(data) as again:
        assert not re.search(r"sk-\w{20,}", again), "the key is shown once"
        assert "browser:" in again
        assert "token=" not in again, "and so is the link"
        address = re.search(r"http://127\.0\.0\.1:\d+", again)
        assert address, again
        same_key = [re.sub(r"http://127\.0\.0\.1:\d+", address[0], word) for word in command]
        assert stream(same_key)[-1] == "data: [DONE]"


def test_the_quick_start_is_the_same_under_a_make_with_arguments(tmp_path: Path) -> None:
    outer = tmp_path / "Makefile"
    report = (
        "from pathlib import Path; from tests.integration.test_quickstart import run_command; "
        "print(run_command(Path('x')))"
    )
    outer.write_text(f'test:\n\t@{sys.executable} -c "{report}"\n')
    arguments = ["ARGS=-q -k nothing", "DATA=/elsewhere", "BIN=/nowhere", "JOBS=7"]
    done = subprocess.run(
        [programs.need("make"), "--file", str(outer), "--jobs=3", "test", *arguments],
        cwd=tree.ROOT,
        env=programs.make_environment() | {"ARGS": "-v"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip().splitlines()[-1] == str(run_command(Path("x")))
