"""The life of a service call over real sockets: what is asked, held, passed on and billed."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from proxy.edge import service
from tests.edge.harness import ANN, Relay, error_of
from tests.edge.services import (
    EMBEDDING,
    EMBEDDINGS,
    IMAGES,
    SPEECH,
    answered,
    asked,
    pictures,
    service_channel,
    service_relay,
    sound,
)
from tests.integration.raw_client import RawResponse, request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import Close, Pause, Reset, Script, Send, plain_script, response_head


def one(path: Path, script: Script, body: bytes, target: str = EMBEDDINGS, **options: Any) -> Any:
    """Ask once; return the answer, the call's row and what the upstream received."""
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(
            path, service_channel(upstream.base_url), **({"plan": "limited"} | options)
        ) as relay,
    ):
        response = relay.ask(body, target)
        calls = relay.calls()
        return response, calls[0] if calls else None, upstream.requests


def test_an_embedding_is_passed_and_billed_as_reported(tmp_path: Path) -> None:
    body = b'{"input": ["a", "b"], "dimensions": 2, "model" : "m", "user": "x"}'
    response, call, (sent,) = one(tmp_path, answered(), body)
    assert response.status == 200
    assert json.loads(response.body) == EMBEDDING
    assert response.header("content-type") == "application/json"
    assert response.header("content-length") == str(len(json.dumps(EMBEDDING)))
    assert (response.header("x-sluice-channel"), response.header("x-sluice-model")) == (
        "main",
        "up-m",
    )
    assert (response.header("x-sluice-verdict"), response.header("x-sluice-cost")) == (
        "complete",
        "3000",
    )
    assert response.header("x-ratelimit-remaining-requests") is not None
    assert sent.target == "/v1/embeddings"
    assert sent.body == body.replace(b'"m"', b'"up-m"')
    assert sent.header("content-length") == str(len(body) + 3)
    assert sent.header("accept") == "*/*"
    assert (call["endpoint"], call["verdict"], call["source"]) == (
        "embeddings",
        "complete",
        "reported",
    )
    assert (call["input_uncached"], call["output"], call["charge"]) == (3, 0, 3_000)
    assert call["delivered_bytes"] == len(json.dumps(EMBEDDING))


def test_without_a_report_the_request_is_counted(tmp_path: Path) -> None:
    quiet = EMBEDDING | {"usage": None}
    _, call, _ = one(tmp_path, answered(quiet), asked(input="x" * 40))
    assert (call["source"], call["input_uncached"], call["charge"]) == ("estimated", 10, 10_000)
    _, call, _ = one(tmp_path / "tokens", answered(quiet), asked(input=[1, 2, 3]))
    assert (call["source"], call["input_uncached"]) == ("counted", 3)


def test_a_report_above_what_is_possible_is_billed_at_the_bound(tmp_path: Path) -> None:
    liar = EMBEDDING | {"usage": {"prompt_tokens": 10**9, "total_tokens": 10**9}}
    _, call, _ = one(tmp_path, answered(liar), asked(input="hello"), credit=10**15)
    assert call["anomalies"] is not None
    assert call["charge"] < 10**7


def test_the_answer_is_shown_whole_only_once_it_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ScriptedUpstream(answered()) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        settled = threading.Event()
        settle = relay.keeper.settle

        def late(closing: Any) -> Any:
            held.append(relay.hold_commits(monkeypatch))
            settled.set()
            return settle(closing)

        held: list[threading.Event] = []
        monkeypatch.setattr(relay.keeper, "settle", late)
        client.send(request_bytes(EMBEDDINGS, asked(), key=ANN))
        assert settled.wait(20)
        whole = json.dumps(EMBEDDING).encode()
        client.read_until(whole[:-1])
        assert not client.received.endswith(whole)
        held[0].set()
        assert client.read_response().body == whole


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
def test_sound_passes_as_it_comes(tmp_path: Path, chunked: bool, stream: bool) -> None:
    data = bytes(range(256)) * 2_000
    rows = [("content-type", "audio/mpeg"), ("content-disposition", "attachment"),
            ("x-secret", "no")]  # fmt: skip
    script = [
        *sound(data[:1_000])[:-1],
        Pause("more"),
        Send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data) - 1_000, data[1_000:])),
    ]
    if not chunked:
        head = response_head(200, [*rows, ("content-length", str(len(data)))])
        script = [Send(head + data[:1_000]), Pause("more"), Send(data[1_000:])]
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        more = {"stream_format": "sse"} if stream else {}
        client.send(
            request_bytes(SPEECH, asked("voice", input="Hällo", voice="x", **more), key=ANN)
        )
        client.read_until(data[:999])
        assert len(upstream.requests) == 1
        upstream.release("more")
        response = client.read_response()
        assert response.body == data
        assert response.header("content-type") == "audio/mpeg"
        assert response.header("x-secret") is None
        if not chunked:
            assert response.header("content-disposition") == "attachment"
            assert response.header("content-length") == str(len(data))
        (call,) = relay.calls()
        assert (call["characters"], call["charge"]) == (5, 75_000)
        assert call["stream"] == stream
        assert upstream.requests[0].header("accept") == ("text/event-stream" if stream else "*/*")


