from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.entities import Usage
from proxy.core.translation.chat_streams import ChunkReader, ChunkWriter, usage_object
from proxy.core.translation.conversation import (
    Closed,
    Event,
    Failed,
    Finish,
    Finished,
    Kind,
    Opened,
    Piece,
    Ping,
    Signed,
    Started,
)
from proxy.core.usage import UsageTally


def read(*chunks: dict[str, Any] | bytes) -> list[Event]:
    reader, events = ChunkReader(), []
    for chunk in chunks:
        events += reader.read(chunk if isinstance(chunk, bytes) else orjson.dumps(chunk))
    return events


def delta(finish: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return {"id": "x", "model": "m", "choices": [choice]}


def call(index: int, arguments: str | None = None, **fields: Any) -> dict[str, Any]:
    function = {"name": fields.pop("name", None), "arguments": arguments}
    return delta(tool_calls=[{"index": index, "function": function, **fields}])


def test_words_and_their_end() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    assert read(
        delta(role="assistant", content=""),
        delta(content="a"),
        delta(content="b"),
        delta("length"),
        {"choices": [], "usage": usage},
        b"[DONE]",
    ) == [
        Started("x", "m"),
        Opened(Kind.TEXT),
        Piece("a"),
        Piece("b"),
        Closed(),
        Finished(Finish.LENGTH, Usage(input_uncached=3, output=2)),
    ]


def test_thoughts_words_and_refusals_are_parts_of_their_own() -> None:
    kinds = [
        event.kind
        for event in read(
            delta(reasoning_content="hm"),
            delta(reasoning="mm"),
            delta(content="a"),
            delta(refusal="no"),
        )
        if isinstance(event, Opened)
    ]
    assert kinds == [Kind.THINKING, Kind.TEXT, Kind.REFUSAL]


def test_calls_of_tools() -> None:
    assert read(
        call(0, "", id="c1", name="f"),
        call(0, '{"a"'),
        call(0, ":1}"),
        call(1, id="c2", name="g"),
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1}]}}]},
        delta("stop"),
        b"[DONE]",
    ) == [
        Started("x", "m"),
        Opened(Kind.TOOL, "c1", "f"),
        Piece('{"a"'),
        Piece(":1}"),
        Closed(),
        Opened(Kind.TOOL, "c2", "g"),
        Closed(),
        Finished(Finish.TOOLS),
    ]


@pytest.mark.parametrize(
    "late",
    [
        (call(0, id="a"), call(1, id="b"), call(0, "x")),
        (call(0, id="a"), delta(content="t"), call(0, "x")),
    ],
)
def test_pieces_of_calls_that_are_mixed_are_a_failure(late: tuple[dict[str, Any], ...]) -> None:
    assert isinstance(read(*late)[-1], Failed)


def test_only_the_first_choice_is_read() -> None:
    assert read(delta(index=1, content="b")) == [Started("x", "m")]


def test_a_choice_without_a_delta_and_an_unknown_reason() -> None:
    assert read({"choices": [{"finish_reason": "unheard_of"}]}, b"[DONE]") == [
        Started("", ""),
        Finished(Finish.STOP),
    ]


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        ({"message": "busy", "type": "overloaded"}, Failed("overloaded", "busy")),
        ({"code": 1}, Failed("api_error", "The provider reported an error.")),
        ("busy", Failed("api_error", "busy")),
    ],
)
def test_errors(error: object, wanted: Failed) -> None:
    assert read({"error": error}) == [wanted]


def test_nonsense_is_a_failure() -> None:
    assert isinstance(read(b"nonsense")[0], Failed)
    assert isinstance(read(b'{"choices":7}')[0], Failed)


def write(*events: Event, include_usage: bool = True) -> list[dict[str, Any]]:
    writer = ChunkWriter(7, include_usage=include_usage)
    out = b"".join(writer.write(event) for event in events)
    return [orjson.loads(part.removeprefix(b"data: ")) for part in out.split(b"\n\n")[:-1]]


def test_written_words() -> None:
    first, second, last, usage = write(
        Started("msg_1", "m"),
        Opened(Kind.TEXT),
        Piece("a"),
        Closed(),
        Ping(),
        Finished(Finish.STOP_SEQUENCE, Usage(input_uncached=3, cache_read=2, output=1)),
    )
    head = {"id": "chatcmpl-msg_1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    assert first == {
        **head,
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
        ],
    }
    assert second["choices"][0]["delta"] == {"content": "a"}
    assert last["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"]["prompt_tokens"] == 5
    assert usage["usage"]["prompt_tokens_details"]["cached_tokens"] == 2


