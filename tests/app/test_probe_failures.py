"""Each way a relay cannot be asked, with real sockets where there is one."""

import asyncio
import errno
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.app import probe
from proxy.app.probe import Probe
from proxy.app.probe_failures import CHECK_THE_URL, LOOK_INTO_LOGS, ProbeError, failed, refused
from proxy.core.sentences import Sentence
from tests.edge.console.certificates import server_context

LIBRARY = ("aiohttp", "Client", "ssl:", "Errno", "[")


async def _listed(url: str) -> ProbeError:
    async with Probe(url, "sk-probe") as found:
        with pytest.raises(ProbeError) as caught:
            await found.models()
    return caught.value


def listed(url: str) -> ProbeError:
    return asyncio.run(asyncio.wait_for(_listed(url), 30))


def against(says: bytes | None, *, tls: ssl.SSLContext | None = None, scheme: str) -> ProbeError:
    """What a server brings about that answers `says` to anything, or nothing and leaves."""

    async def run() -> ProbeError:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            if says is not None:
                writer.write(says)
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
        async with server:
            return await _listed(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    return asyncio.run(asyncio.wait_for(run(), 30))


def plain(error: ProbeError) -> bool:
    return isinstance(error.args[0], Sentence) and not any(w in str(error) for w in LIBRARY)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "http://", "", "http://[::1", "ftp://h"])
def test_what_is_no_address_is_told(url: str) -> None:
    error = listed(url)
    assert "is no address of a relay" in str(error)
    assert "https://HOST" in error.remedy


def test_nobody_listens_or_nobody_knows_the_host() -> None:
    error = listed("http://127.0.0.1:1/v1")
    assert str(error) == "nobody listens at 127.0.0.1:1"
    assert error.remedy.startswith("start the relay")
    error = listed("http://sluice.invalid:8080")
    assert str(error) == "no address is known of sluice.invalid:8080"
    assert plain(error)


def test_tls_where_there_is_none_and_a_certificate_nobody_trusts(tmp_path: Path) -> None:
    error = against(b"HTTP/1.1 400 Bad Request\r\n\r\n", scheme="https")
    assert "does not speak TLS" in str(error)
    assert "http://" in error.remedy
    error = against(b"", tls=server_context(tmp_path, "127.0.0.1"), scheme="https")
    assert "certificate of 127.0.0.1:" in str(error)
    assert "self-signed" in str(error)
    assert plain(error)


def test_what_breaks_off_or_speaks_otherwise() -> None:
    for says in (None, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"):
        error = against(says, scheme="http")
        assert "broke the connection off" in str(error)
        assert plain(error)
    error = against(b"SSH-2.0-OpenSSH_9.2\r\n", scheme="http")
    assert "does not speak HTTP" in str(error)
    assert error.remedy == CHECK_THE_URL


def test_who_says_nothing_is_waited_for_as_long_as_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "ANSWER_SECONDS_MAX", 0.05)

    async def run() -> ProbeError:
        silent = asyncio.Event()

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await silent.wait()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            error = await _listed(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            silent.set()
            return error

    assert str(asyncio.run(asyncio.wait_for(run(), 30))) == "no whole answer within 0.05 s"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (aiohttp.ConnectionTimeoutError("x"), "h:1 took no connection within 10 s"),
        (OSError(errno.EHOSTUNREACH, "x"), "h:1 cannot be reached: No route to host"),
        (OSError("all at once"), "h:1 cannot be reached: "),
        (RuntimeError("unforeseen"), "RuntimeError: unforeseen"),
    ],
)
def test_what_needs_a_network_to_go_wrong(error: Any, said: str) -> None:
    if type(error) is OSError:
        key: Any = type("Key", (), {"host": "h", "port": 1, "ssl": True})()
        error = aiohttp.ClientConnectorError(key, error)
    found = failed(error, "http://h:1/x", connect=10, answer=180)
    assert str(found).startswith(said)
    assert found.remedy


def test_a_status_has_its_remedy() -> None:
    assert refused(401, "no").remedy == "check the key"
    assert refused(404, "no").remedy == CHECK_THE_URL
    assert refused(500, "no").remedy == LOOK_INTO_LOGS
    assert str(refused(500, "no")) == "status 500: no"