def test_old_clients_read_to_the_end(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(sound(b"abcdef")) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        body = asked("voice", input="x", voice="y")
        client.send(request_bytes(SPEECH, body, key=ANN).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        response = client.read_response()
        assert response.body == b"abcdef"
        assert response.header("transfer-encoding") is None
        assert response.header("connection") == "close"


def test_pictures_are_billed_by_their_size_and_number(tmp_path: Path) -> None:
    answer = plain_script(pictures(2, 100_000))
    body = asked("painter", prompt="a cat", n=2, size="1024x1024", quality="hd")
    response, call, _ = one(tmp_path, answer, body, IMAGES)
    assert response.body == pictures(2, 100_000)
    assert (call["images"], call["variant"], call["charge"]) == (2, "1024x1024:hd", 160_000_000)


def test_tokens_of_pictures_are_billed_as_reported(tmp_path: Path) -> None:
    used = {"input_tokens": 10, "output_tokens": 272, "total_tokens": 282,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 0}}  # fmt: skip
    answer = plain_script(pictures(1, 10, usage=used, size="1024x1024", quality="low"))
    _, call, _ = one(tmp_path, answer, asked("drawer", prompt="x", quality="low"), IMAGES)
    assert (call["input_uncached"], call["image_output"], call["images"]) == (10, 272, 1)
    assert call["charge"] == 10 * 5_000 + 272 * 40_000


def events(*values: dict[str, Any]) -> list[bytes]:
    return [f"event: {value['type']}\ndata: {json.dumps(value)}\n\n".encode() for value in values]


PARTIAL = {"type": "image_generation.partial_image", "b64_json": "AA"}
COMPLETED = {
    "type": "image_generation.completed",
    "b64_json": "B" * 200_000,
    "usage": {"input_tokens": 10, "output_tokens": 300, "total_tokens": 310},
}


def streamed(*parts: bytes) -> list[Any]:
    rows = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
    return [
        Send(response_head(200, rows)),
        *(Send(b"%x\r\n%b\r\n" % (len(part), part)) for part in parts),
    ]


def test_a_stream_of_pictures(tmp_path: Path) -> None:
    first, last = events(PARTIAL, COMPLETED)
    script = [*streamed(first), Pause("more"), *streamed(last)[1:], Send(b"0\r\n\r\n")]
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        body = asked("drawer", prompt="x", stream=True, partial_images=1)
        client.send(request_bytes(IMAGES, body, key=ANN))
        client.read_until(first)
        upstream.release("more")
        response = client.read_response()
        assert response.body == first + last
        assert response.header("content-type") == "text/event-stream"
        (call,) = relay.calls()
        assert (call["image_output"], call["verdict"]) == (300, "complete")


def test_a_stream_that_fails_is_told_in_band_and_not_charged(tmp_path: Path) -> None:
    first, wrong = events(PARTIAL, {"type": "error", "error": {"message": "out of paint"}})
    script = [*streamed(first, wrong), Send(b"0\r\n\r\n")]
    body = asked("drawer", prompt="x", stream=True)
    response, call, _ = one(tmp_path, script, body, IMAGES)
    assert response.body.startswith(first + b"data: ")
    assert json.loads(response.body.split(b"data: ")[-1])["error"]["code"] == "upstream_error"
    assert (call["verdict"], call["charge"]) == ("upstream_error", 0)
    assert call["forgiven"] > 0


@pytest.mark.parametrize(
    ("model", "target", "more", "status", "code", "says"),
    [
        ("nobody", EMBEDDINGS, {"input": "x"}, 404, "model_not_found", "does not exist"),
        ("unpriced", EMBEDDINGS, {"input": "x"}, 404, "model_not_priced", "no price yet"),
        ("writer", IMAGES, {"prompt": "x"}, 404, "model_not_priced", "/v1/images/generations"),
        ("writer", SPEECH, {"input": "x"}, 404, "model_not_priced", "/v1/audio/speech"),
        ("voice", IMAGES, {"prompt": "x"}, 404, "model_not_priced", "/v1/images/generations"),
        ("painter", EMBEDDINGS, {"input": "x"}, 404, "model_not_priced", "/v1/embeddings"),
        ("talker", EMBEDDINGS, {"input": "x"}, 400, "model_endpoint_mismatch",
         "Use POST /v1/chat/completions, or another model."),
        ("m", EMBEDDINGS, {"input": 5}, 400, "invalid_request", "`input`"),
        ("m", EMBEDDINGS, {"input": ""}, 400, "invalid_request", "empty"),
        (5, EMBEDDINGS, {"input": "x"}, 400, "invalid_request", "`model`"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_and_costs_nothing(
    tmp_path: Path, model: Any, target: str, more: Any, status: int, code: str, says: str
) -> None:
    response, call, sent = one(tmp_path, answered(), asked(model, **more), target)
    assert response.status == status
    error = error_of(response)
    assert error["code"] == code
    assert says in error["message"]
    assert response.header("x-ratelimit-limit-requests") is not None
    assert (call, sent) == (None, [])


def test_what_is_free_is_served(tmp_path: Path) -> None:
    response, call, _ = one(tmp_path, answered(), asked("gift"))
    assert (response.status, call["charge"], call["verdict"]) == (200, 0, "complete")


def test_a_price_limit_of_the_caller_is_kept(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(answered()) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        for cost, status in (("1 nano", 400), ("1", 200)):
            client.received.clear()
            client.send(request_bytes(EMBEDDINGS, asked(), key=ANN, headers={"X-Max-Cost": cost}))
            response = client.read_response()
            assert response.status == status
        assert [call["charge"] for call in relay.calls()] == [3_000]


def test_an_empty_wallet_is_told_what_the_call_may_cost(tmp_path: Path) -> None:
    body = asked("painter", prompt="x", n=10)
    response, call, sent = one(tmp_path, answered(), body, IMAGES, credit=1_000_000)
    assert response.status == 402
    assert "may cost up to 0.80 USD" in error_of(response)["message"]
    assert "Add credit." in error_of(response)["message"]
    assert (call, sent) == (None, [])


def test_a_call_that_fails_is_tried_on_the_next_channel(tmp_path: Path) -> None:
    refused = plain_script(b'{"error":{"message":"busy"}}', 503)
    broken = [Send(response_head(200, [("content-length", "99")]) + b'{"data"'), Close()]
    disguised = plain_script(b'{"error":{"message":"inside a 200"}}')
    for number, bad in enumerate((refused, broken, disguised)):
        with (
            ScriptedUpstream(bad) as first,
            ScriptedUpstream(answered()) as second,
            service_relay(
                tmp_path / str(number),
                service_channel(first.base_url, "first", priority=2),
                service_channel(second.base_url, "second"),
            ) as relay,
        ):
            response = relay.ask(asked(), EMBEDDINGS)
            assert json.loads(response.body) == EMBEDDING
            assert response.header("x-sluice-channel") == "second"
            assert len(relay.attempts()) == 2
            assert relay.calls()[0]["charge"] == 3_000


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
FAULTS: dict[str, Script] = {
    "reset before a head": [Reset()],
    "closed before a head": [Close()],
    "closed after a head": [Send(HEAD + b"content-length: 9\r\n\r\n"), Close()],
    "reset after a head": [Send(HEAD + b"transfer-encoding: chunked\r\n\r\n"), Reset()],
    "a chunk cut": [Send(HEAD + b'transfer-encoding: chunked\r\n\r\n9\r\n{"d'), Close()],
    "a bad chunk": [Send(HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n")],
    "two lengths": [Send(HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}")],
    "no HTTP": [Send(b"hello\r\n\r\n")],
    "compressed": [Send(HEAD + b"content-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}")],
    "a redirect": [Send(b"HTTP/1.1 302 No\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n")],
    "an upgrade": [Send(b"HTTP/1.1 101 No\r\n\r\n")],
    "no content": [Send(b"HTTP/1.1 204 No\r\n\r\n")],
    "empty": [Send(HEAD + b"content-length: 0\r\n\r\n")],
    "a page": [Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 1\r\n\r\n<")],
    "half a value": [Send(HEAD + b'content-length: 8\r\n\r\n{"data":')],
    "overloaded": plain_script(b"{}", 529),
    "refused": plain_script(b"no", 401),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda name: name.replace(" ", "-"))
@pytest.mark.parametrize("target", [EMBEDDINGS, IMAGES])
def test_an_upstreams_fault_is_told_and_not_charged(
    tmp_path: Path, fault: str, target: str
) -> None:
    body = asked() if target == EMBEDDINGS else asked("painter", prompt="x")
    response, call, _ = one(tmp_path, FAULTS[fault], body, target)
    assert response.status in {502, 503}, response.body
    assert error_of(response)["code"].startswith("upstream_")
    assert "sk-upstream" not in response.body.decode()
    assert (call["charge"], call["forgiven"], call["delivered_bytes"]) == (0, 0, 0)
    assert call["verdict"] in {"upstream_error", "upstream_truncated"}


def check_uncharged(response: RawResponse, relay: Relay, verdict: str) -> None:
    assert not response.whole
    (call,) = relay.calls()
    assert (call["verdict"], call["charge"]) == (verdict, 0)


@pytest.mark.parametrize("end", [Close(), Reset()])
def test_an_answer_its_upstream_breaks_off_is_not_charged(tmp_path: Path, end: Any) -> None:
    body = pictures(2, 100_000)
    head = response_head(200, [("content-type", "application/json"),
                               ("content-length", str(len(body)))])  # fmt: skip
    script = [Send(head + body[:150_000]), Pause("break"), end]
    with (
        ScriptedUpstream(script) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(IMAGES, asked("painter", prompt="x", n=2), key=ANN))
        client.read_until(lambda data: len(data) > 140_000)
        upstream.release("break")
        check_uncharged(client.read_response(), relay, "upstream_truncated")
        assert relay.calls()[0]["forgiven"] > 0


def test_an_upstreams_refusal_is_told_in_its_words(tmp_path: Path) -> None:
    script = plain_script(b'{"error":{"message":"prompt is indecent","type":"x"}}', 400)
    response, call, _ = one(tmp_path, script, asked("painter", prompt="x"), IMAGES)
    assert response.status == 400
    assert error_of(response)["message"] == "prompt is indecent"
    assert (call["verdict"], call["charge"]) == ("upstream_error", 0)


COUNT = "/v1/messages/count_tokens"
PROMPT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hello " * 50}],
    "system": "Be brief.",
}


def test_a_count_of_tokens_is_the_providers_and_free(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b'{"input_tokens": 61}')) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url, dialect="anthropic")) as relay,
    ):
        response = relay.ask(asked(**PROMPT), COUNT)
        assert json.loads(response.body) == {"input_tokens": 61}
        assert response.header("x-sluice-estimate") is None
        assert upstream.requests[0].header("anthropic-version") == "2023-06-01"
        (call,) = relay.calls()
        assert (call["charge"], call["calls"], call["endpoint"]) == (0, 0, "count_tokens")


@pytest.mark.parametrize("model", ["m", "writer"])
def test_where_nobody_counts_the_count_is_made_here(tmp_path: Path, model: str) -> None:
    response, call, sent = one(tmp_path, answered(), asked(model, **PROMPT), COUNT)
    assert sent == []
    assert response.header("x-sluice-estimate") == "true"
    assert response.header("x-ratelimit-remaining-requests") is not None
    assert 50 < json.loads(response.body)["input_tokens"] < 120
    assert (call["charge"], call["verdict"], call["source"]) == (0, "complete", "none")
    assert call["channel_id"] is None


def test_a_count_that_cannot_be_recorded_is_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        service_relay(
            tmp_path, service_channel("http://127.0.0.1:9"), commit_wait_ms_max=1
        ) as relay,
        relay.client() as client,
    ):
        relay.fail_commits(monkeypatch)
        client.send(request_bytes(COUNT, asked(**PROMPT), key=ANN))
        response = client.read_response()
        assert response.status == 503
        assert json.loads(response.body)["type"] == "error", "in Anthropic's words"


def test_a_count_of_nothing_is_refused_in_anthropics_words(tmp_path: Path) -> None:
    response, call, _ = one(tmp_path, answered(), asked(messages=[]), COUNT)
    assert (response.status, call) == (400, None)
    assert json.loads(response.body)["error"]["type"] == "invalid_request_error"


FORM = (
    b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n'
    b"Content-Type: audio/mpeg\r\n\r\n%b\r\n"
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\near\r\n--B--\r\n'
)
HEARD = "/v1/audio/transcriptions"


def form_bytes(body: bytes, content_type: str = "multipart/form-data; boundary=B") -> bytes:
    wire = request_bytes(HEARD, body, key=ANN)
    return wire.replace(b"application/json", content_type.encode(), 1)


@pytest.mark.parametrize("memory", [4_096, 1 << 26])
def test_a_forms_model_is_changed_in_its_place_and_nothing_else(
    tmp_path: Path, memory: int
) -> None:
    sound = bytes(range(256)) * 4_000 + b"\r\n--C\r\n"
    with (
        ScriptedUpstream(
            answered({"text": "hi", "usage": {"type": "duration", "seconds": 60}})
        ) as upstream,
        service_relay(
            tmp_path, service_channel(upstream.base_url), spool_memory_bytes_max=memory
        ) as relay,
        relay.client() as client,
    ):
        client.send(form_bytes(FORM % sound))
        assert json.loads(client.read_response().body)["text"] == "hi"
        (sent,) = upstream.requests
        assert sent.target == HEARD
        assert sent.header("content-type") == "multipart/form-data; boundary=B"
        assert sent.body == (FORM % sound).replace(b"\r\near\r\n", b"\r\nup-ear\r\n")
        (call,) = relay.calls()
        assert (call["audio_ms"], call["charge"]) == (60_000, 6_000_000)


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (b"{}", "application/json", "form data"),
        (FORM % b"", "multipart/form-data; boundary=B", "is empty"),
        (b"--B--\r\n", "multipart/form-data; boundary=B", "`model`"),
        (FORM % b"x", "multipart/form-data", "boundary"),
        ((FORM % b"x")[:-12], "multipart/form-data; boundary=B", ""),
    ],
)
def test_a_form_that_is_none_is_refused(
    tmp_path: Path, body: bytes, content_type: str, says: str
) -> None:
    with (
        ScriptedUpstream(answered()) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(form_bytes(body, content_type))
        response = client.read_response()
        assert response.status == 400
        assert says in error_of(response)["message"]
        assert (relay.calls(), upstream.requests) == ([], [])


def test_uploads_have_a_limit_of_their_own(tmp_path: Path) -> None:
    bounds = {"upload_bytes_max": 5_000, "body_bytes_max": 2_000}
    with (
        ScriptedUpstream(answered({"text": "hi"})) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url), **bounds) as relay,
    ):
        wires = (
            form_bytes(FORM % (b"x" * 4_000)),
            form_bytes(FORM % (b"x" * 6_000)),
            request_bytes(EMBEDDINGS, asked(input="x" * 3_000), key=ANN),
        )
        for wire, status in zip(wires, (200, 413, 413), strict=True):
            with relay.client() as client:
                client.send(wire)
                assert client.read_response().status == status
        assert len(relay.calls()) == 1


