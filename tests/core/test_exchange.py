from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import deltas, looks, outcomes, passthrough
from proxy.core import exchange as engine
from proxy.core.deltas import OpenAIChunk
from proxy.core.entities import Tokenizer, Wire
from proxy.core.exchange import Exchange, Expectation, FailureKind, Phase
from proxy.core.looks import LOOKS
from proxy.core.metering import PENDING_BYTES_MAX, Meter
from proxy.core.sse import EVENT_BYTES_MAX
from proxy.core.tokenizers import exact_count
from proxy.core.usage import UsageTally
from proxy.core.whole_chunks import events_in_chunks
from tests.core.playbook import (
    END,
    FINISH,
    GEMINI,
    MESSAGES,
    PLAIN,
    RESPONSES,
    STREAM,
    STRIPPED,
    Connection,
    anywhere,
    check_case,
    check_stream,
    chunk,
    chunked,
    each_byte,
    expectation,
    expectation_of,
    head,
    new,
    play,
    state,
)
from tests.corpora.framing import bytes_of
from tests.corpora.sse import SseCase, sse
from tests.integration.stream_record import UpstreamStream
from tests.integration.streams import BY_NAME, STREAMS

ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"sk-secret is wrong"}}\n\n'
START = (
    b'event: message_start\ndata: {"type":"message_start",'
    b'"message":{"usage":{"input_tokens":5,"output_tokens":1}}}\n\n'
)
LAST = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":3}}\n\n'
)
MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def says(text: str, index: int = 0) -> bytes:
    return (
        b"data: "
        + orjson.dumps({"choices": [{"index": index, "delta": {"content": text}}]})
        + b"\n\n"
    )


def block(text: str, index: int = 0) -> bytes:
    event = {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": "text_delta", "text": text},
    }
    return b"event: content_block_delta\ndata: " + orjson.dumps(event) + b"\n\n"


def begun(
    expect: Expectation = STREAM, *events: bytes, allowed: int = engine.UNLIMITED
) -> Connection:
    """A connection whose upstream has sent a head and `events`, each in a chunk and a read."""
    connection = Connection(new(expect, allowed=allowed))
    for data in [head(), *map(chunk, events)]:
        connection.feed(data)
    return connection


# Scripts


def test_a_stream_from_head_to_terminal() -> None:
    connection = Connection(new(STREAM))
    exchange = connection.exchange
    assert connection.at(Phase.HEAD)
    assert exchange.head is None
    connection.feed(head("X-Request-Id: abc"))
    assert connection.at(Phase.PREAMBLE)
    assert exchange.head is not None
    assert exchange.head.header("x-request-id") == "abc"
    connection.feed(chunk(b": hello\n\n") + chunk(ROLE))
    assert (exchange.phase, exchange.shown, connection.wire) == (Phase.PREAMBLE, False, b"")
    assert exchange.held == b": hello\n\n" + ROLE
    connection.feed(chunk(says("Hi")))
    assert connection.at(Phase.CONTENT)
    assert exchange.shown
    assert connection.wire == chunk(says("Hi"))
    before = connection.verbatim
    connection.feed(chunk(says(" there")) + chunk(says("!")))
    assert connection.verbatim == before + len(chunk(says(" there")) + chunk(says("!")))
    assert not exchange.finishing
    connection.feed(chunk(STOP))
    assert exchange.finishing
    connection.feed(chunk(USAGE))
    assert not exchange.over
    connection.feed(chunk(DONE))
    assert connection.at(Phase.TERMINAL)
    assert exchange.over
    assert exchange.terminal == DONE
    assert not exchange.reusable
    connection.feed(END)
    assert exchange.reusable
    assert (
        connection.body
        == b": hello\n\n" + ROLE + b"".join(map(says, ("Hi", " there", "!"))) + STOP + USAGE
    )
    assert (exchange.events, exchange.garbage, exchange.finish_reason) == (6, 0, "stop")
    assert exchange.wire_bytes == len(connection.body)
    assert exchange.meter.advance() == len("Hi there!")
    assert exchange.tally.usage().output == 2
    assert connection.exchange.allow(5) == b""


def test_a_messages_stream_from_head_to_terminal() -> None:
    opening = b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'
    connection = begun(MESSAGES, START, ping, opening)
    assert connection.at(Phase.PREAMBLE)
    connection.feed(chunk(block("Hel")) + chunk(block("lo")))
    assert connection.at(Phase.CONTENT)
    connection.feed(chunk(block(" you")))
    assert connection.verbatim == len(chunk(block(" you")))
    connection.feed(chunk(ping + LAST + MESSAGE_STOP) + END)
    assert connection.exchange.terminal == MESSAGE_STOP
    assert connection.exchange.finish_reason == "end_turn"
    assert connection.exchange.reusable
    assert connection.exchange.meter.advance() == len("Hello you")
    assert connection.exchange.tally.usage().input_uncached == 5
    assert connection.exchange.tally.usage().output == 3


