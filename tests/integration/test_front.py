"""The front as its clients see it: one answer per request, in order, and an end to every wait.

Deadlines are tested by telling the server what time it is, never by waiting for them.
"""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.core.http1_request import HEAD_BYTES_MAX
from proxy.edge.client import (
    AHEAD_BYTES_MAX,
    KEEPALIVE_SECONDS_MAX,
    LINGER_SECONDS_MAX,
    ClientConnection,
)
from tests.edge.harness import (
    ANN,
    CHAT,
    DONE,
    MESSAGES,
    Relay,
    answer,
    body,
    channel,
    error_of,
    plain_answer,
)
from tests.integration.raw_client import RawClient, parse_response, request_bytes, responses
from tests.integration.relay_process import RelayProcess, UpstreamAt
from tests.integration.scripted import ReceivedRequest, ScriptedUpstream
from tests.integration.scripts import AwaitGone, Script, plain_script, stream_script

HEADER_SECONDS = 10.0
GOOD = request_bytes(CHAT, body(stream=False, max_tokens=5), key=ANN)
STREAM = request_bytes(CHAT, body(), key=ANN)
LIST = request_bytes("/v1/models", key=ANN, method="GET")


def answering(request: ReceivedRequest) -> Script:
    """A whole answer; a prompt may ask for a failure of this status instead."""
    asked = json.loads(request.body)
    prompt = asked["messages"][0]["content"]
    if prompt.startswith("fail "):
        status = int(prompt.removeprefix("fail "))
        return plain_script(b'{"error":{"message":"no"}}', status=status)
    return stream_script(answer()) if asked.get("stream") else plain_script(plain_answer())


def sweep(relay: Relay, seconds: float) -> None:
    """Let the server believe that so many seconds have passed."""
    relay.do(lambda: relay.server.sweep(relay.world.loop.time() + seconds, HEADER_SECONDS))


def connections(relay: Relay) -> list[ClientConnection]:
    return list(relay.server._connections)


def until_buffered(relay: Relay, size: int) -> None:
    """Wait until the only connection holds so many bytes nobody has asked for yet."""
    relay.until(lambda: [len(one._buffer) for one in connections(relay)] == [size])


def ended(client: RawClient) -> bool:
    """Whether the relay closes without another byte."""
    before = len(client.received)
    return len(client.read_all()) == before


# Waits that end