def test_usage_nobody_asked_for_is_not_written() -> None:
    end = Finished(Finish.STOP, Usage(output=1))
    assert len(write(end, include_usage=False)) == 1
    assert len(write(Finished(Finish.STOP))) == 1


def test_written_parts_of_every_kind() -> None:
    chunks = write(
        Started("chatcmpl-1", "m"),
        Opened(Kind.THINKING), Piece("hm"), Signed("s"), Closed(),
        Opened(Kind.REDACTED), Piece("xx"), Closed(),
        Opened(Kind.REFUSAL), Piece("no"), Closed(),
        Opened(Kind.TOOL, "c1", "f"), Piece("{}"), Closed(),
        Opened(Kind.TOOL, "c2", "g"), Closed(),
    )  # fmt: skip
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert chunks[0]["id"] == "chatcmpl-1"
    assert deltas[1:3] == [{"reasoning_content": "hm"}, {"refusal": "no"}]
    calls = [found["tool_calls"][0] for found in deltas[3:]]
    assert [found["index"] for found in calls] == [0, 0, 1, 1]
    assert calls[0]["id"] == "c1"
    assert calls[1] == {"index": 0, "function": {"arguments": "{}"}}
    assert calls[3] == {"index": 1, "function": {"arguments": "{}"}}, "though none were said"


def test_a_written_failure_is_what_sdks_raise_on() -> None:
    (found,) = write(Failed("overloaded_error", "busy"), Piece("too late"))
    assert found["error"]["message"] == "busy"


def test_the_end_is_told_apart_and_not_after_a_failure() -> None:
    writer = ChunkWriter(0, include_usage=False)
    assert writer.end() == b"data: [DONE]\n\n"
    failure = Failed("x", "y")
    writer.write(failure)
    assert (writer.end(), writer.failure) == (b"", failure)


def test_events_that_are_none_are_our_fault() -> None:
    with pytest.raises(AssertionError):
        ChunkWriter(0, include_usage=False).write("text")  # type: ignore[arg-type]


def test_usage_counts_every_token_once() -> None:
    usage = Usage(
        input_uncached=1, cache_read=2, cache_write_5m=4, cache_write_1h=8, output=16,
        reasoning=3, audio_input=32, audio_output=64,
    )  # fmt: skip
    found = usage_object(usage)
    assert (found["prompt_tokens"], found["completion_tokens"]) == (47, 80)
    assert found["total_tokens"] == 127


@given(
    st.builds(
        Usage,
        **dict.fromkeys(
            (
                "input_uncached", "cache_read", "cache_write_5m", "output", "audio_input",
                "audio_output", "image_input", "image_output", "cache_read_audio",
                "cache_read_image",
            ),
            st.integers(0, 10**6),
        ),
    )
)  # fmt: skip
def test_a_usage_that_was_written_reads_back_the_same(usage: Usage) -> None:
    tally = UsageTally()
    tally.openai(usage_object(usage))
    assert tally.usage() == usage


def test_signatures_of_googles_chat_are_read_where_they_stand() -> None:
    extra = {"google": {"thought_signature": "s"}}
    signed = [Opened(Kind.THINKING), Signed("gemini:call:s"), Closed()]
    assert read(
        delta(content="a"),
        delta(extra_content=extra),
        call(0, "{}", id="c", name="f", extra_content=extra),
        call(1, "{}", id="d", name="f", extra_content={}),
    ) == [
        Started("x", "m"),
        Opened(Kind.TEXT),
        Piece("a"),
        Closed(),
        Opened(Kind.THINKING),
        Signed("gemini:text:s"),
        Closed(),
        *signed,
        Opened(Kind.TOOL, "c", "f"),
        Piece("{}"),
        Closed(),
        Opened(Kind.TOOL, "d", "f"),
        Piece("{}"),
    ]


def test_signatures_are_written_as_googles_chat_has_them() -> None:
    extra = {"google": {"thought_signature": "s"}}
    chunks = write(
        Started("chatcmpl-1", "m"),
        Opened(Kind.THINKING), Signed("gemini:thought:s"), Closed(),
        Opened(Kind.THINKING), Signed("gemini:text:s"), Closed(),
        Opened(Kind.THINKING), Signed("gemini:call:s"), Closed(),
        Opened(Kind.TOOL, "c1", "f"), Piece("{}"), Closed(),
        Opened(Kind.TOOL, "c2", "f"), Piece("{}"), Closed(),
    )  # fmt: skip
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[1:]]
    assert deltas[0] == {"extra_content": extra}
    calls = [found["tool_calls"][0] for found in deltas[1:]]
    assert [found.get("extra_content") for found in calls] == [extra, None, None, None]
