"""Connections to upstreams: TLS that is checked, addresses that are refused, tunnels, the pool."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxy.edge.upstream import (
    IDLE_CONNECTIONS_MAX,
    ConnectError,
    ConnectFailure,
    Kept,
    Origin,
    UpstreamPool,
    is_public,
    origin_of,
)
from tests.edge.harness import CONTENT, DONE, ROLE, STOP, Relay, answer, body, channel
from tests.edge.services import EMBEDDINGS, answered, asked, service_channel, service_relay
from tests.integration.scripted import ScriptedUpstream, blackhole_port, refused_port
from tests.integration.scripts import (
    AtOnce,
    AwaitGone,
    Close,
    Pause,
    ReceiveRequest,
    Send,
    stream_script,
)

TODAY = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Authority:
    """A certificate authority of our own; `server` makes contexts for scripted upstreams."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self._name, self._key, TODAY + DAY, authority=True)

    def _sign(self, name: x509.Name, key: Any, until: dt.datetime, **how: Any) -> Any:
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(how.get("issuer", self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(TODAY - 10 * DAY)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(how.get("authority", False), None), True)
        )
        if "names" in how:
            builder = builder.add_extension(x509.SubjectAlternativeName(how["names"]), False)
        return builder.sign(how.get("signer", self._key), hashes.SHA256())

    def client(self) -> ssl.SSLContext:
        """A context that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        context.load_verify_locations(cadata=pem)
        return context

    def server(
        self, *, address: str = "127.0.0.1", until: dt.datetime = TODAY + DAY,
        self_signed: bool = False,
    ) -> ssl.SSLContext:  # fmt: skip
        """A server's context for `address`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream")])
        own = {"issuer": name, "signer": key} if self_signed else {}
        names = [x509.IPAddress(ipaddress.ip_address(address))]
        certificate = self._sign(name, key, until, names=names, **own)
        file = self._path / f"{id(key)}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def pooled(
    test: Callable[[UpstreamPool], Coroutine[Any, Any, Any]], tls: ssl.SSLContext | None = None
) -> Any:
    """Run `test` with a pool on a loop of its own."""

    async def run() -> Any:
        loop = asyncio.get_running_loop()
        context = tls or ssl.create_default_context()
        pool = UpstreamPool(loop, idle_seconds_max=10.0, tls=context)
        try:
            return await asyncio.wait_for(test(pool), 20)
        finally:
            pool.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def refusal(origin: Origin, seconds_max: float = 5.0, tls: ssl.SSLContext | None = None) -> Any:
    """Why no connection to `origin` is made."""

    async def connect(pool: UpstreamPool) -> ConnectFailure:
        with pytest.raises(ConnectError) as caught:
            await pool.connect(origin, seconds_max)
        return caught.value.failure

    return pooled(connect, tls)


def test_a_large_body_over_tls_waits_for_the_network(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    body = asked(input="x" * 5_000_000)
    with (
        ScriptedUpstream(answered(), tls=authority.server()) as upstream,
        service_relay(
            tmp_path, service_channel(upstream.base_url), tls=authority.client()
        ) as relay,
    ):
        for _ in range(2):
            assert relay.ask(body, EMBEDDINGS).status == 200
        assert upstream.requests[1].body == body.replace(b'"m"', b'"up-m"')
        assert len(upstream.visits) == 1


def test_a_stream_over_tls_with_an_authority_of_our_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        ScriptedUpstream(stream_script(answer()), tls=authority.server()) as upstream,
        Relay(tmp_path, channel(upstream.base_url), tls=authority.client()) as relay,
    ):
        for _ in range(3):
            assert relay.ask(body()).body == b"".join([ROLE, *CONTENT, STOP, DONE])
            relay.until(lambda: relay.world.pool.idle_count() == 1)
        assert len(upstream.visits) == 1


@pytest.mark.parametrize("fault", ["wrong name", "expired", "self-signed", "unknown authority"])
def test_a_certificate_that_does_not_hold_is_refused(tmp_path: Path, fault: str) -> None:
    authority = Authority(tmp_path)
    faults: dict[str, dict[str, Any]] = {
        "wrong name": {"address": "127.0.0.9"},
        "expired": {"until": TODAY - DAY},
        "self-signed": {"self_signed": True},
        "unknown authority": {},
    }
    how = faults[fault]
    trusted = Authority(tmp_path) if fault == "unknown authority" else authority
    with ScriptedUpstream([AwaitGone()], tls=authority.server(**how)) as upstream:
        origin = Origin("127.0.0.1", upstream.port, True, None, True)
        assert refusal(origin, tls=trusted.client()) is ConnectFailure.TLS
        assert not upstream.requests


