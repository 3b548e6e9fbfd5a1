import pytest

from proxy.core.entities import Wire
from proxy.core.looks import LOOKS, Look
from proxy.core.metering import Meter
from proxy.core.outcomes import Expectation
from proxy.core.response_events import EVENT_BYTES_MAX


def look(wire: Wire) -> Look:
    return LOOKS[wire](Expectation(wire, stream=True))


@pytest.mark.parametrize("wire", [wire for wire in LOOKS if wire is not Wire.GEMINI])
def test_every_look_meters_ordinary_events_and_lets_others_be(wire: Wire) -> None:
    meter = Meter(len)
    event = ORDINARY[wire]
    assert look(wire).take(b"##" + event, 2, 2 + len(event), meter)
    assert (meter.advance(), meter.written) == (2, len(event))
    assert not look(wire).take(b": nothing\n\n", 0, 11, meter)
    assert meter.written == len(event)


@pytest.mark.parametrize("wire", LOOKS)
def test_every_look_reads_the_texts_of_any_data_and_changes_nothing(wire: Wire) -> None:
    made = look(wire)
    data = ORDINARY[wire].partition(b"data: ")[2].rstrip()
    for _ in range(2):
        assert [text for _, text in made.runs(data)] == ["Hi"]
    assert not made.runs(b"nonsense")


@pytest.mark.parametrize(
    ("wire", "name", "data", "ends"),
    [
        (Wire.CHAT, "", b"[DONE]", True),
        (Wire.CHAT, "", b"{}", False),
        (Wire.MESSAGES, "message_stop", b"{}", True),
        (Wire.MESSAGES, "", b'{"type":"message_stop"}', True),
        (Wire.MESSAGES, "message_stop", b'{"type":"ping"}', False),
        (Wire.MESSAGES, "message_stop", b"{", False),
        (Wire.COMPLETIONS, "", b"[DONE]", True),
        (Wire.COMPLETIONS, "", b"{}", False),
        (Wire.RESPONSES, "response.completed", b"{}", True),
        (Wire.RESPONSES, "", b'{"type":"response.incomplete"}', True),
        (Wire.RESPONSES, "response.completed", b"[DONE]", False),
        (Wire.RESPONSES, "response.failed", b"{}", False),
        (Wire.GEMINI, "", b"[DONE]", False),
    ],
)
def test_what_ends_a_stream(wire: Wire, name: str, data: bytes, ends: bool) -> None:
    assert look(wire).ends(name, data) is ends


def test_only_forms_that_repeat_themselves_are_worth_a_pattern() -> None:
    assert look(Wire.CHAT).lessons
    assert look(Wire.MESSAGES).lessons
    assert look(Wire.COMPLETIONS).lessons
    assert not look(Wire.RESPONSES).lessons
    assert look(Wire.RESPONSES).event_bytes_max == EVENT_BYTES_MAX
    assert not look(Wire.GEMINI).lessons


def test_a_form_without_a_last_event_says_so() -> None:
    assert [wire for wire in LOOKS if look(wire).endless] == [Wire.GEMINI]
    made = LOOKS[Wire.GEMINI](Expectation(Wire.GEMINI, stream=True, choices=2))
    assert made.see is not None
    blocked = made.see("", b'{"promptFeedback":{"blockReason":"OTHER"}}')
    assert len(blocked.finished) == 2


def test_streams_share_no_memory() -> None:
    assert look(Wire.CHAT) is look(Wire.CHAT), "it remembers nothing"
    assert look(Wire.RESPONSES) is not look(Wire.RESPONSES)


ORDINARY = {
    Wire.GEMINI: b'data: {"candidates":[{"content":{"parts":[{"text":"Hi"}]}}]}\n\n',
    Wire.CHAT: b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n',
    Wire.MESSAGES: (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"Hi"}}\n\n'
    ),
    Wire.COMPLETIONS: b'data: {"choices":[{"text":"Hi","index":0,"finish_reason":null}]}\n\n',
    Wire.RESPONSES: (
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
        b'"output_index":1,"content_index":0,"delta":"Hi"}\n\n'
    ),
}
