"""Generated chat completion streams, ordinary and odd. See stream_record.py for the fields."""

import json
from collections.abc import Callable

from proxy.core.entities import Usage
from tests.integration.stream_record import (
    CODE_TEXT,
    UNICODE_TEXT,
    OpenAIWriter,
    UpstreamStream,
    compact,
    openai_usage,
    pieces,
    prose,
)

W = OpenAIWriter


def _plain() -> list[UpstreamStream]:
    """Nothing but text, in the ways providers send it."""
    return [
        W("one-event").choice({"role": "assistant", "content": "Hi."}, finish="stop").done().record(),
        W("short-with-usage").text(prose(1, 30)).stop().usage(21, 33).done()
        .record(Usage(input_uncached=21, output=33)),
        W("short-without-usage").text(prose(2, 30)).stop().done().record(),
        W("role-and-content-together").choice({"role": "assistant", "content": "To"})
        .text("gether now").stop().usage(3, 4).done().record(Usage(input_uncached=3, output=4)),
        W("length").text(prose(3, 50)).stop("length").usage(8, 64).done()
        .record(Usage(input_uncached=8, output=64)),
        W("unicode-utf8").text(UNICODE_TEXT * 2).stop().usage(30, 140).done()
        .record(Usage(input_uncached=30, output=140)),
        W("unicode-escaped", ascii_only=True).text(UNICODE_TEXT).stop().usage(30, 70).done()
        .record(Usage(input_uncached=30, output=70)),
        W("code-and-control-characters").text(CODE_TEXT * 3).stop().done().record(),
        W("whitespace-only").text(" \n\t \u00a0\n\n  ").stop().done().record(),
        W("empty-answer").role().stop().usage(9, 0).done().record(Usage(input_uncached=9)),
        W("empty-deltas").role().choice({}).choice({"content": ""}).text("still here")
        .choice({"content": ""}).choice({}).stop().done().record(),
        W("null-contents").choice({"role": "assistant", "content": None, "refusal": None})
        .text("words").choice({"content": None}).stop().done().record(),
        W("finish-with-last-content").role().text("almost ").choice({"content": "done"}, finish="stop")
        .usage(5, 3).done().record(Usage(input_uncached=5, output=3)),
        W("unknown-fields", every={"service_tier": "default", "system_fingerprint": "fp_1",
          "x_new": {"deep": [1, 2.50, 1e-7, None]}}).text("future proof").stop().done().record(),
        W("long-3000-events").role().text(prose(4, 3000)).stop().usage(11, 4100).done()
        .record(Usage(input_uncached=11, output=4100)),
        W("big-200-kb-event").role().choice({"content": prose(5, 36_000)}).stop().usage(7, 40_000)
        .done().record(Usage(input_uncached=7, output=40_000)),
    ]  # fmt: skip


def _framing() -> list[UpstreamStream]:
    """The same answer in every way of writing an event stream."""
    text = prose(6, 12)
    return [
        W("crlf", newline=b"\r\n").text(text).stop().usage(2, 13).done()
        .record(Usage(input_uncached=2, output=13)),
        W("cr-only", newline=b"\r").text(text).stop().done().record(),
        _mixed_line_ends(text),
        _comments(text),
        W("comment-before-anything").raw(b": PROCESSING\n\n" * 3).text(text).stop().done().record(),
        W("no-space-after-colon", prefix=b"data:").text(text).stop().usage(2, 13).done()
        .record(Usage(input_uncached=2, output=13)),
        W("named-events", prefix=b"event: chunk\ndata: ").text(text).stop().done().record(),
        W("extra-blank-lines").raw(b"\n\n").text(text).raw(b"\n\n\n\n").stop().done().record(),
        W("byte-order-mark").raw(b"\xef\xbb\xbf" + _role_event()).text(text).stop().done().record(),
        _data_on_many_lines(text),
        _json_with_spaces(text),
    ]  # fmt: skip


def _role_event() -> bytes:
    return W("bom").role().events[0]


def _mixed_line_ends(text: str) -> UpstreamStream:
    writer = W("mixed-line-ends").role()
    for number, piece in enumerate(pieces(text)):
        writer.newline = (b"\n", b"\r\n", b"\r")[number % 3]
        writer.choice({"content": piece})
    writer.newline = b"\n"
    return writer.stop().done().record()


