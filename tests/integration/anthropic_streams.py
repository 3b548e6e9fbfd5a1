"""Generated messages streams, ordinary and odd. See stream_record.py for the fields."""

import json
from collections.abc import Callable
from typing import Any

from proxy.core.entities import Usage
from tests.integration.stream_record import (
    CODE_TEXT,
    UNICODE_TEXT,
    AnthropicWriter,
    UpstreamStream,
    pieces,
    prose,
)

W = AnthropicWriter


def _ended(
    writer: AnthropicWriter, output: int, read: int = 12, stop: str = "end_turn"
) -> UpstreamStream:
    """Finish `writer` the ordinary way."""
    return (
        writer.message_delta(output, stop).stop().record(Usage(input_uncached=read, output=output))
    )


def _plain() -> list[UpstreamStream]:
    """Nothing but text, in the ways it is sent."""
    big = W("big-200-kb-event").start().open("text", text="")
    big.delta("text_delta", text=prose(1, 36_000))
    one = W("one-delta").start().open("text", text="")
    first = W("text-in-block-start").start().open("text", text="Already ")
    first.runs["0/text"] = "Already "
    no_space = W("no-space-after-colon", space=b"").start().text(prose(2, 12))
    return [
        _ended(one.delta("text_delta", text="Hi.").close(), 3),
        _ended(first.delta("text_delta", text="begun").close(), 4),
        _ended(W("short").start().text(prose(3, 30)), 33),
        _ended(
            W("pings-everywhere").ping().start().ping().text(prose(4, 30), ping_every=3).ping(), 33
        ),
        _ended(W("unicode-utf8").start().text(UNICODE_TEXT * 2), 140),
        _ended(W("unicode-escaped", ascii_only=True).start().text(UNICODE_TEXT), 70),
        _ended(W("code-and-control-characters").start().text(CODE_TEXT * 3), 90),
        _ended(W("crlf", newline=b"\r\n").start().text(prose(5, 12)), 13),
        _ended(no_space, 13),
        _ended(W("type-last", type_last=True).start().text(prose(6, 12)), 13),
        _ended(W("long-2000-events").start().text(prose(7, 2000)), 2900),
        _ended(big.close(), 40_000),
        _ended(W("two-text-blocks").start().text("First. ").text("Second."), 6),
        _ended(W("no-content-at-all").start(), 1),
        _ended(_comments(), 13),
        _ended(_empty_deltas(), 5),
    ]


def _comments() -> AnthropicWriter:
    writer = W("comments").raw(b": connected\n\n").start().open("text", text="")
    for piece in pieces(prose(8, 12)):
        writer.raw(b":\n\n").delta("text_delta", text=piece)
    return writer.close()


def _empty_deltas() -> AnthropicWriter:
    writer = W("empty-deltas").start().open("text", text="")
    for text in ("", "a", "", "b", ""):
        writer.delta("text_delta", text=text)
    return writer.close()


def _thinking() -> list[UpstreamStream]:
    """Visible thinking with its signature, and thinking that stays hidden."""
    redacted = W("redacted-thinking").start().open("redacted_thinking", data="RW5jcnlwdGVk" * 40)
    interleaved = W("thinking-interleaved-with-tools").start().thinking("First I look.")
    interleaved.tool("look", {"at": "map"}).thinking("Then I think again.").text("So.")
    omitted = W("thinking-omitted").start().open("thinking", thinking="", signature="")
    omitted.delta("signature_delta", signature="U2ln" * 30)
    details: dict[str, Any] = {"output_tokens_details": {"thinking_tokens": 700}}
    return [
        _ended(W("thinking-then-text").start().thinking(prose(9, 40)).text(prose(10, 8)), 60),
        _ended(redacted.close().text("Answer."), 90),
        _ended(interleaved, 70, stop="tool_use"),
        omitted.close().text("Short.").message_delta(702, **details).stop()
        .record(Usage(input_uncached=12, output=702, reasoning=700)),
    ]  # fmt: skip


