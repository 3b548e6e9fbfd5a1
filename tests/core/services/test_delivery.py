"""An answer passed on as it comes: its last byte waits, errors in disguise do not pass."""

import json
from collections.abc import Iterator

import pytest

from proxy.core.outcomes import ERROR_BODY_BYTES_MAX, FailureKind, Phase
from proxy.core.services.delivery import EARLY_BYTES_MAX, EVENT_BYTES_MAX, Delivery
from tests.integration.scripts import chunk, response_head

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
BODY = json.dumps({"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 3}}).encode()
USED = {"input_tokens": 7, "output_tokens": 5}


def head(kind: str | None = JSON, length: int | None = None, status: int = 200) -> bytes:
    rows = [] if kind is None else [("content-type", kind)]
    if length is None:
        rows.append(("transfer-encoding", "chunked"))
    elif length >= 0:
        rows.append(("content-length", str(length)))
    return response_head(status, rows)


def plain(body: bytes, kind: str | None = JSON, status: int = 200) -> bytes:
    return head(kind, len(body), status) + body


def event(value: object, name: str = "") -> bytes:
    line = f"event: {name}\n".encode() if name else b""
    return line + b"data: " + json.dumps(value).encode() + b"\n\n"


def splits(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    yield [data[at : at + 7] for at in range(0, len(data), 7)]


def play(delivery: Delivery, pieces: list[bytes]) -> bytes:
    return b"".join([delivery.receive(piece) for piece in pieces])


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("way", [0, 1, 2])
def test_a_small_answer_passes_whole_but_for_its_last_byte(chunked: bool, way: int) -> None:
    wire = head() + chunk(BODY) + b"0\r\n\r\n" if chunked else plain(BODY)
    delivery = Delivery("embeddings")
    out = play(delivery, list(splits(wire))[way])
    assert delivery.phase is Phase.TERMINAL
    assert (delivery.over, delivery.shown, delivery.reusable) == (True, True, True)
    assert out + delivery.terminal == BODY
    assert len(delivery.terminal) == 1
    assert delivery.passed_bytes == len(BODY) - 1
    assert delivery.progress() == len(BODY)
    usage = delivery.measured.usage
    assert usage is not None
    assert usage.input_uncached == 3
    assert delivery.finish(b"") is True
    assert delivery.finish(b"more") is False


def test_nothing_is_known_before_a_head() -> None:
    delivery = Delivery("embeddings")
    assert delivery.head is None
    assert delivery.measured.usage is None
    delivery.splice(len, len)  # typed to return nothing
    assert delivery.ordinary(b"x") == 0
    assert delivery.allow(5) == b""
    assert delivery.finish(b"") is False


def test_a_large_answer_is_shown_before_its_end() -> None:
    picture = b"A" * EARLY_BYTES_MAX
    body = (
        b'{"data":[{"b64_json":"' + picture + b'"}],"usage":{"input_tokens":1,"output_tokens":9}}'
    )
    delivery = Delivery("images_generations")
    assert delivery.receive(head(length=len(body)) + body[:EARLY_BYTES_MAX]) == b""
    assert not delivery.shown
    first = delivery.receive(body[EARLY_BYTES_MAX : EARLY_BYTES_MAX + 1])
    assert delivery.phase is Phase.CONTENT
    assert first == body[:EARLY_BYTES_MAX]
    rest = delivery.receive(body[EARLY_BYTES_MAX + 1 :])
    assert first + rest + delivery.terminal == body
    usage = delivery.measured.usage
    assert usage is not None
    assert usage.completion_total == 9


@pytest.mark.parametrize("tail", [b"", b'"}]', b'"}]},', b'"}]\n\ndata: {]}'])
def test_json_that_ends_before_it_is_whole_was_truncated(tail: bytes) -> None:
    body = b'{"data":[{"b64_json":"' + b"A" * EARLY_BYTES_MAX + tail
    for wire in (head() + chunk(body) + b"0\r\n\r\n", plain(body)):
        delivery = Delivery("images_generations")
        assert body.startswith(delivery.receive(wire[:-5]) + delivery.receive(wire[-5:]))
        assert delivery.phase is Phase.FAILED
        assert delivery.failure is not None
        assert delivery.failure.kind is FailureKind.TRUNCATED


def test_white_space_after_a_large_answer_is_no_harm() -> None:
    body = b'{"data":[{"b64_json":"' + b"A" * EARLY_BYTES_MAX + b'"}]}\r\n \n'
    delivery = Delivery("images_generations")
    delivery.receive(plain(body))
    assert delivery.phase is Phase.TERMINAL


@pytest.mark.parametrize("kind", ["audio/mpeg", "application/octet-stream", None])
def test_sound_passes_with_its_first_byte(kind: str | None) -> None:
    delivery = Delivery("speech")
    assert delivery.receive(head(kind, 4) + b"ID") == b"I"
    assert delivery.phase is Phase.CONTENT
    assert delivery.receive(b"3x") == b"D3"
    assert delivery.terminal == b"x"


def test_a_text_transcript_passes() -> None:
    delivery = Delivery("transcriptions")
    assert delivery.receive(plain(b"hello\n", "text/plain; charset=utf-8")) == b"hello"
    assert delivery.phase is Phase.TERMINAL


def test_json_without_a_type_is_json() -> None:
    delivery = Delivery("rerank")
    assert delivery.receive(plain(b"{}", None)) == b"{"
    assert delivery.phase is Phase.TERMINAL


@pytest.mark.parametrize(
    ("endpoint", "wire", "why"),
    [
        ("embeddings", plain(b"<html>", "text/html"), "answered with text/html"),
        ("speech", plain(b"<html>", "text/html"), "answered with text/html"),
        ("rerank", plain(b"hello", "text/plain"), "answered with text/plain"),
        ("embeddings", plain(b""), "is empty"),
        ("speech", plain(b"", "audio/mpeg"), "is empty"),
        ("embeddings", plain(b"{"), "without content"),
        ("embeddings", plain(b"[1]"), "without content"),
    ],
)
def test_what_cannot_be_an_answer_is_none(endpoint: str, wire: bytes, why: str) -> None:
    delivery = Delivery(endpoint)
    assert delivery.receive(wire) == b""
    assert delivery.failure is not None
    assert delivery.failure.kind is FailureKind.UNEXPECTED_ANSWER
    assert why in delivery.failure.message
    assert (delivery.phase, delivery.shown) == (Phase.FAILED, False)
    assert delivery.receive(b"") == b""
    assert delivery.receive(b"poison") == b""
    assert delivery.reusable is False


def test_an_error_inside_a_200_does_not_pass() -> None:
    delivery = Delivery("images_generations")
    body = b'{"error":{"message":"no"}}'
    assert delivery.receive(plain(body)) == b""
    assert delivery.failure is not None
    assert (delivery.failure.kind, delivery.failure.body) == (FailureKind.ERROR_EVENT, body)


def test_an_error_status_keeps_its_body_within_a_limit() -> None:
    for size in (20, ERROR_BODY_BYTES_MAX + 10):
        delivery = Delivery("embeddings")
        body = b"x" * size
        wire = plain(body, "text/plain", 429)
        assert play(delivery, [wire[:100], wire[100:60_000], wire[60_000:]]) == b""
        failure = delivery.failure
        assert failure is not None
        assert (failure.kind, failure.status) == (FailureKind.STATUS, 429)
        assert failure.body == body[:ERROR_BODY_BYTES_MAX]


def test_a_compressed_answer_is_refused() -> None:
    wire = response_head(200, [("content-encoding", "gzip"), ("content-length", "9")]) + b"x" * 9
    delivery = Delivery("embeddings")
    assert delivery.receive(wire) == b""
    assert delivery.failure is not None
    assert "compressed" in delivery.failure.message


def test_the_end_of_the_connection_ends_an_answer_without_a_length() -> None:
    delivery = Delivery("speech")
    assert delivery.receive(head("audio/mpeg", -1) + b"abc") == b"ab"
    assert delivery.receive_eof() == b""
    assert (delivery.phase, delivery.terminal) == (Phase.TERMINAL, b"c")
    assert delivery.receive_eof() == b""
    small = Delivery("embeddings")
    assert small.receive(head(JSON, -1) + BODY) == b""
    assert small.receive_eof() + small.terminal == BODY
    assert small.passed_bytes == len(BODY) - 1


@pytest.mark.parametrize("wire", [b"", head(), head(length=9) + b"{", head() + b"5\r\nab"])
def test_an_answer_that_breaks_off_is_truncated(wire: bytes) -> None:
    delivery = Delivery("embeddings")
    delivery.receive(wire)
    assert delivery.receive_eof() == b""
    assert delivery.failure is not None
    assert delivery.failure.kind is FailureKind.TRUNCATED


@pytest.mark.parametrize("after", [b"", b"audio"])
def test_broken_framing_ends_it(after: bytes) -> None:
    delivery = Delivery("speech")
    good = chunk(after) if after else b""
    out = delivery.receive(head("audio/mpeg") + good + b"zz\r\n")
    assert out == after[:-1]
    assert delivery.failure is not None
    assert delivery.failure.kind is FailureKind.FRAMING
    early = Delivery("embeddings")
    early.receive(plain(b"<", "text/html") + b"")
    assert early.failure is not None
    refused = Delivery("embeddings")
    refused.receive(head("text/html") + b"zz\r\n")
    assert refused.failure is not None
    assert refused.failure.kind is FailureKind.UNEXPECTED_ANSWER


STREAM = (
    event({"type": "image_generation.partial_image", "b64_json": "AA"}, "image_generation.partial"),
    event({"type": "image_generation.completed", "b64_json": "BB", "usage": USED}),
)


@pytest.mark.parametrize("way", [0, 1, 2])
def test_a_stream_passes_event_by_event_and_waits_with_the_end_of_its_last(way: int) -> None:
    wire = head(EVENTS) + b"".join(chunk(one) for one in (b": hi\n\n", *STREAM)) + b"0\r\n\r\n"
    delivery = Delivery("images_generations")
    out = play(delivery, list(splits(wire))[way])
    assert delivery.phase is Phase.TERMINAL
    assert out + delivery.terminal == b"".join(STREAM)
    assert delivery.terminal == b"\n"
    usage = delivery.measured.usage
    assert usage is not None
    assert usage.prompt_total == 7


def test_an_event_leaves_as_soon_as_it_is_whole() -> None:
    delivery = Delivery("images_generations")
    delivery.receive(head(EVENTS))
    assert delivery.receive(chunk(b": ping\n\n")) == b""
    assert not delivery.shown
    assert delivery.receive(chunk(STREAM[0])) == STREAM[0]
    assert delivery.receive(chunk(b": ping\n\n")) == b": ping\n\n"
    assert delivery.receive(chunk(STREAM[1])) == STREAM[1][:-1]
    assert delivery.receive(chunk(b"data: [DONE]\n\n")) == b"\ndata: [DONE]\n"
    assert delivery.phase is Phase.CONTENT
    assert delivery.receive(b"0\r\n\r\n") == b""
    assert (delivery.phase, delivery.terminal) == (Phase.TERMINAL, b"\n")


@pytest.mark.parametrize("done", [b"data: [DONE]\n\n", b"data:[DONE]\n\n"])
def test_done_ends_a_stream_whose_events_nobody_knows(done: bytes) -> None:
    delivery = Delivery("speech")
    wire = head(EVENTS) + chunk(event({"audio": "AA"})) + chunk(done) + b"0\r\n\r\n"
    assert delivery.receive(wire) + delivery.terminal == event({"audio": "AA"}) + done
    assert delivery.phase is Phase.TERMINAL


def test_an_event_too_large_to_hold_passes_in_parts() -> None:
    large = event({"type": "image_generation.completed", "b64_json": "A" * EVENT_BYTES_MAX * 2})
    for size in (len(large), 1_000):
        delivery = Delivery("images_generations")
        out = delivery.receive(head(EVENTS, len(large)))
        for at in range(0, len(large), size):
            out += delivery.receive(large[at : at + size])
            if 70_000 < at < 100_000:
                assert out, "it is not gathered first"
        assert out + delivery.terminal == large
        assert delivery.phase is Phase.TERMINAL


def test_a_stream_without_its_last_event_was_truncated() -> None:
    for rest in (b"", b'data: {"type"'):
        delivery = Delivery("images_generations")
        out = delivery.receive(head(EVENTS) + chunk(STREAM[0] + rest) + b"0\r\n\r\n")
        assert out == STREAM[0] + rest
        assert delivery.failure is not None
        assert delivery.failure.kind is FailureKind.TRUNCATED
        assert delivery.shown


def test_an_error_event_does_not_pass_whenever_it_comes() -> None:
    wrong = event({"type": "error", "error": {"message": "sk-secret"}})
    for before in ((), STREAM[:1]):
        delivery = Delivery("images_generations")
        wire = head(EVENTS) + b"".join(map(chunk, (*before, wrong, STREAM[1])))
        assert delivery.receive(wire) == b"".join(before)
        assert delivery.failure is not None
        assert delivery.failure.kind is FailureKind.ERROR_EVENT
        assert json.loads(delivery.failure.body)["error"]["message"] == "sk-secret"
    last = Delivery("images_generations")
    assert last.receive(head(EVENTS, len(wrong)) + wrong[:-1] + b"\r") == b""
    assert last.failure is not None
    assert last.failure.kind is FailureKind.ERROR_EVENT
