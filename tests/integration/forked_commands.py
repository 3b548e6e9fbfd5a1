"""Commands of `sluice`, each in a process of its own, forked from one that has loaded the program.

`run(arguments, environment)` is what `subprocess.run` on the program would be, without the start of
Python and the loading, which take ten times as long as most commands. The process that forks is
started with the first command and ends with the tests' process, whose end of the line it hears of.
This module knows of the program only its entry; who tests the entry itself starts it anew.
"""

import atexit
import functools
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
WARNINGS = "error,ignore::DeprecationWarning"
"""Our own warnings end the program; a wheel may use what a later Python will drop."""
REQUEST_BYTES_MAX = 128 * 1024
ANSWER_BYTES = 20
"""First its process id, then its exit status; nothing of either if it died."""
_ONE_AT_A_TIME = threading.Lock()


def run(
    arguments: Sequence[str], environment: Mapping[str, str], seconds_max: float
) -> "subprocess.CompletedProcess[bytes]":
    """Run `sluice` with these; raises `subprocess.TimeoutExpired` having ended it by SIGKILL."""
    ours, theirs = socket.socketpair()
    request = json.dumps([list(arguments), dict(environment)]).encode()
    if len(request) > REQUEST_BYTES_MAX:
        raise AssertionError(f"a command of {len(request)} bytes")
    with ours, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        with theirs, _ONE_AT_A_TIME:
            given = [theirs.fileno(), out.fileno(), error.fileno()]
            socket.send_fds(_line(), [request], given)
        ours.settimeout(seconds_max)
        process = b""
        try:
            process = ours.recv(ANSWER_BYTES)
            status = ours.recv(ANSWER_BYTES)
        except TimeoutError:
            if process:
                os.kill(int(process), signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(arguments), seconds_max) from None
        out.seek(0)
        error.seek(0)
        done = (out.read(), error.read())
    if not status:
        raise AssertionError(f"{arguments}: it died: {done[1].decode()}")
    return subprocess.CompletedProcess(list(arguments), int(status), *done)


@functools.cache
def _line() -> socket.socket:
    """The line to the process that forks, which ends when nobody has the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": WARNINGS},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    process.returncode = 0  # nobody waits for it: it ends after this process
    atexit.register(ours.close)
    return ours


def _fork_for_each(line: socket.socket) -> None:
    from proxy.app.cli import main

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps those who end
    gc.collect()
    gc.freeze()
    while True:
        request, files, _, _ = socket.recv_fds(line, REQUEST_BYTES_MAX, 3)
        if not request:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            line.close()
            _answer(main, request, files)
        for file in files:
            os.close(file)


def _answer(main: Callable[..., object], request: bytes, files: Sequence[int]) -> None:
    answer, out, error = files
    os.write(answer, str(os.getpid()).ljust(ANSWER_BYTES).encode())
    arguments, environment = json.loads(request)
    os.dup2(out, 1)
    os.dup2(error, 2)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    try:
        main(arguments, prog_name="sluice")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(answer, str(status).encode())
    os._exit(0)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        _fork_for_each(inherited)
