"""Events seen one by one: what passes of each, and what it does to phase, meter and tally."""

from dataclasses import replace

import orjson
import pytest
from msgspec.structs import replace as replace_struct

from proxy.core import stream_events
from proxy.core.deltas import FINISH_REASON_CHARACTERS_MAX
from proxy.core.entities import Wire
from proxy.core.looks import LOOKS
from proxy.core.metering import Meter
from proxy.core.outcomes import Expectation, FailureKind, Phase
from proxy.core.sights import Sight
from proxy.core.stream_events import StreamEvents
from proxy.core.usage import UsageTally
from tests.core.playbook import GEMINI, MESSAGES, RESPONSES, STREAM, STRIPPED

USAGE = {"prompt_tokens": 7, "completion_tokens": 2}


def new(expect: Expectation = STREAM) -> StreamEvents:
    stream = StreamEvents(expect, Meter(len), UsageTally())
    stream.phase = Phase.PREAMBLE
    return stream


def see(stream: StreamEvents, said: object, name: str = "") -> bytes:
    """What passes of one event, which must be all of it or nothing."""
    data = said if isinstance(said, bytes) else orjson.dumps(said)
    event = (b"event: %b\n" % name.encode() if name else b"") + b"data: " + data + b"\n\n"
    read = stream._read(event)
    assert read == (name, data)
    passed = stream._see(event, *read)
    assert passed in {event, b""}
    return passed


def delta(finish_reason: object = None, index: int = 0, **members: object) -> dict[str, object]:
    return {"choices": [{"index": index, "delta": members, "finish_reason": finish_reason}]}


def test_a_chat_from_its_role_to_its_end() -> None:
    stream = new()
    assert see(stream, delta(role="assistant", content=""))
    assert (stream.phase, stream.shown) == (Phase.PREAMBLE, False)
    assert see(stream, delta(content="Hi"))
    assert (stream.phase, stream.shown, stream.finishing) == (Phase.CONTENT, True, False)
    assert see(stream, delta(content=" you"))
    assert see(stream, delta("stop"))
    assert (stream.finishing, stream.finish_reason) == (True, "stop")
    assert see(stream, {"choices": [], "usage": USAGE})
    assert not see(stream, b"[DONE]")
    assert (stream.phase, stream.over, stream.terminal) == (
        Phase.TERMINAL,
        True,
        b"data: [DONE]\n\n",
    )
    assert stream._meter.advance() == len("Hi you")
    assert stream.tally.usage().output == 2
    assert stream._events == 5


@pytest.mark.parametrize(
    ("said", "content"),
    [
        (delta(role="assistant"), False),
        (delta(role="assistant", content=None, refusal=None), False),
        (delta(role="assistant", content="", tool_calls=[], function_call=None), False),
        (delta(role="assistant", content="", annotations=[], audio=None), False),
        (delta(role={"x": 1}, content=[]), False),
        ({"choices": [{"index": 0}]}, False),
        ({"choices": [{"index": 0, "delta": None}]}, False),
        ({"choices": []}, False),
        (delta(function_call={}), False),
        (delta(content=" "), True),
        (delta(content=["a"]), True),
        (delta(reasoning="x"), True),
        (delta(reasoning_content="x", content="y"), True),
        (delta(thinking="x"), True),
        (delta(refusal="x"), True),
        (delta(audio={"id": "a"}), True),
        (delta(content="", annotations=[{}]), True),
        (delta(tool_calls=[{"index": 0}]), True),
        (delta(function_call={"name": "f"}), True),
        (delta(function_call={"other": 1}), True),
        (delta("stop"), True),
    ],
)
def test_what_of_a_chat_is_content(said: dict[str, object], content: bool) -> None:
    stream = new()
    assert see(stream, said)
    assert stream.shown is content


@pytest.mark.parametrize("expect", [STREAM, MESSAGES, RESPONSES, GEMINI])
def test_what_is_no_event_of_the_form_passes_and_is_weighed(expect: Expectation) -> None:
    stream = new(expect)
    for phase in (Phase.PREAMBLE, Phase.CONTENT):
        stream.phase = phase
        assert stream._see(b": c\n\n", "", None) == b": c\n\n"
        assert see(stream, b"{")
        assert stream.phase is phase
    assert stream.garbage == 2
    assert stream._events == 0
    assert stream._meter.written == 2 * len(b": c\n\n" + b"data: {\n\n")


