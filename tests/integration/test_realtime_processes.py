"""Realtime sessions through whole programs: behind the real nginx, over TLS, and across kill -9."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests import programs
from tests.edge.harness import Relay, channel
from tests.edge.test_realtime import event, open_session
from tests.edge.test_upstream import Authority
from tests.integration.nginx_process import NginxProcess
from tests.integration.realtime_stand_in import RealtimeStandIn, Session
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt


def at(upstream: RealtimeStandIn) -> list[UpstreamAt]:
    settings = {"endpoints": ["realtime"]}
    return [UpstreamAt("o", "openai", upstream.base_url, {"m": "up-m"}, settings=settings)]


def opened(url: str, account: Account, **options: Any) -> ClientConnection:
    headers = {"authorization": f"Bearer {account.key}"}
    return connect(f"{url}/v1/realtime?model=m", additional_headers=headers, **options)


def until_done(session: ClientConnection) -> None:
    while event(session)["type"] != "response.done":
        pass


def until_closed(session: ClientConnection) -> int | None:
    """Read to the end; return the close code, if a frame said one."""
    try:
        while True:
            event(session)
    except ConnectionClosed as closed:
        return None if closed.rcvd is None else closed.rcvd.code


@pytest.fixture(scope="module")
def upstream() -> Iterator[RealtimeStandIn]:
    with RealtimeStandIn() as standing_in:
        yield standing_in


def test_nginx_lets_sessions_through(tmp_path: Path, upstream: RealtimeStandIn) -> None:
    programs.need("nginx")
    with (
        RelayProcess(tmp_path / "relay", at(upstream)) as relay,
        NginxProcess(tmp_path / "nginx", relay.port) as nginx,
    ):
        account = relay.account()
        url = f"wss://localhost:{nginx.port}"
        with opened(url, account, ssl=nginx.trust(), server_hostname="localhost") as session:
            event(session)
            for _ in range(2):
                session.send(json.dumps({"type": "response.create"}))
                until_done(session)
        first, second = [row for row in relay.usage(account) if row["source"] == "reported"]
        assert first["verdict"] == second["verdict"] == "complete"


def test_what_a_client_has_seen_done_is_billed_after_kill_9(
    tmp_path: Path, upstream: RealtimeStandIn
) -> None:
    with RelayProcess(tmp_path, at(upstream), settings={"workers": 2}) as relay:
        account = relay.account()
        with opened(relay.url.replace("http", "ws"), account) as session:
            event(session)
            session.send(json.dumps({"type": "response.create"}))
            until_done(session)
            relay.kill()
            until_closed(session)
        relay.start()
        rows = relay.usage(account)
        assert [row["source"] for row in rows].count("reported") == 1
        # The response that was held for and never began cost nothing, and holds nothing.
        assert len(rows) <= 2
        assert relay.verify()["clean"]


def test_a_stop_ends_sessions_so_that_clients_come_back(
    tmp_path: Path, upstream: RealtimeStandIn
) -> None:
    with RelayProcess(tmp_path, at(upstream)) as relay:
        account = relay.account()
        with opened(relay.url.replace("http", "ws"), account) as session:
            event(session)
            assert relay.terminate() == 0
            assert until_closed(session) == 1012


def test_an_upstream_is_reached_by_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    large = "x" * 3_000_000

    async def speak(session: Session) -> None:
        await session.say("response.output_audio.delta", delta=large)
        message = await session.connection.recv()
        session.received.append({"size": len(message)})
        await session.respond()
        await session.connection.wait_closed()

    with (
        RealtimeStandIn(speak, tls=authority.server()) as upstream,
        Relay(
            tmp_path,
            channel(upstream.base_url, endpoints=["realtime"]),
            tls=authority.client(),
        ) as relay,
    ):
        with open_session(relay, max_size=None) as session:
            assert event(session)["delta"] == large
            session.send(large)
            until_done(session)
        assert upstream.sessions[0].received == [{"size": len(large)}]
