"""`make install`, and the service it installs: started as its unit says, on sockets passed to it.

The first process of a test machine is seldom systemd; what stands for it is service_launcher.py,
which says what it does of systemd's part and what it leaves out.
"""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests import programs, tree
from tests.integration.service_launcher import Service, make_secret

pytestmark = pytest.mark.slow
OFFLINE = re.compile(r"Could not fetch|Temporary failure|No matching distribution|Connection")
WATCHDOG_SECONDS = 0.9
ANSWER = {
    "id": "a", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "hello"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}  # fmt: skip
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
CATALOG = """
[[plan]]
name = "default"
[[group]]
name = "default"
[[model]]
name = "m"
context_window = 1000
output_tokens_max = 500
price = { input = "1.00", output = "4.00" }
[[channel]]
name = "c"
dialect = "openai"
base_url = "http://127.0.0.1:PORT/v1"
keys = ["upstream-key"]
groups = ["default"]
allow_private = true
models = { m = "m" }
"""


class Upstream(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DESTDIR with a relay in it."""
    make = programs.need("make")
    destination = tmp_path_factory.mktemp("destination")
    done = subprocess.run(
        [make, "--no-print-directory", "install", f"DESTDIR={destination}",
         f"BUILD={tmp_path_factory.mktemp('build') / 'install'}", f"PYTHON={sys.executable}"],
        cwd=tree.ROOT, env=programs.make_environment(), capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    if done.returncode != 0 and OFFLINE.search(done.stderr):
        pytest.skip("the package index is not reachable: connect to it to install from the lock")
    assert done.returncode == 0, done.stderr
    return destination


@pytest.fixture
def upstream_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.timeout(600)
def test_everything_is_in_its_place_and_names_where_it_will_be(installed: Path) -> None:
    link = installed / "usr/local/bin/sluice"
    assert str(link.readlink()) == "/opt/sluice/bin/sluice"
    script = (installed / "opt/sluice/bin/sluice").read_text()
    assert script.startswith("#!/opt/sluice/bin/python\n")
    for unit in (
        "sluice.service",
        "sluice.socket",
        "sluice-operations.socket",
        "sluice-console.socket",
    ):
        path = installed / "etc/systemd/system" / unit
        assert path.read_text() == tree.text(Path("systemd", unit))
        assert path.stat().st_mode & 0o777 == 0o644
    for example in ("settings.toml", "catalog.toml", "sluice.conf", "console.conf", "README.md"):
        assert (installed / "opt/sluice/share/sluice" / example).stat().st_size
    assert (installed / "etc/sysusers.d/sluice.conf").exists()
    assert (installed / "etc/sluice/settings.toml").exists()
    python = installed / "opt/sluice/bin/python"
    code = "import proxy, importlib.util as u; print(proxy.__file__); print(u.find_spec('pip'))"
    done = subprocess.run([python, "-IBc", code], capture_output=True, text=True, check=True)
    where, pip = done.stdout.splitlines()
    assert where.startswith(str(installed)), "a copy, not a link to the checkout"
    assert pip == "None"
    for path in (*(installed / "opt/sluice/bin").iterdir(), installed / "opt/sluice/pyvenv.cfg"):
        assert str(installed).encode() not in path.read_bytes() or path.is_symlink()


class Machine:
    """A started service with one user; see `machine`."""

    def __init__(self, service: Service, ports: dict[str, int], data: Path, key: str) -> None:
        self.service, self.ports, self.data, self.key = service, ports, data, key

    def ask(self, listener: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[listener], timeout=40)
        try:
            headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture(params=[1, 2])
def machine(
    request: pytest.FixtureRequest, installed: Path, tmp_path: Path, upstream_port: int
) -> Iterator[Machine]:
    """The installed unit, started with one worker and with two."""
    etc, data = tmp_path / "etc", tmp_path / "data"
    etc.mkdir()
    data.mkdir(mode=0o700)
    settings = (installed / "etc/sluice/settings.toml").read_text()
    (etc / "settings.toml").write_text(
        settings.replace("/var/lib/sluice", str(data))
        + f'workers = {request.param}\ncatalog_file = "{etc}/catalog.toml"\n'
    )
    (etc / "catalog.toml").write_text(CATALOG.replace("PORT", str(upstream_port)))
    for name in ("pepper", "master"):
        make_secret(etc / name)
    moved = {"/opt/sluice": str(installed / "opt/sluice"), "/etc/sluice": str(etc)}
    service = Service(installed / "etc/systemd/system/sluice.service", tmp_path, moved)
    try:
        ports = {name: service.listen(name) for name in ("clients", "operations", "console")}
        service.start(WATCHDOG_SECONDS)
        service.hear("READY=1")
        yield Machine(service, ports, data, made_key(installed, etc))
    finally:
        service.close()


def made_key(installed: Path, etc: Path) -> str:
    """A key of a new user with credit, by the installed command line."""

    def command(*arguments: str) -> Any:
        done = subprocess.run(
            [installed / "opt/sluice/bin/python", "-IBm", "proxy.app.cli", *arguments, "--json",
             "--config", etc / "settings.toml"],
            capture_output=True, text=True, timeout=50, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    command("user", "add", "ann", "--credit", "1.00")
    return str(command("key", "add", "main", "--user", "ann")["key"])


@pytest.mark.timeout(600)
def test_it_serves_beats_reloads_stops_and_leaves_the_queue_to_the_next(machine: Machine) -> None:
    service = machine.service
    status, body = machine.ask("clients", "POST", "/v1/chat/completions", QUESTION)
    assert (status, json.loads(body)["choices"]) == (200, ANSWER["choices"]), service.journal()
    assert machine.ask("operations", "GET", "/readyz")[0] == 200
    assert machine.ask("operations", "GET", "/metrics")[0] == 200
    assert machine.ask("console", "GET", "/")[0] == 200
    service.hear("WATCHDOG=1")

    service.signal(signal.SIGHUP)
    assert int(service.hear("RELOADING=1")["MONOTONIC_USEC"]) > 0
    service.hear("READY=1")
    assert '"reloaded"' in service.journal()

    service.signal(signal.SIGTERM)
    told = service.hear("STOPPING=1")
    assert int(told["EXTEND_TIMEOUT_USEC"]) > 30_000_000, "the drain and what follows it"
    assert service.wait() == 0, service.journal()
    made = sorted(path.name for path in (machine.data / "secrets").iterdir())
    assert made == ["console"], "pepper and master key are nowhere but in their credentials"

    # Between two lives the connection is accepted by the kernel and waits.
    with socket.create_connection(("127.0.0.1", machine.ports["clients"]), 10) as early:
        head = f"GET /v1/models HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {machine.key}\r\n\r\n"
        early.sendall(head.encode())
        service.start(WATCHDOG_SECONDS)
        early.settimeout(40)
        assert early.recv(4096).startswith(b"HTTP/1.1 200 "), service.journal()
    service.hear("READY=1")
    service.signal(signal.SIGTERM)
    assert service.wait() == 0, service.journal()
    for word in ("Traceback", "never retrieved", "Warning"):
        assert word not in service.journal(), service.journal()


@pytest.mark.timeout(600)
def test_a_watchdog_s_abort_prints_where_it_hung(machine: Machine) -> None:
    machine.service.signal(signal.SIGABRT)
    assert machine.service.wait() == -signal.SIGABRT
    journal = machine.service.journal()
    assert "Fatal Python error: Aborted" in journal
    assert re.search(r"File .*proxy/app/(serve|supervisor)\.py", journal)
