from typing import Any

import orjson
import pytest

from proxy.core.entities import Dialect
from proxy.core.errors import RelayError
from proxy.core.translation.translator import SIDES, Translator

OPENAI, ANTHROPIC = Dialect.OPENAI, Dialect.ANTHROPIC


def test_every_dialect_has_a_side() -> None:
    assert set(SIDES) == set(Dialect)


def test_a_request_is_told_its_model_limit_and_what_is_left_out() -> None:
    body = orjson.dumps(
        {
            "model": "alias",
            "messages": [{"role": "user", "content": "hi"}],
            "seed": 1,
            "temperature": 2,
        }
    )
    translator = Translator(OPENAI, ANTHROPIC, 0)
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
    translator = Translator(ANTHROPIC, OPENAI, 0)
    written, left_out = translator.request(body, model="real", output_tokens_max=None, limit=99)
    assert orjson.loads(written)["max_completion_tokens"] == 5
    assert left_out == ()


def test_plain_answers_both_ways() -> None:
    message: dict[str, Any] = {
        "id": "msg_1",
        "model": "m",
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "end_turn",
    }
    chat = Translator(OPENAI, ANTHROPIC, 7).answer(orjson.dumps(message))
    assert orjson.loads(chat)["choices"][0]["message"]["content"] == "a"
    back = orjson.loads(Translator(ANTHROPIC, OPENAI, 7).answer(chat))
    assert back["content"] == message["content"]
    with pytest.raises(RelayError):
        Translator(OPENAI, ANTHROPIC, 7).answer(b"nonsense")


CHUNK = b'data: {"id":"x","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


def test_streams_pass_event_by_event_wherever_they_are_split() -> None:
    stream = CHUNK + b": a comment\n\n" + CHUNK
    whole = Translator(ANTHROPIC, OPENAI, 7)
    expected = whole.feed(stream) + whole.finish(b"data: [DONE]\n\n")
    assert b'"stop_reason":"end_turn"' in expected
    assert whole.end == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    for cut in range(len(stream)):
        parts = Translator(ANTHROPIC, OPENAI, 7)
        found = parts.feed(stream[:cut]) + parts.feed(stream[cut:])
        assert found + parts.finish(b"") == expected


def test_nothing_follows_a_failure() -> None:
    translator = Translator(OPENAI, ANTHROPIC, 7, include_usage=True)
    error = b'event: error\ndata: {"type":"error","error":{"type":"x","message":"busy"}}\n\n'
    assert orjson.loads(translator.feed(error).removeprefix(b"data: "))["error"]["type"] == "x"
    assert translator.end == b"data: [DONE]\n\n"