def _comments(text: str) -> UpstreamStream:
    writer = W("comments-between-and-inside").role()
    for number, piece in enumerate(pieces(text)):
        if number % 4 == 1:
            writer.raw(b": keep-alive\n\n")
        if number % 4 == 2:
            writer.prefix = b": inside the event\ndata: "
        writer.choice({"content": piece})
        writer.prefix = b"data: "
    return writer.stop().done().record()


def _data_on_many_lines(text: str) -> UpstreamStream:
    writer = W("data-on-many-lines").role()
    for piece in pieces(text):
        writer.choice({"content": piece})
        value = json.loads(writer.events.pop()[6:])
        lines = json.dumps(value, indent=1).splitlines()
        writer.raw(b"".join(b"data: " + line.encode() + b"\n" for line in lines) + b"\n")
    return writer.stop().done().record()


def _json_with_spaces(text: str) -> UpstreamStream:
    writer = W("json-with-spaces").role()
    for piece in pieces(text):
        writer.choice({"content": piece})
        writer.raw(b"data: " + json.dumps(json.loads(writer.events.pop()[6:])).encode() + b"\n\n")
    return writer.stop().done().record()


def _usage() -> list[UpstreamStream]:
    """Usage in every place and shape a conforming or nearly conforming provider puts it."""
    details = {
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 40,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 3,
            "rejected_prediction_tokens": 1,
        },
    }
    return [
        W("usage-null-elsewhere", every={"usage": None}).text("null until the end").stop()
        .usage(6, 5).done().record(Usage(input_uncached=6, output=5)),
        W("usage-in-last-content-chunk").text("given with the last").choice(
            {"content": " word"}, finish="stop", usage=openai_usage(10, 6)).done()
        .record(Usage(input_uncached=10, output=6)),
        W("usage-in-finish-chunk").text("given at the finish").choice(
            {}, finish="stop", usage=openai_usage(10, 5)).done()
        .record(Usage(input_uncached=10, output=5)),
        _cumulative(),
        W("usage-details").text(prose(7, 20)).stop().usage(100, 90, **details).done()
        .record(Usage(input_uncached=36, cache_read=64, output=90, reasoning=40)),
        W("usage-all-cached").text("cached").stop()
        .usage(128, 2, prompt_tokens_details={"cached_tokens": 128}).done()
        .record(Usage(cache_read=128, output=2)),
        W("usage-twice-last-holds").text("twice").stop().usage(5, 1).usage(5, 2).done()
        .record(Usage(input_uncached=5, output=2)),
        _timings_beside_usage(),
    ]  # fmt: skip


def _timings_beside_usage() -> UpstreamStream:
    writer = W("timings-beside-usage").text("llama says").stop()
    writer.usage_only.add(len(writer.events))
    writer.chunk([], usage=openai_usage(4, 3), timings={"predicted_n": 3, "predicted_ms": 1.5})
    return writer.done().record(Usage(input_uncached=4, output=3))


def _cumulative() -> UpstreamStream:
    writer = W("usage-cumulative-in-every-chunk").role()
    for number, piece in enumerate(pieces(prose(8, 15)), start=1):
        writer.choice({"content": piece}, usage=openai_usage(9, number))
    count = len(writer.events) - 1
    writer.choice({}, finish="stop", usage=openai_usage(9, count))
    return writer.done().record(Usage(input_uncached=9, output=count))


def _call(index: int, arguments: str, **first: object) -> dict[str, object]:
    name = {"name": first.pop("name")} if "name" in first else {}
    return {"index": index, **first, "function": {**name, "arguments": arguments}}


