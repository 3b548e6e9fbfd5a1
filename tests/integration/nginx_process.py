"""The real nginx with the example configuration in front of a relay, as an operator has it.

The example is included as it stands into an `http` block like a distribution's (which switches
gzip on); only what differs between two machines is edited: the addresses, and what a test asks
for by `edits`. Its certificate files are made beside it, where its relative names point. Besides
the TLS port there is a plain one with the same server, for bytes sent raw. This module knows
nginx and the example, not the relay.
"""

import contextlib
import datetime as dt
import ipaddress
import json
import os
import pwd
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests import programs, tree
from tests.integration.relay_process import free_ports

EXAMPLE = tree.ROOT / "config" / "nginx" / "sluice.conf"
CONSOLE_EXAMPLE = tree.ROOT / "config" / "nginx" / "console.conf"
READY_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 20.0
POLL_SECONDS = 0.02
"""Between looks at the port: nginx does not say when it is ready."""

_AROUND = """
{user}
worker_processes 2;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    log_format lines escape=json '{{"status":"$status","relayed":"$upstream_addr"}}';
    access_log {directory}/access.log lines;
    sendfile on;
    tcp_nopush on;
    gzip on;
    gzip_proxied any;
    gzip_types *;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    default_type application/octet-stream;
    include conf.d/*.conf;
}}
"""


class NginxProcess:
    """`with NginxProcess(tmp_path, relay_port) as nginx: nginx.url`. `edits` maps text of the
    example, which must be in it exactly once, to what stands there instead.
    """

    def __init__(
        self,
        directory: Path,
        relay_port: int,
        *,
        edits: Mapping[str, str] | None = None,
        example: Path = EXAMPLE,
    ) -> None:
        self.directory = directory
        self.port, self.plain_port = free_ports(2)
        listen = re.search(r"^ *(listen 443 .*;)$", example.read_text(), re.MULTILINE)
        relayed = re.search(r"server 127.0.0.1:808\d ", example.read_text())
        assert listen
        assert relayed
        self.program = prepare(
            directory,
            {
                listen[1]: listen[1].replace(" 443 ", f" 127.0.0.1:{self.port} ")
                + f" listen 127.0.0.1:{self.plain_port};",
                relayed[0]: f"server 127.0.0.1:{relay_port} ",
                **(edits or {}),
            },
            example,
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients call, by TLS."""
        return f"https://localhost:{self.port}"

    @property
    def certificate(self) -> Path:
        """The file a client must trust."""
        (found,) = (self.directory / "tls").glob("*.crt")
        return found

    def trust(self) -> ssl.SSLContext:
        """A client's context that trusts this nginx alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certificate)
        return context

    def start(self) -> Self:
        """Start and wait until it accepts; raises with its log if it does not."""
        self._process = subprocess.Popen(self.program, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + READY_SECONDS_MAX
        while True:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.plain_port), 1),
            ):
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"nginx did not start: {self.log()[-4000:]}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End it and its workers."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self) -> str:
        """Its error log."""
        file = self.directory / "error.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def access(self) -> list[dict[str, str]]:
        """The requests it has done with: the status, and where relayed ("" if not)."""
        return [
            json.loads(line) for line in (self.directory / "access.log").read_text().splitlines()
        ]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def prepare(directory: Path, edits: Mapping[str, str], example: Path = EXAMPLE) -> list[str]:
    """Lay out a configuration directory with the example in it; returns the command that runs it.

    Skips the calling test where nginx is not installed.
    """
    nginx = programs.need("nginx")
    text = example.read_text()
    for old, new in edits.items():
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in the example"
        text = text.replace(old, new)
    (directory / "conf.d").mkdir(parents=True)
    (directory / "conf.d" / example.name).write_text(text)
    # As root nginx would make its workers somebody who may not read a test's directory.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    around = _AROUND.format(directory=directory, user=user)
    (directory / "nginx.conf").write_text(around)
    names = re.findall(r"ssl_certificate tls/([\w-]+)\.crt;", text)
    _write_certificate(directory / "tls", *names)
    return [nginx, "-p", str(directory), "-c", "nginx.conf", "-e", str(directory / "error.log")]


def _write_certificate(directory: Path, name_of_files: str) -> None:
    """Make a certificate of its own authority for this machine's loopback names."""
    directory.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.example.com")])
    today = dt.datetime.now(dt.UTC)
    names: Iterable[x509.GeneralName] = (
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / f"{name_of_files}.crt").write_bytes(certificate.public_bytes(pem))
    (directory / f"{name_of_files}.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
