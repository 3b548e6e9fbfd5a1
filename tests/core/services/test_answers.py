"""What answers say of themselves, however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.core.services import answers
from proxy.core.services.answers import BodyAnswer, EventAnswer, OpaqueAnswer, open_answer
from proxy.core.services.service import AnswerReader, Measured
from tests.core.sound.samples import wave


def measured(reader: AnswerReader, body: bytes, size: int = 1 << 20) -> Measured:
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader.finish()


def plain(text: str) -> Measured:
    whole = measured(BodyAnswer(), text.encode())
    assert measured(BodyAnswer(), text.encode(), 1) == whole
    return whole


def stream(text: str) -> Measured:
    whole = measured(EventAnswer(), text.encode())
    for size in (1, 2, 7):
        assert measured(EventAnswer(), text.encode(), size) == whole
    return whole


USAGES = {
    '{"data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}': Usage(input_uncached=8),
    '{"usage":{"total_tokens":9}}': Usage(input_uncached=9),
    '{"usage":{"input_tokens":13,"output_tokens":272,"total_tokens":285,"input_tokens_details":'
    '{"text_tokens":13,"image_tokens":0}}}': Usage(input_uncached=13, output=272),
    '{"text":"x","usage":{"type":"tokens","input_tokens":14,"output_tokens":4,"total_tokens":18,'
    '"input_token_details":{"text_tokens":4,"audio_tokens":10}}}': Usage(
        input_uncached=4, audio_input=10, output=4
    ),
    '{"text":"x","usage":{"type":"duration","seconds":9}}': Usage(audio_ms=9_000),
    '{"text":"x","usage":{"type":"duration","seconds":9.0001}}': Usage(audio_ms=9_001),
    '{"duration":2.5,"text":"x"}': Usage(audio_ms=2_500),
    '{"duration":"2.5","text":"x"}': Usage(audio_ms=2_500),
    '{"results":[],"meta":{"billed_units":{"search_units":1}}}': Usage(searches=1),
    '{"results":[],"meta":{"billed_units":{"search_units":2.0}}}': Usage(searches=2),
}


@pytest.mark.parametrize("text", USAGES)
def test_usage_is_read_where_providers_put_it(text: str) -> None:
    answer = plain(text)
    assert answer.usage == USAGES[text]
    assert answer.anomalies == ()
    assert answer.readable


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"usage":null}',
        '{"usage":{}}',
        '{"usage":"8"}',
        '{"usage":{"type":"duration","seconds":-1}}',
        '{"usage":{"type":"duration","seconds":true}}',
        '{"usage":{"type":"duration","seconds":1e9}}',
        '{"duration":"soon"}',
        '{"duration":{}}',
        '{"meta":{"billed_units":{"search_units":-1}}}',
        '{"meta":{"billed_units":{"search_units":1.5}}}',
        '{"meta":{"billed_units":{"search_units":true}}}',
        '{"meta":[]}',
    ],
)
def test_what_is_no_figure_is_absent(text: str) -> None:
    assert plain(text).usage is None


def test_anomalies_are_told() -> None:
    answer = plain('{"usage":{"prompt_tokens":-1,"total_tokens":3}}')
    assert answer.usage is not None
    assert answer.anomalies == ("negative",)
    assert plain('{"usage":{"prompt_tokens":-1}}') == Measured(anomalies=("negative",))


def test_images_are_counted_as_they_begin() -> None:
    assert plain('{"data":[{"url":"u"},{"b64_json":"AAAA"}]}').images == 2
    assert plain('{"data":{}}').images is None
    assert plain('{"created":1}').images is None
    cut = plain('{"data":[{"b64_json":"AAAA"},{"b64_json":"A')
    assert (cut.images, cut.readable) == (2, False)


def test_size_and_quality_are_those_that_were_made() -> None:
    answer = plain('{"size":"1024x1024","quality":"high","data":[]}')
    assert (answer.size, answer.quality) == ("1024x1024", "high")
    assert plain('{"size":1}').size == ""


@pytest.mark.parametrize("value", ["null", "false", "{}", '""', "0", "[]"])
def test_no_error_is_none(value: str) -> None:
    assert not plain(f'{{"error":{value}}}').error


@pytest.mark.parametrize("value", ['{"message":"x"}', '"x"', "1", "true", '"' + "x" * 99 + '"'])
def test_an_error_inside_an_answer_is_seen(value: str) -> None:
    assert plain(f'{{"error":{value}}}').error


def test_what_is_not_json_is_unreadable() -> None:
    for text in ("", "x", "[]", '{"usage":{"prompt_tokens":1}', '{"a":1}x'):
        assert not plain(text).readable


IMAGE = (
    "event: image_generation.partial_image\n"
    'data: {"type":"image_generation.partial_image","b64_json":"AAAA","size":"auto"}\n\n'
    "event: image_generation.completed\n"
    'data: {"type":"image_generation.completed","b64_json":"AAAA","size":"1024x1024",'
    '"quality":"high","usage":{"total_tokens":100,"input_tokens":50,"output_tokens":50,'
    '"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}\n\n'
)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_stream_of_images_tells_its_usage_last(ending: str) -> None:
    answer = stream(IMAGE.replace("\n", ending))
    assert answer == Measured(
        usage=Usage(input_uncached=10, image_input=40, output=50),
        images=1,
        size="1024x1024",
        quality="high",
        terminal=True,
    )


def test_several_images_each_report_their_own() -> None:
    answer = stream(IMAGE + IMAGE)
    assert answer.usage == Usage(input_uncached=20, image_input=80, output=100)
    assert answer.images == 2


def test_speech_and_transcripts_end_with_their_usage() -> None:
    answer = stream(
        'data: {"type":"speech.audio.delta","audio":"AA"}\n\n'
        'data: {"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,'
        '"total_tokens":115}}\n\n'
    )
    assert (answer.usage, answer.terminal) == (Usage(input_uncached=14, output=101), True)
    answer = stream(
        'data: {"type":"transcript.text.delta","delta":"a"}\n\n'
        'data: {"type":"transcript.text.done","text":"a","usage":{"type":"tokens","input_tokens":14,'
        '"input_token_details":{"audio_tokens":14},"output_tokens":4,"total_tokens":18}}\n\n'
        "data: [DONE]\n\n"
    )
    assert (answer.usage, answer.terminal) == (Usage(audio_input=14, output=4), True)
    assert answer.images is None


def test_the_last_report_of_one_sound_replaces_the_one_before() -> None:
    event = 'data: {"type":"speech.audio.done","usage":{"input_tokens":1,"output_tokens":%d}}\n\n'
    assert stream(event % 3 + event % 4).usage == Usage(input_uncached=1, output=4)


def test_an_event_over_several_lines_is_one() -> None:
    answer = stream(
        ': a comment\nid: 7\ndata: {"type":\ndata:"speech.audio.done",\n'
        'data\ndata: "usage":{"input_tokens":2}}\n\n'
    )
    assert answer.terminal
    assert answer.usage == Usage(input_uncached=2)


def test_what_is_not_a_whole_event_counts_for_nothing() -> None:
    done = 'data: {"type":"speech.audio.done","usage":{"input_tokens":2}}\n'
    assert stream(done) == Measured(terminal=False)
    assert stream("data: {\n\n" + "data: x\n\n\n\n: ping\n\n") == Measured(terminal=False)


def test_errors_in_a_stream_are_seen() -> None:
    assert stream('data: {"error":{"message":"x"}}\n\n').error
    assert stream('event: error\ndata: {"type":"error","code":"c","message":"m"}\n\n').error


def test_megabytes_in_one_event_are_not_kept() -> None:
    reader = EventAnswer()
    reader.feed(b'data: {"type":"image_edit.completed","b64_json":"')
    for _ in range(100):
        reader.feed(b"A" * 65_536)
    reader.feed(b'"}\n\n')
    assert reader.finish().images == 1


def test_an_opaque_answer_says_nothing() -> None:
    assert measured(OpaqueAnswer(), b"RIFF") == Measured()


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", BodyAnswer),
        ("Application/JSON; charset=utf-8", BodyAnswer),
        ("application/problem+json", BodyAnswer),
        ("text/event-stream", EventAnswer),
        ("text/event-stream; charset=utf-8", EventAnswer),
        ("text/plain; charset=utf-8", OpaqueAnswer),
        ("", OpaqueAnswer),
    ],
)
def test_the_content_type_says_how_an_answer_is_read(
    content_type: str, kind: type[AnswerReader]
) -> None:
    assert type(open_answer("transcriptions", content_type)) is kind


def test_what_an_image_endpoint_makes_are_tokens_of_images() -> None:
    body = b'{"usage":{"input_tokens":50,"output_tokens":60,"total_tokens":110%s}}'
    apart = b',"output_tokens_details":{"image_tokens":50,"text_tokens":10}'
    text = b',"output_tokens_details":{"text_tokens":70}'
    for details, output, image_output in ((b"", 0, 60), (apart, 10, 50), (text, 60, 0)):
        reader = open_answer("images_edits", "application/json")
        usage = measured(reader, body % details).usage
        assert usage == Usage(input_uncached=50, output=output, image_output=image_output)
    assert plain((body % b"").decode()).usage == Usage(input_uncached=50, output=60)
    event = b'data: {"type":"image_edit.completed","usage":{"output_tokens":60}}\n\n'
    reader = open_answer("images_edits", "text/event-stream")
    assert measured(reader, event).usage == Usage(image_output=60)


@given(st.binary(max_size=80) | st.text(max_size=40).map(str.encode), st.integers(1, 9))
def test_nothing_an_upstream_sends_raises(body: bytes, size: int) -> None:
    for kind in (BodyAnswer, EventAnswer):
        reader = kind()
        assert measured(reader, body) == measured(kind(), body, size)
    wrapped = b'{"usage":' + body + b',"duration":' + body + b"}"
    assert measured(BodyAnswer(), wrapped).terminal is None


@given(st.sampled_from(["1e999", "-0", "1" * 300, "[" * 200 + "]" * 200, '"\\ud83d\\ude00"']))
def test_odd_values_do_not_raise(value: str) -> None:
    for name in ("usage", "meta", "duration", "size"):
        plain(f'{{"{name}":{value}}}')
    plain(f'{{"usage":{{"seconds":{value},"input_tokens":{value}}}}}')
    assert answers.REPORT_BYTES_MAX > 0


def test_speech_is_measured_by_its_sound() -> None:
    sound = wave(60_000)
    spoken = measured(open_answer("speech", "audio/wav"), sound, 5_000)
    assert spoken == Measured(spoken=1_250)
    assert measured(open_answer("speech", "audio/pcm"), bytes(48_000 * 6)) == Measured(spoken=125)
    assert measured(open_answer("speech", "audio/mpeg"), b"?" * 99) == Measured()
    assert type(open_answer("speech", "text/event-stream")) is EventAnswer
