"""Mails on their way to the operator's mail server: a bounded queue, and tries with longer pauses.

Rules: a page never waits for a mail and never learns what became of it, since that would tell who
has an account; the operator does, from the log, which shows no address whole and no link. What the
server refuses for good is not tried again; what is still here when the process ends is lost, and
asked for again by whoever waits for it. TLS with a good certificate unless the operator said
otherwise. This module must not know what a mail is about.

Source: RFC 5321 section 4.2.1 (4yz may be tried again, 5yz may not).
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from pathlib import Path
from typing import Final

import aiosmtplib

from proxy.edge import log
from proxy.edge.console.account_options import AccountOptions
from proxy.storage.secret_files import read_word
from proxy.storage.secrets import SecretError

LETTERS_MAX: Final = 200
"""Mails that wait, those between two tries included."""
PAUSES: Final = (5.0, 60.0, 600.0)
"""Seconds before each further try."""
SEND_SECONDS_MAX: Final = 20.0


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail to one address."""

    to: str
    subject: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Posted:
    letter: Letter
    options: AccountOptions
    tries: int = 0


class Outbox:
    """Lives in one event loop; its task begins with the first mail and ends with `close`."""

    def __init__(self, pauses: tuple[float, ...] = PAUSES) -> None:
        self._pauses = pauses
        self._queue: asyncio.Queue[_Posted] = asyncio.Queue(LETTERS_MAX)
        self._later: set[asyncio.TimerHandle] = set()
        self._task: asyncio.Task[None] | None = None

    def put(self, letter: Letter, options: AccountOptions) -> None:
        """Send a mail as soon as it can be; with too many on their way it is left out."""
        if self._queue.qsize() + len(self._later) >= LETTERS_MAX:
            _failed(letter, "too many mails are waiting", "see whether the mail server answers")
            return
        self._queue.put_nowait(_Posted(letter, options))
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def sent(self) -> None:
        """Wait until no mail is on its way for the first time."""
        await self._queue.join()

    async def close(self) -> None:
        """Stop; safe to call twice."""
        left = self._queue.qsize() + len(self._later)
        for handle in self._later:
            handle.cancel()
        self._later.clear()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._queue = asyncio.Queue(LETTERS_MAX)
        if left:
            log.get().warning("mails were not sent", count=left, reason="the console stops")

    async def _run(self) -> None:
        while True:
            posted = await self._queue.get()
            try:
                await self._try(posted)
            finally:
                self._queue.task_done()

    async def _try(self, posted: _Posted) -> None:
        letter = posted.letter
        try:
            await send(letter, posted.options)
        except SecretError as error:
            _failed(letter, error.message, error.remedy)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            if _is_final(error) or posted.tries >= len(self._pauses):
                _failed(letter, reason, "see the smtp_ settings, and the mail server's log")
                return
            log.get().warning("mail is tried again", address=masked(letter.to), reason=reason)
            again = _Posted(letter, posted.options, posted.tries + 1)
            self._after(self._pauses[posted.tries], lambda: self._queue.put_nowait(again))

    def _after(self, seconds: float, function: Callable[[], None]) -> None:
        def due() -> None:
            self._later.discard(handle)
            function()

        handle = asyncio.get_running_loop().call_later(seconds, due)
        self._later.add(handle)


async def send(letter: Letter, options: AccountOptions) -> None:
    """Hand a mail to the server. Raises SMTPException, OSError, ValueError, SecretError."""
    password = None
    if options.smtp_password_file:
        password = read_word(Path(options.smtp_password_file))
    await aiosmtplib.send(
        message_of(letter, options.mail_from, datetime.now(UTC)),
        hostname=options.smtp_host,
        port=options.smtp_port,
        username=options.smtp_user or None,
        password=password,
        use_tls=options.smtp_security == "tls",
        # None would mean "if the server offers it", and whoever is on the way can see to that.
        start_tls=options.smtp_security == "starttls",
        timeout=SEND_SECONDS_MAX,
    )


def message_of(letter: Letter, sender: str, now: datetime) -> EmailMessage:
    """The mail as it is sent."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = letter.to
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notice answers it
    message.set_content(letter.text)
    return message


def masked(address: str) -> str:
    """An address for the log: whose it is can be guessed by who knows, not read."""
    local, _, domain = address.partition("@")
    return f"{local[:1]}…@{domain}"


def _is_final(error: Exception) -> bool:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(one.code >= 500 for one in error.recipients)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return error.code >= 500
    # Nobody has a better certificate a minute later, and a password is not tried on a stranger.
    return isinstance(error, ValueError) or isinstance(
        error.__cause__, ssl.SSLCertVerificationError
    )


def _failed(letter: Letter, reason: str, remedy: str) -> None:
    log.get().error("mail was not sent", address=masked(letter.to), reason=reason, remedy=remedy)
