"""Mails to a real server (aiosmtpd), over real sockets, in the clear and with TLS."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from structlog.testing import capture_logs

from proxy.edge.console import mail
from proxy.edge.console.account_options import AccountOptions
from proxy.edge.console.mail import LETTERS_MAX, Letter, Outbox, masked, message_of
from tests.edge.console.certificates import server_context, trust

LETTER = Letter(
    "ann@example.com", "Größe 密码", "Open http://x/verify?token=canary\n\n" + "长" * 900
)


class Server:
    """A mail server that keeps what it gets; `answers` are what it says to each mail."""

    def __init__(self, *answers: str, **options: Any) -> None:
        self.answers = list(answers)
        self.options = options
        self.tls = options.pop("tls", None)
        self.got: list[EmailMessage] = []
        self.who: list[str] = []
        self.tries = 0

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.tries += 1
        if self.answers:
            return self.answers.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        found = message_from_bytes(content, policy=policy.default)
        assert isinstance(found, EmailMessage)
        self.got.append(found)
        assert envelope.rcpt_tos == ["ann@example.com"]
        return "250 OK"

    def log_in(self, *given: Any) -> AuthResult:
        found = given[-1]
        assert isinstance(found, LoginPassword)
        self.who.append(found.login.decode())
        return AuthResult(success=found.password == b"word of ours")

    async def start(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            lambda: SMTP(self, hostname="mail.example.com", loop=loop, **self.options),
            "127.0.0.1",
            0,
            ssl=self.tls,
        )


def with_server(
    server: Server, test: Callable[[AccountOptions, Outbox], Awaitable[Any]], **options: Any
) -> None:
    async def run() -> None:
        listening = await server.start()
        port = listening.sockets[0].getsockname()[1]
        given = {"smtp_host": "127.0.0.1", "smtp_security": "none", **options}
        outbox = Outbox(pauses=(0.0, 0.0))
        try:
            await test(
                AccountOptions(smtp_port=port, mail_from="relay@example.com", **given), outbox
            )
        finally:
            await outbox.close()
            await outbox.close()
            listening.close()
            await listening.wait_closed()
            for _ in range(10):  # a connection that was refused closes by itself
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(run(), 30))


async def settled(outbox: Outbox) -> None:
    """Until nothing is on its way, tries that come later included."""
    await outbox.sent()
    while outbox._later:
        await asyncio.sleep(0)
        await outbox.sent()


def test_a_mail_arrives_whole_in_any_language() -> None:
    server = Server()

    async def test(options: AccountOptions, outbox: Outbox) -> None:
        outbox.put(LETTER, options)
        await settled(outbox)

    with_server(server, test)
    (found,) = server.got
    assert (found["to"], found["from"]) == ("ann@example.com", "relay@example.com")
    assert found["subject"] == "Größe 密码"
    assert found["auto-submitted"] == "auto-generated"
    assert found["message-id"].endswith("@example.com>")
    assert found["date"]
    assert found.get_content().strip() == LETTER.text


def test_what_may_be_tried_again_is_and_what_is_refused_for_good_is_not() -> None:
    server = Server("451 later", "452 later", "250 OK")

    async def again(options: AccountOptions, outbox: Outbox) -> None:
        outbox.put(LETTER, options)
        await settled(outbox)

    with_server(server, again)
    assert server.tries == 3
    server = Server("550 never")
    with capture_logs() as lines:
        with_server(server, again)
    assert (server.tries, server.got) == (1, [])
    (line,) = [line for line in lines if line["event"] == "mail was not sent"]
    assert line["address"] == "a…@example.com"
    assert "550" in line["reason"] or "never" in line["reason"]
    assert "canary" not in repr(lines)


def test_tries_come_to_an_end() -> None:
    server = Server(*["451 later"] * 10)

    async def test(options: AccountOptions, outbox: Outbox) -> None:
        outbox.put(LETTER, options)
        await settled(outbox)

    with capture_logs() as lines:
        with_server(server, test)
    assert server.tries == 3
    assert [line["log_level"] for line in lines] == ["warning", "warning", "error"]


def test_a_server_that_is_away_is_tried_again_and_then_told_of() -> None:
    async def test(options: AccountOptions, outbox: Outbox) -> None:
        outbox.put(LETTER, AccountOptions(smtp_host="127.0.0.1", smtp_port=1, mail_from="a@b.c"))
        await settled(outbox)
        assert outbox._queue.empty()

    with capture_logs() as lines:
        with_server(Server(), test)
    assert [line["log_level"] for line in lines] == ["warning", "warning", "error"]


def test_mails_on_their_way_are_bounded_and_counted_when_they_are_lost() -> None:
    async def test(options: AccountOptions, outbox: Outbox) -> None:
        for _ in range(LETTERS_MAX + 1):
            outbox.put(LETTER, options)

    with capture_logs() as lines:
        with_server(Server(), test)
    assert "too many mails" in lines[0]["reason"]
    assert lines[1]["event"] == "mails were not sent"
    assert 0 < lines[1]["count"] <= LETTERS_MAX
    assert len(lines) == 2


def test_a_later_try_is_dropped_when_the_console_stops() -> None:
    async def run() -> Outbox:
        outbox = Outbox(pauses=(600.0,))
        outbox.put(LETTER, AccountOptions(smtp_host="127.0.0.1", smtp_port=1, mail_from="a@b.c"))
        await outbox.sent()
        assert len(outbox._later) == 1
        await outbox.close()
        return outbox

    assert not asyncio.run(asyncio.wait_for(run(), 30))._later


# aiosmtpd knows STARTTLS alone as TLS.
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_the_password_goes_to_a_server_with_a_good_certificate_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: str
) -> None:
    word = tmp_path / "word"
    word.write_text("word of ours\n")
    word.chmod(0o600)
    context = server_context(tmp_path, "127.0.0.1")

    def server() -> Server:
        made = Server(auth_required=True, auth_require_tls=security == "starttls")
        made.options["authenticator"] = made.log_in
        if security == "starttls":
            made.options |= {"tls_context": context, "require_starttls": True}
        else:
            made.tls = context
            made.options["auth_require_tls"] = False
        return made

    async def test(options: AccountOptions, outbox: Outbox) -> None:
        outbox.put(LETTER, options)
        await settled(outbox)

    asked = {"smtp_security": security, "smtp_user": "relay", "smtp_password_file": str(word)}
    stranger = server()
    with capture_logs() as lines:
        with_server(stranger, test, **asked)
    assert (stranger.who, stranger.got) == ([], [])
    assert any("certificate" in str(line.get("reason", "")).lower() for line in lines)
    trust(monkeypatch, tmp_path)
    known = server()
    with_server(known, test, **asked)
    assert (known.who, len(known.got)) == (["relay"], 1)


def test_a_server_without_tls_gets_nothing_where_tls_is_asked_for(tmp_path: Path) -> None:
    server = Server()

    async def test(options: AccountOptions, outbox: Outbox) -> None:
        outbox.put(LETTER, options)
        await settled(outbox)

    with capture_logs() as lines:
        with_server(server, test, smtp_security="starttls")
    assert server.got == []
    assert "STARTTLS" in lines[-1]["reason"]
    with capture_logs() as lines:
        with_server(server, test, smtp_password_file=str(tmp_path / "none"))
    assert "does not exist" in lines[-1]["reason"]


def test_nothing_in_a_letter_becomes_a_head() -> None:
    for bad in (
        Letter("ann@example.com\nbcc: eve@example.com", "x", "y"),
        Letter("ann@example.com", "x\nbcc: eve@example.com", "y"),
    ):
        with pytest.raises(ValueError, match=r"[Nn]ewline|linefeed|header"):
            message_of(bad, "relay@example.com", datetime.now(UTC))
    assert mail.masked("x") == "x…@"
    assert masked("ann@example.com") == "a…@example.com"
