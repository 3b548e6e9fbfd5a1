"""Every named HTTP framing case: against bare aiohttp, to know what is ours to add, and ours.

The record of bare aiohttp (`bare` in the data) is a test, so that an upgrade that changes what
the server library refuses is noticed before an attacker notices it.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from tests.corpora.framing import FramingCase, framing
from tests.integration.framing_player import PROBE_PATH, one_of, play
from tests.integration.raw_client import RawClient, request_bytes
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
# Cases whose bytes are many or whose answer takes a deadline are not sent byte by byte.
WHOLE_ONLY_BYTES = 4_096


@dataclass(slots=True)
class Relayed:
    """The relay with one upstream that always answers, and a key.

    `served` and `left` count the calls answered with a 200 and those whose client half-closed:
    only these may have reached the upstream, the latter at any later time.
    """

    relay: RelayProcess
    upstream: ScriptedUpstream
    account: Account
    served: int = 0
    left: int = 0


@pytest.fixture(scope="module")
def bare_port() -> Iterator[int]:
    """A bare aiohttp server that reads the body and answers 200; the probe gets a 404."""
    loop = asyncio.new_event_loop()
    port: list[int] = []
    stopping: list[asyncio.Event] = []
    started = threading.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        status = 404 if request.path == PROBE_PATH else 200
        return web.Response(status=status, text=request.path)

    async def serve() -> None:
        stopping.append(asyncio.Event())
        handler = web.Server(answer)
        server = await loop.create_server(handler, "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        started.set()
        await stopping[0].wait()
        server.close()
        await handler.shutdown(0.1)

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(10)
    yield port[0]
    loop.call_soon_threadsafe(stopping[0].set)
    thread.join(10)


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relayed]:
    with ScriptedUpstream(plain_script(json.dumps(ANSWER).encode())) as upstream:
        channels = [
            UpstreamAt("o", "openai", upstream.base_url, {"m": "m"}),
            UpstreamAt("a", "anthropic", upstream.base_url, {"m": "m"}),
        ]
        settings = {"body_seconds_max": 1.0, "header_seconds_max": 2.0}
        directory = tmp_path_factory.mktemp("framing")
        with RelayProcess(directory, channels, settings=settings) as relay:
            yield Relayed(relay, upstream, relay.account())


def test_there_are_enough_cases_each_with_its_own_name() -> None:
    assert len({case.name for case in framing()}) == len(framing()) >= 150


def check(case: FramingCase, relayed: Relayed, write_bytes: int | None) -> None:
    played = play(relayed.relay.port, case, relayed.account.key, write_bytes=write_bytes)
    relayed.served += sum(status == 200 for status in played.statuses)
    relayed.left += case.fin
    expected = [case.statuses, *case.also]
    if write_bytes is not None and case.statuses == (400,):
        # A head that arrives alone is answered alone; a body that breaks afterwards is waited
        # for until its deadline, since aiohttp keeps the parser's error from the reader.
        expected += [(400, 400), (408,)]
    assert one_of(expected, played.statuses), played.raw[:600]
    for answer in played.answers:
        assert answer.version in {"1.0", "1.1"}, played.raw[:100]
    refused = bool(played.statuses) and played.statuses == case.statuses
    if case.closed is not None and refused and not case.fin:
        assert played.closed is case.closed, played.raw[-600:]
    if refused and case.code is not None:
        last = played.answers[-1]
        assert last.header("content-type") in {
            "application/json",
            "application/json; charset=utf-8",
        }
        assert last.error()["code"] == case.code, last.body
        assert (b'"type":"error"' in last.body) is (case.dialect == "anthropic"), last.body
    # Not one request that was refused, or hidden inside another, went on to the upstream.
    assert len(relayed.upstream.requests) <= relayed.served + relayed.left


@pytest.mark.parametrize("case", framing(), ids=lambda case: case.name)
def test_case_in_one_write(case: FramingCase, relayed: Relayed) -> None:
    check(case, relayed, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [case for case in framing() if len(case.request("k")) <= WHOLE_ONLY_BYTES],
    ids=lambda case: case.name,
)
def test_case_in_one_byte_writes(case: FramingCase, relayed: Relayed) -> None:
    check(case, relayed, 1)


@pytest.mark.parametrize(
    "case", [case for case in framing() if case.bare], ids=lambda case: case.name
)
def test_bare_aiohttp_does_what_was_recorded(case: FramingCase, bare_port: int) -> None:
    played = play(bare_port, case, "sk-x")
    assert played.statuses == case.bare


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(relayed: Relayed) -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    request = request_bytes(
        "/v1/chat/completions", body, key=relayed.account.key, headers={"Expect": "100-continue"}
    )
    with RawClient(relayed.relay.port) as client:
        client.send(request.removesuffix(body))
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        assert client.send(body).read_response().status == 200