def responding(kind: str, **fields: object) -> bytes:
    data = orjson.dumps({"type": kind, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def test_a_responses_stream_from_head_to_terminal() -> None:
    created = responding("response.created", response={"id": "resp_1"})
    hello = responding("response.output_text.delta", delta="Hello")
    odd = b"data: [1]\n\n"
    connection = begun(RESPONSES, b": hi\n\n", created, odd)
    exchange = connection.exchange
    assert connection.at(Phase.PREAMBLE)
    assert (exchange.answer_id, exchange.garbage) == ("resp_1", 1)
    connection.feed(chunk(hello))
    assert connection.at(Phase.CONTENT)
    connection.feed(chunk(hello) + chunk(hello))
    assert connection.verbatim == 2 * len(chunk(hello))
    assert not exchange.finishing
    answer = {"id": "other", "status": "completed", "usage": {"input_tokens": 7}}
    end = responding("response.completed", response=answer)
    connection.feed(chunk(end) + END)
    assert (exchange.phase, exchange.terminal) == (Phase.TERMINAL, end)
    assert (exchange.answer_id, exchange.finish_reason) == ("resp_1", "completed")
    assert exchange.reusable
    assert connection.body == b": hi\n\n" + created + odd + hello * 3
    assert (exchange.events, exchange.meter.advance()) == (4, 15)
    assert exchange.wire_bytes == len(connection.body)
    assert exchange.tally.usage().input_uncached == 7


def test_an_answer_told_only_by_its_end_is_counted() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
    end = responding("response.completed", response={"output": [item]})
    exchange = begun(RESPONSES, end).exchange
    assert (exchange.terminal, exchange.shown) == (end, True)
    assert (exchange.meter.advance(), exchange.wire_bytes) == (5, 0)


def generated(*parts: object, finish: str | None = None, index: int = 0) -> bytes:
    candidate: dict[str, object] = {"content": {"parts": parts}, "index": index}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 7, "totalTokenCount": 7}
    return (
        b"data: " + orjson.dumps({"candidates": [candidate], "usageMetadata": usage}) + b"\r\n\r\n"
    )


def test_a_gemini_stream_ends_with_its_body_when_every_candidate_has() -> None:
    hello, last = generated({"text": "Hello"}), generated({"text": ""}, finish="STOP")
    other = generated({"text": "a"}, finish="MAX_TOKENS", index=1)
    connection = begun(replace(GEMINI, choices=2), generated({"text": ""}))
    assert connection.at(Phase.PREAMBLE)
    connection.feed(chunk(hello) + chunk(last))
    assert connection.at(Phase.CONTENT)
    assert connection.exchange.finishing
    connection.feed(chunk(other) + END)
    exchange = connection.exchange
    assert (exchange.phase, exchange.terminal) == (Phase.TERMINAL, b"")
    assert (exchange.finish_reason, exchange.reusable) == ("MAX_TOKENS", True)
    assert connection.body == generated({"text": ""}) + hello + last + other
    assert (exchange.events, exchange.meter.advance()) == (4, 6)
    assert exchange.tally.usage().input_uncached == 7
    one = begun(replace(GEMINI, choices=2), hello, last)
    one.feed(END)
    assert one.exchange.failure is not None
    assert one.exchange.failure.kind is FailureKind.TRUNCATED


@pytest.mark.parametrize("cut", [True, False])
def test_an_error_in_a_responses_stream_is_not_quoted(cut: bool) -> None:
    delta = responding("response.output_text.delta", delta="a")
    error = responding("response.failed", response={"error": {"message": "sk-secret"}})
    connection = begun(RESPONSES, *([delta, error] if cut else [delta + error]))
    failure = connection.exchange.failure
    assert failure is not None
    assert (failure.kind, connection.body) == (FailureKind.ERROR_EVENT, delta)
    assert b"sk-secret" in failure.body


def test_events_of_a_form_whose_end_is_large_never_pass_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(looks, "RESPONSES_EVENT_BYTES_MAX", 300)
    large = responding("response.output_text.delta", delta="a" * 400)
    connection = begun(RESPONSES, large)
    assert connection.wire == b""
    assert connection.exchange.failure is not None
    assert connection.exchange.failure.kind is FailureKind.TOO_LARGE


def test_what_such_a_form_asked_back_may_be_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PREAMBLE_BYTES_MAX", 100)
    monkeypatch.setattr(looks, "RESPONSES_EVENT_BYTES_MAX", 300)
    created = responding("response.created", response={"instructions": "a" * 150})
    connection = begun(RESPONSES, created, created)
    assert connection.at(Phase.PREAMBLE)
    connection.feed(chunk(created))
    assert connection.at(Phase.FAILED)


@pytest.mark.parametrize(
    "stream", [s for s in STREAMS if len(s.body) < 20_000], ids=lambda s: s.name
)
def test_generated_streams_whole_byte_by_byte_and_anyhow(stream: UpstreamStream) -> None:
    wire = head() + chunked(stream.events)
    expect = expectation(stream)
    for usage_asked in (True, False):
        expect = replace(expect, strip_usage=not usage_asked)
        expected = play(expect, [wire])
        check_stream(stream, expected, usage_asked=usage_asked)
        reads = [head(), *map(chunk, stream.events), END]
        assert play(expect, reads) == play(expect, reads, patterns=False) == expected
        assert (
            play(expect, anywhere(head() + chunked(anywhere(stream.body, 1, 90)), 2, 50))
            == expected
        )
    expected = play(expect, each_byte(wire))
    check_stream(stream, expected, usage_asked=False)
    again = play(replace(expect, verbatim=False), [head(), *map(chunk, stream.events), END])
    assert again == expected


@pytest.mark.parametrize(
    "name", ["openai-one-event", "openai-error-in-the-middle", "anthropic-crlf"]
)
def test_reference_streams_cut_at_every_place(name: str) -> None:
    stream = BY_NAME[name]
    wire = head("Keep-Alive: yes") + chunked(stream.events)
    expect = expectation(stream, strip_usage=True)
    expected = play(expect, [wire])
    check_stream(stream, expected, usage_asked=False)
    for place in range(1, len(wire)):
        assert play(expect, [wire[:place], wire[place:]]) == expected, place


@pytest.mark.parametrize(
    "case", [c for c in sse() if len(c.body) < 20_000], ids=lambda case: case.name
)
def test_named_cases(case: SseCase) -> None:
    segments = [bytes_of(raw) for raw, _ in case.segments]
    expected = play(expectation_of(case), [head() + chunked(segments)])
    check_case(case, expected)
    again = play(expectation_of(case), each_byte(head(framing="close") + case.body), eof=True)
    assert replace(again, reusable=expected.reusable) == expected


def decodings(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The events that are decoded on the way to a pattern, from now on."""
    monkeypatch.setattr(passthrough, "_proven", set())
    decoded: list[bytes] = []
    decode = deltas.openai_delta

    def noted(data: bytes) -> OpenAIChunk:
        decoded.append(data)
        return decode(data)

    monkeypatch.setattr(passthrough, "openai_delta", noted)
    return decoded


def test_the_first_content_is_the_pattern_of_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = begun(STREAM, ROLE, says("Hi"))
    decoded = decodings(monkeypatch)
    for text in (" there", " and", " more"):
        connection.feed(chunk(says(text)))
    assert [b"Hi~" in data for data in decoded] == [True]
    assert connection.exchange.events == 5
    assert connection.exchange.meter.advance() == len("Hi there and more")


@pytest.mark.parametrize(
    "first",
    [
        ROLE.replace(b'"content":""', b'"content":"Hi"'),
        says("long" * engine.LESSON_BYTES_MAX),
    ],
    ids=["names a role", "is long"],
)
def test_a_first_content_that_is_no_good_example_is_not_learnt_from(
    first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = begun(STREAM, first)
    assert connection.at(Phase.CONTENT)
    decoded = decodings(monkeypatch)
    for text in (" there", " and"):
        connection.feed(chunk(says(text)))
    assert [b" there" in data for data in decoded] == [True, True]


def test_a_pattern_may_be_learnt_before_the_next_event_is_there() -> None:
    connection = begun(STREAM, ROLE)
    exchange = connection.exchange
    assert not exchange.learn()
    connection.feed(chunk(says("Hi")))
    assert not exchange.passes(chunk(says(" there")))
    assert exchange.learn()
    assert not exchange.learn(), "once is enough"
    assert exchange.passes(chunk(says(" there")))
    assert exchange.meter.advance() == len("Hi there")
    assert not begun(replace(STREAM, verbatim=False), says("Hi")).exchange.learn()


# The content point


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"refusal": "x"},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "id": "call_1"}]},
        {"role": "assistant", "audio": {"id": "a"}},
        {"annotations": [{"type": "url_citation"}]},
        {"reasoning": "x"},
    ],
    ids="-".join,
)
def test_the_first_delta_with_anything_in_it_is_shown(delta: dict[str, object]) -> None:
    event = b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": delta}]}) + b"\n\n"
    connection = begun(STREAM, ROLE, event)
    assert connection.at(Phase.CONTENT)
    assert connection.body == ROLE + event


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":[{"index":0,"delta":{"role":"assistant","content":null,"refusal":null}}]}',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[]}}]}',
        b'{"choices":[{"index":0,"delta":{"content":""},"finish_reason":""}]}',
        b'{"choices":[{"index":0}]}',
        b'{"choices":[],"prompt_filter_results":[{}]}',
        b"not json",
    ],
)
def test_events_without_content_wait(data: bytes) -> None:
    connection = begun(STREAM, b"data: " + data + b"\n\n")
    assert connection.at(Phase.PREAMBLE)
    assert not connection.exchange.finishing
    connection.feed(END)
    assert connection.exchange.failure is not None
    assert connection.exchange.failure.kind is FailureKind.TRUNCATED
    assert connection.body == b""


def test_a_preamble_is_bounded() -> None:
    connection = begun(STREAM)
    comment = b":" + b"x" * 1_000 + b"\n\n"
    while not connection.exchange.over:
        connection.feed(chunk(comment))
        assert len(connection.exchange.held) <= engine.PREAMBLE_BYTES_MAX + len(comment)
    assert connection.exchange.failure is not None
    assert connection.exchange.failure.kind is FailureKind.TOO_LARGE
    assert connection.wire == b""


def test_an_answer_that_ends_without_content_is_shown_whole() -> None:
    connection = begun(STREAM, ROLE)
    connection.feed(chunk(DONE) + END)
    assert connection.exchange.shown
    assert connection.body == ROLE


# Usage, finish, terminal


def test_reads_that_may_be_written_on_go_straight_to_who_writes_them() -> None:
    exchange = begun(STREAM, says("a")).exchange
    assert exchange.learn()
    written: list[bytes] = []
    others: list[bytes] = []
    receive = exchange.splice(written.append, others.append)
    assert receive is not None
    receive(chunk(says(" there")))
    receive(chunk(STOP))
    assert (written, others) == ([chunk(says(" there"))], [chunk(STOP)])
    assert exchange.events == 2


def test_usage_that_is_ours_never_passes() -> None:
    connection = begun(STRIPPED, says("a"), STOP)
    wire = connection.wire
    connection.feed(chunk(USAGE))
    assert connection.wire == wire
    assert connection.exchange.tally.final
    in_content = b'data: {"choices":[{"index":0,"delta":{}}],"usage":{"completion_tokens":9}}\n\n'
    connection.feed(chunk(in_content))
    assert connection.wire == wire + chunk(in_content)
    assert connection.exchange.tally.usage().output == 9


def test_a_byte_order_mark_means_something_only_at_the_start() -> None:
    connection = begun(STREAM, b"\xef\xbb\xbf" + says("a"), b"\xef\xbb\xbf" + says("b"), says("c"))
    assert connection.exchange.meter.advance() == 2
    assert connection.body == b"\xef\xbb\xbf" + says("a") + b"\xef\xbb\xbf" + says("b") + says("c")


def test_finished_choices_and_a_clean_end_are_enough_where_the_channel_says_so() -> None:
    two = replace(FINISH, choices=2)
    events = [says("a"), says("b", 1), STOP]
    assert play(two, [head() + chunked(events)]).failure is not None
    events.append(STOP.replace(b'"index":0', b'"index":1'))
    played = play(two, [head() + chunked(events)])
    assert played.phase is Phase.TERMINAL
    assert (played.terminal, played.body) == (b"", b"".join(events))
    assert play(two, [head() + chunked(events)[: -len(END)]], eof=True).phase is Phase.FAILED
    assert play(two, [head(framing="close") + b"".join(events)], eof=True).phase is Phase.TERMINAL


def test_an_empty_finish_reason_ends_nothing() -> None:
    def said(text: str) -> bytes:
        return chunk(
            b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":""}]}\n\n' % text.encode()
        )

    exchange = begun(STREAM, says("a")).exchange
    assert exchange.ordinary(said(" b")) == len(said(" b")), "some write it into every event"
    assert exchange.passes(said(" c"))
    assert not exchange.finishing


def test_after_a_clean_end_nothing_is_ordinary() -> None:
    connection = begun(FINISH, says("a"), says("b"))
    assert connection.exchange.ordinary(chunk(says("c")))
    connection.feed(chunk(STOP))
    connection.feed(END)
    assert connection.at(Phase.TERMINAL)
    assert connection.exchange.reusable
    assert not connection.exchange.ordinary(chunk(says("of another tenant")))
    wire = connection.wire
    connection.feed(chunk(says("of another tenant")))
    assert connection.wire == wire
    assert not connection.exchange.reusable


@pytest.mark.parametrize(
    "rest", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r", b"data: [DONE]\r\n"]
)
def test_a_last_terminal_without_its_blank_line_is_mended(rest: bytes) -> None:
    played = play(STREAM, [head() + chunked([says("a"), rest])])
    assert (played.phase, played.body, played.terminal) == (Phase.TERMINAL, says("a"), DONE)
    assert (
        play(STREAM, [head() + chunked([says("a"), rest])[: -len(END)]], eof=True).phase
        is Phase.FAILED
    )


def test_a_terminal_that_ends_in_a_lone_cr_is_whole() -> None:
    played = play(STREAM, [head() + chunked([says("a"), b"data: [DONE]\n\r"])])
    assert (played.phase, played.terminal) == (Phase.TERMINAL, b"data: [DONE]\n\r")


@pytest.mark.parametrize(
    ("rest", "phase"),
    [
        (MESSAGE_STOP[:-1], Phase.TERMINAL),
        (MESSAGE_STOP[:-2], Phase.TERMINAL),
        (b"event: message_stop\ndata: {}\n", Phase.TERMINAL),
        (MESSAGE_STOP[:-4], Phase.FAILED),
        (b"event: message_stop\n", Phase.FAILED),
        (block("more")[:-1], Phase.FAILED),
    ],
)
def test_what_a_messages_stream_may_end_in(rest: bytes, phase: Phase) -> None:
    played = play(MESSAGES, [head() + chunked([START, block("a"), LAST, rest])])
    assert played.phase is phase
    assert played.body == START + block("a") + LAST


def test_an_unfinished_event_never_passes() -> None:
    played = play(STREAM, [head() + chunked([says("a"), says("b")[:-1]])])
    assert played.body == says("a")
    assert played.failure is not None
    assert played.failure.kind is FailureKind.TRUNCATED


def test_data_after_the_terminal_event_never_passes() -> None:
    connection = begun(STREAM, says("a"))
    connection.feed(chunk(DONE + says("late")) + chunk(says("later")))
    connection.feed(chunk(says("latest")) + END)
    assert connection.body == says("a")
    assert connection.exchange.reusable
    connection.eof()
    assert connection.at(Phase.TERMINAL)
    connection.feed(b"HTTP/1.1 200 OK\r\n")
    assert not connection.exchange.reusable


def test_bad_framing_after_the_terminal_event_spoils_the_connection_only() -> None:
    connection = begun(STREAM, says("a"), DONE)
    connection.feed(b"zz\r\n")
    assert connection.at(Phase.TERMINAL)
    assert not connection.exchange.reusable


# Errors inside a 200


@pytest.mark.parametrize("cut", [False, True], ids=["one-read", "two-reads"])
def test_an_error_after_content_ends_the_exchange_and_is_not_quoted(cut: bool) -> None:
    reads = [head(), chunk(ROLE + says("a")), chunk(ERROR + DONE) + END]
    played = play(STREAM, reads if cut else [b"".join(reads)])
    assert played.body == ROLE + says("a")
    assert played.shown
    assert not played.terminal
    assert played.failure is not None
    assert played.failure.kind is FailureKind.ERROR_EVENT
    assert b"sk-secret" in played.failure.body


@pytest.mark.parametrize("cut", [False, True], ids=["one-read", "two-reads"])
def test_an_error_before_content_shows_nothing(cut: bool) -> None:
    reads = [head(), chunk(ROLE), chunk(ERROR)]
    played = play(STREAM, reads if cut else [b"".join(reads)])
    assert (played.body, played.shown, played.phase) == (b"", False, Phase.FAILED)


def test_an_error_body_is_bounded() -> None:
    event = b'data: {"error":"' + b"x" * 100_000 + b'"}\n\n'
    failure = play(STREAM, [head() + chunked([event])]).failure
    assert failure is not None
    assert len(failure.body) == outcomes.ERROR_BODY_BYTES_MAX


@pytest.mark.parametrize(
    "event",
    [
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n',
        b'data: {"type":"error"}\n\n',
        b"event: error\ndata: overloaded\n\n",
        b"event: error\n\n",
        b'event: whatever\ndata: {"error":{"message":"of the other dialect"}}\n\n',
    ],
)
def test_errors_of_a_messages_stream(event: bytes) -> None:
    played = play(MESSAGES, [head(), chunk(START), chunk(block("a")), chunk(event)])
    assert played.failure is not None
    assert played.failure.kind is FailureKind.ERROR_EVENT
    assert played.body == START + block("a")


def test_a_messages_event_is_known_by_its_name_when_its_data_does_not_say() -> None:
    unnamed = b'data: {"type":"content_block_delta","delta":{"text":"b"}}\n\n'
    odd = b"event: content_block_delta\ndata: {}\n\n"
    connection = begun(MESSAGES, odd)
    assert connection.at(Phase.CONTENT)
    for event in (unnamed, b": comment\n\n", b"event: ping\n\n", b"data: garbage\n\n"):
        connection.feed(chunk(event))
    assert connection.exchange.garbage == 1
    assert connection.exchange.meter.advance() == 1
    connection.feed(chunk(b"event: message_stop\ndata: {}\n\n"))
    assert connection.at(Phase.TERMINAL)


def test_an_id_line_is_remembered() -> None:
    connection = begun(STREAM, says("a"))
    assert not connection.exchange.has_id
    connection.feed(chunk(b"id: 7\n" + says("b")))
    assert connection.exchange.has_id


# Plain answers and refusals


@pytest.mark.parametrize("framing", ["chunked", "close", "15"])
def test_a_plain_answer(framing: str) -> None:
    body = b'{"choices":[]}\n'
    wire = head(kind="application/json", framing=framing)
    wire += chunked([body[:4], body[4:]]) if framing == "chunked" else body
    for reads in ([wire], list(each_byte(wire))):
        connection = Connection(new(PLAIN))
        for data in reads:
            connection.feed(data)
        connection.eof()
        assert connection.at(Phase.TERMINAL)
        assert connection.exchange.body == body
        assert connection.exchange.plain_bytes == len(body)
        assert connection.exchange.reusable == (framing != "close")
        assert connection.wire == b""


def test_a_plain_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "RESPONSE_BYTES_MAX", 100)
    exchange = new(PLAIN)
    exchange.receive(head(kind="application/json", framing="close"))
    exchange.receive(b"x" * 100)
    assert exchange.phase is Phase.PLAIN
    exchange.receive(b"x" * 100)
    assert exchange.failure is not None
    assert exchange.failure.kind is FailureKind.TOO_LARGE
    assert len(exchange.body) == 100


@pytest.mark.parametrize("expect", [PLAIN, STREAM], ids=["plain", "stream"])
@pytest.mark.parametrize("status", [302, 400, 429, 503])
def test_a_refusal_keeps_status_reason_and_delay(expect: Expectation, status: int) -> None:
    body = b'{"error":{"message":"no"}}'
    wire = (
        head("Retry-After: 7", status=status, kind="application/json", framing=str(len(body)))
        + body
    )
    for reads in ([wire], list(each_byte(wire))):
        played = play(expect, reads)
        assert played.failure == outcomes.Failure(
            FailureKind.STATUS, f"the upstream answered {status}", status, "7", body
        )


def test_a_refusal_is_bounded_and_told_before_its_end() -> None:
    for size in (1, 50_000, 1_000_000):
        exchange = new(PLAIN)
        exchange.receive(head(status=500, framing="close"))
        for start in range(0, 100_000, size):
            exchange.receive(b"x" * min(size, 100_000 - start))
        assert exchange.failure is not None
        assert len(exchange.failure.body) == outcomes.ERROR_BODY_BYTES_MAX
        assert not exchange.reusable


def test_json_for_a_stream_is_read_and_refused() -> None:
    body = b'{"error":{"message":"overloaded"}}'
    connection = Connection(new(STREAM))
    connection.feed(head(kind="application/json; charset=utf-8", framing=str(len(body))) + body)
    assert connection.exchange.failure is not None
    assert connection.exchange.failure.kind is FailureKind.UNEXPECTED_ANSWER
    assert connection.exchange.failure.body == body
    assert connection.exchange.reusable


def test_a_stream_without_a_content_type_is_a_stream() -> None:
    assert play(STREAM, [head(kind="") + chunked([says("a"), DONE])]).phase is Phase.TERMINAL


@pytest.mark.parametrize("expect", [PLAIN, STREAM], ids=["plain", "stream"])
def test_a_compressed_answer_is_refused_and_a_status_still_true(expect: Expectation) -> None:
    played = play(expect, [head("Content-Encoding: gzip") + chunk(b"\x1f\x8b\x08")])
    assert played.failure is not None
    assert played.failure.kind is FailureKind.UNEXPECTED_ANSWER
    played = play(
        expect, [head("Content-Encoding: br", "Retry-After: 3", status=429) + chunk(b"\1")]
    )
    assert played.failure is not None
    assert (played.failure.status, played.failure.retry_after) == (429, "3")
    wire = head("Content-Encoding: Identity") + chunked([says("a"), DONE])
    assert play(expect, [wire]).phase is Phase.TERMINAL


# The end of the connection, and bad framing


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        head(),
        head() + chunk(ROLE),
        head() + chunk(says("a")),
        head() + b"5\r\nab",
        head(framing="50") + says("a"),
        head(kind="application/json", framing="9") + b"{}",
        head(kind="application/json") + chunk(b"{}"),
    ],
)
def test_an_early_end_is_a_truncation(wire: bytes) -> None:
    exchange = new(STREAM)
    if wire:
        exchange.receive(wire)
    assert exchange.receive_eof() == b""
    assert exchange.failure is not None
    assert exchange.failure.kind is FailureKind.TRUNCATED
    assert exchange.receive_eof() == b""


def test_interim_responses_are_skipped() -> None:
    wire = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + head() + chunked([says("a"), DONE])
    assert play(STREAM, each_byte(wire)).phase is Phase.TERMINAL


@pytest.mark.parametrize("cut", [False, True], ids=["one-read", "two-reads"])
def test_what_came_before_bad_framing_passes(cut: bool) -> None:
    reads = [head() + chunk(says("a")), b"zz\r\n"]
    played = play(STREAM, reads if cut else [b"".join(reads)])
    assert played.body == says("a")
    assert played.failure is not None
    assert played.failure.kind is FailureKind.FRAMING
    assert not played.reusable


def test_bad_framing_before_a_head_and_after_a_terminal_in_one_read() -> None:
    assert play(STREAM, [b"SSH-2.0-OpenSSH\r\n"]).phase is Phase.FAILED
    assert play(STREAM, [head() + chunk(says("a") + DONE) + b"zz\r\n"]).phase is Phase.TERMINAL
    assert play(PLAIN, [head() + chunk(b"{") + b"zz\r\n"]).phase is Phase.FAILED


def test_bytes_after_the_end_or_a_failure_forbid_reuse() -> None:
    wire = head(kind="application/json", framing="2") + b"{}"
    exchange = new(PLAIN)
    exchange.receive(wire)
    assert exchange.reusable
    exchange.receive(b"H")
    assert not exchange.reusable
    exchange = new(PLAIN)
    exchange.receive(wire + b"H")
    assert exchange.phase is Phase.TERMINAL
    assert not exchange.reusable
    exchange = new(STREAM)
    exchange.receive(head(status=500, framing="0"))
    assert exchange.reusable
    exchange.receive(b"H")
    assert not exchange.reusable


# The fast path


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"0\r\n\r\n",
        chunk(DONE),
        chunk(STOP),
        chunk(USAGE),
        chunk(ERROR),
        chunk(b": comment\n\n"),
        chunk(says("a") + says("b")),
        chunk(says("a"))[:-1],
        chunk(says("a")).upper(),
        b"0" + chunk(says("a")),
        chunk(says("a")).replace(b"\r\n", b";x=1\r\n", 1),
        b"f" * 400 + b"}\n\n\r\n",
        b"}\n\n\r\n",
        chunk(says("x" * 9_000)),
        chunk(b"id: 1\n" + says("a")),
        chunk(b"data: {not json}\n\n"),
        chunk(says("a").replace(b"\n", b"\r")),
    ],
)
def test_what_is_not_ordinary_is_left_alone(data: bytes) -> None:
    exchange = begun(STREAM, says("a")).exchange
    before = (exchange.wire_bytes, exchange.events, exchange.meter.text_bytes)
    assert exchange.ordinary(data) == 0
    assert (exchange.wire_bytes, exchange.events, exchange.meter.text_bytes) == before
    assert exchange.ordinary(chunk(says("b")) + data) == len(chunk(says("b")))


@pytest.mark.parametrize(
    "event",
    [MESSAGE_STOP, LAST, START, says("a"), b'event: content_block_delta\ndata: {"a":1}\n\n'],
)
def test_what_is_not_ordinary_in_a_messages_stream(event: bytes) -> None:
    exchange = begun(MESSAGES, START, block("a")).exchange
    assert exchange.ordinary(chunk(event)) == 0
    assert exchange.ordinary(chunk(block("b")) + chunk(event)) == len(chunk(block("b")))


@pytest.mark.parametrize(
    "wire",
    [
        head(),
        head() + chunk(ROLE),
        head(framing="close") + says("a"),
        head(framing="10000") + says("a"),
        head() + chunk(says("a"))[:-1],
        head() + chunk(says("a") + b"data"),
        head() + chunk(says("a") + DONE),
    ],
)
def test_nothing_is_ordinary_before_content_or_amid_an_event(wire: bytes) -> None:
    exchange = new(STREAM)
    exchange.receive(wire)
    assert exchange.ordinary(chunk(says("b"))) == 0


def test_nothing_is_ordinary_for_a_client_without_chunks() -> None:
    assert (
        begun(replace(STREAM, verbatim=False), says("a")).exchange.ordinary(chunk(says("b"))) == 0
    )


# Events too large to hold


def test_an_oversized_event_passes_in_parts_and_counts_by_weight() -> None:
    expect = replace(STREAM, event_bytes_max=1_000)
    big = says("x" * 5_000)
    for reads in (
        [chunk(big)],
        [chunk(part) for part in anywhere(big, 1, 700)],
        [chunk(big[:-1]), chunk(b"\n")],
    ):
        connection = begun(expect, ROLE)
        for data in reads:
            connection.feed(data)
        connection.feed(chunk(says("after") + DONE) + END)
        assert connection.body == ROLE + big + says("after")
        assert connection.at(Phase.TERMINAL)
        assert connection.exchange.meter.advance() == -(-len(big) // 4) + 5
        assert not connection.exchange.meter.exact


def test_memory_is_flat_under_an_endless_line() -> None:
    expect = replace(STREAM, event_bytes_max=10_000)
    connection = begun(expect, says("a"))
    for number in range(100):
        assert connection.exchange.in_event == (number > 3)
        connection.feed(chunk(b"data: " + b"x" * 3_000))
        assert len(connection.exchange._splitter._partial) <= 13_100
    connection.feed(END)
    assert connection.exchange.failure is not None
    assert connection.exchange.failure.kind is FailureKind.TRUNCATED


def test_a_part_waits_for_its_weight_and_passes_when_the_hold_grows() -> None:
    expect = replace(STREAM, event_bytes_max=2 * PENDING_BYTES_MAX)
    connection = begun(expect, says("a"), allowed=1_000)
    big = says("x" * (4 * PENDING_BYTES_MAX))
    connection.feed(chunk(big))
    assert connection.exchange.at_edge
    assert connection.body == says("a")
    connection.allow(len(big) // 4)
    assert connection.exchange.at_edge
    connection.allow(len(big) // 4 + 10)
    assert not connection.exchange.at_edge
    assert connection.body == says("a") + big


# The edge of the hold


def test_output_beyond_the_hold_waits_in_order() -> None:
    connection = begun(STRIPPED, ROLE, says("abc"), allowed=5)
    exchange = connection.exchange
    connection.feed(chunk(says("de")))
    assert not exchange.at_edge
    connection.feed(chunk(says("f")) + chunk(says("ghij")))
    assert exchange.at_edge
    assert exchange.upper == 5
    connection.feed(chunk(says("k") + STOP) + chunk(USAGE) + chunk(DONE) + END)
    assert connection.at(Phase.CONTENT)
    connection.eof()
    assert connection.at(Phase.CONTENT)
    connection.allow(6)
    assert exchange.at_edge
    assert connection.body == ROLE + says("abc") + says("de") + says("f")
    connection.allow(100)
    assert connection.at(Phase.TERMINAL)
    assert connection.body == ROLE + b"".join(map(says, ("abc", "de", "f", "ghij", "k"))) + STOP


@pytest.mark.parametrize("reads", [1, 3], ids=["one-event-a-read", "three-events-a-read"])
def test_a_token_for_every_byte_is_still_within_the_hold(reads: int) -> None:
    connection = Connection(new(STREAM, lambda text: len(text.encode()), allowed=4_000))
    connection.feed(head() + chunk(says("👍")))
    while not connection.exchange.at_edge:
        connection.feed(chunk(says("👍👍")) * reads)
        assert connection.exchange.meter.advance() <= 4_000
    assert connection.exchange.meter.advance() > 3_990
    assert connection.verbatim


@pytest.mark.parametrize("joined", [False, True], ids=["two-reads", "one-read"])
def test_a_small_event_never_overtakes_one_that_waits(joined: bool) -> None:
    connection = begun(STREAM, says("a"), allowed=900)
    reads = [chunk(says("x" * 1_000)), chunk(says("b")), chunk(says("c"))]
    for data in [b"".join(reads)] if joined else reads:
        connection.feed(data)
    assert connection.exchange.at_edge
    assert connection.body == says("a")
    connection.allow(1_003)
    assert connection.body == says("a") + says("x" * 1_000) + says("b") + says("c")


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_an_end_while_waiting_is_heard_after_the_backlog(framing: str) -> None:
    for ending, phase in ((DONE, Phase.TERMINAL), (b"", Phase.FAILED)):
        connection = Connection(new(STREAM, allowed=3))
        body = [says("abc"), says("d"), ending]
        wire = chunked(body) if framing == "chunked" else b"".join(body)
        connection.feed(head(framing=framing) + wire)
        connection.eof()
        assert connection.at(Phase.CONTENT)
        connection.allow(engine.UNLIMITED)
        assert connection.at(phase)
        assert connection.body == says("abc") + says("d")


def test_a_last_event_ending_in_a_lone_cr_waits_too() -> None:
    last = says("d").replace(b"\n\n", b"\n\r")
    connection = Connection(new(FINISH, allowed=3))
    connection.feed(head() + chunked([says("abc"), STOP, last]))
    assert connection.exchange.at_edge
    assert not connection.exchange.over
    connection.allow(4)
    assert connection.at(Phase.TERMINAL)
    assert connection.body == says("abc") + STOP + last


def test_a_broken_connection_while_waiting_is_a_truncation() -> None:
    connection = begun(STREAM, says("abc"), says("d"), allowed=3)
    connection.eof()
    connection.allow(10)
    assert connection.body == says("abc") + says("d")
    assert connection.exchange.failure is not None
    assert connection.exchange.failure.kind is FailureKind.TRUNCATED


def test_an_end_after_the_terminal_event_in_the_backlog_changes_nothing() -> None:
    connection = begun(STREAM, says("abc"), says("d"), DONE, allowed=3)
    connection.eof()
    connection.allow(10)
    assert connection.at(Phase.TERMINAL)


def test_events_without_text_pass_at_an_exhausted_hold() -> None:
    connection = begun(STREAM, says("abc"), b": comment\n\n", STOP, allowed=3)
    assert not connection.exchange.at_edge
    messages = begun(MESSAGES, START, block("abc"), LAST, allowed=3)
    assert not messages.exchange.at_edge
    messages.feed(chunk(block("d")))
    assert messages.exchange.at_edge


def test_a_backlog_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BACKLOG_BYTES_MAX", 1_000)
    connection = begun(STREAM, says("abc"), allowed=3)
    while not connection.exchange.over:
        connection.feed(chunk(says("more")))
        assert connection.exchange._backlog_bytes <= 1_000 + len(says("more"))
    assert connection.exchange.failure is not None
    assert connection.exchange.failure.kind is FailureKind.TOO_LARGE
    assert connection.exchange.allow(1_000) == b""


def test_texts_of_several_choices_in_one_event_are_weighed_apart() -> None:
    def measure(text: str) -> int:
        return -(-len(text) // 4)

    choices = [{"index": index, "delta": {"content": "ab"}} for index in range(8)]
    event = b"data: " + orjson.dumps({"choices": choices}) + b"\n\n"
    connection = Connection(new(STREAM, measure, allowed=7))
    connection.feed(head() + chunk(event))
    assert connection.exchange.at_edge
    connection.allow(8)
    assert connection.exchange.meter.advance() == 8


def test_what_the_client_has_not_read_is_weighed_by_its_text_not_its_bytes() -> None:
    unsent = 0
    exchange = new(STREAM, allowed=20, unsent=lambda: unsent)
    connection = Connection(exchange)
    connection.feed(head())
    for _ in range(10):
        connection.feed(chunk(says("ab")))
        unsent += len(says("ab"))
    assert not exchange.at_edge
    assert exchange.meter.delivered == 0
    connection.feed(chunk(says("c")))
    assert exchange.at_edge
    assert exchange.upper == 20


@pytest.mark.parametrize("patterns", [True, False])
def test_the_meter_is_advanced_often_enough(
    monkeypatch: pytest.MonkeyPatch, patterns: bool
) -> None:
    monkeypatch.setattr(passthrough, "ROOM_MAX", 10)
    connection = begun(STREAM, says("a"))
    connection.patterns = patterns
    event = chunk(says("x"))
    for _ in range(2 * PENDING_BYTES_MAX // len(event)):
        connection.feed(event)
        pending = sum(connection.exchange._meter._sizes) + sum(connection.exchange._passage.sizes)
        assert pending <= PENDING_BYTES_MAX + 11 * len(event)
    assert connection.verbatim > 0.99 * len(connection.wire)


def test_what_passed_by_a_pattern_is_in_every_figure() -> None:
    connection = begun(STREAM, says("a"), says("b"))
    exchange = connection.exchange
    before = exchange.progress()
    for number in range(1, 4):
        assert exchange.passes(chunk(says("cd")))
        assert exchange.progress() == before + number
    assert exchange.wire_bytes == len(says("a") + says("b") + 3 * says("cd"))
    assert exchange.progress() == before + 3
    assert exchange.events == 5
    assert exchange.passes(chunk(says("e")))
    assert exchange.events == 6
    assert exchange.passes(chunk(says("f")))
    assert exchange.meter.advance() == len("abcdcdcdef")
    assert exchange.progress() == before + 5
    connection.feed(chunk(ROLE))
    assert exchange.progress() > before + 5
    # After anything else at least one event is looked at again.
    connection.feed(chunk(STOP))
    assert not exchange.passes(chunk(says("g")))


def test_what_may_pass_is_counted_exactly_before_the_slow_way_is_taken() -> None:
    connection = Connection(new(STREAM, lambda text: len(text) // 2, allowed=4_000))
    connection.feed(head() + chunk(says("a")))
    sent = len(connection.wire)
    for _ in range(1_000):
        connection.feed(chunk(says(" words")))
    assert connection.exchange.meter.advance() == 3_000
    assert connection.verbatim == len(connection.wire) - sent
    assert connection.exchange.upper > 2_400


def test_nothing_passes_beyond_the_hold_by_a_pattern() -> None:
    connection = begun(STREAM, says("a"), says("b"), allowed=400)
    exchange = connection.exchange
    passed = 0
    while exchange.passes(chunk(says("cd"))):
        passed += 2
    assert passed == 400 * 3 // 4 - 2
    connection.allow(800)
    said, more = passed + 2, 0
    while exchange.passes(chunk(says("cd"))):
        more += 2
    assert more == (800 - said) * 3 // 4 - 1, "the pattern goes on, with the room that there is now"
    assert exchange.meter.advance() == said + more


def test_what_is_never_one_event_to_a_chunk_is_not_looked_at_as_such_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def noted(data: bytes, event_bytes_max: int) -> list[tuple[bytes, bytes | None, int]]:
        nonlocal looks
        looks += 1
        return events_in_chunks(data, event_bytes_max)

    monkeypatch.setattr(engine, "events_in_chunks", noted)
    connection = begun(STREAM)
    for _ in range(20):
        connection.feed(chunk(says("two ") + says("words ")))
    connection.feed(chunk(STOP))
    connection.feed(chunk(DONE) + END)
    assert looks == engine.FOREIGN_READS_MAX
    assert connection.at(Phase.TERMINAL)
    assert connection.exchange.reusable
    assert connection.exchange.meter.advance() == 20 * len("two words ")


WORDS = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.sampled_from(
            [" the", " a", "\n\n", "  ", "日本", "👩‍👩‍👧", "e\u0301", "return", "==" * 9]
        ),
    ),
    max_size=30,
)


def forwarded_within_the_hold(
    texts: list[str],
    steps: list[int],
    expect: Expectation,
    make: Callable[[str], bytes],
    density: int = 1,
) -> None:
    """Whatever passes, its whole count is within what was allowed at that moment."""
    tokens = exact_count(Tokenizer.O200K)

    def count(text: str) -> int:
        return density * tokens(text)

    allowed = steps[0]
    exchange = Exchange(expect, Meter(count, density=density), UsageTally(), tokens_allowed=allowed)
    connection = Connection(exchange)
    connection.feed(head())
    for text in texts:
        connection.feed(chunk(make(text)))
        for step in steps:
            events = connection.exchange.events
            passed = "".join(texts[:events])
            assert count(passed) <= allowed
            if not connection.exchange.at_edge:
                break
            allowed += step
            connection.allow(allowed)
    connection.allow(engine.UNLIMITED)
    if any(texts):
        assert connection.exchange.meter.advance() == count("".join(texts))
        assert connection.body == b"".join(map(make, texts))


@given(texts=WORDS, steps=st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_no_more_tokens_pass_than_the_hold_allows(texts: list[str], steps: list[int]) -> None:
    forwarded_within_the_hold(texts, steps, STREAM, says)
    forwarded_within_the_hold(texts, steps, MESSAGES, block)
    forwarded_within_the_hold(texts, steps, STREAM, says, density=3)


# Anything at all


PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            *(
                head(),
                head(framing="close"),
                head(framing="300"),
                head(status=500),
                head(kind="application/json"),
            ),
            *map(
                chunk,
                (ROLE, says("a"), STOP, USAGE, DONE, ERROR, START, block("b"), LAST, MESSAGE_STOP),
            ),
            *(
                ROLE,
                says("a"),
                DONE,
                block("b"),
                MESSAGE_STOP,
                END,
                b"\r\n",
                b"\n\n",
                b"\xef\xbb\xbf",
            ),
            chunk(says("x" * 300)),
            b'data: {"choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n',
            b'data: {"choices":[{"delta":{"content":["a",{"text":1}]},"finish_reason":{}}],"usage":"x"}\n\n',
            b"HTTP/1.1 100 Continue\r\n\r\n",
        ]
    ),
)
READS = st.one_of(PIECES, st.lists(PIECES, min_size=2, max_size=4).map(b"".join))
STEPS = st.lists(st.one_of(READS, st.none(), st.integers(0, 50)), max_size=30)


@given(
    steps=STEPS,
    first=st.booleans(),
    wire=st.sampled_from(list(LOOKS)),
    stream=st.booleans(),
)
def test_no_bytes_ever_raise(
    steps: list[bytes | int | None], first: bool, wire: Wire, stream: bool
) -> None:
    expect = Expectation(wire, stream, strip_usage=True, event_bytes_max=200)
    exchange = new(expect, allowed=20)
    out, given_bytes = b"", b""
    for step in [head() if first else None, *steps]:
        if step is None:
            continue
        if isinstance(step, int):
            out += exchange.allow(step)
            continue
        over, phase = exchange.over, exchange.phase
        passed = len(step) if exchange.passes(step) else exchange.ordinary(step)
        given_bytes += step
        out += step[:passed]
        out += exchange.receive(step[passed:])
        if over:
            assert exchange.phase is phase
        assert exchange.phase is not Phase.CONTENT or exchange.shown
        assert (exchange.failure is not None) == (exchange.phase is Phase.FAILED)
        if wire is not Wire.RESPONSES:
            assert len(exchange._splitter._partial) <= 200 + len(step)
    out += exchange.receive_eof()
    exchange.allow(engine.UNLIMITED)
    assert exchange.over
    assert len(out) <= len(given_bytes)


@given(
    steps=STEPS,
    first=st.booleans(),
    wire=st.sampled_from(list(LOOKS)),
    event_bytes_max=st.sampled_from([60, EVENT_BYTES_MAX]),
    allowed=st.sampled_from([20, engine.UNLIMITED]),
)
def test_it_makes_no_difference_that_whole_chunks_are_taken_at_once(
    steps: list[bytes | int | None], first: bool, wire: Wire, event_bytes_max: int, allowed: int
) -> None:
    expect = Expectation(wire, stream=True, strip_usage=True, event_bytes_max=event_bytes_max)
    short, long = (Connection(new(expect, allowed=allowed)) for _ in range(2))
    for step in [head() if first else None, *steps]:
        for connection in (short, long):
            with pytest.MonkeyPatch.context() as patch:
                if connection is long:
                    patch.setattr(engine, "events_in_chunks", lambda *_: [])
                if step is None:
                    connection.allow(engine.UNLIMITED)
                elif isinstance(step, int):
                    connection.allow(step)
                else:
                    connection.feed(step)
        assert state(short) == state(long)
    for connection in (short, long):
        connection.eof()
        connection.allow(engine.UNLIMITED)
    assert state(short) == state(long)


@given(
    texts=st.lists(st.text(max_size=20), max_size=12),
    newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    seed=st.integers(0, 1 << 30),
    longest=st.integers(1, 200),
)
def test_any_stream_passes_whole_however_it_is_cut(
    texts: list[str], newline: bytes, seed: int, longest: int
) -> None:
    events = [ROLE, *map(says, texts), STOP, DONE]
    body = b"".join(events).replace(b"\n", newline)
    wire = head() + chunked(anywhere(body, seed, longest))
    played = play(STREAM, anywhere(wire, seed + 1, longest))
    assert played.body + played.terminal == body
    assert played.tokens == len("".join(texts))
    assert played.phase is Phase.TERMINAL


def test_the_last_chunk_may_come_after_the_terminal_event() -> None:
    done = begun(STREAM, says("a")).exchange
    assert done.finish(b"") is False, "it has not ended"
    event = b"data: [DONE]\n\n"
    done.receive(b"%x\r\n%b\r\n" % (len(event), event))
    assert done.phase is Phase.TERMINAL
    assert done.finish(b"") is None
    assert done.finish(b"0\r\n") is None
    assert done.finish(b"\r\n") is True
    assert done.finish(b"more") is False


def test_a_failed_exchange_waits_for_nothing() -> None:
    failed = begun(STREAM, says("a")).exchange
    failed.receive(b"zz\r\n")
    assert failed.phase is Phase.FAILED
    assert failed.finish(b"") is False
    assert failed.finish(b"0\r\n\r\n") is False


def test_what_was_read_may_be_of_no_use_to_the_caller() -> None:
    played = begun()
    failure = outcomes.Failure(FailureKind.UNEXPECTED_ANSWER, "it cannot be carried over")
    played.exchange.reject(failure)
    assert played.exchange.over
    assert played.exchange.failure is failure
