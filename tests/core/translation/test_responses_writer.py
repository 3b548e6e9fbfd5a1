from typing import Any

import orjson
import pydantic
import pytest
from openai.types.responses import Response, ResponseStreamEvent

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
    Request,
    Signed,
    Started,
    Tool,
)
from proxy.core.translation.responses_writer import ITEM_BYTES, EventWriter

START = Started("msg_1", "m")
ASKED = Request("m", (), tools=(Tool("patch", free_form=True), Tool("box__open", group="box")))
TEXT = (Opened(Kind.TEXT), Piece("a"), Piece("b"), Closed())

_sdk: Any = pydantic.TypeAdapter(ResponseStreamEvent)


def documents(out: bytes) -> list[dict[str, Any]]:
    found = []
    for event in out.split(b"\n\n")[:-1]:
        name, data = event.split(b"\ndata: ")
        document = orjson.loads(data)
        assert document["type"] == name.removeprefix(b"event: ").decode()
        _sdk.validate_python(document)
        found.append(document)
    return found


def write(*events: Event) -> list[dict[str, Any]]:
    """Everything of a stream, its end included if it was finished."""
    writer = EventWriter(7, ASKED)
    out = b"".join(writer.write(event) for event in events)
    if isinstance(events[-1], Finished):
        out += writer.end()
    found = documents(out)
    assert [document["sequence_number"] for document in found] == list(range(len(found)))
    return found


def names(found: list[dict[str, Any]]) -> list[str]:
    return [document["type"].removeprefix("response.") for document in found]


def of(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in found if document["type"] == f"response.{kind}"]


def test_words_in_every_event_the_sdk_knows() -> None:
    usage = Usage(input_uncached=3, cache_read=2, output=1)
    found = write(START, *TEXT, Ping(), Finished(Finish.STOP, usage))
    assert names(found) == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    begun = found[0]["response"]
    assert (begun["id"], begun["status"], begun["output"]) == ("resp_msg_1", "in_progress", [])
    assert (begun["created_at"], begun["model"], begun["usage"]) == (7, "m", None)
    assert [document["delta"] for document in of(found, "output_text.delta")] == ["a", "b"]
    assert of(found, "output_text.done")[0]["text"] == "ab"
    assert {document["item_id"] for document in found[3:8]} == {found[2]["item"]["id"]}
    ended = found[-1]["response"]
    Response.model_validate(ended)
    assert ended["output"] == [found[-2]["item"]]
    assert ended["output"][0]["content"][0]["text"] == "ab"
    assert ended["usage"]["input_tokens_details"]["cached_tokens"] == 2
    assert (ended["completed_at"], ended["incomplete_details"]) == (7, None)


def test_texts_that_follow_each_other_share_a_message() -> None:
    found = write(
        START,
        *TEXT,
        Opened(Kind.REFUSAL), Piece("no"), Closed(),
        Opened(Kind.TEXT), Closed(),
        Opened(Kind.TOOL, "c", "f"), Piece("{}"), Closed(),
        *TEXT,
        Finished(Finish.TOOLS),
    )  # fmt: skip
    first, call, second = found[-1]["response"]["output"]
    assert [part["type"] for part in first["content"]] == ["output_text", "refusal", "output_text"]
    places = [document["content_index"] for document in of(found, "content_part.added")]
    assert places == [0, 1, 2, 0]
    assert (call["type"], len(second["content"])) == ("function_call", 1)
    assert of(found, "refusal.done")[0]["refusal"] == "no"
    done = [document["output_index"] for document in of(found, "output_item.done")]
    assert done == [0, 1, 2]
    assert first["status"] == "completed"


def test_calls_of_tools() -> None:
    found = write(
        START,
        Opened(Kind.TOOL, "a", "f"), Piece('{"x"'), Piece(":1}"), Closed(),
        Opened(Kind.TOOL, "", "box__open"), Closed(),
        Finished(Finish.TOOLS),
    )  # fmt: skip
    deltas = of(found, "function_call_arguments.delta")
    assert [document["delta"] for document in deltas] == ['{"x"', ":1}", "{}"]
    whole = [document["arguments"] for document in of(found, "function_call_arguments.done")]
    assert whole == ['{"x":1}', "{}"]
    one, two = found[-1]["response"]["output"]
    assert (one["call_id"], one["name"], one["arguments"]) == ("a", "f", '{"x":1}')
    assert (two["namespace"], two["name"]) == ("box", "open")
    assert two["call_id"] == two["id"], "the SDK tells calls apart by it"


def test_free_form_input_is_told_as_the_text_it_is() -> None:
    found = write(
        START,
        Opened(Kind.TOOL, "c", "patch"), Piece('{"input":"+'), Piece('\\na"}'), Closed(),
        Finished(Finish.TOOLS),
    )  # fmt: skip
    assert [document["delta"] for document in of(found, "custom_tool_call_input.delta")] == ["+\na"]
    assert of(found, "custom_tool_call_input.done")[0]["input"] == "+\na"
    assert of(found, "output_item.added")[0]["item"]["input"] == ""
    (item,) = found[-1]["response"]["output"]
    assert (item["type"], item["call_id"], item["input"]) == ("custom_tool_call", "c", "+\na")