def _tools() -> list[UpstreamStream]:
    """Tool calls, legacy functions, refusals."""
    weather = json.dumps({"city": "Zürich", "note": 'say "hi"\n'}, ensure_ascii=False)
    parallel = W("tool-calls-parallel").role(content=None)
    for index in range(3):
        parallel.choice(
            {"tool_calls": [_call(index, "", id=f"call_{index}", type="function", name="f")]}
        )
        for piece in pieces(json.dumps({"n": index, "text": prose(index, 4)}), seed=index):
            parallel.choice({"tool_calls": [_call(index, piece)]})
    mixed = W("tool-calls-interleaved").role(content=None)
    mixed.choice(
        {"tool_calls": [_call(i, "", id=f"call_{i}", type="function", name="g") for i in (0, 1)]}
    )
    for left, right in zip(
        pieces('{"left":"' + "l" * 60 + '"}'), pieces('{"right":"' + "r" * 60 + '"}'), strict=False
    ):
        mixed.choice({"tool_calls": [_call(0, left), _call(1, right)]})
    single = W("tool-call").role(content=None)
    single.choice({"tool_calls": [_call(0, "", id="call_1", type="function", name="get_weather")]})
    for piece in pieces(weather):
        single.choice({"tool_calls": [_call(0, piece)]})
    function = W("function-call").choice(
        {"role": "assistant", "content": None, "function_call": {"name": "old", "arguments": ""}}
    )
    for piece in pieces('{"legacy": true, "depth": [1, [2, [3]]]}'):
        function.choice({"function_call": {"arguments": piece}})
    big = (
        W("tool-call-big-arguments")
        .role(content=None)
        .choice(
            {
                "tool_calls": [
                    _call(0, json.dumps({"x": "y" * 200_000}), id="c", type="function", name="h")
                ]
            }
        )
    )
    whole = {"tool_calls": [_call(0, weather, id="call_1", type="function", name="get_weather")]}
    return [
        single.stop("tool_calls").usage(80, 22).done().record(Usage(input_uncached=80, output=22)),
        parallel.stop("tool_calls").usage(90, 61).done().record(Usage(input_uncached=90, output=61)),
        mixed.stop("tool_calls").done().record(),
        function.stop("function_call").usage(40, 17).done().record(Usage(input_uncached=40, output=17)),
        big.stop("tool_calls").done().record(),
        W("tool-call-in-one-delta").choice(whole, finish="tool_calls").done().record(),
        W("text-then-tool-call").text("Let me look. ").choice(whole).stop("tool_calls").done().record(),
        W("tool-call-without-arguments").role(content=None)
        .choice({"tool_calls": [_call(0, "{}", id="c", type="function", name="now")]})
        .stop("tool_calls").done().record(),
        W("refusal").choice({"role": "assistant", "content": None, "refusal": ""})
        .text("I cannot help with that.", field_name="refusal").stop().usage(20, 8).done()
        .record(Usage(input_uncached=20, output=8)),
    ]  # fmt: skip


def _reasoning() -> list[UpstreamStream]:
    """Visible reasoning in the two fields used for it, and hidden reasoning."""
    details = {"completion_tokens_details": {"reasoning_tokens": 30}}
    return [
        W("reasoning-content").role().text(prose(9, 20), field_name="reasoning_content")
        .text(prose(10, 6)).stop().usage(12, 34, **details).done()
        .record(Usage(input_uncached=12, output=34, reasoning=30)),
        W("reasoning").role().text(prose(11, 20), field_name="reasoning").text(prose(12, 6))
        .stop().done().record(),
        W("reasoning-null-beside-content").role().choice({"content": "a", "reasoning_content": None})
        .choice({"content": None, "reasoning_content": "b"}).stop().done().record(),
        W("reasoning-hidden").role().text("42").stop().usage(15, 1201,
          completion_tokens_details={"reasoning_tokens": 1200}).done()
        .record(Usage(input_uncached=15, output=1201, reasoning=1200)),
    ]  # fmt: skip


def _choices() -> list[UpstreamStream]:
    """Several answers at once."""
    three = W("three-choices")
    for index in range(3):
        three.role(index)
    answers = [pieces(prose(20 + index, 10), seed=index) for index in range(3)]
    for row in zip(*answers, strict=False):
        for index, piece in enumerate(row):
            three.choice({"content": piece}, index=index)
    for index, finish in enumerate(("stop", "length", "stop")):
        three.stop(finish, index)
    together = W("choices-in-one-chunk").role(0).role(1)
    for left, right in zip(pieces(prose(30, 8)), pieces(prose(31, 8)), strict=False):
        for index, piece in ((0, left), (1, right)):
            together.note({"content": piece}, index)
        together.chunk([
            {"index": 1, "delta": {"content": right}, "finish_reason": None},
            {"index": 0, "delta": {"content": left}, "finish_reason": None},
        ])  # fmt: skip
    eight = W("eight-choices-one-after-another")
    for index in range(8):
        eight.role(index).text(prose(40 + index, 3), index=index).stop(index=index)
    return [
        three.usage(9, 96).done().record(Usage(input_uncached=9, output=96)),
        together.stop().stop(index=1).done().record(),
        eight.usage(9, 30).done().record(Usage(input_uncached=9, output=30)),
    ]