def test_a_disk_that_is_slow_makes_the_client_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has written yet is bounded, however fast the client sends."""
    begun, go_on = threading.Event(), threading.Event()
    write = os.write

    def slow(descriptor: int, data: bytes) -> int:
        begun.set()
        go_on.wait(20)
        return write(descriptor, data)

    with (
        ScriptedUpstream(answered()) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        monkeypatch.setattr(os, "write", slow)
        wire = request_bytes(EMBEDDINGS, asked(input="x" * 10_000_000), key=ANN)
        sender = threading.Thread(target=client.send, args=(wire,))
        sender.start()
        assert begun.wait(20)
        (connection,) = relay.do(lambda: tuple(relay.server._connections))
        transport, request = connection.transport, connection._request
        assert transport is not None
        assert request is not None
        relay.until(lambda: not transport.is_reading())
        assert relay.do(lambda: sum(len(piece) for piece in request._pieces)) < 2 << 20
        go_on.set()
        sender.join(20)
        assert client.read_response().status == 200


def test_a_body_that_drips_has_a_deadline(tmp_path: Path) -> None:
    with (
        service_relay(
            tmp_path, service_channel("http://127.0.0.1:9"), body_seconds_max=0.05
        ) as relay,
        relay.client() as client,
    ):
        client.send(form_bytes(FORM % (b"x" * 4_000))[:-500])
        response = client.read_response()
        assert response.status == 408
        assert relay.calls() == []


def test_a_rehearsal_says_what_it_would_hold(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(answered()) as upstream,
        service_relay(tmp_path, service_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        body = asked("painter", prompt="x", n=3)
        client.send(request_bytes(IMAGES, body, key=ANN, headers={"X-Dry-Run": "true"}))
        told = json.loads(client.read_response().body)
        assert (told["object"], told["hold_usd"], told["admitted"]) == ("dry_run", "0.24", True)
        assert (relay.calls(), upstream.requests) == ([], [])


def test_a_service_has_an_endpoint(tmp_path: Path) -> None:
    class Visit:
        endpoint = None

    class Client:
        visit = Visit()

    with service_relay(tmp_path) as relay, pytest.raises(AssertionError, match="without an endp"):
        relay.run(service.serve_service(relay.world, Client(), 1))  # type: ignore[arg-type]