def test_thoughts_are_summaries_with_their_secret() -> None:
    found = write(
        START,
        Opened(Kind.THINKING), Piece("h"), Piece("m"), Signed("s"), Closed(),
        Opened(Kind.THINKING), Signed(""), Closed(),
        Opened(Kind.REDACTED), Piece("xx"), Closed(),
        *TEXT,
        Finished(Finish.STOP),
    )  # fmt: skip
    deltas = of(found, "reasoning_summary_text.delta")
    assert [document["delta"] for document in deltas] == ["h", "m"]
    assert len(of(found, "reasoning_summary_part.added")) == 1
    assert of(found, "reasoning_summary_text.done")[0]["text"] == "hm"
    assert of(found, "reasoning_summary_part.done")[0]["part"]["text"] == "hm"
    shown, empty, redacted, _ = found[-1]["response"]["output"]
    assert shown["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert shown["encrypted_content"] == "relayed:s"
    assert (empty["summary"], "encrypted_content" in empty) == ([], False)
    assert (redacted["summary"], redacted["encrypted_content"]) == ([], "relayed-redacted:xx")


@pytest.mark.parametrize(
    ("finish", "reason"),
    [(Finish.LENGTH, "max_output_tokens"), (Finish.REFUSED, "content_filter")],
)
def test_an_answer_cut_short_is_incomplete(finish: Finish, reason: str) -> None:
    last = write(START, *TEXT, Finished(finish))[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["status"] == "incomplete"
    assert last["response"]["incomplete_details"] == {"reason": reason}
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert "completed_at" not in last["response"]


def test_the_end_is_told_apart_and_can_be_asked_for_again() -> None:
    writer = EventWriter(7, ASKED)
    before = b"".join(writer.write(event) for event in (START, *TEXT, Finished(Finish.STOP)))
    assert b"response.completed" not in before
    assert documents(writer.end())[0]["response"]["status"] == "completed"
    with pytest.raises(AssertionError):
        EventWriter(7, ASKED).end()


def test_a_failure_ends_the_stream_even_where_its_end_was_near() -> None:
    writer = EventWriter(7, ASKED)
    for event in (START, *TEXT, Finished(Finish.STOP)):
        writer.write(event)
    failure = Failed("rate_limit_error", "busy")
    (last,) = documents(writer.write(failure))
    assert last["type"] == "response.failed"
    assert last["response"]["error"] == {
        "code": "rate_limit_exceeded", "message": "busy", "type": "rate_limit_error",
    }  # fmt: skip
    assert len(last["response"]["output"]) == 1
    assert (writer.end(), writer.write(Piece("x")), writer.failure) == (b"", b"", failure)


def test_a_failure_at_the_start_begins_a_response_all_the_same() -> None:
    found = write(Failed("overloaded_error", "busy"))
    assert names(found) == ["created", "in_progress", "failed"]
    assert found[-1]["response"]["error"]["code"] == "server_error"


def test_a_stream_that_another_wrote_ends_in_its_own_name_and_number() -> None:
    writer = EventWriter(7, ASKED)
    writer.resume("resp_theirs", "m", 5)
    (told,) = documents(writer.write(Failed("overloaded_error", "Busy.")))
    assert (told["type"], told["sequence_number"]) == ("response.failed", 5)
    assert (told["response"]["id"], told["response"]["model"]) == ("resp_theirs", "m")
    nameless = EventWriter(7, ASKED)
    nameless.resume("", "m", 2)
    (told,) = documents(nameless.write(Failed("overloaded_error", "Busy.")))
    assert told["response"]["id"].startswith("resp_")


def test_an_error_of_ours_keeps_its_code() -> None:
    """One that the SDK's types do not list, though OpenAI sends such too and clients act on it."""
    failure = Failed("insufficient_quota", "Add credit.", "insufficient_quota")
    told = EventWriter(7, ASKED).write(failure)
    assert b'"code":"insufficient_quota"' in told.splitlines()[-2]


def test_what_is_held_for_the_end_is_bounded() -> None:
    """Full to the last byte it is still told; one more and it fails, in words."""
    room = ITEM_BYTES + 6
    writer = EventWriter(7, ASKED, output_bytes_max=room)
    writer.write(START)
    writer.write(Opened(Kind.TEXT))
    writer.write(Piece("é" * 3))
    assert writer.failure is None
    (last,) = documents(writer.write(Piece("b")))
    assert last["type"] == "response.failed"
    assert "larger than" in last["response"]["error"]["message"]
    assert writer.failure is not None
    assert writer.end() == b""


@pytest.mark.parametrize("event", [Opened(Kind.TEXT), Signed("x" * ITEM_BYTES)])
def test_items_and_secrets_count_too(event: Event) -> None:
    writer = EventWriter(7, ASKED, output_bytes_max=ITEM_BYTES - 1)
    writer.write(START)
    assert b"response.failed" in writer.write(event)


def test_events_that_are_none_are_our_fault() -> None:
    with pytest.raises(AssertionError):
        EventWriter(0, ASKED).write("text")  # type: ignore[arg-type]
