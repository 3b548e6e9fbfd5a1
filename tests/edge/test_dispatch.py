"""Channels tried in order: what fails over, what does not, and what the caller is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.edge import dispatch as dispatch_module
from proxy.edge.upstream import ENDING_SECONDS_MAX
from tests.edge.harness import (
    ANN,
    CHAT,
    CONTENT,
    DONE,
    MESSAGES,
    ROLE,
    STOP,
    WORDS,
    Relay,
    answer,
    body,
    channel,
    data,
    error_of,
    message,
    named,
    plain_answer,
    price_of,
)
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ScriptedUpstream, blackhole_port, refused_port
from tests.integration.scripts import (
    LAST_CHUNK,
    AwaitGone,
    Close,
    Flood,
    HalfClose,
    Pause,
    Reset,
    Script,
    Send,
    chunk,
    plain_script,
    response_head,
    stream_head,
    stream_script,
)

OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy now"}}


def refusal(status: int, text: str = "no", **headers: str) -> list[Any]:
    """An error answer of the upstream."""
    rows = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return plain_script(json.dumps({"error": {"message": text}}).encode(), status, rows)


BROKEN: dict[str, Script] = {
    "F1 reset before headers": [Reset()],
    "F1 closed before headers": [Close()],
    "F2 reset after headers": [Send(stream_head()), Pause("never-mind"), Reset()],
    "F2 closed after headers": [Send(stream_head()), Close()],
    "F3 closed in mid chunk": [Send(stream_head() + b"ff\r\ndata: {"), Close()],
    "F4 half-closed in mid event": [Send(stream_head() + chunk(ROLE[:20])), HalfClose()],
    "F5 short length": [Send(response_head(200, [("content-type", "text/event-stream"),
                                                 ("content-length", "500")]) + ROLE), Close()],
    "F7 bad chunk size": [Send(stream_head() + b"-5\r\nxx\r\n")],
    "F7 no chunk size": [Send(stream_head() + b"\r\n\r\n")],
    "F13 garbage for a head": [Send(b"garbage\n\n\n")],
    "F15 gzip": [Send(stream_head(("content-encoding", "gzip")) + chunk(b"\x1f\x8b" + b"0" * 500))],
    "F17 no terminal event": [Send(stream_head() + chunk(ROLE) + LAST_CHUNK)],
    "F19 error in a 200": stream_script([data({"error": {"message": "sorry"}})]),
    "F20 JSON to a stream request": plain_script(plain_answer()),
    "F24 switching protocols": [Send(response_head(101, [("upgrade", "h2c")]))],
    "F24 a flood of interim answers": [Flood(response_head(103), 50)],
    "F23 status 500": refusal(500), "F23 status 502": refusal(502), "F23 status 503": refusal(503),
    "F23 status 529": refusal(529), "F23 status 401": refusal(401), "F23 status 402": refusal(402),
    "F23 status 403": refusal(403), "F23 status 429": refusal(429),
}  # fmt: skip


OF_STREAMS = {"F17", "F19", "F20"}


@pytest.mark.parametrize(
    ("fault", "stream"),
    [(fault, True) for fault in BROKEN]
    + [(fault, False) for fault in BROKEN if fault[:3] not in OF_STREAMS],
)
def test_a_fault_before_content_goes_to_the_next_channel(
    tmp_path: Path, fault: str, stream: bool
) -> None:
    good = stream_script(answer()) if stream else plain_script(plain_answer())
    with (
        ScriptedUpstream(BROKEN[fault]) as bad,
        ScriptedUpstream(good) as upstream,
        Relay(
            tmp_path,
            channel(bad.base_url, "bad", priority=1),
            channel(upstream.base_url, "good"),
        ) as relay,
    ):
        bad.release("never-mind")
        response = relay.ask(body(stream=stream, max_tokens=50))
        assert response.status == 200
        assert response.whole
        (call,) = relay.calls()
        assert call["verdict"] == "complete"
        assert call["charge"] == price_of(9, 7 if stream else 2)
        first, second = relay.attempts()
        assert (first["outcome"] != "served", second["outcome"]) == (True, "served")
        assert bad.visits[0].exchanges == [] or len(bad.exchanges) == 1


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_of_the_only_channel_is_told_with_its_true_status(
    tmp_path: Path, fault: str, dialect: str
) -> None:
    with (
        ScriptedUpstream(BROKEN[fault]) as bad,
        Relay(tmp_path, channel(bad.base_url, dialect=dialect)) as relay,
    ):
        bad.release("never-mind")
        response = relay.ask(body(max_tokens=50), CHAT if dialect == "openai" else MESSAGES)
        assert response.status in {429, 502, 503, 529}
        told = error_of(response)
        assert "sk-" not in str(told)
        assert told["code"]
        assert response.header("x-ratelimit-limit-requests") == "600"
        (call,) = relay.calls()
        assert call["verdict"] in {"upstream_error", "upstream_truncated"}
        assert (call["charge"], call["status"]) == (0, response.status)


STATUSES = {
    400: (400, "invalid_request"), 404: (404, "model_not_found"), 408: (408, "request_timeout"),
    413: (413, "request_too_large"), 422: (422, "invalid_request"), 302: (502, "upstream_error"),
    401: (503, "upstream_unavailable"), 402: (503, "upstream_unavailable"),
    403: (503, "upstream_unavailable"), 429: (429, "upstream_rate_limited"),
    500: (502, "upstream_error"), 503: (503, "upstream_unavailable"), 418: (502, "upstream_error"),
}  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
def test_the_status_map(tmp_path: Path, status: int) -> None:
    said = "bad key sk-upstream-main-0001 of Bearer abc.def-123456"
    script = refusal(status, said, location="http://elsewhere.test/")
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body())
        told = error_of(response)
        assert (response.status, told["code"]) == STATUSES[status]
        assert "sk-upstream" not in told["message"]
        assert "abc.def" not in told["message"]
        passed = status in {400, 404, 408, 413, 422}
        assert ("bad key" in told["message"]) is passed
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [("7", 7), ("0", 1), ("1000000000", 1), ("-1", 1), ("3000", 60), ("soon", 1), (None, 1)],
)
def test_retry_after_of_an_upstream(tmp_path: Path, sent: str | None, seconds: int) -> None:
    headers = {} if sent is None else {"retry_after": sent}
    with (
        ScriptedUpstream(refusal(429, **headers)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body())
        assert response.status == 429
        assert response.header("retry-after") == str(seconds)


def test_529_is_kept_for_anthropic(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(refusal(529)) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect="anthropic")) as relay,
    ):
        response = relay.ask(body(max_tokens=5), MESSAGES)
        assert response.status == 529
        assert error_of(response)["type"] == "overloaded_error"


AFTER: dict[str, Script] = {
    "reset": [Reset()],
    "closed": [Close()],
    "half-closed": [HalfClose()],
    "bad framing": [Send(b"zz\r\n")],
    "no terminal": [Send(LAST_CHUNK)],
    "unfinished event": [Send(chunk(b'data: {"cho')), Close()],
}


@pytest.mark.parametrize("fault", AFTER)
def test_a_fault_after_content_is_never_retried_and_never_ends_as_if_complete(
    tmp_path: Path, fault: str
) -> None:
    script = [Send(stream_head()), *[Send(chunk(event)) for event in (ROLE, *CONTENT)],
              Pause("seen"), *AFTER[fault]]  # fmt: skip
    with (
        ScriptedUpstream(script) as bad,
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(
            tmp_path, channel(bad.base_url, "bad", priority=1), channel(upstream.base_url)
        ) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), key=ANN)).read_until(CONTENT[-1])
        bad.release("seen")
        response = client.read_response()
        assert response.whole
        assert DONE not in response.body
        assert response.body.startswith(b"".join([ROLE, *CONTENT]))
        assert error_of(response)["code"] in {"upstream_truncated", "upstream_error"}
        assert not upstream.visits
        (call,) = relay.calls()
        assert call["verdict"] in {"upstream_truncated", "upstream_error"}
        assert (call["source"], call["output"]) == ("counted", len(WORDS))


def test_an_error_event_after_content_is_passed_on_and_ends_the_stream(tmp_path: Path) -> None:
    error = data({"error": {"message": "too hot", "type": "x", "code": None, "param": None}})
    script = [Send(stream_head()), *[Send(chunk(event)) for event in (ROLE, *CONTENT)],
              Pause("seen"), Send(chunk(error) + chunk(DONE) + LAST_CHUNK)]  # fmt: skip
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), key=ANN)).read_until(CONTENT[-1])
        upstream.release("seen")
        response = client.read_response()
        assert response.whole
        assert DONE not in response.body
        assert error_of(response)["message"] == "too hot"
        (call,) = relay.calls()
        assert call["verdict"] == "upstream_error"


def test_an_anthropic_error_event_before_content_is_no_answer(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script([message()[0], named(OVERLOADED)])) as bad,
        ScriptedUpstream(stream_script(message())) as upstream,
        Relay(
            tmp_path,
            channel(bad.base_url, "bad", priority=1, dialect="anthropic"),
            channel(upstream.base_url, dialect="anthropic"),
        ) as relay,
    ):
        assert relay.ask(body(max_tokens=50), MESSAGES).body == b"".join(message())


@pytest.mark.parametrize("told", [b'{"error":{"message":"sorry"}}', b"<html>", b""])
def test_an_error_inside_a_plain_200_is_no_answer(tmp_path: Path, told: bytes) -> None:
    with (
        ScriptedUpstream(plain_script(told)) as bad,
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(
            tmp_path, channel(bad.base_url, "bad", priority=1), channel(upstream.base_url)
        ) as relay,
    ):
        response = relay.ask(body(stream=False, max_tokens=50))
        assert response.body == plain_answer()
        assert [one["outcome"] for one in relay.attempts()] == ["upstream_error", "served"]


def test_the_retry_stops_after_two_more_channels(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(refusal(500)) as bad,
        Relay(tmp_path, *[channel(bad.base_url, f"c{number}") for number in range(5)]) as relay,
    ):
        assert relay.ask(body()).status == 502
        assert len(relay.attempts()) == 3


def test_the_retry_budget_is_shared(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(refusal(500)) as bad,
        Relay(tmp_path, channel(bad.base_url, "a"), channel(bad.base_url, "b")) as relay,
    ):
        relay.world.retries.in_progress = 3
        assert relay.ask(body()).status == 502
        assert len(relay.attempts()) == 1
        relay.world.retries.in_progress = 0
        assert relay.ask(body()).status == 502
        assert len(relay.attempts()) == 3
        assert relay.world.retries.in_progress == 0


def test_a_kept_connection_that_was_closed_is_replaced_once_and_blames_nobody(
    tmp_path: Path,
) -> None:
    with (
        ScriptedUpstream(stream_script(answer()), [Reset()], stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body()).whole
        # The client has all before the upstream's last chunk, after which the connection is kept.
        relay.until(lambda: relay.world.pool.idle_count() == 1)
        assert relay.ask(body()).whole
        assert len(upstream.visits) == 2
        assert [call["verdict"] for call in relay.calls()] == ["complete", "complete"]
        assert len(relay.attempts()) == 3


def test_a_last_chunk_that_comes_late_still_leaves_the_connection_to_the_next_call(
    tmp_path: Path,
) -> None:
    late = [*stream_script(answer())[:-1], Pause("late"), Send(LAST_CHUNK)]
    with (
        ScriptedUpstream(late) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body()).whole, "nobody waits for the last chunk"
        pool = relay.world.pool
        assert relay.do(pool.idle_count) == 0
        upstream.release("late")
        relay.until(lambda: pool.idle_count() == 1)
        assert relay.ask(body()).whole
        assert len(upstream.visits) == 1


@pytest.mark.parametrize("rest", [b"5\r\nextra\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", b"zz\r\n", None])
def test_what_comes_instead_of_the_last_chunk_ends_the_connection(
    tmp_path: Path, rest: bytes | None
) -> None:
    ending = [AwaitGone()] if rest is None else [Pause("late"), Send(rest), AwaitGone()]
    with (
        ScriptedUpstream([*stream_script(answer())[:-1], *ending]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body()).whole
        upstream.release("late")
        if rest is None:
            now = relay.do(relay.world.loop.time)
            relay.do(lambda: relay.world.pool.sweep(now + ENDING_SECONDS_MAX))
        upstream.wait_until(lambda up: up.visits[0].gone is not None)
        assert relay.do(relay.world.pool.idle_count) == 0


def test_a_fresh_connection_that_is_reset_is_not_tried_again(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([Reset()]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body()).status == 502
        assert len(upstream.visits) == 1


def test_a_key_that_was_refused_rests_and_the_next_one_serves(tmp_path: Path) -> None:
    def script(request: Any) -> Script:
        bad = request.header("authorization") == "Bearer sk-bad-0001"
        return refusal(401) if bad else stream_script(answer())

    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url, keys=["sk-bad-0001", "sk-good-0002"])) as relay,
    ):
        for _ in range(4):
            assert relay.ask(body()).whole
        sent = [request.header("authorization") for request in upstream.requests]
        assert sent.count("Bearer sk-bad-0001") == 1
        assert len(relay.attempts()) == 5


def test_while_its_only_key_rests_a_channel_is_not_asked_and_the_reason_is_told(
    tmp_path: Path,
) -> None:
    with (
        ScriptedUpstream(refusal(429, retry_after="30")) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        for _ in range(2):
            response = relay.ask(body())
            assert (response.status, error_of(response)["code"]) == (429, "upstream_rate_limited")
            assert 29 <= int(response.header("retry-after") or 0) <= 30
        assert len(upstream.requests) == 1


def test_a_breaker_opens_and_the_channel_is_left_alone(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(refusal(500)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        statuses = [relay.ask(body()).status for _ in range(8)]
        assert statuses == [502] * 5 + [503] * 3
        assert len(upstream.requests) == 5
        assert [call["charge"] for call in relay.calls()] == [0] * 8


def test_refused_stream_options_are_left_out_and_the_call_repeated(tmp_path: Path) -> None:
    def script(request: Any) -> Script:
        if b"stream_options" in request.body:
            return refusal(400, "unknown field stream_options")
        return stream_script([ROLE, *CONTENT, STOP, DONE])

    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body()).whole
        assert relay.ask(body(stream_options={"include_usage": True})).whole
        assert len(upstream.requests) == 3
        assert [call["source"] for call in relay.calls()] == ["counted", "counted"]


def test_no_connection_goes_to_the_next_channel(tmp_path: Path) -> None:
    with (
        refused_port() as closed,
        blackhole_port() as silent,
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(
            tmp_path,
            channel(f"http://127.0.0.1:{closed}/v1", "closed", priority=3),
            channel(f"http://127.0.0.1:{silent}/v1", "silent", priority=2, connect_seconds_max=0.1),
            channel(upstream.base_url),
        ) as relay,
    ):
        assert relay.ask(body()).whole
        outcomes = [one["outcome"] for one in relay.attempts()]
        assert outcomes == ["upstream_unavailable", "upstream_unavailable", "served"]


@pytest.mark.parametrize(
    "url",
    ["http://no-such-host.invalid/v1", "http://" + "a" * 70 + ".test/v1", "https://127.0.0.1:1/v1"],
)
def test_no_connection_at_all_is_503_with_retry_after(tmp_path: Path, url: str) -> None:
    with Relay(tmp_path, channel(url)) as relay:
        response = relay.ask(body())
        assert (response.status, error_of(response)["code"]) == (503, "upstream_unavailable")
        assert response.header("retry-after") == "5"


@pytest.mark.parametrize("again", [True, False])
def test_a_first_byte_timeout_is_retried_only_where_the_group_says_so(
    tmp_path: Path, again: bool
) -> None:
    with (
        ScriptedUpstream([AwaitGone()]) as silent,
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(
            tmp_path,
            channel(silent.base_url, "silent", priority=1, first_byte_seconds_max=0.05),
            channel(upstream.base_url),
            group={"retry_after_timeout": again},
        ) as relay,
    ):
        response = relay.ask(body())
        assert response.status == (200 if again else 504)
        silent.wait_until(lambda up: up.visits[0].gone is not None)
        (call,) = relay.calls()
        assert call["verdict"] == ("complete" if again else "timeout")


@pytest.mark.parametrize("stall", ["F9", "F10"])
def test_a_stalled_stream_ends_in_band_as_a_timeout(tmp_path: Path, stall: str) -> None:
    sent = (ROLE,) if stall == "F9" else (ROLE, *CONTENT)
    script = [Send(stream_head()), *[Send(chunk(event)) for event in sent], AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url, idle_seconds_max=0.1)) as relay,
    ):
        response = relay.ask(body())
        assert response.status == (504 if stall == "F9" else 200)
        assert error_of(response)["code"] == "upstream_timeout"
        (call,) = relay.calls()
        assert call["verdict"] == "timeout"
        assert call["output"] == (0 if stall == "F9" else len(WORDS))


def test_only_listed_headers_go_upstream(tmp_path: Path) -> None:
    headers = {"anthropic-beta": "x-1", "openai-beta": "y=2", "cookie": "a=b", "x-secret": "no",
               "x-api-key": ANN, "user-agent": "me"}  # fmt: skip
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), headers=headers)).read_response()
        names = {name.lower() for name, _ in upstream.requests[0].headers}
        assert names == {"host", "content-type", "accept", "accept-encoding", "user-agent",
                         "authorization", "anthropic-beta", "openai-beta",
                         "content-length"}  # fmt: skip
        assert ANN.encode() not in upstream.requests[0].raw
        assert len(upstream.visits) < dispatch_module.TRIES_MAX
