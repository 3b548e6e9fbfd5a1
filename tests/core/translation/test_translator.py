from typing import Any

import orjson
import pytest

from proxy.core.catalog import TRANSLATED
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.sse import EVENT_BYTES_MAX
from proxy.core.translation.conversation import Failed, Wire
from proxy.core.translation.translator import SIDES, Translator

CHAT, MESSAGES, RESPONSES, GEMINI = Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES, Wire.GEMINI


def test_every_form_that_is_carried_over_has_a_side() -> None:
    assert set(SIDES) >= set(TRANSLATED)


def test_a_request_is_told_its_model_limit_and_what_is_left_out() -> None:
    body = orjson.dumps(
        {
            "model": "alias",
            "messages": [{"role": "user", "content": "hi"}],
            "seed": 1,
            "temperature": 2,
        }
    )
    translator = Translator(CHAT, MESSAGES, 0)
    written, left_out = translator.request(body, model="real", output_tokens_max=None, limit=99)
    found = orjson.loads(written)
    assert (found["model"], found["max_tokens"]) == ("real", 99)
    assert left_out == ("seed", "temperature")
    lowered, _ = translator.request(body, model="real", output_tokens_max=7, limit=99)
    assert orjson.loads(lowered)["max_tokens"] == 7


def test_the_other_way_too() -> None:
    body = orjson.dumps(
        {"model": "alias", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    )
    translator = Translator(MESSAGES, CHAT, 0)
    written, left_out = translator.request(body, model="real", output_tokens_max=None, limit=99)
    assert orjson.loads(written)["max_completion_tokens"] == 5
    assert left_out == ()


def test_a_path_may_say_what_a_body_does_not() -> None:
    body = orjson.dumps({"contents": [{"parts": [{"text": "hi"}]}]})
    translator = Translator(GEMINI, CHAT, 0)
    written, _ = translator.request(
        body, model="real", output_tokens_max=None, limit=99, stream=True
    )
    found = orjson.loads(written)
    assert (found["model"], found["stream"]) == ("real", True)
    there = Translator(CHAT, GEMINI, 0)
    written, _ = there.request(written, model="real", output_tokens_max=7, limit=99)
    assert orjson.loads(written) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"maxOutputTokens": 7},
    }


def test_plain_answers_both_ways() -> None:
    message: dict[str, Any] = {
        "id": "msg_1",
        "model": "m",
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "end_turn",
    }
    chat = Translator(CHAT, MESSAGES, 7).answer(orjson.dumps(message))
    assert orjson.loads(chat)["choices"][0]["message"]["content"] == "a"
    back = orjson.loads(Translator(MESSAGES, CHAT, 7).answer(chat))
    assert back["content"] == message["content"]
    with pytest.raises(RelayError):
        Translator(CHAT, MESSAGES, 7).answer(b"nonsense")


CHUNK = b'data: {"id":"x","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def test_streams_pass_event_by_event_wherever_they_are_split() -> None:
    stream = CHUNK + b": a comment\n\n" + CHUNK
    whole = Translator(MESSAGES, CHAT, 7)
    expected = whole.feed(stream) + whole.finish(b"data: [DONE]\n\n")
    assert b'"stop_reason":"end_turn"' in expected
    assert whole.end() == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    for cut in range(len(stream)):
        parts = Translator(MESSAGES, CHAT, 7)
        found = parts.feed(stream[:cut]) + parts.feed(stream[cut:])
        assert found + parts.finish(b"") == expected


def test_nothing_follows_a_failure() -> None:
    translator = Translator(CHAT, MESSAGES, 7, include_usage=True)
    error = b'event: error\ndata: {"type":"error","error":{"type":"x","message":"busy"}}\n\n'
    assert translator.failure is None
    assert orjson.loads(translator.feed(error).removeprefix(b"data: "))["error"]["type"] == "x"
    assert translator.failure == Failed("x", "busy")
    assert translator.feed(error) == translator.finish(b"") == translator.end() == b""


def test_our_own_failure_stands_in_place_of_the_end() -> None:
    translator = Translator(RESPONSES, CHAT, 7)
    translator.feed(CHUNK)
    translator.finish(b"data: [DONE]\n\n")
    told = translator.fail(Failed("settlement_unavailable", "not billed"))
    assert told.startswith(b"event: response.failed\n")
    assert translator.end() == b""


def test_a_failure_before_anything_was_shown_is_told_from_the_start() -> None:
    translator = Translator(RESPONSES, CHAT, 7)
    translator.feed(CHUNK)
    told = translator.fail(Failed("server_error", "gone", "upstream_truncated"), anew=True)
    kinds = [line for line in told.splitlines() if line.startswith(b"event: ")]
    assert [kind.rpartition(b".")[2] for kind in kinds] == [b"created", b"in_progress", b"failed"]
    assert b'"sequence_number":0' in told
    assert b'"code":"upstream_truncated"' in told
    assert translator.end() == b""


def test_an_event_too_large_is_a_failure_and_not_a_gap() -> None:
    translator = Translator(MESSAGES, CHAT, 7)
    large = CHUNK.replace(b'"a"', b'"%s"' % (b"a" * EVENT_BYTES_MAX))
    assert translator.feed(large).startswith(b"event: error\n")
    assert translator.feed(CHUNK) == b""
    assert translator.failure is not None


def test_responses_answer_what_was_asked() -> None:
    tool = {"type": "custom", "name": "patch"}
    body = orjson.dumps({"model": "alias", "input": "hi", "tools": [tool], "stream": True})
    translator = Translator(RESPONSES, CHAT, 7)
    written, left_out = translator.request(body, model="real", output_tokens_max=9, limit=99)
    asked = orjson.loads(written)
    assert (asked["model"], asked["max_completion_tokens"], left_out) == ("real", 9, ())
    call = {"index": 0, "id": "c", "function": {"name": "patch", "arguments": '{"input":"+a"}'}}
    chunk = orjson.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
    out = translator.feed(b"data: " + chunk + b"\n\n")
    assert b'"model":"real"' in out, "where the provider names none"
    out += translator.finish(b"data: [DONE]\n\n")
    response = orjson.loads(translator.end().split(b"data: ")[1])["response"]
    assert response["max_output_tokens"] == 9
    assert [item["input"] for item in response["output"]] == ["+a"]
    message = {"tool_calls": [{"id": "c", "function": call["function"]}]}
    answer = translator.answer(orjson.dumps({"choices": [{"message": message}]}))
    found = orjson.loads(answer)
    assert (found["model"], found["output"][0]["type"]) == ("real", "custom_tool_call")


NO_TEXT = (
    b'{"id":"\xff","type":"message_delta","usage":{"\xff":1},"usageMetadata":{"\xff":1},'
    b'"response":{"usage":{"\xff":1}}}'
)
TOO_DEEP = b'{"x":' + b"[" * 100_000


@pytest.mark.parametrize("data", [NO_TEXT, TOO_DEEP], ids=["no text", "too deep"])
@pytest.mark.parametrize("wire", SIDES)
def test_what_no_decoder_takes_is_the_providers_failure(wire: Wire, data: bytes) -> None:
    (event,) = SIDES[wire].reader().read(data)
    assert isinstance(event, Failed)
    with pytest.raises(RelayError, match="not understood") as caught:
        SIDES[wire].read_answer(data)
    assert caught.value.code is ErrorCode.UPSTREAM_ERROR


@pytest.mark.parametrize("wire", SIDES)
def test_a_request_that_is_too_deep_is_refused(wire: Wire) -> None:
    with pytest.raises(RelayError, match="not understood") as caught:
        SIDES[wire].read_request(TOO_DEEP)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