def test_what_is_no_tls_is_refused() -> None:
    script = [AtOnce(), Send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Close()]
    with ScriptedUpstream(script) as upstream:
        origin = Origin("127.0.0.1", upstream.port, True, None, True)
        assert refusal(origin) is ConnectFailure.TLS


def test_no_connection_says_why() -> None:
    with refused_port() as closed, blackhole_port() as silent:
        assert refusal(Origin("127.0.0.1", closed, False, None, True)) is ConnectFailure.REFUSED
        slow = Origin("127.0.0.1", silent, False, None, True)
        assert refusal(slow, 0.05) is ConnectFailure.TIMEOUT
    assert refusal(Origin("x.invalid", 80, False, None, True)) is ConnectFailure.RESOLVE
    assert refusal(Origin("x" * 70 + ".test", 80, False, None, True)) is ConnectFailure.RESOLVE


# Addresses

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "169.254.169.254",
    "169.254.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::127.0.0.1",
    "::10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2001:10::1",
    "3fff::1",
    "5f00::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "ff0e::1",
    "100::1",
    "4000::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.167.255.255",
    "203.0.114.1",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "2001:4860:4860::8888",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_a_stranger_must_not_name(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_anyone_may_name(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "::1", "0"],
)
def test_every_spelling_of_a_private_address_is_refused(host: str) -> None:
    with ScriptedUpstream([AwaitGone()]) as upstream:
        origin = Origin(host, upstream.port, False, None, False)
        assert refusal(origin) in {ConnectFailure.FORBIDDEN_ADDRESS, ConnectFailure.RESOLVE}
        assert not upstream.visits


# The URL of a channel


def test_a_base_url_is_split() -> None:
    origin, prefix = origin_of("https://api.test/v1/", None, allow_private=False)
    assert (origin.host, origin.port, origin.tls, prefix) == ("api.test", 443, True, "/v1")
    assert origin.host_header == "api.test"
    origin, prefix = origin_of("http://[::1]:81", None, allow_private=True)
    assert (origin.host_header, prefix) == ("[::1]:81", "")


