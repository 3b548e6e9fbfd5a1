"""Why a relay could not be asked, in words for who pointed something at it, and what to do.

Rules: each failure of the network is told by what it means, not by the library's names; what
nobody foresaw is told as it is. Both parts are sentences, which the console says in the reader's
language. This module must not know what is asked.
"""

import errno
import os
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from proxy.core.sentences import Sentence

CHECK_THE_URL: Final = Sentence("check host and port of the base URL")
CHECK_ALL: Final = Sentence("check the base URL, the key and the relay's own log")
LOOK_INTO_LOGS: Final = Sentence("look into the relay's log")
REMEDIES: Final[Mapping[int, Sentence]] = {
    401: Sentence("check the key"),
    402: Sentence("top the wallet up"),
    403: Sentence("this key may not use the model"),
    429: Sentence("wait, or raise the key's limits"),
}
"""What to do about a status."""


class ProbeError(Exception):
    """A call did not go as an SDK needs it; the message says how, `remedy` what to do."""

    def __init__(self, message: str, remedy: Sentence = CHECK_ALL) -> None:
        super().__init__(message)
        self.remedy = remedy


def refused(status: int, text: str) -> ProbeError:
    """A status that is none of success, and what was said with it."""
    remedy = CHECK_THE_URL if status == 404 else REMEDIES.get(status, LOOK_INTO_LOGS)
    return ProbeError(Sentence("status {status}: {text}", status=status, text=text), remedy)


def failed(error: BaseException, url: str, *, connect: float, answer: float) -> ProbeError:
    """What an error of aiohttp's means; `connect` and `answer`: the seconds that were waited."""
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return ProbeError(
            Sentence("{url!r} is no address of a relay", url=url),
            Sentence("write the base URL as https://HOST or http://HOST:PORT"),
        )
    host = urlsplit(url).netloc
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ProbeError(
            Sentence("{host} took no connection within {most:g} s", host=host, most=connect),
            Sentence("check host and port of the base URL, and firewalls on the way"),
        )
    if isinstance(error, TimeoutError):
        return ProbeError(Sentence("no whole answer within {most:g} s", most=answer))
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientSSLError):
        return _unconnected(error, host)
    if isinstance(error, aiohttp.ClientResponseError):
        return ProbeError(
            Sentence("what answers at {host} does not speak HTTP as a relay does", host=host),
            CHECK_THE_URL,
        )
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientConnectionError | OSError):
        return ProbeError(
            Sentence("{host} broke the connection off before its answer was whole", host=host),
            Sentence("look into the log of the relay, and of what stands before it"),
        )
    return ProbeError(f"{type(error).__name__}: {error}")


def _unconnected(error: BaseException, host: str) -> ProbeError:
    """Why there is no connection at all."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ProbeError(
            Sentence("no address is known of {host}", host=host),
            Sentence("check how the host is spelt, and this machine's name server"),
        )
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        return ProbeError(
            Sentence(
                "the certificate of {host} is not good: {reason}", host=host, reason=f"{reason}"
            ),
            Sentence("name the host it is for, and let the server send its whole chain"),
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return ProbeError(
            Sentence("{host} does not speak TLS", host=host),
            Sentence("write http:// if it is meant to, or name the port that has TLS"),
        )
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ECONNREFUSED:
        return ProbeError(
            Sentence("nobody listens at {host}", host=host),
            Sentence("start the relay, or correct host and port of the base URL"),
        )
    why = os.strerror(number) if number else str(error)
    return ProbeError(
        Sentence("{host} cannot be reached: {why}", host=host, why=why), CHECK_THE_URL
    )
