from typing import Any

import orjson
import pytest
from openai.types.responses import Response as SDKResponse

from proxy.core.entities import Usage
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation.conversation import (
    Answer,
    Finish,
    Part,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
)
from proxy.core.translation.responses_answers import read_answer, write_answer

WORDS = {"type": "message", "content": [{"type": "output_text", "text": "a"}]}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def read(*output: dict[str, Any], **fields: Any) -> Answer:
    return read_answer(
        orjson.dumps({"id": "resp_1", "model": "m", "output": list(output), **fields})
    )


def test_words() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}}
    assert read(WORDS, status="completed", usage=usage) == Answer(
        "resp_1",
        "m",
        (Text("a"),),
        Finish.STOP,
        Usage(input_uncached=2, cache_read=1, output=2),
    )


def test_calls_and_what_only_the_provider_runs() -> None:
    found = read({"type": "web_search_call", "id": "ws", "action": {}}, WORDS, CALL)
    assert found.parts == (Text("a"), ToolCall("c", "f", "{}"))
    assert (found.finish, found.usage) == (Finish.TOOLS, None)


@pytest.mark.parametrize(
    ("details", "wanted"),
    [
        ({"reason": "max_output_tokens"}, Finish.LENGTH),
        ({"reason": "content_filter"}, Finish.REFUSED),
        ({"reason": "unheard_of"}, Finish.LENGTH),
        (None, Finish.LENGTH),
    ],
)
def test_reasons(details: object, wanted: Finish) -> None:
    assert read(CALL, status="incomplete", incomplete_details=details).finish is wanted


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"nonsense", "not understood"),
        (b"{}", "not understood"),
        (b'{"output":[],"status":"queued"}', "queued"),
        (b'{"output":[],"status":"failed","error":{"message":"too hot"}}', "too hot"),
        (b'{"output":[],"status":"failed"}', "does not say why"),
        (b'{"error":"odd"}', "does not say why"),
    ],
)
def test_nonsense_and_failures_are_the_providers(body: bytes, said: str) -> None:
    with pytest.raises(RelayError, match=said) as caught:
        read_answer(body)
    assert caught.value.code is ErrorCode.UPSTREAM_ERROR


def written(
    *parts: Part,
    finish: Finish = Finish.STOP,
    usage: Usage | None = None,
    asked: Request = Request("m", ()),  # noqa: B008 - a frozen record
) -> Any:
    document = orjson.loads(write_answer(Answer("msg_1", "m", parts, finish, usage), 7, asked))
    SDKResponse.model_validate(document)
    return document


def test_written_words() -> None:
    found = written(Text("a"), Text("b"), usage=Usage(input_uncached=1, output=2))
    assert (found["id"], found["object"], found["created_at"]) == ("resp_msg_1", "response", 7)
    assert (found["status"], found["completed_at"]) == ("completed", 7)
    (message,) = found["output"]
    assert [part["text"] for part in message["content"]] == ["a", "b"]
    assert message["status"] == "completed"
    assert found["usage"]["total_tokens"] == 3


def test_written_parts_of_every_kind() -> None:
    asked = Request("m", (), tools=(Tool("patch", free_form=True), Tool("f")))
    found = written(
        Thinking("hm", "s"),
        Thinking("", redacted="xx"),
        Thinking("mm", ""),
        Refusal("no"),
        ToolCall("c", "f", '{"a":1}'),
        ToolCall("d", "patch", '{"input":"+a"}'),
        Text("b"),
        finish=Finish.TOOLS,
        asked=asked,
    )
    output = found["output"]
    assert [item["type"] for item in output] == [
        "reasoning", "reasoning", "reasoning", "message", "function_call", "custom_tool_call",
        "message",
    ]  # fmt: skip
    assert len({item["id"] for item in output}) == len(output)
    assert [item.get("encrypted_content") for item in output[:3]] == [
        "relayed:s", "relayed-redacted:xx", None,
    ]  # fmt: skip
    assert output[3]["content"] == [{"type": "refusal", "refusal": "no"}]
    assert (output[4]["call_id"], output[4]["arguments"]) == ("c", '{"a":1}')
    assert (output[5]["call_id"], output[5]["input"]) == ("d", "+a")
    assert found["usage"] is None


@pytest.mark.parametrize(
    ("finish", "reason"),
    [(Finish.LENGTH, "max_output_tokens"), (Finish.REFUSED, "content_filter")],
)
def test_an_answer_cut_short_is_incomplete(finish: Finish, reason: str) -> None:
    found = written(Text("a"), finish=finish)
    assert (found["status"], found["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert "completed_at" not in found
    assert found["output"][0]["status"] == "incomplete"


def test_an_answer_of_nothing_is_empty() -> None:
    assert written()["output"] == []