def test_a_head_that_drips_has_one_deadline_from_its_first_byte(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay, relay.client() as client:
        client.send(LIST[:1])
        until_buffered(relay, 1)
        (connection,) = connections(relay)
        begun = connection._since
        for size in range(2, 40):
            client.send(LIST[size - 1 : size])
            until_buffered(relay, size)
        assert connection._since == begun, "later bytes buy no time"
        sweep(relay, HEADER_SECONDS - 5)
        assert not connection.closing
        sweep(relay, HEADER_SECONDS + 1)
        assert ended(client)


def test_a_second_head_that_drips_has_the_same_deadline(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay, relay.client() as client:
        assert client.send(LIST).read_response().status == 200
        client.send(LIST[:9])
        until_buffered(relay, 9)
        sweep(relay, HEADER_SECONDS + 1)
        assert ended(client)


def test_a_kept_connection_may_rest_longer_than_a_head_may_take(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay, relay.client() as client:
        assert client.send(LIST).read_response().status == 200
        relay.until(lambda: all(one._request is None for one in connections(relay)))
        sweep(relay, KEEPALIVE_SECONDS_MAX - 5)
        client.received.clear()
        assert client.send(LIST).read_response().status == 200
        relay.until(lambda: all(one._request is None for one in connections(relay)))
        sweep(relay, KEEPALIVE_SECONDS_MAX + 1)
        assert ended(client)


@pytest.mark.parametrize("target", [CHAT, MESSAGES])
def test_a_body_that_drips_has_one_deadline(tmp_path: Path, target: str) -> None:
    whole = request_bytes(target, body(max_tokens=5, content="x" * 5_000), key=ANN)
    with Relay(tmp_path, body_seconds_max=0.3) as relay, relay.client() as client:
        over = threading.Event()

        def drip() -> None:
            for place in range(len(whole) - 1):
                if place > len(whole) - 5_000 and over.wait(0.005):
                    return
                client.send(whole[place : place + 1])

        dripping = threading.Thread(target=drip)
        dripping.start()
        response = client.read_response()
        over.set()
        dripping.join()
        assert (response.status, error_of(response)["code"]) == (408, "request_timeout")
        assert response.header("connection") == "close"
        assert relay.calls() == []


def test_the_rest_of_a_refused_body_is_dropped_for_a_while_and_then_cut(tmp_path: Path) -> None:
    refused = request_bytes(CHAT, b" " * 3_000_000, key="sk-nobody")
    with Relay(tmp_path) as relay, relay.client() as client, relay.client() as idle:
        idle.send(refused[:1_000])
        assert idle.read_response().status == 401
        client.send(refused)
        response = client.read_response()
        assert (response.status, response.header("connection")) == (401, "close")
        client.send(GOOD)
        client.half_close()
        assert ended(client)
        assert client.ended == "fin", "not reset, though all of the body was sent"
        relay.until(lambda: len(connections(relay)) == 1)
        sweep(relay, LINGER_SECONDS_MAX + 1)
        relay.until(lambda: not connections(relay))


def test_a_slow_reader_gets_all_of_a_last_answer(tmp_path: Path) -> None:
    size = 8_000_000
    with Relay(tmp_path) as relay, relay.client(receive_buffer_bytes=4_096) as client:

        async def last(request: Any) -> None:
            request.protocol.last_response()
            request.protocol.transport.write(b"x" * size)
            request.protocol.answered(request)

        relay.handler.handle = last
        client.send(LIST)
        relay.until(lambda: [one.closing for one in connections(relay)] == [True])
        sweep(relay, LINGER_SECONDS_MAX + 1)
        assert len(client.read_all()) == size


def test_a_reader_who_never_reads_a_last_answer_is_cut_in_the_end(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay, relay.client(receive_buffer_bytes=4_096) as client:

        async def last(request: Any) -> None:
            request.protocol.last_response()
            request.protocol.transport.write(b"x" * 8_000_000)
            request.protocol.answered(request)

        relay.handler.handle = last
        client.send(LIST)
        relay.until(lambda: [one.closing for one in connections(relay)] == [True])
        sweep(relay, KEEPALIVE_SECONDS_MAX + 1)
        relay.until(lambda: not connections(relay))


# Limits, filled


def head_of(size: int) -> bytes:
    """A request without a body whose head has so many bytes before its blank line."""
    lines = LIST.removesuffix(b"\r\n\r\n")
    while len(lines) < size:
        step = min(size - len(lines), 8_000)
        rest = size - len(lines) - step
        step -= 10 if 0 < rest < 10 else 0  # the last line needs room for its own name
        lines += b"\r\nx: " + b"v" * (step - 5)
    assert len(lines) == size
    return lines + b"\r\n\r\n"


@pytest.mark.parametrize("write_bytes", [None, 4_096, 31])
def test_a_head_of_the_largest_size_passes_and_no_larger_one(
    tmp_path: Path, write_bytes: int | None
) -> None:
    with Relay(tmp_path) as relay:
        with relay.client() as client:
            client.send(head_of(HEAD_BYTES_MAX), write_bytes)
            assert client.read_response().status == 200
        with relay.client() as client:
            client.send(head_of(HEAD_BYTES_MAX + 1), write_bytes)
            response = client.read_response()
            assert (response.status, error_of(response)["code"]) == (400, "invalid_request")
            assert ended(client)


def test_only_so_much_may_be_sent_ahead(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([AwaitGone()]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        for number, first in enumerate((GOOD, GOOD + b"x" * 10_000)):
            with relay.client() as client:
                client.send(first)
                upstream.wait_until(lambda up: len(up.requests) == number + 1)  # noqa: B023
                client.send(b"x" * (AHEAD_BYTES_MAX - (len(first) - len(GOOD))))
                until_buffered(relay, AHEAD_BYTES_MAX)
                client.send(b"x")
                assert ended(client)
        upstream.wait_until(lambda up: all(visit.gone for visit in up.visits))
        assert [call["verdict"] for call in relay.calls()] == ["client_gone"] * 2


def test_what_is_ahead_in_the_same_read_counts_too(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay, relay.client() as client:
        (made,) = made_by(relay, client)
        relay.do(lambda: made.data_received(LIST + b"x" * (AHEAD_BYTES_MAX + 1)))
        assert ended(client)
        assert relay.handler.begun == 0


def made_by(relay: Relay, client: RawClient) -> list[ClientConnection]:
    """The relay's side of a connection that has said nothing yet."""
    del client
    relay.until(lambda: len(connections(relay)) == 1)
    return connections(relay)


def test_one_connection_too_many_is_told_so_and_never_stays(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        relay.server._connections_max = 2
        with relay.client() as one, relay.client() as two:
            assert one.send(LIST).read_response().status == 200
            assert two.send(LIST).read_response().status == 200
            with relay.client() as three:
                response = three.read_response()
                assert (response.status, error_of(response)["code"]) == (503, "service_unavailable")
                assert response.header("connection") == "close"
                assert ended(three)
                three.send(LIST)
                assert len(connections(relay)) == 3
                sweep(relay, LINGER_SECONDS_MAX + 1)
                relay.until(lambda: len(connections(relay)) == 2)
            one.received.clear()
            assert one.send(LIST).read_response().status == 200
            two.leave()
            relay.until(lambda: len(connections(relay)) == 1)
            with relay.client() as four:
                assert four.send(LIST).read_response().status == 200


# Whose answer is whose

KEPT: dict[str, tuple[bytes, int]] = {
    "no key": (request_bytes(CHAT, body()), 401),
    "a bad key": (request_bytes(MESSAGES, body(), key="sk-nobody"), 401),
    "an unknown url": (request_bytes("/x", b"{}", key=ANN), 404),
    "an endpoint not served": (request_bytes("/v1/files", b"{}", key=ANN), 404),
    "an unknown model": (request_bytes(CHAT, body(model="nowhere"), key=ANN), 404),
    "a method not answered": (request_bytes(CHAT, key=ANN, method="GET"), 405),
    "a head of what is not answered": (request_bytes(CHAT, key=ANN, method="HEAD"), 405),
    "no json": (request_bytes(CHAT, b"{", key=ANN), 400),
    "a wrong member": (request_bytes(MESSAGES, body(max_tokens="5"), key=ANN), 400),
    "no body": (request_bytes(CHAT, b"", key=ANN), 400),
    "too much of a query": (
        request_bytes("/v1/models?" + "&" * 70, key=ANN, method="GET",
                      headers={"anthropic-version": "x"}), 400,
    ),
    "a bad page": (
        request_bytes("/v1/models?limit=x", key=ANN, method="GET",
                      headers={"anthropic-version": "x"}), 400,
    ),
    "more than the wallet": (request_bytes(CHAT, body(stream=False, n=128), key=ANN), 402),
    "an upstream that refuses": (request_bytes(CHAT, body("fail 400"), key=ANN), 400),
    "an upstream that fails": (request_bytes(CHAT, body("fail 500"), key=ANN), 502),
    "an upstream that is busy": (request_bytes(CHAT, body("fail 429"), key=ANN), 429),
    "a question of a browser": (request_bytes("/x", method="OPTIONS"), 204),
    "a head of the models": (request_bytes("/v1/models", key=ANN, method="HEAD"), 200),
    "a stream": (STREAM, 200),
    "a plain answer": (GOOD, 200),
}  # fmt: skip
EARLY = {"no key", "a bad key", "an unknown url", "an endpoint not served"}
"""Refused by their head alone: the connection is kept only if the body has come with it."""
CLOSED: dict[str, tuple[bytes, int]] = {
    "no http": (b"HELO relay\r\n\r\n", 400),
    "no host": (LIST.replace(b"Host: relay.test\r\n", b""), 400),
    "two lengths": (GOOD.replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n", 1), 400),
    "a body of a get": (LIST.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"), 400),
    "an expectation": (GOOD.replace(b"\r\n\r\n", b"\r\nExpect: more\r\n\r\n", 1), 417),
    "a body announced too large": (
        request_bytes(CHAT, key=ANN).replace(b"Length: 0", b"Length: 999999999"), 413,
    ),
    "chunks of no size": (
        request_bytes(CHAT, key=ANN).replace(b"Content-Length: 0\r\n\r\n",
                                             b"Transfer-Encoding: chunked\r\n\r\nx\r\n"), 400,
    ),
    "a wish to close": (LIST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), 200),
    "a wish to close a call": (
        GOOD.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive, Close\r\n\r\n", 1), 200,
    ),
    "a wish to close a stream": (
        STREAM.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1), 200,
    ),
    "an older client": (LIST.replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
    "an older client's call": (GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
}  # fmt: skip


def method_of(request: bytes) -> str:
    return request.partition(b" ")[0].decode("latin-1")


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("case", KEPT)
def test_the_next_request_on_the_connection_gets_its_own_answer(
    tmp_path: Path, case: str, pipelined: bool
) -> None:
    request, status = KEPT[case]
    credit = 2_000_000 if status == 402 else 10**9
    with (
        ScriptedUpstream(answering) as upstream,
        Relay(tmp_path, channel(upstream.base_url), credit=credit) as relay,
        relay.client() as client,
    ):
        client.send(request + LIST if pipelined else request)
        response = client.read_response(method_of(request))
        assert response.status == status
        assert response.whole
        assert response.header("connection") is None
        if method_of(request) == "HEAD":
            assert int(response.header("content-length") or 0) > 0
        if not pipelined:
            client.send(LIST)
        client.read_until(lambda data: data.endswith(b"]}"))
        rest = parse_response(bytes(client.received), method=method_of(request))
        assert rest is not None
        (second,) = responses(rest.rest)
        assert (second.status, second.body[:17]) == (200, b'{"object":"list",')
        assert second.header("x-request-id") != response.header("x-request-id")


@pytest.mark.parametrize("case", CLOSED)
def test_where_the_connection_ends_nothing_after_it_is_answered(tmp_path: Path, case: str) -> None:
    request, status = CLOSED[case]
    with (
        ScriptedUpstream(answering) as upstream,
        Relay(tmp_path, channel(upstream.base_url), body_bytes_max=60_000) as relay,
        relay.client() as client,
    ):
        client.send(request + LIST)
        (response,) = responses(client.read_all())
        assert response.status == status
        assert response.header("connection") == "close"
        assert client.ended == "fin"
        if status >= 400:
            assert error_of(response)["code"] in {"invalid_request", "request_too_large"}
            assert relay.calls() == []


def test_forty_different_requests_at_once_are_answered_in_order(tmp_path: Path) -> None:
    kept = [KEPT[name] for name in KEPT.keys() - EARLY if KEPT[name][1] not in {402, 429, 502}]
    kept = [(request, status) for request, status in kept if method_of(request) != "HEAD"]
    kept = [*kept, (request_bytes("/x", method="GET"), 404), (LIST.replace(b"sk-", b"sk"), 401)]
    asked = [*(sorted(kept) * 4)[:39], CLOSED["a wish to close"]]
    assert len(asked) == 40
    whole = b"".join(request for request, _ in asked)
    for write_bytes in (None, 1_000, 7):
        with (
            ScriptedUpstream(answering) as upstream,
            Relay(tmp_path, channel(upstream.base_url)) as relay,
            relay.client() as client,
        ):
            sender = threading.Thread(target=client.send, args=(whole, write_bytes))
            sender.start()
            found = list(responses(client.read_all()))
            sender.join()
            assert [each.status for each in found] == [status for _, status in asked]
            assert all(each.whole for each in found)
        (tmp_path / "relay.db").unlink()


def test_no_head_borrows_the_length_of_a_remembered_one(tmp_path: Path) -> None:
    """A line feed before a head without a length once gave it that of the one before it."""
    bare = b"\r\n".join(line for line in GOOD.split(b"\r\n") if not line.startswith(b"Content-L"))
    for before in (b"\n", b"\r\n\n", b" "):
        with (
            ScriptedUpstream(answering) as upstream,
            Relay(tmp_path, channel(upstream.base_url)) as relay,
            relay.client() as client,
        ):
            client.send(GOOD)
            assert client.read_response().status == 200
            client.send(before + bare)
            found = list(responses(client.read_all()))
            assert [each.status for each in found] == [200, 400]
            assert len(relay.calls()) == 1
        (tmp_path / "relay.db").unlink()


# 100-continue, HTTP/1.0, HEAD


def expecting(request: bytes) -> tuple[bytes, bytes]:
    """The head with an expectation, and the body."""
    head, blank, content = request.partition(b"\r\n\r\n")
    return head + b"\r\nExpect: 100-continue" + blank, content


def test_a_client_that_asks_is_told_to_go_on_each_time(tmp_path: Path) -> None:
    head, content = expecting(GOOD)
    with (
        ScriptedUpstream(answering) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        for _ in range(3):
            client.received.clear()
            client.send(head)
            assert client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert client.send(content).read_response().status == 200
        assert len(relay.calls()) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda head, content: head + content,
        lambda head, content: head.replace(b"HTTP/1.1", b"HTTP/1.0") + content,
        lambda head, content: head.replace(b"Length: %d" % len(content), b"Length: 0"),
    ],
)
def test_nobody_else_is_told_to_go_on(
    tmp_path: Path, change: Callable[[bytes, bytes], bytes]
) -> None:
    with (
        ScriptedUpstream(answering) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(change(*expecting(GOOD)))
        client.read_response()
        assert b" 100 " not in client.received[:20]


def test_an_older_client_may_keep_its_connection(tmp_path: Path) -> None:
    older = LIST.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: relay.test\r\n", b"")
    kept = older.replace(b"\r\n\r\n", b"\r\nConnection: Keep-Alive\r\n\r\n")
    with Relay(tmp_path) as relay, relay.client() as client:
        for _ in range(2):
            client.received.clear()
            response = client.send(kept).read_response()
            assert (response.status, response.header("connection")) == (200, "keep-alive")
        client.received.clear()
        response = client.send(older).read_response()
        assert response.header("connection") == "close"
        assert ended(client)


def test_an_older_client_reads_a_stream_to_its_end_though_it_wants_to_stay(tmp_path: Path) -> None:
    request = STREAM.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with (
        ScriptedUpstream(answering) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n", 1))
        (response,) = responses(client.read_all())
        assert response.header("transfer-encoding") is None
        assert response.header("connection") == "close"
        assert response.body.endswith(DONE)


@pytest.mark.parametrize("target", ["/v1/models", "/v1/models/m", "/v1/models/nowhere", "/x"])
def test_head_is_get_without_its_body(tmp_path: Path, target: str) -> None:
    with Relay(tmp_path, channel("http://127.0.0.1:9/v1")) as relay:
        found = []
        for method in ("GET", "HEAD"):
            with relay.client() as client:
                client.send(request_bytes(target, key=ANN, method=method))
                found.append(client.read_response(method))
                client.send(LIST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                client.read_all()
        get, head = found
        assert (head.status, head.body) == (get.status, b"")
        # An unknown URL's message names the method.
        shorter = len("HEAD") - len("GET") if target == "/x" else 0
        assert int(head.header("content-length") or 0) == len(get.body) + shorter
        assert head.header("content-type") == get.header("content-type")


# Draining


def test_draining_closes_what_rests_and_lets_what_has_begun_finish(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(answering) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as resting,
        relay.client() as asking,
        relay.client() as fresh,
    ):
        for client in (resting, asking):
            assert client.send(GOOD).read_response().status == 200
            client.received.clear()
        asking.send(GOOD[:-10])
        relay.until(lambda: relay.handler.begun == 3)
        relay.do(relay.server.close_idle)
        assert ended(resting)
        response = asking.send(GOOD[-10:]).read_response()
        assert (response.status, response.header("connection")) == (200, "close")
        assert ended(asking)
        response = fresh.send(LIST).read_response()
        assert (response.status, response.header("connection")) == (200, "close")
        assert ended(fresh)
        assert len(relay.calls()) == 3


def test_a_relay_told_to_stop_hangs_up_on_who_rests_and_counts_what_was_no_request(
    tmp_path: Path,
) -> None:
    with ScriptedUpstream(answering) as upstream:
        channels = [UpstreamAt("o", "openai", upstream.base_url, {"m": "m"})]
        with RelayProcess(tmp_path, channels) as relay:
            with RawClient(relay.port) as client:
                client.send(b"HELO relay\r\n\r\n").read_all()
            page = relay.metrics()
            with RawClient(relay.port) as client:
                client.send(LIST)
                client.read_response()
                assert client.ended is None
                assert relay.terminate() == 0
                assert ended(client)
                assert client.ended == "fin"
    row = next(line for line in page.splitlines() if 'error="invalid_request"' in line)
    assert 'endpoint="other"' in row
    assert row.endswith(" 1")
