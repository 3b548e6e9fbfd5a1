"""Commands to a relay elsewhere: its admin API, asked with a token.

Rules: one request, one answer, both bounded; a token goes over TLS or to this machine, and to
nobody a redirect names. What the API refuses is told as the relay itself would. This module must
not know any command.
"""

import ipaddress
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from proxy.app.control import ANSWER_SECONDS_MAX, CommandError

PATH: Final = "/api/v1/actions/"
ANSWER_BYTES_MAX: Final = 64 << 20
SECONDS_MAX: Final = ANSWER_SECONDS_MAX + 10.0


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the token is for one address."""

    def redirect_request(self, *_: Any) -> None:
        """Say no."""


_OPENER: Final = urllib.request.build_opener(_Stay)


class AdminClient:
    """A console at `url` and a token for it. Raises CommandError if they cannot be."""

    def __init__(self, url: str, token: str) -> None:
        try:
            parts = urlsplit(url)
            secure = parts.scheme == "https" or (
                parts.scheme == "http" and _is_this_machine(parts.hostname or "")
            )
        except ValueError:
            raise CommandError(
                f"{url!r} is no address", "name the console's, https://..."
            ) from None
        if not parts.hostname or parts.scheme not in {"http", "https"}:
            raise CommandError(f"{url!r} is no address", "name the console's, https://...")
        if not secure:
            raise CommandError(
                f"{url} would send the token in the clear", "name an https address, or a tunnel's"
            )
        if not token or not token.isascii() or not token.isprintable():
            raise CommandError(
                "there is no token for the relay at --url",
                "name its file with --token-file, or set SLUICE_TOKEN",
            )
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._token = token

    def do(self, command: str, arguments: Mapping[str, object]) -> object:
        """Do a command and return its result. Raises CommandError."""
        request = urllib.request.Request(  # noqa: S310 - http and https alone, see __init__
            self.url + PATH + command.replace(" ", "-"),
            data=orjson.dumps(arguments),
            method="POST",
            headers={
                "authorization": f"Bearer {self._token}",
                "content-type": "application/json",
                "user-agent": "sluice",
            },
        )
        try:
            with _OPENER.open(request, timeout=SECONDS_MAX) as answer:
                return _result(answer.read(ANSWER_BYTES_MAX + 1), self.url)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error.code, error.read(ANSWER_BYTES_MAX), self.url) from None
        except (OSError, HTTPException) as error:
            raise CommandError(
                f"the relay at {self.url} does not answer: {getattr(error, 'reason', error)}",
                "check the URL, and whether it was done before asking again",
            ) from None


def read_token(path: Path | None, given: str | None) -> str:
    """The token in a file, or the one that was given. Raises CommandError."""
    if path is None:
        return (given or "").strip()
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not plain text"
        raise CommandError(
            f"the token file {path} cannot be read: {why}",
            "write the token alone into it, or check path and permissions",
        ) from None


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _result(body: bytes, url: str) -> object:
    try:
        result: object = orjson.loads(body)["result"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise _stranger(url) from None
    return result


def _refusal(status: int, body: bytes, url: str) -> CommandError:
    try:
        error = orjson.loads(body)["error"]
        return CommandError(str(error["message"]), str(error["remedy"]), error.get("fields"))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _stranger(url, f" (it answered {status})")


def _stranger(url: str, more: str = "") -> CommandError:
    return CommandError(f"what answers at {url} is no console of this relay{more}", "check --url")
