"""What the demo upstream says: a prompt read, an answer composed and cut to the caller's limit.

Rules: an answer is a few sentences on Sluice and the prompt's last words, in pieces as a provider
streams them; its tokens are counted with the table the relay bills by. This module must not know
HTTP.
"""

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

MODELS = ("demo-gpt", "demo-claude")
GEMINI_MODELS = ("demo-gemini",)
OUTPUT_TOKENS_MAX = 4096
ECHO_WORDS_MAX = 12
# What chat formats add around each message and around the whole prompt.
MESSAGE_TOKENS = 4
PROMPT_TOKENS = 3

ANSWER = (
    "Sluice is a relay for LLM APIs: you keep the SDK you already use, change its base URL and "
    "key, and every answer streams through untouched, event for event. On the way Sluice counts "
    "the tokens, holds and settles their price in a prepaid wallet before the last frame leaves, "
    "and tells Prometheus what happened. This answer comes from the built-in demo upstream, "
    "so it costs nobody anything real, yet it was metered and billed like any other. "
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the demo will say: pieces of text, cut to the caller's token limit."""

    pieces: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Prompt:
    """The part of a request body the demo looks at."""

    model: str
    text: str
    messages: int
    stream: bool
    output_tokens_max: int
    include_usage: bool = False


class PromptError(ValueError):
    """The body is not a request this demo understands: 400."""


def object_of(body: bytes) -> dict[str, Any]:
    """A body's JSON object. Raises PromptError."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise PromptError(f"the body is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise PromptError("the body must be an object")
    return found


def read_prompt(body: bytes) -> Prompt:
    """Read an OpenAI or Anthropic request body. Raises PromptError."""
    found = object_of(body)
    if not isinstance(found.get("messages"), list):
        raise PromptError("messages must be a list")
    texts = [*texts_of(found.get("system"))]
    for message in found["messages"]:
        if not isinstance(message, dict):
            raise PromptError("each message must be an object")
        texts.extend(texts_of(message.get("content")))
    limit = found.get("max_completion_tokens") or found.get("max_tokens") or OUTPUT_TOKENS_MAX
    if type(limit) is not int or limit < 1:
        raise PromptError("max_tokens must be a positive whole number")
    options = found.get("stream_options")
    return Prompt(
        model=str(found.get("model", MODELS[0])),
        text="\n".join(texts),
        messages=len(found["messages"]),
        stream=found.get("stream") is True,
        output_tokens_max=min(limit, OUTPUT_TOKENS_MAX),
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def compose(prompt: Prompt, count: Callable[[str], int]) -> Answer:
    """The whole answer to `prompt`: a few sentences on Sluice and the prompt's last words."""
    words = prompt.text.split()[-ECHO_WORDS_MAX:]
    said = f'You asked: "… {" ".join(words)}".' if words else "You asked nothing."
    pieces, tokens, cut = _fit(re.findall(r"\s?\S+", ANSWER + said), prompt, count)
    return Answer(
        pieces=pieces,
        input_tokens=count(prompt.text) + MESSAGE_TOKENS * prompt.messages + PROMPT_TOKENS,
        output_tokens=tokens,
        cut=cut,
    )


def texts_of(content: object) -> list[str]:
    """The texts of a message's content, whatever form it has."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return [text for text in parts if isinstance(text, str)]
    return []


def _fit(
    words: Sequence[str], prompt: Prompt, count: Callable[[str], int]
) -> tuple[tuple[str, ...], int, bool]:
    limit = prompt.output_tokens_max
    whole = count("".join(words))
    if whole <= limit:
        return tuple(words), whole, False
    kept: list[str] = []
    for word in words:
        said = "".join(kept)
        if count(said + word) <= limit:
            kept.append(word)
            continue
        # A provider stops at a token, not at a word: keep what of this word still fits.
        parts = (word[:size] for size in range(len(word), 0, -1))
        part = next((part for part in parts if count(said + part) <= limit), "")
        kept.extend([part] if part else [])
        break
    return tuple(kept), count("".join(kept)), True


def new_id(prefix: str) -> str:
    """An id as providers make them."""
    return prefix + secrets.token_hex(12)


def data_event(payload: dict[str, object]) -> bytes:
    """One event of OpenAI's."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


def named_event(payload: dict[str, object]) -> bytes:
    """One event with its type as its name."""
    return f"event: {payload['type']}\n".encode() + data_event(payload)
