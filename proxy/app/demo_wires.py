"""The demo upstream's conversations in the five forms that APIs have: bodies read, answers written.

Rules: every form says the same words and the same usage; a stream has all the events a provider's
has, in their order. This module must not know HTTP, nor the pace.

Sources: WIRE.md sections 1, 3, 4 and 5; Google's reference of `GenerateContentResponse`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxy.app.demo_words import (
    MODELS,
    OUTPUT_TOKENS_MAX,
    Answer,
    Prompt,
    PromptError,
    data_event,
    named_event,
    new_id,
    object_of,
    read_prompt,
    texts_of,
)

FINGERPRINT = "fp_demo000001"


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a conversation; `read` takes a body and the model of the path, if any."""

    read: Callable[[bytes, str], Prompt]
    events: Callable[[Prompt, Answer, int], list[bytes]]
    plain: Callable[[Prompt, Answer, int], dict[str, object]]
    refused: Callable[[str], dict[str, object]]


def refused_by_openai(message: str) -> dict[str, object]:
    """OpenAI's body of a 400."""
    told = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return {"error": told}


def refused_by_anthropic(message: str) -> dict[str, object]:
    """Anthropic's body of a 400."""
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


def refused_by_gemini(message: str) -> dict[str, object]:
    """Google's body of a 400."""
    return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}