def _tools() -> list[UpstreamStream]:
    """Client tools, alone and together."""
    weather = {"city": "Zürich", "note": 'say "hi"\n', "days": [1, 2.5, None]}
    parallel = W("tool-use-parallel").start()
    for index in range(3):
        parallel.tool(f"tool_{index}", {"n": index, "text": prose(index, 4)})
    big = W("tool-use-big-arguments").start()
    big.open("tool_use", id="toolu_big", name="store", input={})
    big.delta("input_json_delta", partial_json=json.dumps({"x": "y" * 200_000}))
    return [
        _ended(W("tool-use").start().tool("get_weather", weather), 40, stop="tool_use"),
        _ended(parallel, 99, stop="tool_use"),
        _ended(W("text-then-tool-use").start().text("Let me look.").tool("f", weather), 44, stop="tool_use"),
        _ended(W("tool-use-without-input").start().tool("now", None), 9, stop="tool_use"),
        _ended(W("tool-use-escaped", ascii_only=True).start().tool("f", {"k": UNICODE_TEXT}), 80, stop="tool_use"),
        _ended(big.close(), 100_000, stop="tool_use"),
    ]  # fmt: skip


def _server_tools() -> list[UpstreamStream]:
    """Tools the provider runs: output that is billed but partly not seen."""
    found = [{"type": "web_search_result", "url": "https://example.test/1", "title": "One",
              "encrypted_content": "RW5j" * 100, "page_age": None}]  # fmt: skip
    search = W("web-search-with-citations").start(300)
    search.tool("web_search", {"query": "harbour"}, kind="server_tool_use")
    search.open("web_search_tool_result", tool_use_id="srvtoolu_0", content=found).close()
    search.open("text", text="", citations=[])
    search.delta("text_delta", text="The harbour opens at six.")
    cited = {"type": "web_search_result_location", "cited_text": "opens at six", "url": "https://example.test/1",
             "title": "One", "encrypted_index": "SW5k"}  # fmt: skip
    search.delta("citations_delta", citation=cited).close()
    code = (
        W("code-execution")
        .start(50)
        .tool("code_execution", {"code": "print(1)"}, kind="server_tool_use")
    )
    result = {
        "type": "code_execution_result",
        "stdout": "1\n",
        "stderr": "",
        "return_code": 0,
        "content": [],
    }
    code.open("code_execution_tool_result", tool_use_id="srvtoolu_0", content=result).close()
    mcp = W("mcp-tool").start(20)
    mcp.open("mcp_tool_use", id="mcptoolu_0", name="echo", server_name="s", input={})
    mcp.delta("input_json_delta", partial_json='{"say": "hi"}').close()
    mcp.open("mcp_tool_result", tool_use_id="mcptoolu_0", is_error=False,
             content=[{"type": "text", "text": "hi"}]).close()  # fmt: skip
    document = {"type": "char_location", "cited_text": "salt", "document_index": 0, "document_title": None,
                "start_char_index": 3, "end_char_index": 7}  # fmt: skip
    quoted = W("document-citations").start(90).open("text", text="", citations=[])
    quoted.delta("citations_delta", citation=document).delta("text_delta", text="There is salt.")
    return [
        search.message_delta(88, input_tokens=4300, cache_read_input_tokens=0, cache_creation_input_tokens=0,
                             server_tool_use={"web_search_requests": 1}).stop()
        .record(Usage(input_uncached=4300, output=88, searches=1)),
        code.text("It printed 1.").message_delta(61, more={"container": {"id": "c1", "expires_at": "2027-01-01T00:00:00Z"}})
        .stop().record(Usage(input_uncached=50, output=61)),
        _ended(mcp.text("It said hi."), 31, read=20),
        _ended(quoted.close(), 9, read=90),
        _ended(search_pause(), 20, stop="pause_turn"),
    ]  # fmt: skip


def search_pause() -> AnthropicWriter:
    """A turn that the provider suspends in the middle of its own tool use."""
    return (
        W("pause-turn")
        .start()
        .text("Searching.")
        .tool("web_search", {"query": "x"}, kind="server_tool_use")
    )


