"""What is measured: nginx, Sluice, the baseline, direct, or any relay already running.

Rules: every relay listens on loopback, points at the same mock and is given one key. Sluice runs
with all features on (metering, billing, limits, metrics) from a fresh data directory, seeded
through its own command line. This module must not know how measurements are made.
"""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from benchmarks.machine import Child, fetch, free_ports, listening, raise_file_limit

ROOT = Path(__file__).resolve().parent.parent
NGINX_TEMPLATE = ROOT / "config" / "nginx" / "benchmark.conf.template"
COMMAND_SECONDS_MAX = 60.0
CREDIT_USD = "100000000"
SERVE = ("proxy.app.cli", "serve")
SERVE_UNBILLED = ("benchmarks.unbilled",)
UNBILLED = "sluice-unbilled"
TWO_WORKERS = "sluice-2-workers"
COUNTED = "sluice-counted"
COUNTED_UNBILLED = "sluice-unbilled-counted"
CALLGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-instr=no")
MALLOC_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}
"""As the systemd unit sets them: without them glibc maps every 256 KiB TLS read anew."""


@dataclass(slots=True)
class Relay:
    """Something that can be measured. `pids` are the roots whose trees its CPU is read from."""

    name: str
    port: int
    tls_port: int = 0
    """Where it relays to the TLS mock; 0 if it cannot."""
    key: str = "none"
    child: Child | None = None
    other_pid: int = 0
    data: Path | None = None
    operations_port: int = 0
    bills: bool = False
    counts: Path | None = None
    """Where callgrind writes, if it runs under that: the path's name, a point and a number."""
    notes: dict[str, object] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """Roots of its process trees; empty for direct."""
        if self.child is not None:
            return [self.child.pid]
        return [self.other_pid] if self.other_pid else []

    def billed(self) -> int | None:
        """Rows on the bill; None where nothing is billed."""
        return self.rows() if self.bills else None

    def rows(self) -> int:
        """Rows on the bill, read from the database; 0 where there is none."""
        if self.data is None:
            return 0
        path = f"file:{self.data / 'sluice.db'}?mode=ro"
        with closing(sqlite3.connect(path, uri=True, timeout=10)) as database:
            return int(database.execute("SELECT count(*) FROM call").fetchone()[0])

    def metrics(self) -> str:
        """The metrics page; empty where there is none."""
        if not self.operations_port:
            return ""
        return fetch(f"http://127.0.0.1:{self.operations_port}/metrics").decode()

    def stop(self) -> None:
        """End it, if it was started here."""
        if self.child is not None:
            self.child.stop()
            self.child = None


@dataclass(frozen=True, slots=True)
class Mock:
    """A running mock upstream."""

    port: int
    tls_port: int
    authority: Path
    """The certificate that relays must trust to reach the TLS listener."""
    child: Child

    def statistics(self) -> dict[str, float]:
        """What it has served since the last reset."""
        found: dict[str, float] = json.loads(fetch(self._url("statistics")))
        return found

    def reset(self) -> None:
        """Start counting anew."""
        fetch(self._url("reset"))

    def release(self) -> None:
        """Let every held stream go on."""
        fetch(self._url("release"))

    def _url(self, action: str) -> str:
        return f"http://127.0.0.1:{self.port}/bench/{action}"


