"""A request that goes out in pieces: bounded, stopped by an early answer, never half reused."""

import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from proxy.edge.service_attempt import UPLOAD_BUFFER_BYTES_MAX
from tests.edge.harness import ANN, Relay
from tests.edge.services import EMBEDDINGS, answered, asked, service_channel, service_relay
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import AwaitGone, plain_script

LARGE = asked(input="x" * 3_000_000)
ALIASED = LARGE.replace(b'"m"', b'"up-m"')


def listening() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    return listener


def attempt_of(relay: Relay) -> object:
    (call,) = relay.world.calls
    return call.attempt


@pytest.mark.parametrize("memory", [1_000, 1 << 26])
@pytest.mark.parametrize("way", ["length", "chunked"])
def test_a_large_body_arrives_whole(tmp_path: Path, memory: int, way: str) -> None:
    with (
        ScriptedUpstream(answered()) as upstream,
        service_relay(
            tmp_path, service_channel(upstream.base_url), spool_memory_bytes_max=memory
        ) as relay,
        relay.client() as client,
    ):
        wire = request_bytes(EMBEDDINGS, LARGE, key=ANN)
        if way == "chunked":
            head, _, _ = wire.partition(b"\r\n\r\n")
            rows = [row for row in head.split(b"\r\n") if b"ength" not in row]
            head = b"\r\n".join([*rows, b"Transfer-Encoding: chunked", b"", b""])
            wire = head + b"".join(
                b"%x\r\n%b\r\n" % (len(piece), piece)
                for piece in (LARGE[at : at + 99_999] for at in range(0, len(LARGE), 99_999))
            )
            wire += b"0\r\n\r\n"
        client.send(wire)
        assert client.read_response().status == 200
        assert upstream.requests[0].body == ALIASED
        client.received.clear()
        client.send(request_bytes(EMBEDDINGS, asked(), key=ANN))
        assert client.read_response().status == 200
        relay.quiet()
        assert relay.world.spool.used_bytes == 0
        assert len(upstream.visits) == 1, "a connection that sent a large body serves again"


def test_no_more_is_read_back_than_the_network_takes(tmp_path: Path) -> None:
    """An upstream that reads nothing: what waits here is bounded, and the rest is in the file."""
    with (
        listening() as listener,
        service_relay(
            tmp_path, service_channel(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        ) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(EMBEDDINGS, asked(input="x" * 20_000_000), key=ANN))
        upstream, _ = listener.accept()
        with upstream:
            relay.until(lambda: bool(relay.world.calls) and attempt_of(relay)._blocked)  # type: ignore[attr-defined]

            def waiting() -> int:
                transport = attempt_of(relay).transport  # type: ignore[attr-defined]
                return int(transport.get_write_buffer_size())

            assert relay.do(waiting) <= 2 * UPLOAD_BUFFER_BYTES_MAX
            client.reset()
            (call,) = relay.calls()
            assert (call["verdict"], call["charge"]) == ("client_gone", 0)


REFUSED = b'{"error":{"message":"too much to read"}}'
EARLY = {
    "refused": (
        b"HTTP/1.1 413 No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (len(REFUSED), REFUSED),
        413,
    ),
    "served": (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        200,
    ),
}


@pytest.mark.parametrize("how", list(EARLY))
def test_an_answer_that_comes_early_ends_the_sending(tmp_path: Path, how: str) -> None:
    answer, status = EARLY[how]
    with (
        listening() as listener,
        service_relay(
            tmp_path, service_channel(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        ) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(EMBEDDINGS, asked(input="x" * 20_000_000), key=ANN))
        upstream, _ = listener.accept()
        with upstream:
            relay.until(lambda: bool(relay.world.calls) and attempt_of(relay)._blocked)  # type: ignore[attr-defined]
            upstream.sendall(answer)
            response = client.read_response()
            assert response.status == status
            (call,) = relay.calls()
            assert (call["charge"] > 0) is (status == 200)
            assert relay.do(relay.world.pool.idle_count) == 0, "half a request is on its way there"


def test_a_body_is_sent_again_to_the_next_channel(tmp_path: Path) -> None:
    busy = plain_script(b'{"error":{"message":"busy"}}', 503)
    with (
        ScriptedUpstream(busy) as first,
        ScriptedUpstream(answered()) as second,
        service_relay(
            tmp_path,
            service_channel(first.base_url, "first", priority=2, models={"m": "one"}),
            service_channel(second.base_url, "second", models={"m": "another-name"}),
        ) as relay,
    ):
        assert relay.ask(LARGE, EMBEDDINGS).status == 200
        assert first.requests[0].body == LARGE.replace(b'"m"', b'"one"')
        assert second.requests[0].body == LARGE.replace(b'"m"', b'"another-name"')


def leave_once(listener: socket.socket) -> None:
    visitor, _ = listener.accept()
    visitor.recv(1_000)
    visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    visitor.close()


def test_an_upstream_that_leaves_in_the_middle_of_a_body(tmp_path: Path) -> None:
    """It is gone without a word: the next channel gets the whole body."""
    with (
        listening() as listener,
        ScriptedUpstream(answered()) as second,
        service_relay(
            tmp_path,
            service_channel(
                f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "first", priority=2
            ),
            service_channel(second.base_url, "second"),
        ) as relay,
    ):
        leaver = threading.Thread(target=leave_once, args=(listener,))
        leaver.start()
        assert relay.ask(LARGE, EMBEDDINGS).status == 200
        leaver.join(20)
        assert second.requests[0].body == ALIASED
        assert [row["outcome"] for row in relay.attempts()] == ["upstream_truncated", "served"]


def test_a_body_that_cannot_be_read_again_fails_the_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with (
        ScriptedUpstream(answered()) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
    ):
        monkeypatch.setattr(os, "pread", broken)
        response = relay.ask(LARGE, EMBEDDINGS)
        assert response.status == 502
        assert b"could not be read again" in response.body
        (call,) = relay.calls()
        assert (call["charge"], call["forgiven"]) == (0, 0)


def test_a_read_that_ends_after_the_call_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client leaves while a thread reads its body: the file is closed when the thread is done."""
    begun, go_on = threading.Event(), threading.Event()
    pread = os.pread

    def slow(descriptor: int, size: int, offset: int) -> bytes:
        begun.set()
        go_on.wait(20)
        return pread(descriptor, size, offset)

    with (
        ScriptedUpstream([AwaitGone()]) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        monkeypatch.setattr(os, "pread", slow)
        client.send(request_bytes(EMBEDDINGS, LARGE, key=ANN))
        assert begun.wait(20)
        client.reset()
        relay.until(lambda: not relay.world.calls)
        assert relay.do(lambda: relay.world.spool.used_bytes) > 0
        go_on.set()
        relay.until(lambda: relay.world.spool.used_bytes == 0)
        assert relay.calls()[0]["verdict"] == "client_gone"