def _usage() -> list[UpstreamStream]:
    """Cumulative, cached, repeated and missing figures."""
    breakdown = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 40}
    written: dict[str, Any] = {
        "cache_creation_input_tokens": 140,
        "cache_read_input_tokens": 2000,
        "cache_creation": breakdown,
    }
    undivided: dict[str, Any] = {"cache_creation_input_tokens": 140, "cache_read_input_tokens": 0}
    return [
        W("cache-read-and-writes").start(5, **written).text("cached").message_delta(4).stop()
        .record(Usage(input_uncached=5, cache_read=2000, cache_write_5m=100, cache_write_1h=40, output=4)),
        W("cache-write-undivided").start(5, **undivided).text("cached").message_delta(4).stop()
        .record(Usage(input_uncached=5, cache_write_5m=140, output=4)),
        W("message-delta-twice").start().text("one ").message_delta(3, None).text("two")
        .message_delta(7).stop().record(Usage(input_uncached=12, output=7)),
        W("message-delta-twice-at-the-end").start().text("both").message_delta(5).message_delta(5).stop()
        .record(Usage(input_uncached=12, output=5)),
        W("cumulative-input-at-the-end").start(10).text("more").message_delta(5, input_tokens=25).stop()
        .record(Usage(input_uncached=25, output=5)),
        W("all-figures-at-the-end").start(0, 0).text("late").message_delta(
            5, input_tokens=33, cache_read_input_tokens=7, cache_creation_input_tokens=0).stop()
        .record(Usage(input_uncached=33, cache_read=7, output=5)),
        W("null-figures").start(12, cache_creation_input_tokens=None, cache_read_input_tokens=None,
                                service_tier="standard", inference_geo=None, server_tool_use=None)
        .text("nulls").message_delta(4, cache_read_input_tokens=None).stop()
        .record(Usage(input_uncached=12, output=4)),
    ]  # fmt: skip


def _stops() -> list[UpstreamStream]:
    """Every stop reason."""
    sequence = {"stop_sequence": "\n\nEND"}
    refused = {"stop_details": {"type": "refusal", "category": "x", "explanation": "made up"}}
    return [
        _ended(W("max-tokens").start().text(prose(20, 20)), 64, stop="max_tokens"),
        W("stop-sequence").start().text("till END").message_delta(5, "stop_sequence", more=sequence).stop()
        .record(Usage(input_uncached=12, output=5)),
        W("refusal").start().text("I ").message_delta(2, "refusal", more=refused).stop()
        .record(Usage(input_uncached=12, output=2)),
        _ended(W("context-window-exceeded").start().text("full"), 2, stop="model_context_window_exceeded"),
        _ended(W("unknown-stop-reason").start().text("new"), 2, stop="some_future_reason"),
    ]  # fmt: skip


def _endings() -> list[UpstreamStream]:
    """Streams that end early, late or otherwise than they should, and events nobody knows yet."""
    overloaded = {"type": "overloaded_error", "message": "Overloaded"}
    future = (
        W("unknown-events").start().event("some_future_event", payload={"deep": [1]}).text("known")
    )
    future.open("future_block", data="x").delta("future_delta", value=1).close()
    after = W("data-after-message-stop").start().text("enough").message_delta(2).stop()
    terminal = len(after.events)
    cut = W("cut-inside-an-event").start().text(prose(30, 8))
    cut.raw(b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_re')
    half = W("cut-in-the-middle-of-a-block").start().open("text", text="")
    return [
        _ended(future, 9),
        after.ping().event("content_block_start", index=9, content_block={"type": "text", "text": "x"})
        .record(Usage(input_uncached=12, output=2), after_terminal=terminal),
        half.delta("text_delta", text="Half a").record(complete=False),
        W("cut-before-message-stop").start().text("almost").message_delta(2)
        .record(Usage(input_uncached=12, output=2), complete=False),
        W("cut-after-message-start").start().record(complete=False),
        cut.record(complete=False),
        W("error-in-the-middle").start().text(prose(31, 6)).event("error", error=overloaded)
        .record(complete=False),
        W("error-at-once").event("error", error=overloaded).record(complete=False),
        W("error-after-message-start").start().ping().event("error", error=overloaded)
        .record(complete=False),
        W("message-stop-without-blank-line").start().text("x").message_delta(1)
        .raw(b'event: message_stop\ndata: {"type":"message_stop"}\n')
        .record(Usage(input_uncached=12, output=1)),
    ]  # fmt: skip


_FAMILIES: tuple[Callable[[], list[UpstreamStream]], ...] = (
    _plain,
    _thinking,
    _tools,
    _server_tools,
    _usage,
    _stops,
    _endings,
)
ANTHROPIC_STREAMS = tuple(stream for family in _FAMILIES for stream in family())
