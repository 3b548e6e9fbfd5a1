"""The scripted upstream and the raw client against each other: a fixture must be able to fail."""

import pytest

from tests.integration.raw_client import (
    RawClient,
    dechunk,
    parse_response,
    request_bytes,
    responses,
)
from tests.integration.scripted import ScriptedUpstream, blackhole_port, refused_port
from tests.integration.scripts import (
    LAST_CHUNK,
    AtOnce,
    AwaitGone,
    Close,
    Drip,
    Flood,
    HalfClose,
    Pause,
    ReceiveRequest,
    Reset,
    Send,
    chunk,
    plain_script,
    stream_head,
    stream_script,
)

ASK = request_bytes("/v1/chat/completions", b'{"a":1}', key="sk-x")


def test_a_stream_in_one_byte_writes_arrives_whole_and_the_request_is_recorded() -> None:
    script = stream_script([b"data: 1\n\n", b"data: [DONE]\n\n"], write_bytes=1)
    with ScriptedUpstream(script) as upstream, RawClient(upstream.port) as client:
        response = client.send(ASK, write_bytes=3).read_response()
        assert (response.status, response.body) == (200, b"data: 1\n\ndata: [DONE]\n\n")
        assert response.whole
        upstream.wait_until(lambda u: bool(u.exchanges) and u.exchanges[0].finished)
        request = upstream.requests[0]
        assert (request.method, request.target) == ("POST", "/v1/chat/completions")
        assert request.header("authorization") == "Bearer sk-x"
        assert request.header_all("HOST") == ("relay.test",)
        assert request.body == b'{"a":1}'
        assert request.raw == ASK == bytes(upstream.visits[0].received)


def test_scripts_follow_one_another_on_a_kept_connection_and_the_last_repeats() -> None:
    with ScriptedUpstream(plain_script(b"1"), plain_script(b"2", 429)) as upstream:
        with RawClient(upstream.port) as client:
            client.send(ASK * 3)
            client.read_until(lambda data: len(list(responses(data))) == 3)
            answers = [(r.status, r.body) for r in responses(bytes(client.received))]
        assert answers == [(200, b"1"), (429, b"2"), (429, b"2")]
        assert len(upstream.visits) == 1
        assert len(upstream.requests) == 3


def test_chunked_requests_and_scripts_made_from_requests() -> None:
    with ScriptedUpstream(lambda request: plain_script(request.body)) as upstream:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        with RawClient(upstream.port) as client:
            answer = client.send(head + chunk(b"ab") + chunk(b"c") + LAST_CHUNK).read_response()
        assert answer.body == b"abc"


def test_a_pause_holds_until_released_and_reset_is_seen_as_reset() -> None:
    script = [Send(stream_head() + chunk(b"one")), Pause("go"), Reset()]
    with ScriptedUpstream(script) as upstream, RawClient(upstream.port) as client:
        client.send(ASK).read_until(b"one")
        upstream.wait_until(lambda u: u.exchanges[0].steps_done == 1)
        upstream.release("go")
        client.read_all()
        assert client.ended == "rst"
        assert parse_response(bytes(client.received), ended=True) is not None
        assert dechunk(chunk(b"one")) == (b"one", b"", False)


def test_half_close_keeps_reading_and_close_ends_by_fin() -> None:
    script = [Send(b"x"), HalfClose(), ReceiveRequest(), Close()]
    with ScriptedUpstream(script) as upstream, RawClient(upstream.port) as client:
        client.send(ASK).read_all()
        assert (bytes(client.received), client.ended) == (b"x", "fin")
        client.send(ASK)
        upstream.wait_until(lambda u: u.exchanges[0].finished)


@pytest.mark.parametrize("how", ["leave", "reset"])
def test_the_client_leaving_is_recorded_with_how_far_it_came(how: str) -> None:
    script = [Send(stream_head() + chunk(b"abc")), AwaitGone()]
    with ScriptedUpstream(script) as upstream:
        client = RawClient(upstream.port)
        client.send(ASK).read_bytes(10)
        assert len(client.received) == 10
        client.read_until(b"abc")
        getattr(client, how)()
        upstream.wait_until(lambda u: u.visits[0].gone is not None)
        assert upstream.visits[0].gone == {"leave": "fin", "reset": "rst"}[how]
        assert upstream.visits[0].gone_at is not None
        assert upstream.exchanges[0].bytes_sent == len(stream_head() + chunk(b"abc"))


def test_a_flood_waits_for_a_slow_reader_and_a_leaver_stops_a_pause() -> None:
    flood = [Send(stream_head()), Flood(b"x" * 65_536, 16_384), Pause("never")]
    with ScriptedUpstream(flood) as upstream:
        client = RawClient(upstream.port, receive_buffer_bytes=4096)
        client.send(ASK).read_bytes(100_000)
        client.reset()
        upstream.wait_until(lambda u: u.visits[0].gone is not None)
        assert upstream.exchanges[0].bytes_sent < 64 << 20
        upstream.play([Pause("never")])
        with RawClient(upstream.port) as second:
            second.send(ASK)
            upstream.wait_until(lambda u: len(u.exchanges) == 2)
        upstream.wait_until(lambda u: u.visits[1].gone is not None)


def test_at_once_speaks_before_any_request_and_drip_is_whole() -> None:
    with ScriptedUpstream([AtOnce(), Drip(b"abc", 0.001), Close()]) as upstream:
        with RawClient(upstream.port) as client:
            assert client.read_all() == b"abc"
        assert upstream.requests == []


def test_refused_and_blackhole_ports() -> None:
    with refused_port() as port, pytest.raises(ConnectionRefusedError):
        RawClient(port)
    with blackhole_port() as port, pytest.raises(TimeoutError):
        RawClient(port, seconds_max=0.2)