@pytest.mark.parametrize(
    ("expect", "name", "said"),
    [
        (STREAM, "", {"error": {"message": "sk-secret"}}),
        (MESSAGES, "error", {"x": 1}),
        (MESSAGES, "", {"type": "error", "error": {"message": "x"}}),
        (MESSAGES, "", {"error": {"message": "x"}}),
        (GEMINI, "", {"error": {"message": "x"}}),
    ],
)
def test_an_error_never_passes(expect: Expectation, name: str, said: dict[str, object]) -> None:
    stream = new(expect)
    assert not see(stream, said, name)
    assert (stream.phase, stream.over, stream.shown) == (Phase.FAILED, True, False)
    assert stream.failure is not None
    assert stream.failure.kind is FailureKind.ERROR_EVENT
    assert stream.failure.body == orjson.dumps(said)


def test_an_error_may_have_nothing_to_say() -> None:
    stream = new(MESSAGES)
    assert not stream._see(b"event: error\n\n", "error", None)
    assert stream.failure is not None
    assert stream.failure.body == b""


def test_usage_that_nobody_asked_for_is_left_out() -> None:
    stream = new(STRIPPED)
    assert not see(stream, {"choices": [], "usage": USAGE})
    assert see(stream, delta("stop") | {"usage": USAGE}), "it says more than that"
    assert stream.tally.usage().output == 2


@pytest.mark.parametrize("strip", [True, False])
def test_a_report_alone_is_left_out_in_every_form(
    monkeypatch: pytest.MonkeyPatch, strip: bool
) -> None:
    seen = Sight(usage=USAGE, only_usage=True)
    own = replace_struct(LOOKS[Wire.RESPONSES](RESPONSES), see=lambda _name, _data: seen)
    monkeypatch.setattr(stream_events, "LOOKS", {Wire.RESPONSES: lambda _: own})
    stream = new(replace(RESPONSES, strip_usage=strip))
    assert see(stream, {}) == (b"" if strip else b"data: {}\n\n")
    assert stream.tally.usage().output == 2


def test_a_message_from_start_to_stop() -> None:
    stream = new(MESSAGES)
    start = {"type": "message_start", "message": {"usage": {"input_tokens": 5}}}
    assert see(stream, start, "message_start")
    assert see(stream, {"type": "message_start", "message": {}}, "message_start")
    assert see(stream, {"type": "ping"}, "ping")
    assert not stream.shown
    text = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hi"}}
    for _ in range(2):
        assert see(stream, text, "content_block_delta")
        assert stream.phase is Phase.CONTENT
    last = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    assert see(stream, last | {"usage": {"output_tokens": 3}}, "message_delta")
    assert stream.finish_reason == "end_turn"
    assert see(stream, {"delta": {}}, "message_delta")
    assert not see(stream, {"type": "message_stop"}, "message_stop")
    assert stream.terminal.startswith(b"event: message_stop")
    assert stream._meter.advance() == 4
    assert (stream.tally.usage().input_uncached, stream.tally.usage().output) == (5, 3)


def test_a_block_without_text_is_content_too() -> None:
    stream = new(MESSAGES)
    assert see(stream, {"type": "content_block_delta", "delta": {"signature": "x"}})
    assert stream.shown


def test_a_form_may_say_itself_what_its_events_mean() -> None:
    stream = new(RESPONSES)
    created = {"type": "response.created", "response": {"id": "resp_1"}}
    assert see(stream, created, "response.created")
    assert (stream.answer_id, stream.shown) == ("resp_1", False)
    text = {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"}
    assert see(stream, text, "response.output_text.delta")
    assert stream.shown
    done = {"type": "response.completed", "response": {"id": "resp_2", "output": []}}
    assert not see(stream, done, "response.completed")
    assert (stream.phase, stream.answer_id) == (Phase.TERMINAL, "resp_1")
    gemini = new(GEMINI)
    assert see(gemini, {"candidates": [{"index": 0, "finishReason": "STOP"}]})
    assert (gemini.shown, gemini.finish_reason) == (True, "STOP")


def test_choices_and_reasons_from_the_wire_are_bounded() -> None:
    stream = new()
    for index in range(50):
        assert see(stream, delta("r" * 5_000, index))
    assert len(stream._finished) == 1
    assert stream.finish_reason == "r" * FINISH_REASON_CHARACTERS_MAX


def test_a_byte_order_mark_and_an_id_are_read() -> None:
    stream = new()
    event = b"\xef\xbb\xbfid: 1\ndata: {}\n\n"
    assert stream._read(event) == ("", b"{}")
    assert stream.has_id
    stream._see(event, "", b"{}")
    assert stream._read(b"\xef\xbb\xbfdata: {}\n\n") == ("", None)
    assert stream.has_id
