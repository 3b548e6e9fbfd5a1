"""The demo upstream's answers that are no conversation: vectors, pictures, speech, judgements.

Rules: an answer has the shape, the usage and the size a provider's has, and depends on nothing but
the request; files are real (a PNG, frames of MP3, a WAV) though they show and say nothing. This
module must not know HTTP.

Sources: OpenAI's specification for vectors, images, audio and moderations; Jina's and Cohere's
references for rerank; Anthropic's and Google's for token counts.
"""

import base64
import hashlib
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from proxy.app.demo_words import (
    MESSAGE_TOKENS,
    PROMPT_TOKENS,
    PromptError,
    new_id,
    object_of,
    read_prompt,
    texts_of,
)

DIMENSIONS = 256
DIMENSIONS_MAX = 4096
IMAGES_MAX = 10
SIDE_MAX = 2048
"""Pixels; a larger picture that is asked for comes in this size."""
IMAGE_TOKENS = 1056
"""What a 1024x1024 picture of medium quality counts at OpenAI."""
MP3_FRAME = b"\xff\xfb\x90\xc4" + bytes(413)
"""26 ms of silence: 128 kbit/s, 44.1 kHz."""
MP3_BYTES_PER_SECOND = 16_000
WORDS_PER_SECOND = 2.5
WAV_RATE = 24_000
CATEGORIES = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")


@dataclass(slots=True)
class Asked:
    """A request: its members or form fields, and its files."""

    members: dict[str, Any] = field(default_factory=dict)
    files: list[bytes] = field(default_factory=list)
    model: str = ""


Count = Callable[[str], int]
Service = Callable[[Asked, Count], tuple[str, bytes]]
"""Gives the answer's content type and its bytes. Raises PromptError."""


def asked_of(body: bytes) -> Asked:
    """A request in JSON. Raises PromptError."""
    found = object_of(body)
    return Asked(found, model=str(found.get("model", "")))


def embeddings(asked: Asked, count: Count) -> tuple[str, bytes]:
    """A vector for every text, the same for the same text."""
    texts = _texts(asked, "input")
    size = _whole(asked, "dimensions", DIMENSIONS, DIMENSIONS_MAX)
    as_text = asked.members.get("encoding_format") == "base64"
    rows = []
    for index, text in enumerate(texts):
        vector = _vector(text, size)
        packed = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode()
        rows.append(
            {"object": "embedding", "index": index, "embedding": packed if as_text else vector}
        )
    used = sum(count(text) for text in texts)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return _json({"object": "list", "data": rows, "model": asked.model, "usage": usage})


