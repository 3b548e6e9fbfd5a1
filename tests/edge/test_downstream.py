"""The client's side of one request: bounded bodies in, one head and one end out."""

import json
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.core.entities import Dialect
from proxy.edge import downstream
from proxy.edge.visit import REFERENCE_CHARS_MAX
from tests.edge.harness import (
    ANN,
    CHAT,
    MESSAGES,
    Relay,
    answer,
    body,
    channel,
    error_of,
    message,
    plain_answer,
)
from tests.integration.raw_client import request_bytes, responses
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import Pause, Send, plain_script, stream_head, stream_script


def chunked(payload: bytes, size: int, target: str = CHAT) -> bytes:
    """A request whose body comes in chunks of `size`."""
    head = (
        f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ANN}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("target", [CHAT, MESSAGES])
@pytest.mark.parametrize("form", ["announced", "chunked", "whole"])
def test_a_body_that_is_too_large_is_413_in_the_dialect(
    tmp_path: Path, target: str, form: str
) -> None:
    large = body("x" * 5_000, max_tokens=5)
    with Relay(tmp_path, body_bytes_max=4_096) as relay, relay.client() as client:
        if form == "chunked":
            client.send(chunked(large, 1_000, target))
        else:
            sent = request_bytes(target, large, key=ANN)
            client.send(sent if form == "whole" else sent[:-1_000])
        response = client.read_response()
        assert response.status == 413
        assert error_of(response)["code"] == "request_too_large"
        assert ("type" in json.loads(response.body)) is (target == MESSAGES)
        assert response.header("x-ratelimit-limit-requests") == "600"
        if form == "announced":
            client.read_all()
        assert len(list(responses(bytes(client.received)))) == 1


def test_a_body_at_the_limit_passes(tmp_path: Path) -> None:
    exact = body("x" * 100)
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url), body_bytes_max=len(exact)) as relay,
    ):
        assert relay.ask(exact).status == 200
        assert relay.ask(exact + b" ").status == 413


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_a_chunked_body_is_read_whole(tmp_path: Path, size: int) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(chunked(body(), size), write_bytes=50)
        assert client.read_response().whole
        assert b"Say hello." in upstream.requests[0].body


@pytest.mark.parametrize("target", [CHAT, MESSAGES])
def test_a_body_that_never_ends_is_408(tmp_path: Path, target: str) -> None:
    with Relay(tmp_path, body_seconds_max=0.05) as relay, relay.client() as client:
        client.send(request_bytes(target, body(), key=ANN)[:-1])
        response = client.read_response()
        assert response.status == 408
        assert error_of(response)["code"] == "request_timeout"
        client.read_all()
        assert not relay.calls()


def test_a_client_that_leaves_in_its_body_is_no_call(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        for leave in ("half_close", "reset"):
            with relay.client() as client:
                before = relay.handler.begun
                client.send(request_bytes(CHAT, body(), key=ANN)[:-1])
                relay.until_begun(before)
                getattr(client, leave)()
        assert not relay.calls()


def test_the_callers_own_id_is_kept_but_not_used(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), key=ANN, headers={"X-Request-Id": "mine" * 100}))
        response = client.read_response()
        assert (response.header("x-request-id") or "").startswith("req_")
        (call,) = relay.calls()
        assert call["client_reference"] == ("mine" * 100)[:REFERENCE_CHARS_MAX]


def test_limits_are_on_a_stream_too(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body())
        for name in ("x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens",
                     "anthropic-ratelimit-tokens-reset"):  # fmt: skip
            assert response.header(name)
        assert response.header("cache-control") == "no-cache"
        assert response.header("x-accel-buffering") == "no"


@pytest.mark.parametrize("value", ["a\nset-cookie: b", "a\r\n\r\nb", "a\r", "\n"])
def test_a_line_break_never_reaches_a_head(value: str) -> None:
    client = downstream.Downstream.__new__(downstream.Downstream)
    client._lines = [""]
    with pytest.raises(AssertionError, match="line break"):
        client.add_headers([("x-good", "good"), ("x-bad", value)])
    assert client._lines == [""]


