"""What the tests of service calls share: models of every kind of price, bodies, answers.

This module must not know any one feature.
"""

import json
from pathlib import Path
from typing import Any

from tests.edge.harness import Relay, channel
from tests.integration.scripts import Script, Send, chunk, plain_script, response_head

EMBEDDINGS = "/v1/embeddings"
IMAGES = "/v1/images/generations"
SPEECH = "/v1/audio/speech"
EMBEDDING = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}],
    "model": "up-m",
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}
MODELS: tuple[dict[str, Any], ...] = (
    {"name": "painter", "price": {"input": "0", "output": "0", "image": "0.04",
                                  "image_variants": {"1024x1024": "0.02", "1024x1024:hd": "0.08"}}},
    {"name": "drawer", "price": {"input": "5", "output": "0", "image_output": "40"}},
    {"name": "voice", "price": {"input": "0", "output": "0", "character": "15"}},
    {"name": "ear", "price": {"input": "0", "output": "0", "audio_minute": "0.006"}},
    {"name": "writer", "price": {"input": "3", "output": "0"}},
    {"name": "gift", "price": {"input": "0", "output": "0"}},
    {"name": "talker", "price": {"input": "1", "output": "2"}, "endpoints": ["chat"]},
    {"name": "unpriced"},
)  # fmt: skip
NAMES = {"m": "up-m"} | {str(model["name"]): f"up-{model['name']}" for model in MODELS}


def service_channel(url: str, name: str = "main", **changes: Any) -> dict[str, Any]:
    """A channel of every model here."""
    return channel(url, name, **({"models": NAMES} | changes))


def service_relay(path: Path, *channels: dict[str, Any], **options: Any) -> Relay:
    """A relay whose catalog has every model here."""
    path.mkdir(exist_ok=True)
    usual: dict[str, Any] = {"models": MODELS, "credit": 10**12, "plan": "free"}
    return Relay(path, *channels, **(usual | options))


def asked(model: str = "m", **fields: Any) -> bytes:
    """An embeddings request, or another one of these fields."""
    return json.dumps({"model": model} | (fields or {"input": "hello"})).encode()


def answered(value: Any = EMBEDDING) -> Script:
    """A whole JSON answer."""
    return plain_script(json.dumps(value).encode())


def pictures(count: int, characters: int, **more: Any) -> bytes:
    """An answer with `count` pictures of so many `characters` each."""
    data = [{"b64_json": "A" * characters} for _ in range(count)]
    return json.dumps({"created": 1} | {"data": data} | more).encode()


def sound(data: bytes, *, chunked: bool = True, kind: str = "audio/mpeg") -> list[Send]:
    """A binary answer."""
    if not chunked:
        rows = [("content-type", kind), ("content-length", str(len(data)))]
        return [Send(response_head(200, rows) + data)]
    rows = [("content-type", kind), ("transfer-encoding", "chunked")]
    return [Send(response_head(200, rows) + chunk(data)), Send(b"0\r\n\r\n")]