def _providers() -> list[UpstreamStream]:
    """Fields that some providers add."""
    harmless = {"hate": {"filtered": False, "severity": "safe"}}
    azure = W("azure-prompt-filter-first").chunk(
        [], prompt_filter_results=[{"prompt_index": 0, "content_filter_results": harmless}]
    )
    azure.role()
    for piece in pieces(prose(50, 8)):
        azure.choice(
            {"content": piece}, more={"content_filter_results": harmless, "logprobs": None}
        )
    filtered = {"violence": {"filtered": True, "severity": "high"}}
    obfuscated = W("obfuscation").role()
    for number, piece in enumerate(pieces(prose(51, 10))):
        obfuscated.choice({"content": piece}, obfuscation="kQ7xT2"[: number % 7])
    logprobs = W("logprobs").role()
    for piece in pieces(prose(52, 10) + " Größe 日本"):
        entry = {"token": piece, "logprob": -0.25, "bytes": list(piece.encode())}
        tops = [{**entry, "logprob": -1.5 * rank} for rank in range(5)]
        content = {"content": [{**entry, "top_logprobs": tops}], "refusal": None}
        logprobs.choice({"content": piece}, more={"logprobs": content})
    citation = {"type": "url_citation", "url_citation": {"url": "https://example.test/a?b=c", "title": "A",
                "start_index": 0, "end_index": 4}}  # fmt: skip
    audio = W("audio").choice(
        {"role": "assistant", "audio": {"id": "audio_1", "transcript": "spoken"}}
    )
    audio.choice({"audio": {"data": "UklGRg" * 300}}).choice(
        {"audio": {"expires_at": 1_790_003_600}}
    )
    audio_usage = {"completion_tokens_details": {"audio_tokens": 55, "text_tokens": 5}}
    return [
        azure.stop().usage(14, 9).done().record(Usage(input_uncached=14, output=9)),
        W("azure-filtered").text("so far ").choice(
            {}, finish="content_filter", more={"content_filter_results": filtered}).done().record(),
        obfuscated.stop().usage(14, 11).done().record(Usage(input_uncached=14, output=11)),
        logprobs.stop().done().record(),
        W("citations").text("As said").choice({"content": "", "annotations": [citation]}).stop().done().record(),
        audio.stop().usage(10, 60, **audio_usage).done()
        .record(Usage(input_uncached=10, output=5, audio_output=55)),
        W("extra-fields-in-choices").role().choice(
            {"content": "x", "provider_specific": {"k": [1]}}, more={"native_finish_reason": None, "text": ""})
        .stop().done().record(),
    ]  # fmt: skip


def _endings() -> list[UpstreamStream]:
    """Streams that end early, late or otherwise than they should."""
    error = {
        "error": {
            "message": "The engine caught fire.",
            "type": "server_error",
            "param": None,
            "code": None,
        }
    }
    after = W("data-after-done").text("enough").stop().done()
    terminal = len(after.events)
    cut = W("cut-inside-an-event").text(prose(60, 10))
    cut.raw(b'data: {"id":"chatcmpl-cut","choices":[{"index":0,"delta":{"con')
    return [
        W("finish-reason-and-no-done").text(prose(61, 10)).stop()
        .record(terminal="finish_reason"),
        W("usage-and-no-done").text(prose(62, 10)).stop().usage(3, 11)
        .record(Usage(input_uncached=3, output=11), terminal="finish_reason"),
        W("cut-after-content").text(prose(63, 10)).record(complete=False),
        W("cut-after-finish").text(prose(64, 10)).stop().record(complete=False),
        cut.record(complete=False),
        W("cut-after-role").role().record(complete=False),
        W("error-in-the-middle").text(prose(65, 6)).payload(error).record(complete=False),
        W("error-at-once").payload(error).record(complete=False),
        W("error-then-done").text(prose(66, 3)).payload(error).done().record(complete=False),
        after.chunk([{"index": 0, "delta": {"content": "and more"}}]).done().record(after_terminal=terminal),
        W("done-without-blank-line").text(prose(67, 5)).stop().raw(b"data: [DONE]\n").record(),
        W("done-without-line-end").text(prose(68, 5)).stop().raw(b"data: [DONE]").record(),
    ]  # fmt: skip


def body_of(events: list[dict[str, object]]) -> bytes:
    """Frame given payloads plainly; for tests that build a stream by hand."""
    return b"".join(b"data: " + compact(event) + b"\n\n" for event in events)


_FAMILIES: tuple[Callable[[], list[UpstreamStream]], ...] = (
    _plain,
    _framing,
    _usage,
    _tools,
    _reasoning,
    _choices,
    _providers,
    _endings,
)
OPENAI_STREAMS = tuple(stream for family in _FAMILIES for stream in family())
