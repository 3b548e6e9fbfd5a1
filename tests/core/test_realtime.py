"""A session is billed by its responses, and never for what was neither reported nor delivered."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import realtime
from proxy.core.entities import Usage, UsageSource
from proxy.core.realtime import Moment, RealtimeMeter, TurnBill

USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "image_tokens": 0,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}


def look(meter: RealtimeMeter, **event: object) -> Moment:
    return meter.look(json.dumps(event).encode())


def audio(meter: RealtimeMeter, size: int, kind: str = "response.output_audio.delta") -> None:
    assert look(meter, type=kind, delta="A" * size) is Moment.DELIVERS


def done(meter: RealtimeMeter, usage: object = USAGE, status: str = "completed") -> Moment:
    return look(meter, type="response.done", response={"status": status, "usage": usage})


def test_a_response_is_billed_as_reported() -> None:
    meter = RealtimeMeter()
    assert look(meter, type="response.created", response={"id": "r"}) is Moment.BEGUN
    assert meter.in_response
    audio(meter, 3_200)
    assert done(meter) is Moment.DONE
    assert (meter.in_response, meter.status) == (False, "completed")
    assert meter.bill(4_096, 32_000) == TurnBill(
        Usage(
            input_uncached=59,
            cache_read=60,
            cache_read_audio=4,
            audio_input=9,
            output=30,
            audio_output=91,
        ),
        UsageSource.REPORTED,
    )
    meter.next()
    assert meter.input_max == 253
    assert not meter.delivered


def test_a_report_is_believed_within_bounds() -> None:
    meter = RealtimeMeter()
    done(meter, {"input_tokens": 10**6, "output_tokens": 10**6, "total_tokens": -1})
    billed = meter.bill(100, 1_000)
    assert billed.usage == Usage(input_uncached=1_000, output=164)
    assert billed.anomalies == ("input_bounded", "negative", "output_bounded")


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": "x"}])
def test_what_was_neither_reported_nor_delivered_costs_nothing(usage: object) -> None:
    meter = RealtimeMeter()
    done(meter, usage, "failed")
    billed = meter.bill(4_096, 32_000)
    assert (billed.usage, billed.source) == (Usage(calls=0), UsageSource.NONE)


def configured(**session: object) -> RealtimeMeter:
    meter = RealtimeMeter()
    assert look(meter, type="session.updated", session=session) is Moment.CONFIGURED
    return meter


def test_what_was_delivered_without_a_report_is_estimated() -> None:
    meter = configured(audio={"output": {"format": {"type": "audio/pcm", "rate": 24_000}}})
    meter.next()
    done(meter, {"input_tokens": 70, "output_tokens": 30})
    meter.next()
    meter.sent(64_000)
    audio(meter, 32_000)
    look(meter, type="response.output_audio_transcript.delta", delta="12345")
    assert meter.output_max == 10 + 5
    billed = meter.bill(4_096, 32_000)
    assert billed.source is UsageSource.ESTIMATED
    assert billed.usage == Usage(cache_read=100, audio_input=10, output=2, audio_output=10)
    before = meter.input_max + meter.output_max
    meter.next()
    assert meter.input_max == before


@pytest.mark.parametrize(
    ("session", "chars"),
    [
        ({"audio": {"output": {"format": {"type": "audio/pcm"}}}}, 3_200),
        ({"audio": {"output": {"format": {"type": "audio/pcma"}}}}, 533),
        ({"output_audio_format": "pcm16"}, 3_200),
        ({"output_audio_format": "g711_ulaw"}, 533),
        ({"output_audio_format": 7}, 533),
        ({}, 533),
    ],
)
def test_a_token_of_sound_is_as_long_in_every_format(
    session: dict[str, object], chars: int
) -> None:
    meter = configured(**session)
    audio(meter, chars, "response.audio.delta")
    assert meter.output_max == 1
    audio(meter, 1)
    assert meter.output_max == 2


def test_the_model_that_transcribes_is_told_in_either_form() -> None:
    new = configured(audio={"input": {"transcription": {"model": "whisper-1"}}})
    assert new.transcriber == "whisper-1"
    old = configured(input_audio_transcription={"model": "gpt-4o-transcribe"})
    assert old.transcriber == "gpt-4o-transcribe"
    look(old, type="session.updated", session={"input_audio_transcription": None})
    assert old.transcriber == ""
    assert configured(audio={"input": {"transcription": {"model": 7}}}).transcriber == ""


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"type": "duration", "seconds": 1.5}, Usage(audio_ms=1_500)),
        (
            {
                "type": "tokens",
                "input_tokens": 22,
                "output_tokens": 13,
                "input_token_details": {"text_tokens": 0, "audio_tokens": 22},
            },
            Usage(audio_input=22, output=13),
        ),
        ({}, None),
        (None, None),
    ],
)
def test_a_transcription_reports_its_own_usage(usage: object, read: Usage | None) -> None:
    meter = RealtimeMeter()
    kind = "conversation.item.input_audio_transcription.completed"
    assert look(meter, type=kind, usage=usage) is Moment.TRANSCRIBED
    assert meter.transcribed == read


def test_what_the_next_response_may_read_leans_up() -> None:
    meter = RealtimeMeter()
    assert meter.input_max == realtime.CONTEXT_TOKENS
    meter.sent(5_000)
    assert meter.input_max == realtime.CONTEXT_TOKENS + 10
    item = {"content": [{"type": "input_text", "text": "x" * 2_000}]}
    assert look(meter, type="conversation.item.created", item=item) is Moment.NOTHING
    most = meter.input_max
    assert most > realtime.CONTEXT_TOKENS + 10 + 1_000
    assert look(meter, type="rate_limits.updated", rate_limits=[]) is Moment.NOTHING
    assert meter.input_max == most


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_what_is_no_event_says_nothing(payload: bytes) -> None:
    meter = RealtimeMeter()
    assert meter.look(payload) is Moment.NOTHING
    for kind in ("response.done", "session.updated", "response.text.delta"):
        for name in (b"response", b"session", b"delta"):
            meter.look(b'{"type":"%b","%b":%b}' % (kind.encode(), name, payload))
    assert meter.bill(1, 1).source in UsageSource


@pytest.mark.parametrize("value", ["1e999", "[" * 300 + "]" * 300, '"\\ud800"', "7"])
def test_odd_values_do_not_raise(value: str) -> None:
    meter = RealtimeMeter()
    meter.look(
        f'{{"type":"response.done","response":{{"usage":{value},"status":{value}}}}}'.encode()
    )
    meter.look(f'{{"type":"session.created","session":{value}}}'.encode())
    meter.look(f'{{"type":"response.text.delta","delta":{value}}}'.encode())
    meter.look(f'{{"type":{value}}}'.encode())
    assert meter.bill(9, 9).usage.calls in {0, 1}