def openai_chunks(prompt: Prompt, answer: Answer, created: int) -> list[bytes]:
    """All events of a chat completion stream; the first carries only the role."""
    base = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": created,
        "model": prompt.model,
        "system_fingerprint": FINGERPRINT,
    }
    rest: dict[str, object] = {"usage": None} if prompt.include_usage else {}

    def chunk(delta: dict[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return data_event({**base, "choices": [choice], **rest})

    events = [chunk({"role": "assistant", "content": "", "refusal": None})]
    events.extend(chunk({"content": piece}) for piece in answer.pieces)
    events.append(chunk({}, "length" if answer.cut else "stop"))
    if prompt.include_usage:
        events.append(data_event({**base, "choices": [], "usage": _openai_usage(answer)}))
    events.append(b"data: [DONE]\n\n")
    return events


def openai_completion(prompt: Prompt, answer: Answer, created: int) -> dict[str, object]:
    """The body of a plain chat completion."""
    message = {"role": "assistant", "content": "".join(answer.pieces), "refusal": None}
    finish = "length" if answer.cut else "stop"
    return {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": created,
        "model": prompt.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _openai_usage(answer),
        "system_fingerprint": FINGERPRINT,
    }


def anthropic_events(prompt: Prompt, answer: Answer) -> list[bytes]:
    """All events of a messages stream. `message_delta` usage is cumulative."""
    message = _anthropic_message(prompt, answer, content=[], stop=None, output_tokens=1)
    block = {"type": "text", "text": ""}
    events = [
        named_event({"type": "message_start", "message": message}),
        named_event({"type": "content_block_start", "index": 0, "content_block": block}),
        named_event({"type": "ping"}),
    ]
    events.extend(
        named_event(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": piece},
            }
        )
        for piece in answer.pieces
    )
    stop = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    usage = {"output_tokens": answer.output_tokens}
    events.append(named_event({"type": "content_block_stop", "index": 0}))
    events.append(named_event({"type": "message_delta", "delta": stop, "usage": usage}))
    events.append(named_event({"type": "message_stop"}))
    return events


def anthropic_message(prompt: Prompt, answer: Answer) -> dict[str, object]:
    """The body of a plain message."""
    content = [{"type": "text", "text": "".join(answer.pieces)}]
    return _anthropic_message(
        prompt, answer, content, stop=_stop_reason(answer), output_tokens=answer.output_tokens
    )


def read_completion(body: bytes, _model: str = "") -> Prompt:
    """A request of the text completions. Raises PromptError."""
    found = object_of(body)
    prompt = found.get("prompt", "")
    if not isinstance(prompt, str | list):
        raise PromptError("prompt must be a string or a list")
    texts = [prompt] if isinstance(prompt, str) else [text for text in prompt if text is not None]
    return _prompt(found, "\n".join(map(str, texts)), "max_tokens")


def completion_chunks(prompt: Prompt, answer: Answer, created: int) -> list[bytes]:
    """All events of a text completion stream."""
    base = _completion(prompt, created)
    rest: dict[str, object] = {"usage": None} if prompt.include_usage else {}

    def chunk(text: str, finish: str | None = None) -> bytes:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
        return data_event({**base, "choices": [choice], **rest})

    events = [chunk(piece) for piece in answer.pieces]
    events.append(chunk("", "length" if answer.cut else "stop"))
    if prompt.include_usage:
        events.append(data_event({**base, "choices": [], "usage": _openai_usage(answer)}))
    return [*events, b"data: [DONE]\n\n"]


def completion(prompt: Prompt, answer: Answer, created: int) -> dict[str, object]:
    """The body of a plain text completion."""
    finish = "length" if answer.cut else "stop"
    text = "".join(answer.pieces)
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return {**_completion(prompt, created), "choices": [choice], "usage": _openai_usage(answer)}


def _completion(prompt: Prompt, created: int) -> dict[str, object]:
    head = {"id": new_id("cmpl-"), "object": "text_completion", "created": created}
    return {**head, "model": prompt.model, "system_fingerprint": FINGERPRINT}


def read_response(body: bytes, _model: str = "") -> Prompt:
    """A request of the Responses API. Raises PromptError."""
    found = object_of(body)
    given = found.get("input")
    if not isinstance(given, str | list):
        raise PromptError("input must be a string or a list of items")
    texts = texts_of(found.get("instructions"))
    items = [given] if isinstance(given, str) else given
    for item in items:
        texts.extend(texts_of(item.get("content") if isinstance(item, dict) else item))
    return _prompt(found, "\n".join(texts), "max_output_tokens", messages=len(items))


def response_events(prompt: Prompt, answer: Answer, created: int) -> list[bytes]:
    """All events of a Responses stream, numbered."""
    whole = response(prompt, answer, created)
    (item,) = _output(answer)
    text = "".join(answer.pieces)
    part: dict[str, object] = {"type": "output_text", "text": "", "annotations": []}
    at: dict[str, object] = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    opened = {**item, "status": "in_progress", "content": []}
    rows: list[tuple[str, dict[str, object]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": opened}),
        ("response.content_part.added", {**at, "part": part}),
    ]
    rows += [("response.output_text.delta", {**at, "delta": piece}) for piece in answer.pieces]
    ended = "response.incomplete" if answer.cut else "response.completed"
    rows += [
        ("response.output_text.done", {**at, "text": text}),
        ("response.content_part.done", {**at, "part": {**part, "text": text}}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        (ended, {"response": {**whole, "output": [item]}}),
    ]
    return [
        named_event({"type": kind, "sequence_number": number, **values})
        for number, (kind, values) in enumerate(rows)
    ]


def response(prompt: Prompt, answer: Answer, created: int) -> dict[str, object]:
    """The body of a plain response."""
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": created,
        "status": "incomplete" if answer.cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if answer.cut else None,
        "error": None,
        "instructions": None,
        "metadata": {},
        "model": prompt.model,
        "output": _output(answer),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        },
    }


def _output(answer: Answer) -> list[dict[str, object]]:
    part = {"type": "output_text", "text": "".join(answer.pieces), "annotations": []}
    status = "incomplete" if answer.cut else "completed"
    head = {"id": new_id("msg_"), "type": "message", "role": "assistant", "status": status}
    return [{**head, "content": [part]}]


def read_gemini(body: bytes, model: str) -> Prompt:
    """A request of generateContent; the path has named the model. Raises PromptError."""
    found = object_of(body)
    contents = found.get("contents")
    if not isinstance(contents, list) or not all(isinstance(one, dict) for one in contents):
        raise PromptError("contents must be a list of contents")
    told = found.get("systemInstruction")
    texts = texts_of(told.get("parts")) if isinstance(told, dict) else []
    for one in contents:
        texts.extend(texts_of(one.get("parts")))
    config = found.get("generationConfig")
    limits = config if isinstance(config, dict) else {}
    text = "\n".join(texts)
    return _prompt(limits, text, "maxOutputTokens", messages=len(contents), model=model)


def gemini_events(prompt: Prompt, answer: Answer, _created: int) -> list[bytes]:
    """All events of a streamGenerateContent with `alt=sse`; the last one has the reason."""
    base = _gemini(prompt)
    events = [
        data_event({"candidates": [_candidate(piece)], **base, **_gemini_usage(answer)})
        for piece in answer.pieces
    ]
    finish = "MAX_TOKENS" if answer.cut else "STOP"
    last = {"candidates": [_candidate("", finish)], **base, **_gemini_usage(answer)}
    return [event.replace(b"\n\n", b"\r\n\r\n") for event in (*events, data_event(last))]


def gemini(prompt: Prompt, answer: Answer, _created: int) -> dict[str, object]:
    """The body of a generateContent."""
    finish = "MAX_TOKENS" if answer.cut else "STOP"
    candidate = _candidate("".join(answer.pieces), finish)
    return {"candidates": [candidate], **_gemini(prompt), **_gemini_usage(answer)}


def _gemini(prompt: Prompt) -> dict[str, object]:
    return {"modelVersion": prompt.model, "responseId": new_id("")}


def _candidate(text: str, finish: str | None = None) -> dict[str, object]:
    content = {"parts": [{"text": text}], "role": "model"}
    ended = {} if finish is None else {"finishReason": finish}
    return {"content": content, **ended, "index": 0}


def _gemini_usage(answer: Answer) -> dict[str, object]:
    usage = {
        "promptTokenCount": answer.input_tokens,
        "candidatesTokenCount": answer.output_tokens,
        "totalTokenCount": answer.input_tokens + answer.output_tokens,
    }
    return {"usageMetadata": usage}


def _prompt(
    found: Mapping[str, object], text: str, limit: str, *, messages: int = 1, model: str = ""
) -> Prompt:
    asked = found.get(limit) or OUTPUT_TOKENS_MAX
    if not isinstance(asked, int) or asked < 1:
        raise PromptError(f"{limit} must be a positive whole number")
    options = found.get("stream_options")
    return Prompt(
        model=model or str(found.get("model", MODELS[0])),
        text=text,
        messages=messages,
        stream=found.get("stream") is True,
        output_tokens_max=min(asked, OUTPUT_TOKENS_MAX),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _openai_usage(answer: Answer) -> dict[str, object]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _anthropic_message(
    prompt: Prompt,
    answer: Answer,
    content: list[dict[str, str]],
    stop: str | None,
    output_tokens: int,
) -> dict[str, object]:
    return {
        "id": new_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            "input_tokens": answer.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_tokens,
        },
    }


def _stop_reason(answer: Answer) -> str:
    return "max_tokens" if answer.cut else "end_turn"


FORMS: Mapping[str, Form] = {
    "/chat/completions": Form(
        lambda body, _: read_prompt(body), openai_chunks, openai_completion, refused_by_openai
    ),
    "/messages": Form(
        lambda body, _: read_prompt(body),
        lambda prompt, answer, _: anthropic_events(prompt, answer),
        lambda prompt, answer, _: anthropic_message(prompt, answer),
        refused_by_anthropic,
    ),
    "/completions": Form(read_completion, completion_chunks, completion, refused_by_openai),
    "/responses": Form(read_response, response_events, response, refused_by_openai),
}
"""By the path below a base URL that ends in `/v1`, or in nothing."""
GEMINI_FORMS: Mapping[str, Form] = {
    "/models/{model:.+}:{verb:generateContent|streamGenerateContent}": Form(
        read_gemini, gemini_events, gemini, refused_by_gemini
    )
}
"""The same below `/v1beta`."""