def make_certificate(directory: Path) -> tuple[Path, Path, Path]:
    """A throw-away authority and a certificate for localhost: (authority, certificate, key)."""
    authority, authority_key = directory / "authority.pem", directory / "authority.key"
    certificate, key = directory / "mock.pem", directory / "mock.key"
    request, names = directory / "mock.csr", directory / "names.cnf"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for arguments in (
        (
            "req",
            "-x509",
            *curve,
            "-keyout",
            authority_key,
            "-out",
            authority,
            "-days",
            "3",
            "-subj",
            "/CN=benchmark authority",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ),
        ("req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=localhost"),
        (
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            authority,
            "-CAkey",
            authority_key,
            "-CAcreateserial",
            "-out",
            certificate,
            "-days",
            "3",
            "-extfile",
            names,
        ),
    ):
        subprocess.run(
            ["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30
        )
    return authority, certificate, key


def start_mock(directory: Path, port: int = 0, tls_port: int = 0) -> Mock:
    """Start the mock, on free ports unless they are given."""
    authority, certificate, key = make_certificate(directory)
    free = free_ports(2)
    port, tls_port = port or free[0], tls_port or free[1]
    child = Child(
        [
            sys.executable,
            "-m",
            "benchmarks.mock",
            "--port",
            str(port),
            "--tls-port",
            str(tls_port),
            "--certificate",
            str(certificate),
            "--private-key",
            str(key),
        ],
        directory / "mock.log",
    )
    child.wait_until(lambda: listening(port) and listening(tls_port), "the mock upstream")
    return Mock(port, tls_port, authority, child)


def direct(mock: Mock) -> Relay:
    """No relay: what generator and mock need for themselves."""
    return Relay("direct", mock.port)


def start_nginx(directory: Path, mock: Mock, name: str = "nginx") -> Relay:
    """nginx as in config/nginx/benchmark.conf.template, one worker."""
    home = directory / name
    home.mkdir()
    home.chmod(0o755)
    directory.chmod(0o755)
    port, tls_port = free_ports(2)
    files = raise_file_limit()
    values = {
        "DIRECTORY": home,
        "FILES_MAX": files,
        "CONNECTIONS_MAX": files - 100,
        "PORT": port,
        "TLS_PORT": tls_port,
        "UPSTREAM_PORT": mock.port,
        "UPSTREAM_TLS_PORT": mock.tls_port,
        "AUTHORITY": mock.authority,
    }
    text = NGINX_TEMPLATE.read_text()
    for placeholder, value in values.items():
        text = text.replace(f"@{placeholder}@", str(value))
    path = home / "nginx.conf"
    path.write_text(text)
    child = Child(
        ["nginx", "-p", str(home), "-e", str(home / "start.log"), "-c", str(path)],
        home / "output.log",
    )
    child.wait_until(lambda: listening(port), "nginx")
    return Relay(name, port, tls_port, child=child)


def start_baseline(directory: Path, mock: Mock) -> Relay:
    """The raw uvloop pass-through."""
    (port,) = free_ports(1)
    child = Child(
        [
            sys.executable,
            "-m",
            "benchmarks.baseline",
            "--port",
            str(port),
            "--upstream-port",
            str(mock.port),
        ],
        directory / "baseline.log",
    )
    child.wait_until(lambda: listening(port), "the baseline relay")
    return Relay("baseline", port, child=child)


_CATALOG = Template(
    """
[[plan]]
name = "unlimited"

[[group]]
name = "default"

[[model]]
name = "gpt-4o"
context_window = 128000
output_tokens_max = 16384
tokenizer = "o200k"
price = { input = "2.50", cache_read = "1.25", output = "10.00" }

[[model]]
name = "endless"
context_window = 1000000000
output_tokens_max = 500000000
tokenizer = "o200k"
price = { input = "0.01", output = "0.01" }

[[model]]
name = "claude-sonnet-4-5"
context_window = 200000
output_tokens_max = 64000
tokenizer = "estimate"
price = { input = "3.00", cache_read = "0.30", output = "15.00" }

[[channel]]
name = "mock-openai"
dialect = "openai"
base_url = "$origin/v1"
keys = ["sk-upstream-benchmark"]
groups = ["default"]
allow_private = true
models = { "gpt-4o" = "gpt-4o-2024-08-06", "endless" = "endless" }

[[channel]]
name = "mock-anthropic"
dialect = "anthropic"
base_url = "$origin"
keys = ["sk-upstream-benchmark"]
groups = ["default"]
allow_private = true
models = { "claude-sonnet-4-5" = "claude-sonnet-4-5" }
"""
)


class Sluice:
    """Starts Sluice with a fresh data directory and seeds it through its command line."""

    def __init__(self, directory: Path, mock: Mock, name: str = "sluice") -> None:
        """`directory`: a data directory is made inside."""
        self.home = directory / name
        self.home.mkdir()
        self.data = self.home / "data"
        self.mock = mock
        self.name = name

    def command(self, *arguments: str) -> str:
        """Run one `sluice` command; raises RuntimeError with what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "proxy.app.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.environment()},
        )
        if done.returncode:
            raise RuntimeError(f"sluice {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Trust the mock's authority; the documented malloc settings."""
        return {**MALLOC_SETTINGS, "SSL_CERT_FILE": str(self.mock.authority)}

    def seed(self, *, tls: bool, more: str = "") -> str:
        """Catalog (and `more` of it), one user with plenty of credit; its key, without limits."""
        origin = f"http://127.0.0.1:{self.mock.port}"
        if tls:
            origin = f"https://localhost:{self.mock.tls_port}"
        catalog = self.home / "catalog.toml"
        catalog.write_text(_CATALOG.substitute(origin=origin) + more)
        at = ("--data", str(self.data))
        self.command("catalog", "apply", str(catalog), "--yes", *at)
        self.command("user", "add", "benchmark", "--plan", "unlimited", *at)
        self.command("wallet", "credit", "benchmark", CREDIT_USD, *at)
        said = self.command("key", "add", "bench", "--user", "benchmark", "--json", *at)
        key: str = json.loads(said)["key"]
        return key

    def start(
        self,
        key: str,
        program: Sequence[str] = SERVE,
        *,
        workers: int = 1,
        settings: Sequence[str] = ("console_listen=",),
        under: Sequence[str] = (),
    ) -> Relay:
        """Serve; the same data directory may be started again.

        `settings`: NAME=VALUE each; `under`: a command to run it.
        """
        port, operations = free_ports(2)
        child = Child(
            [
                *under,
                sys.executable,
                "-m",
                *program,
                "--data",
                str(self.data),
                "--listen",
                f"127.0.0.1:{port}",
                "--console",
                "",
                "--operations",
                f"127.0.0.1:{operations}",
                *(("--set", f"workers={workers}") if workers > 1 else ()),
                *(word for each in settings for word in ("--set", each)),
            ],
            self.home / "output.log",
            self.environment(),
        )
        child.wait_until(lambda: _ready(operations), self.name)
        return Relay(
            self.name,
            port,
            key=key,
            child=child,
            data=self.data,
            bills=program == SERVE,
            operations_port=operations,
            notes={"environment": MALLOC_SETTINGS},
        )


def _ready(port: int) -> bool:
    try:
        fetch(f"http://127.0.0.1:{port}/readyz")
    except OSError:
        return False
    return True


def start_sluice(
    directory: Path,
    mock: Mock,
    *,
    tls: bool = False,
    workers: int = 1,
    more: str = "",
) -> Relay:
    """Sluice, seeded and serving; `more` tables of its catalog."""
    sluice = Sluice(directory, mock, "sluice" if workers == 1 else TWO_WORKERS)
    return sluice.start(sluice.seed(tls=tls, more=more), workers=workers)


def start_counted(directory: Path, mock: Mock, *, billed: bool = True) -> Relay:
    """Sluice under callgrind, many times slower; `benchmarks/counting.py` turns it on."""
    sluice = Sluice(directory, mock, COUNTED if billed else COUNTED_UNBILLED)
    counts = directory / "callgrind"
    under = (*CALLGRIND, f"--callgrind-out-file={counts}")
    relay = sluice.start(sluice.seed(tls=False), SERVE if billed else SERVE_UNBILLED, under=under)
    relay.counts = counts
    return relay


def start_unbilled(directory: Path, mock: Mock) -> Relay:
    """The same without its ledger; `billed` is none, though the (empty) database is there."""
    sluice = Sluice(directory, mock, UNBILLED)
    return sluice.start(sluice.seed(tls=False), SERVE_UNBILLED)
