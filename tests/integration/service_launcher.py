"""What stands for systemd where it is not the first process: starts a service as its unit says.

It does the part of systemd.exec(5) that a service can see and this machine allows: the sockets at
descriptors 3 and up with LISTEN_FDS and LISTEN_PID, a NOTIFY_SOCKET that is read, credentials in
a directory of their own, an environment of nothing but `Environment=`, umask, file limit, and
of the hardening `NoNewPrivileges=` and `MemoryDenyWriteExecute=` (by the kernel's own switch for
it). What it does not do: users, name spaces, the system call filter, restarts, killing.

As a program it becomes the service: `python service_launcher.py '{"command": [...], ...}'`.
"""

import ctypes
import json
import os
import re
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENCE_SECONDS = 40.0
PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE = 65
"""prctl(2), since Linux 6.3; an older kernel refuses it and the service runs without."""
PR_MDWE_REFUSE_EXEC_GAIN = 1


class Service:
    """A service unit, started by hand. `moved` maps paths in the unit to where they are here."""

    def __init__(self, unit: Path, folder: Path, moved: Mapping[str, str]) -> None:
        text = unit.read_text()
        for there, here in moved.items():
            text = text.replace(there, here)
        self._directives: dict[str, list[str]] = {}
        for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
            self._directives.setdefault(key, []).append(value)
        self._folder = folder
        self._log = folder / "journal"
        self.listeners: dict[str, socket.socket] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify_path = folder / "notify"
        self._notify.bind(str(self._notify_path))
        self._notify.settimeout(1.0)
        self._credentials = folder / "credentials"
        self._credentials.mkdir(mode=0o700)
        for value in self._directives["LoadCredential"]:
            name, _, source = value.partition(":")
            path = self._credentials / name
            path.write_bytes(Path(source).read_bytes())
            path.chmod(0o400)

    def listen(self, name: str) -> int:
        """Open the socket that `FileDescriptorName=` calls `name`, for ever; returns its port."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listeners[name] = listener
        port: int = listener.getsockname()[1]
        return port

    def start(self, watchdog_seconds: float) -> None:
        """Start it; the watchdog's period is the test's, not the unit's."""
        environment = dict(value.split("=", 1) for value in self._directives["Environment"])
        environment |= {
            "NOTIFY_SOCKET": str(self._notify_path),
            "CREDENTIALS_DIRECTORY": str(self._credentials),
            "WATCHDOG_USEC": str(int(watchdog_seconds * 1e6)),
            "LISTEN_FDS": str(len(self.listeners)),
            "LISTEN_FDNAMES": ":".join(self.listeners),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        descriptors = [each.fileno() for each in self.listeners.values()]
        (command,) = self._directives["ExecStart"]
        (files,) = self._directives["LimitNOFILE"]
        spec = {
            "command": command.split(),
            "descriptors": descriptors,
            "environment": environment,
            "files": int(files),
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", __file__, json.dumps(spec)],
                cwd=self._folder,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def hear(self, *wanted: str) -> dict[str, str]:
        """Read notifications until one holds all of `wanted` (`READY=1`, or `STATUS=` for any)."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                lines = self._notify.recv(4096).decode().split("\n")
            except TimeoutError:
                if self.process.poll() is not None:
                    break
                continue
            if set(wanted) <= {*lines, *(line.partition("=")[0] + "=" for line in lines)}:
                return dict(line.split("=", 1) for line in lines)
        raise AssertionError(f"nobody said {wanted}: {self.journal()[-4000:]}")

    def signal(self, number: signal.Signals) -> None:
        """Signal the main process, as `ExecReload=` and `KillMode=mixed` do."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the main process; returns its status."""
        assert self.process is not None
        return self.process.wait(PATIENCE_SECONDS)

    def journal(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace")

    def close(self) -> None:
        """Kill what is left and close the sockets."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for each in (*self.listeners.values(), self._notify):
            each.close()


def become(
    command: Sequence[str], descriptors: Sequence[int], environment: Mapping[str, str], files: int
) -> None:
    """Turn this process into the service."""
    first = 3
    spare = [os.dup(each) for each in descriptors]  # above all places that will be taken
    if min(spare, default=first) < first + len(spare):
        spare = [os.dup(each) for each in spare]
    for number, descriptor in enumerate(spare):
        os.dup2(descriptor, first + number, inheritable=True)
    os.closerange(first + len(spare), 256)
    os.umask(0o077)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = files if hard == resource.RLIM_INFINITY else min(files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)
    os.execve(command[0], list(command), {**environment, "LISTEN_PID": str(os.getpid())})


def make_secret(path: Path) -> str:
    """What the README makes with openssl: 64 random hexadecimal digits, for the owner only."""
    text = secrets.token_hex(32)
    path.write_text(text + "\n")
    path.chmod(0o600)
    return text


if __name__ == "__main__":
    become(**json.loads(sys.argv[1]))
