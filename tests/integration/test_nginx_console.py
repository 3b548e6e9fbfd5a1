"""The console behind the real nginx with config/nginx/console.conf, as browsers reach it."""

import http.client
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.app.settings import Settings
from proxy.edge.console.pages import ROUTES
from tests.integration.nginx_process import CONSOLE_EXAMPLE, EXAMPLE, NginxProcess, prepare
from tests.integration.raw_client import RawClient, request_bytes
from tests.integration.relay_process import RelayProcess
from tests.integration.signed_in import cookie_of


@dataclass(frozen=True, slots=True)
class Site:
    relay: RelayProcess
    nginx: NginxProcess


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("console")
    settings = {"console_url": "https://console.example.com"}
    with (
        RelayProcess(folder / "relay", [], settings=settings, console=True) as relay,
        NginxProcess(folder / "nginx", relay.console_port, example=CONSOLE_EXAMPLE) as process,
    ):
        yield Site(relay, process)


@pytest.fixture
def nginx(site: Site) -> NginxProcess:
    return site.nginx


class Answer:
    def __init__(self, nginx: NginxProcess, method: str, path: str, **headers: str) -> None:
        connection = http.client.HTTPSConnection(
            "localhost", nginx.port, timeout=30, context=nginx.trust()
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, None, named)
        answer = connection.getresponse()
        self.status, self.body = answer.status, answer.read()
        self.headers = answer.headers
        connection.close()


def test_it_passes_nginx_t_as_it_stands_and_beside_the_relays(tmp_path: Path) -> None:
    command = prepare(tmp_path, {}, CONSOLE_EXAMPLE)
    relays = EXAMPLE.read_text().replace("tls/sluice.", "tls/sluice-console.")
    for text in (None, relays):
        if text is not None:
            (tmp_path / "conf.d" / EXAMPLE.name).write_text(text)
        done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert "test is successful" in done.stderr, done.stderr
        assert done.returncode == 0


def test_it_leads_to_the_console_and_nowhere_else() -> None:
    text = CONSOLE_EXAMPLE.read_text()
    assert f"server {Settings().console_listen} max_fails=0;" in text
    for other in (Settings().listen, Settings().operations_listen):
        assert other not in text
    assert Settings().console_listen not in EXAMPLE.read_text()


def test_pages_pass_with_their_headers_and_uncompressed(nginx: NginxProcess) -> None:
    page = Answer(nginx, "GET", "/", accept_encoding="gzip")
    assert (page.status, page.headers["content-encoding"]) == (200, None)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["strict-transport-security"], "the console knows that browsers use TLS"
    cookies = page.headers.get_all("set-cookie") or []
    assert all("Secure" in cookie for cookie in cookies)
    assert Answer(nginx, "GET", "/nothing-here").status == 404


def test_a_form_from_the_name_the_browser_asked_for_is_ours(nginx: NginxProcess) -> None:
    """Far enough to be asked for its token: the origin agreed with the host nginx passed on."""
    ours = Answer(nginx, "POST", "/preferences", origin=f"https://localhost:{nginx.port}")
    foreign = Answer(nginx, "POST", "/preferences", origin="https://evil.example")
    assert (ours.status, foreign.status) == (403, 403)
    assert b"not sent from a page" in foreign.body
    assert b"not sent from a page" not in ours.body


def test_the_live_log_is_passed_on_as_it_is_said(site: Site) -> None:
    """The stream does not end, so what arrives was not held back for its end."""
    cookie = cookie_of(site.relay.data, "ann@example.com", secure=True)
    sent = request_bytes("/usage/live", method="GET", headers={"cookie": cookie})
    with RawClient(site.nginx.port, tls=site.nginx.trust()) as client:
        client.send(sent).read_until(b": hello\n\n")
        client.read_until(lambda data: data.count(b": \n\n") >= 2)


def test_every_stream_of_events_is_passed_on_unbuffered() -> None:
    found = re.findall(r"location = (\S+) \{[^}]*proxy_buffering off;", CONSOLE_EXAMPLE.read_text())
    assert found == ["/usage/live", "/operator/calls/live"]
    assert set(found) <= {route.path for route in ROUTES}