def images(asked: Asked, count: Count) -> tuple[str, bytes]:
    """Pictures of one colour each, made, changed or varied alike."""
    prompt = str(asked.members.get("prompt", ""))
    number = _whole(asked, "n", 1, IMAGES_MAX)
    width, height = _size(str(asked.members.get("size") or "1024x1024"))
    rows = []
    for index in range(number):
        colour = hashlib.sha256(f"{prompt}{index}".encode()).digest()[:3]
        rows.append({"b64_json": base64.b64encode(_png(width, height, colour)).decode()})
    read = count(prompt)
    drawn = number * max(1, IMAGE_TOKENS * width * height // 1024**2)
    seen = IMAGE_TOKENS * len(asked.files)
    usage = {
        "input_tokens": read + seen,
        "input_tokens_details": {"text_tokens": read, "image_tokens": seen},
        "output_tokens": drawn,
        "total_tokens": read + seen + drawn,
    }
    return _json({"created": 0, "data": rows, "usage": usage, "size": f"{width}x{height}"})


def transcriptions(asked: Asked, _count: Count) -> tuple[str, bytes]:
    """Words for a recording, as long as it is by its size."""
    if not asked.files:
        raise PromptError("file is required: send it as multipart/form-data")
    seconds = len(asked.files[0]) / MP3_BYTES_PER_SECOND
    text = f"This recording has {len(asked.files[0])} bytes."
    form = asked.members.get("response_format", "json")
    if form in ("text", "srt", "vtt"):
        return "text/plain", f"{text}\n".encode()
    usage = {"type": "duration", "seconds": max(1, round(seconds))}
    told: dict[str, object] = {"text": text, "usage": usage}
    if form == "verbose_json":
        told |= {"task": "transcribe", "language": "english", "duration": seconds, "segments": []}
    return _json(told)


def speech(asked: Asked, _count: Count) -> tuple[str, bytes]:
    """Silence as long as the text takes to say."""
    text = asked.members.get("input")
    if not isinstance(text, str) or not text:
        raise PromptError("input must be the text to speak")
    seconds = max(0.1, len(text.split()) / WORDS_PER_SECOND)
    if asked.members.get("response_format") == "wav":
        return "audio/wav", _wav(seconds)
    return "audio/mpeg", MP3_FRAME * max(1, round(seconds / 0.026))


def moderations(asked: Asked, _count: Count) -> tuple[str, bytes]:
    """Nothing is ever found."""
    row = {
        "flagged": False,
        "categories": dict.fromkeys(CATEGORIES, False),
        "category_scores": dict.fromkeys(CATEGORIES, 0.0001),
    }
    rows = [row for _ in _texts(asked, "input")]
    return _json({"id": new_id("modr-"), "model": asked.model, "results": rows})


def rerank(asked: Asked, count: Count) -> tuple[str, bytes]:
    """Documents by how many words they share with the query."""
    documents = _texts(asked, "documents")
    query = str(asked.members.get("query", ""))
    wanted = _stems(query)
    scored = [
        (round(len(wanted & _stems(text)) / max(1, len(wanted)), 4), index)
        for index, text in enumerate(documents)
    ]
    best = sorted(scored, key=lambda row: (-row[0], row[1]))
    top = _whole(asked, "top_n", len(documents), len(documents))
    rows = [{"index": index, "relevance_score": score} for score, index in best[:top]]
    used = sum(count(text) for text in (query, *documents))
    return _json({"model": asked.model, "results": rows, "usage": {"total_tokens": used}})


def count_tokens(asked: Asked, count: Count) -> tuple[str, bytes]:
    """Anthropic's count, as its messages would be billed here."""
    prompt = read_prompt(orjson.dumps(asked.members))
    tokens = count(prompt.text) + MESSAGE_TOKENS * prompt.messages + PROMPT_TOKENS
    return _json({"input_tokens": tokens})


def count_gemini(asked: Asked, count: Count) -> tuple[str, bytes]:
    """Google's count of a request's contents."""
    inner = asked.members.get("generateContentRequest")
    contents = (inner if isinstance(inner, dict) else asked.members).get("contents")
    if not isinstance(contents, list):
        raise PromptError("contents must be a list of contents")
    texts = [
        text for one in contents if isinstance(one, dict) for text in texts_of(one.get("parts"))
    ]
    return _json({"totalTokens": count("\n".join(texts)) + MESSAGE_TOKENS * len(contents)})


def _stems(text: str) -> set[str]:
    """Words by how they begin, so that barks is like bark."""
    return {word[:4] for word in re.findall(r"\w+", text.lower())}


def _texts(asked: Asked, name: str) -> list[str]:
    """A text or a list of them (or of tokens, or of objects with one). Raises PromptError."""
    found = asked.members.get(name)
    if isinstance(found, str):
        return [found]
    if not isinstance(found, list) or not found:
        raise PromptError(f"{name} must be a string or a list")
    if all(isinstance(one, int) for one in found):
        return [" ".join(map(str, found))]
    return [one if isinstance(one, str) else orjson.dumps(one).decode() for one in found]


def _whole(asked: Asked, name: str, usual: int, most: int) -> int:
    try:
        value = int(asked.members.get(name) or usual)
    except (TypeError, ValueError):
        raise PromptError(f"{name} must be a whole number") from None
    if not 1 <= value <= most:
        raise PromptError(f"{name} must be from 1 to {most}")
    return value


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        return 1024, 1024  # `auto`
    return min(max(1, int(width)), SIDE_MAX), min(max(1, int(height)), SIDE_MAX)


def _vector(text: str, size: int) -> list[float]:
    """Numbers between -1 and 1 of length 1 as a whole, by the text's hash."""
    seed = hashlib.shake_256(text.encode()).digest(size)
    raw = [byte / 127.5 - 1 for byte in seed]
    length = sum(value * value for value in raw) ** 0.5 or 1.0
    return [round(value / length, 7) for value in raw]


def _png(width: int, height: int, colour: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + colour * width) * height, 1)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", pixels),
            chunk(b"IEND", b""),
        ]
    )


def _wav(seconds: float) -> bytes:
    data = bytes(2 * round(seconds * WAV_RATE))
    head = struct.pack("<4sI8sIHHIIHH", b"RIFF", 36 + len(data), b"WAVEfmt ", 16, 1, 1, WAV_RATE,
                       2 * WAV_RATE, 2, 16)  # fmt: skip
    return head + struct.pack("<4sI", b"data", len(data)) + data


def _json(value: object) -> tuple[str, bytes]:
    return "application/json", orjson.dumps(value)


SERVICES: Mapping[str, Service] = {
    "/embeddings": embeddings,
    "/images/generations": images,
    "/images/edits": images,
    "/images/variations": images,
    "/audio/transcriptions": transcriptions,
    "/audio/translations": transcriptions,
    "/audio/speech": speech,
    "/moderations": moderations,
    "/rerank": rerank,
    "/messages/count_tokens": count_tokens,
}
"""By the path below a base URL that ends in `/v1`, or in nothing."""
GEMINI_SERVICES: Mapping[str, Service] = {"/models/{model:.+}:countTokens": count_gemini}
"""The same below `/v1beta`."""
