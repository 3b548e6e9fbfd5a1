"""Accounts of a relay as its operator runs it: settings in a file, the console a process of its own.

Mails go to a real mail server (aiosmtpd); the provider that signs people in is a stand-in of our own
(tests/edge/console/stand_in_provider.py). The browser is a client with cookies.
"""

import asyncio
import queue
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.edge.console.stand_in_provider import CLIENT, SECRET, stand_in
from tests.integration.relay_process import RelayProcess, free_ports

ANN, PASSWORD = "ann@example.com", "correct horse battery"
MAIL_SECONDS_MAX = 20


class Mailbox:
    """A mail server's end: what arrived, in order."""

    def __init__(self) -> None:
        self.letters: queue.Queue[EmailMessage] = queue.Queue()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        content = envelope.content
        assert isinstance(content, bytes)
        found = message_from_bytes(content, policy=policy.default)
        assert isinstance(found, EmailMessage)
        self.letters.put(found)
        return "250 OK"

    def next(self) -> tuple[str, str]:
        """The next mail's recipient and text."""
        letter = self.letters.get(timeout=MAIL_SECONDS_MAX)
        return str(letter["to"]), letter.get_content()


@contextmanager
def mail_server() -> Iterator[tuple[int, Mailbox]]:
    box = Mailbox()
    # Port 0 would be what it tries to reach afterwards, to see that it listens.
    (port,) = free_ports(1)
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield port, box
    finally:
        controller.stop()


@contextmanager
def provider() -> Iterator[str]:
    """The stand-in in a thread of its own; its name."""
    ready: queue.Queue[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()

    async def serve() -> None:
        stop = asyncio.Event()
        async with stand_in() as there:
            ready.put((there.url, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    url, loop, stop = ready.get(timeout=20)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


class Reader(requests.Session):
    """A browser without a script."""

    def __init__(self, console: str) -> None:
        super().__init__()
        self.console = console

    def page(self, path: str) -> requests.Response:
        return self.get(self.console + path, timeout=30)

    def form(self, path: str, **fields: str) -> requests.Response:
        """Send a form of the page that is at the same path."""
        csrf = re.search(r'name="csrf" value="([^"]+)"', self.page("/login").text)
        csrf = csrf or re.search(r'name="csrf" value="([^"]+)"', self.page("/account").text)
        assert csrf
        return self.post(
            self.console + path,
            data={"csrf": csrf[1], **fields},
            headers={"origin": self.console},
            timeout=30,
        )


def token_in(text: str) -> str:
    found = re.search(r"token=(\w+)", text)
    assert found, text
    return found[1]


@pytest.fixture
def box_and_relay(tmp_path: Path) -> Iterator[tuple[Mailbox, RelayProcess]]:
    with mail_server() as (port, box):
        settings: dict[str, Any] = {
            "registration": "open",
            "email_verification": True,
            "starting_credit": "2.50",
            "smtp_host": "127.0.0.1",
            "smtp_port": port,
            "smtp_security": "none",
            "mail_from": "relay@example.com",
        }
        with RelayProcess(tmp_path, [], settings=settings, console=True) as relay:
            yield box, relay


def test_a_person_registers_confirms_forgets_and_comes_back(
    box_and_relay: tuple[Mailbox, RelayProcess],
) -> None:
    box, relay = box_and_relay
    ann = Reader(relay.console_url)
    page = ann.form("/register", email=ANN, password=PASSWORD)
    assert "Look for a mail" in page.text
    to, text = box.next()
    assert (to, f"{relay.console_url}/verify?token=" in text) == (ANN, True)
    assert "not confirmed" in ann.form("/login", email=ANN, password=PASSWORD).text
    _, again = box.next()
    assert token_in(again) != token_in(text)
    assert ann.form("/verify", token=token_in(text)).url.endswith("/login")
    page = ann.form("/login", email=ANN, password=PASSWORD)
    assert (ANN in page.text, "$2.50" in page.text) == (True, True)
    # The address is taken: only its owner learns it.
    stranger = Reader(relay.console_url)
    page = stranger.form("/register", email=ANN, password="another fine password")
    assert "Look for a mail" in page.text
    assert "nothing was changed" in box.next()[1]
    assert "Look for a mail" in stranger.form("/password/reset", email=ANN).text
    token = token_in(box.next()[1])
    page = stranger.form("/password/set", token=token, password="another fine password")
    assert ANN in page.text
    assert "was changed" in box.next()[1]
    assert ANN not in ann.page("/").text, "every other session has ended"
    assert "wrong" in ann.form("/login", email=ANN, password=PASSWORD).text
    assert box.letters.empty()
    log = relay.log()
    for secret in (PASSWORD, token, token_in(text), ANN):
        assert secret not in log


def test_the_operators_links_need_no_mail_server(tmp_path: Path) -> None:
    with RelayProcess(tmp_path, [], console=True) as relay:
        made = relay.command("person", "add", "boss@example.com", "--role", "admin")
        assert made["link"].startswith(relay.console_url)
        boss = Reader(relay.console_url)
        page = boss.form("/password/set", token=token_in(made["link"]), password=PASSWORD)
        assert "boss@example.com" in page.text
        assert "boss@example.com" in boss.page("/operator/people").text
        stranger = Reader(relay.console_url)
        assert "by invitation" in stranger.page("/register").text
        invited = relay.command("person", "invite", ANN)
        page = stranger.form(
            "/register", email=ANN, password=PASSWORD, invitation=token_in(invited["link"])
        )
        assert ANN in page.text
        relay.command("person", "disable", ANN)
        assert ANN not in stranger.page("/").text
        assert stranger.page("/operator/people").status_code == 200  # the form to sign in
        assert "Sign in" in stranger.page("/operator/people").text


def test_a_provider_that_the_settings_name_signs_people_in(tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text(SECRET)
    word.chmod(0o600)
    with provider() as url:
        settings = {
            "registration": "open",
            "oidc_issuer": url,
            "oidc_client_id": CLIENT,
            "oidc_client_secret_file": str(word),
            "oidc_name": "Work",
        }
        with RelayProcess(tmp_path / "relay", [], settings=settings, console=True) as relay:
            ann = Reader(relay.console_url)
            assert "Sign in with Work" in ann.page("/login").text
            page = ann.page("/login/provider?next=/account")
            assert (page.url, ANN in page.text) == (f"{relay.console_url}/account", True)