@pytest.mark.parametrize(
    "url", ["ftp://x", "x", "http://", "http://u:p@x/", "http://x/?q=1", "http://x/#f"]
)
def test_a_base_url_that_cannot_be(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        origin_of(url, None, allow_private=True)


# Tunnels


@pytest.mark.parametrize("secure", [False, True])
def test_a_call_through_an_outbound_proxy(tmp_path: Path, secure: bool) -> None:
    authority = Authority(tmp_path)
    tls = authority.server() if secure else None
    with ScriptedUpstream(stream_script(answer()), tls=tls) as upstream:
        with Tunnel(upstream.port) as proxy:
            way = channel(upstream.base_url, proxy=f"http://127.0.0.1:{proxy.port}")
            with Relay(tmp_path, way, tls=authority.client()) as relay:
                for _ in range(2):
                    assert relay.ask(body()).whole
        host = f"127.0.0.1:{upstream.port}".encode()
        assert proxy.asked[0].startswith(b"CONNECT " + host + b" HTTP/1.1\r\n")


@pytest.mark.parametrize("said", [b"HTTP/1.1 407 No\r\n\r\n", b"", b"x" * 200_000])
def test_a_proxy_that_gives_no_tunnel(said: bytes) -> None:
    with ScriptedUpstream([AtOnce(), ReceiveRequest(), Send(said), Close()]) as proxy:
        origin = Origin("x.test", 443, True, f"http://127.0.0.1:{proxy.port}", False)
        assert refusal(origin) is ConnectFailure.PROXY
    with refused_port() as closed:
        origin = Origin("x.test", 443, True, f"http://127.0.0.1:{closed}", False)
        assert refusal(origin) is ConnectFailure.PROXY
    origin = Origin("x.test", 443, True, "socks5://127.0.0.1:1", False)
    assert refusal(origin) is ConnectFailure.PROXY


class Tunnel:
    """A CONNECT proxy that joins every tunnel to one port, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self.asked: list[bytes] = []
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        import threading

        ready = threading.Event()

        def run() -> None:
            async def listen() -> None:
                server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
                self.port = server.sockets[0].getsockname()[1]
                ready.set()
                await self._stop.wait()
                server.close()

            self._stop = asyncio.Event()
            self._loop.run_until_complete(listen())

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            writer.close()
            far_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


# The pool


def clock() -> float:
    return asyncio.get_running_loop().time()


def test_a_kept_connection_is_taken_once_and_dropped_when_stale_or_talkative() -> None:
    script = [AtOnce(), Pause("speak"), Send(b"HTTP/1.1 200 OK\r\n\r\n"), AwaitGone()]
    with ScriptedUpstream(script) as upstream:
        origin = Origin("127.0.0.1", upstream.port, False, None, True)

        async def use(pool: UpstreamPool) -> None:
            first = await pool.connect(origin, 5.0)
            second = await pool.connect(origin, 5.0)
            pool.put(origin, first, clock())
            pool.put(origin, second, clock())
            assert pool.idle_count() == 2
            assert pool.take(origin, clock()) is second
            assert pool.take(origin, clock()) is first
            assert pool.take(origin, clock()) is None
            pool.put(origin, first, clock())
            pool.sweep(clock() + 11)
            assert pool.idle_count() == 0
            pool.put(origin, second, clock())
            upstream.release("speak")
            while pool.idle_count():
                await asyncio.sleep(0)
            assert pool.take(origin, clock()) is None

        pooled(use)


def test_no_more_idle_connections_are_kept_than_the_limit() -> None:
    with ScriptedUpstream([AwaitGone()]) as upstream:
        origin = Origin("127.0.0.1", upstream.port, False, None, True)

        async def use(pool: UpstreamPool) -> None:
            for _ in range(IDLE_CONNECTIONS_MAX + 3):
                pool.put(origin, await pool.connect(origin, 5.0), clock())
            assert pool.idle_count() == IDLE_CONNECTIONS_MAX

        pooled(use)
        upstream.wait_until(
            lambda up: (
                sum(visit.gone is not None for visit in up.visits) == IDLE_CONNECTIONS_MAX + 3
            )
        )


class Holder(asyncio.Protocol):
    """Notes what its connection says."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def data_received(self, data: bytes) -> None:
        self.heard.append(data.decode())

    def eof_received(self) -> None:
        self.heard.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append(f"lost {exc}")


def test_a_kept_connection_speaks_to_its_holder_and_to_nobody_afterwards() -> None:
    script = [
        AtOnce(), Pause("held"), Send(b"an answer"), Pause("resting"), Send(b"unasked"),
        AwaitGone(),
    ]  # fmt: skip
    with ScriptedUpstream(script) as upstream:
        origin = Origin("127.0.0.1", upstream.port, False, None, True)

        async def use(pool: UpstreamPool) -> None:
            transport = await pool.connect(origin, 5.0)
            pool.put(origin, transport, clock())
            assert pool.take(origin, clock()) is transport
            kept, holder = transport.get_protocol(), Holder()
            assert isinstance(kept, Kept)
            kept.holder = holder
            upstream.release("held")
            while not holder.heard:
                await asyncio.sleep(0)
            pool.put(origin, transport, clock())
            assert transport.get_protocol() is kept
            upstream.release("resting")
            while pool.idle_count():
                await asyncio.sleep(0)
            assert holder.heard == ["an answer"]

        pooled(use)


def test_a_holder_hears_that_its_connection_has_ended() -> None:
    with ScriptedUpstream([AtOnce(), Pause("held"), Close()]) as upstream:
        origin = Origin("127.0.0.1", upstream.port, False, None, True)

        async def use(pool: UpstreamPool) -> None:
            transport = await pool.connect(origin, 5.0)
            pool.put(origin, transport, clock())
            pool.take(origin, clock())
            kept, holder = transport.get_protocol(), Holder()
            assert isinstance(kept, Kept)
            kept.holder = holder
            upstream.release("held")
            while len(holder.heard) < 2:
                await asyncio.sleep(0)
            assert holder.heard == ["eof", "lost None"]

        pooled(use)