def test_what_was_expected_to_be_charged_at_once_leaves_before_a_commit_that_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One packet would do for a whole answer; where its end is not free yet, it takes two."""
    whole = plain_answer()
    with (
        ScriptedUpstream([Pause("rest"), *plain_script(whole)]) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(stream=False, max_tokens=50), key=ANN))
        call = relay.call()
        relay.until(call.admission.committed.done)
        held = relay.hold_commits(monkeypatch)
        relay.world.charges_at_once = True
        upstream.release("rest")
        relay.until(lambda: call._commit_waiter is not None)
        connection = call.client.connection
        assert connection.cork is not None
        assert relay.do(connection.unsent_bytes) == 0
        client.read_until(whole[:-1])
        assert not client.received.endswith(whole)
        assert not relay.world.charges_at_once
        held.set()
        assert client.read_response().body == whole


@pytest.mark.parametrize("redo", [True, False], ids=["logged", "waited for"])
def test_plain_answers_are_one_packet_where_nothing_has_to_be_waited_for(
    tmp_path: Path, redo: bool
) -> None:
    whole = plain_answer()
    with (
        ScriptedUpstream(plain_script(whole)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), redo=redo) as relay,
        relay.client() as client,
    ):
        for _ in range(3):
            client.send(request_bytes(CHAT, body(stream=False, max_tokens=50), key=ANN))
            assert client.read_response().body == whole
            client.received.clear()
        (connection,) = relay.server._connections
        assert (connection.cork is not None) is redo
        assert relay.world.charges_at_once is redo
        assert [row["verdict"] for row in relay.calls()] == ["complete"] * 3


def test_a_stream_that_keeps_its_connection_has_the_head_of_one_that_does_not(
    tmp_path: Path,
) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        heads = []
        for headers in ({}, {"Connection": "close"}):
            with relay.client() as client:
                client.send(request_bytes(CHAT, body(), key=ANN, headers=headers))
                response = client.read_response()
            assert (response.version, response.status, response.reason) == ("1.1", 200, "OK")
            assert response.whole
            heads.append(
                [
                    (name, value)
                    for name, value in response.headers
                    if name != "x-request-id" and "ratelimit" not in name
                ]
            )
        kept, closed = heads
        assert closed == [*kept, ("connection", "close")]
        assert ("transfer-encoding", "chunked") in kept


def test_a_stream_names_who_answers_though_another_was_expected_to(tmp_path: Path) -> None:
    """The head is put together while the first upstream is waited for, which then fails."""
    with (
        ScriptedUpstream(plain_script(b"{}", status=500)) as first,
        ScriptedUpstream(stream_script(answer())) as second,
        Relay(
            tmp_path,
            channel(first.base_url, "first", priority=2),
            channel(second.base_url, "second", models={"m": "other-m"}),
        ) as relay,
    ):
        response = relay.ask(body())
        assert response.whole
        for name, value in (("x-sluice-channel", "second"), ("x-sluice-model", "other-m")):
            assert [said for key, said in response.headers if key == name] == [value]
        assert len(first.requests) == 1


class Line:
    """A connection that keeps what is written."""

    lost, cork = False, None

    def __init__(self, *, keeps_alive: bool) -> None:
        self.keeps_alive = keeps_alive
        self.written: list[bytes] = []
        self.transport = self

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def last_response(self) -> None:
        self.keeps_alive = False


@pytest.mark.parametrize(
    "names", [("first", "m-1"), ("\xe9", "\N{SNOWMAN}"), ("a\nb", "m"), ("", "")]
)
@pytest.mark.parametrize("later", ["nothing", "lines", "headers", "name", "heartbeat", "retired"])
def test_a_head_put_together_before_is_the_one_put_together_then(
    names: tuple[str, str], later: str
) -> None:
    """Whatever happens in between, and wherever there can be none."""
    taken = 0
    for minor, keeps_alive, origin, first, more in product(
        (0, 1), (0, 1), ("", "*"), (b"", b"data: x\n\n"), ([], [("x-more", "\xe9"), ("x-yet", "")])
    ):
        sent = []
        for prepared in (True, False):
            line: Any = Line(keeps_alive=bool(keeps_alive))
            head = SimpleNamespace(minor=minor, values={"origin": "x"} if origin else {})
            request: Any = SimpleNamespace(head=head, protocol=line)
            visit: Any = SimpleNamespace(dialect=Dialect.OPENAI, endpoint_name="", id_line="id: ")
            client = downstream.Downstream(request, visit, "req_1", origin, None)
            client.add_headers([("x-before", "1")])
            if prepared:
                client.prepare("second", "m-2")
                client.prepare(*names)
            if later == "lines":
                client.add_lines("x-later: 1")
            elif later == "headers":
                client.add_headers([("x-later", "1")])
            elif later == "name":
                client.name_upstream("third", "m-3")
            elif later == "heartbeat":
                client.begin(client.heartbeat())
            elif later == "retired":
                line.keeps_alive = False
            if client.begun:
                client.write(first)
            elif prepared and client.begin_prepared(first, more):
                taken += 1
            else:
                client.name_upstream(*names)
                client.add_headers(more)
                client.begin(first)
            client.finish(b"data: [DONE]\n\n")
            block, *rest = b"".join(line.written).split(b"\r\n\r\n")
            lines = block.split(b"\r\n")
            sent.append((lines[0], sorted(lines), rest, line.keeps_alive))
        assert sent[0] == sent[1]
    assert taken == (4 if later == "nothing" else 0)


UPSTREAMS_OWN = [
    ("OpenAI-Version", "2020-10-01"),
    ("openai-processing-ms", "61"),
    ("openai-organization", "acme"),
    ("x-request-id", "theirs"),
    ("x-ratelimit-limit-requests", "77"),
    ("set-cookie", "a=b"),
    ("server", "theirs"),
]


@pytest.mark.parametrize("stream", [False, True])
def test_of_an_upstreams_head_only_what_is_listed_goes_on(tmp_path: Path, stream: bool) -> None:
    head = stream_head(*UPSTREAMS_OWN)
    script = (
        stream_script(answer(), headers=[Send(head)])
        if stream
        else plain_script(plain_answer(), headers=UPSTREAMS_OWN)
    )
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        for _ in range(4):  # by then the upstream's head is known again
            response = relay.ask(body(stream=stream))
            said = dict(response.headers)
            assert (said["openai-version"], said["openai-processing-ms"]) == ("2020-10-01", "61")
            assert said["x-request-id"].startswith("req_")
            assert "theirs" not in said.values()
            assert said.get("x-ratelimit-limit-requests") == "600"
            assert not {"set-cookie", "server", "openai-organization"} & set(said)


def test_a_translated_answer_keeps_nothing_of_its_upstreams_head(tmp_path: Path) -> None:
    head = stream_head(*UPSTREAMS_OWN)
    with (
        ScriptedUpstream(stream_script(message(), headers=[Send(head)])) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect="anthropic")) as relay,
    ):
        response = relay.ask(body(max_tokens=50))
        assert response.status == 200
        assert not {name.lower() for name, _ in UPSTREAMS_OWN[:3]} & set(dict(response.headers))
