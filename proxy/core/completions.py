"""OpenAI's legacy text completions: how many answers are asked for, and what of them is the prompt.

Rules: as for core/openai.py. Every prompt of a list is answered `n` times; `best_of` makes more
candidates than are returned, which are billed all the same. This module must not know how bodies
are scanned or edited, or any socket.

Sources: the OpenAI specification's CreateCompletionRequest; `completion_create_params.py` of its
Python SDK.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

from proxy.core.bodies import flag, integer, invalid, is_array
from proxy.core.prompts import Prompt

LIMIT_FIELDS = ("max_tokens",)
CHOICES_MAX = 128
"""The specification's maximum of `n`; also taken for `best_of`."""
PROMPTS_MAX = 2_048
"""Prompts of one request, as many as OpenAI takes of embeddings."""
CHARS_PER_TOKEN = 4
"""Of a prompt that is sent as tokens, what it is taken to be as text."""

START_TOKENS = 1
"""The mark that many models begin a text with."""

_NULL = Raw(b"null")
_PROMPTS = msgspec.json.Decoder(str | list[str | int | list[int]])
_STRING = msgspec.json.Decoder(str)


def check(members: Mapping[str, Raw]) -> None:
    """Refuse what the relay cannot work with. Raises RelayError."""
    if "prompt" not in members:
        raise invalid("prompt", "is required: send a string; messages go to /v1/chat/completions")
    raw = members["prompt"]
    if raw != _NULL and not (bytes(memoryview(raw)[:1]) == b'"' or is_array(raw)):
        raise invalid("prompt", "must be a string, or an array of at least one string or token")
    if len(_read(raw)) > PROMPTS_MAX:
        raise invalid("prompt", f"may be a list of at most {PROMPTS_MAX} prompts")
    if flag(members.get("echo")) is None:
        raise invalid("echo", "must be true, false or null")
    returned, made = _returned(members), _made(members)
    if made > returned and flag(members.get("stream")):
        raise invalid("best_of", "above `n` cannot be streamed: which is best shows at the end")


def choices(members: Mapping[str, Raw]) -> int:
    """How many completions are made, returned or not. Raises RelayError."""
    return _made(members) * len(_read(members.get("prompt", _NULL)))


def echoed(members: Mapping[str, Raw]) -> tuple[int, ...]:
    """How many characters of each choice repeat its prompt; empty if none does."""
    if not flag(members.get("echo")):
        return ()
    sizes = [_characters(prompt) for prompt in _read(members.get("prompt", _NULL))]
    return tuple([size for size in sizes for _ in range(_returned(members))])


def without_echo(texts: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[str, ...]:
    """The texts of an answer's choices without what `echoed` says of them."""
    spare = (0,) * (len(texts) - len(sizes))
    return tuple([text[size:] for text, size in zip(texts, sizes + spare, strict=False)])


def read_prompt(members: Mapping[str, Raw], _model: str) -> Prompt:
    """Collect the prompts of a body, and what is to follow the insertion, from its `members`."""
    pieces: list[str] = []
    fixed = 0
    for prompt in _read(members.get("prompt", _NULL)):
        if isinstance(prompt, str):
            pieces.append(prompt)
            fixed += START_TOKENS
        else:
            fixed += len(prompt)
    suffix = members.get("suffix", _NULL)
    if suffix != _NULL:
        pieces.append(_text(suffix))
    return Prompt(tuple(pieces), fixed)


def hidden_output(members: Mapping[str, Raw]) -> bool:
    """Whether completions are made that are not returned."""
    return _made(members) > _returned(members)


def _returned(members: Mapping[str, Raw]) -> int:
    return integer(bytes(members.get("n", _NULL)), "n", CHOICES_MAX) or 1


def _made(members: Mapping[str, Raw]) -> int:
    best = integer(bytes(members.get("best_of", _NULL)), "best_of", CHOICES_MAX) or 1
    return max(best, _returned(members))


def _read(raw: Raw) -> list[str | list[int]]:
    """Every prompt, as text or tokens; one of another shape is text, for the upstream to judge."""
    if raw == _NULL:
        return [""]
    try:
        found = _PROMPTS.decode(raw)
    except (msgspec.ValidationError, RecursionError):
        return [bytes(raw).decode()]
    if isinstance(found, str):
        return [found]
    tokens = [part for part in found if isinstance(part, int)]
    several: list[str | list[int]] = [part for part in found if not isinstance(part, int)]
    return [tokens, *several] if tokens else several


def _characters(prompt: str | list[int]) -> int:
    return len(prompt) if isinstance(prompt, str) else CHARS_PER_TOKEN * len(prompt)


def _text(raw: Raw) -> str:
    try:
        return _STRING.decode(raw)
    except msgspec.ValidationError:
        return bytes(raw).decode()
