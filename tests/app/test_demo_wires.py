from typing import Any

import orjson
import pytest

from proxy.app.demo_wires import FORMS, GEMINI_FORMS, Form
from proxy.app.demo_words import PromptError, compose
from proxy.core.entities import Tokenizer
from proxy.core.tokenizers import exact_count

COUNT = exact_count(Tokenizer.O200K)
MESSAGES = [{"role": "user", "content": "say something nice"}]
ALL: dict[str, tuple[Form, dict[str, Any], str]] = {
    "chat": (FORMS["/chat/completions"], {"messages": MESSAGES}, "max_tokens"),
    "messages": (FORMS["/messages"], {"messages": MESSAGES}, "max_tokens"),
    "completions": (FORMS["/completions"], {"prompt": ["say something", None]}, "max_tokens"),
    "responses": (
        FORMS["/responses"],
        {"input": ["hello", *MESSAGES], "instructions": "be nice"},
        "max_output_tokens",
    ),
}
(GEMINI,) = GEMINI_FORMS.values()


def said(form: Form, body: dict[str, Any], **more: Any) -> tuple[Any, list[Any]]:
    """The plain answer, and the stream's events."""
    prompt = form.read(orjson.dumps(body | more), "demo-path")
    answer = compose(prompt, COUNT)
    events = []
    for event in form.events(prompt, answer, 1_800_000_000):
        data = event.partition(b"data: ")[2].strip()
        events.append(data.decode() if data == b"[DONE]" else orjson.loads(data))
    return form.plain(prompt, answer, 1_800_000_000), events


@pytest.mark.parametrize("name", ALL)
def test_what_streams_is_what_comes_whole(name: str) -> None:
    form, body, limit = ALL[name]
    plain, events = said(form, body, model="demo-x", stream=True)
    assert plain["model"] == "demo-x"
    words = {
        "chat": lambda: plain["choices"][0]["message"]["content"],
        "messages": lambda: plain["content"][0]["text"],
        "completions": lambda: plain["choices"][0]["text"],
        "responses": lambda: plain["output"][0]["content"][0]["text"],
    }[name]()
    streamed = "".join(_words(event) for event in events if isinstance(event, dict))
    assert streamed == words
    cut, _ = said(form, body, **{limit: 3})
    assert "length" in str(cut) or "max_" in str(cut)


def _words(event: dict[str, Any]) -> str:
    if event.get("type") == "response.output_text.delta":
        return str(event["delta"])
    delta = event.get("delta")
    if isinstance(delta, dict):
        return str(delta.get("text", ""))
    for choice in event.get("choices", ()):
        return str(choice.get("text", choice.get("delta", {}).get("content") or ""))
    return ""


def test_responses_are_numbered_and_end_as_they_ended() -> None:
    form, body, _ = ALL["responses"]
    _, events = said(form, body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["usage"]["output_tokens"] > 10
    _, cut = said(form, body, max_output_tokens=2)
    assert cut[-1]["type"] == "response.incomplete"
    assert cut[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_text_completions_report_usage_when_asked() -> None:
    form, body, _ = ALL["completions"]
    _, events = said(form, body, stream=True, stream_options={"include_usage": True})
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["completion_tokens"] > 10


def test_gemini_counts_and_says_why_it_ended() -> None:
    body = {
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "systemInstruction": {"parts": [{"text": "be nice"}]},
        "generationConfig": {"maxOutputTokens": 4},
    }
    plain, events = said(GEMINI, body)
    assert plain["modelVersion"] == "demo-path"
    assert plain["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert plain["usageMetadata"]["candidatesTokenCount"] == 4
    assert events[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS"
    whole, _ = said(GEMINI, {"contents": []})
    assert whole["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (FORMS["/completions"], b'{"prompt": {}}'),
        (FORMS["/completions"], b'{"prompt": "a", "max_tokens": -1}'),
        (FORMS["/responses"], b'{"input": 5}'),
        (GEMINI, b'{"contents": [5]}'),
        (GEMINI, b"[]"),
    ],
)
def test_what_is_no_request_is_refused(form: Form, body: bytes) -> None:
    with pytest.raises(PromptError) as refused:
        form.read(body, "m")
    assert str(refused.value) in str(form.refused(str(refused.value)))
