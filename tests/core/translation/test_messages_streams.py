from typing import Any

import orjson
import pytest

from proxy.core.entities import Usage
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
from proxy.core.translation.messages_streams import EventReader, EventWriter, usage_object


def read(*events: dict[str, Any] | bytes) -> list[Event]:
    reader, found = EventReader(), []
    for event in events:
        found += reader.read(event if isinstance(event, bytes) else orjson.dumps(event))
    return found


def start(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **fields}}


def delta(**fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": fields}


BEGIN = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}},
}
STOP = {"type": "content_block_stop", "index": 0}
END = {"type": "message_stop"}


def finish(reason: str | None, sequence: str | None = None) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": sequence},
        "usage": {"output_tokens": 2},
    }


def test_words_and_their_end() -> None:
    assert read(
        BEGIN,
        start("text", text=""),
        {"type": "ping"},
        delta(type="text_delta", text="a"),
        STOP,
        finish("stop_sequence", "x"),
        END,
    ) == [
        Started("msg_1", "m", Usage(input_uncached=3, output=1)),
        Opened(Kind.TEXT),
        Ping(),
        Piece("a"),
        Closed(),
        Finished(Finish.STOP_SEQUENCE, Usage(input_uncached=3, output=2), "x"),
    ]


def test_every_kind_of_part() -> None:
    assert read(
        start("thinking", thinking=""),
        delta(type="thinking_delta", thinking="hm"),
        delta(type="signature_delta", signature="s"),
        STOP,
        start("redacted_thinking", data="xx"),
        STOP,
        start("tool_use", id="t", name="f", input={}),
        delta(type="input_json_delta", partial_json=""),
        delta(type="input_json_delta", partial_json="{}"),
        STOP,
        start("text", text="already"),
    ) == [
        Opened(Kind.THINKING), Piece("hm"), Signed("s"), Closed(),
        Opened(Kind.REDACTED), Piece("xx"), Closed(),
        Opened(Kind.TOOL, "t", "f"), Piece("{}"), Closed(),
        Opened(Kind.TEXT), Piece("already"),
    ]  # fmt: skip


def test_what_nobody_knows_yet_says_nothing() -> None:
    assert read(
        start("server_tool_use"), delta(partial_json="{}"), STOP, {"type": "unheard_of"},
        {"type": "message_start"}, {"type": "content_block_start"}, {"type": "message_delta"},
    ) == [Started("", "")]  # fmt: skip
    assert read(start("text"), {"type": "content_block_delta"}) == [Opened(Kind.TEXT)]


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [
        ("end_turn", Finish.STOP),
        ("model_context_window_exceeded", Finish.LENGTH),
        ("unheard_of", Finish.STOP),
        (None, Finish.STOP),
    ],
)
def test_reasons(reason: str | None, wanted: Finish) -> None:
    assert read(finish(reason), END) == [Finished(wanted, Usage(output=2))]
    assert read(END) == [Finished(Finish.STOP)]


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (
            {"type": "overloaded_error", "message": "busy"},
            Failed("overloaded_error", "busy"),
        ),
        ({}, Failed("api_error", "The provider reported an error.")),
        ("busy", Failed("api_error", "The provider reported an error.")),
    ],
)
def test_errors(error: object, wanted: Failed) -> None:
    assert read({"type": "error", "error": error}) == [wanted]


def test_nonsense_is_a_failure() -> None:
    assert isinstance(read(b"nonsense")[0], Failed)


def write(*events: Event) -> list[tuple[str, dict[str, Any]]]:
    writer = EventWriter()
    out = b"".join(writer.write(event) for event in events)
    found = []
    for part in out.split(b"\n\n")[:-1]:
        name, data = part.split(b"\ndata: ")
        document = orjson.loads(data)
        assert document["type"] == name.removeprefix(b"event: ").decode()
        found.append((document.pop("type"), document))
    return found


def test_written_words() -> None:
    found = write(
        Started("chatcmpl-1", "m", Usage(input_uncached=3)),
        Opened(Kind.TEXT),
        Piece("a"),
        Closed(),
        Ping(),
        Finished(Finish.LENGTH, Usage(input_uncached=3, output=1)),
    )
    names = [name for name, _ in found]
    assert names == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop",
        "ping", "message_delta",
    ]  # fmt: skip
    message = found[0][1]["message"]
    assert (message["id"], message["content"]) == ("msg_chatcmpl-1", [])
    assert found[2][1] == {"index": 0, "delta": {"type": "text_delta", "text": "a"}}
    assert found[5][1]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert found[5][1]["usage"]["output_tokens"] == 1


def test_written_parts_of_every_kind() -> None:
    found = write(
        Opened(Kind.THINKING), Piece("hm"), Signed("s"), Closed(),
        Opened(Kind.REDACTED), Piece("xx"), Closed(),
        Opened(Kind.TOOL, "t", "f"), Piece("{}"), Closed(),
        Opened(Kind.REFUSAL), Piece("no"), Closed(),
    )  # fmt: skip
    blocks = [body["content_block"] for name, body in found if name == "content_block_start"]
    assert blocks == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
        {"type": "text", "text": ""},
    ]
    deltas = [body["delta"] for name, body in found if name == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "s"},
        {"type": "input_json_delta", "partial_json": "{}"},
        {"type": "text_delta", "text": "no"},
    ]
    assert [body["index"] for name, body in found if name == "content_block_stop"] == [0, 1, 2, 3]


def test_the_end_is_told_apart_and_not_after_a_failure() -> None:
    writer = EventWriter()
    assert writer.end() == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    failure = Failed("x", "y")
    writer.write(failure)
    assert (writer.end(), writer.failure) == (b"", failure)
    assert writer.write(Piece("too late")) == b""


def test_nothing_known_of_usage_is_zero_and_failures_are_events() -> None:
    started, ended, failed = write(
        Started("msg_1", "m"), Finished(Finish.STOP), Failed("overloaded_error", "busy")
    )
    assert started[1]["message"]["usage"]["input_tokens"] == 0
    assert ended[1]["usage"]["output_tokens"] == 0
    assert failed == ("error", {"error": {"type": "overloaded_error", "message": "busy"}})


def test_usage_counts_every_token_once() -> None:
    usage = Usage(
        input_uncached=1, cache_read=2, cache_write_5m=4, cache_write_1h=8, output=16,
        reasoning=3, audio_input=32, audio_output=64,
    )  # fmt: skip
    assert usage_object(usage) == {
        "input_tokens": 33,
        "cache_creation_input_tokens": 12,
        "cache_read_input_tokens": 2,
        "output_tokens": 80,
    }
