import base64
import io
import struct
import wave
import zlib
from typing import Any

import orjson
import pytest

from proxy.app import demo_services
from proxy.app.demo_services import (
    GEMINI_SERVICES,
    MP3_FRAME,
    SERVICES,
    Asked,
    Service,
    asked_of,
)
from proxy.app.demo_words import PromptError

(GEMINI,) = GEMINI_SERVICES.values()


def words(text: str) -> int:
    return len(text.split())


def ask(path: str, **members: Any) -> Any:
    kind, body = SERVICES[path](asked_of(orjson.dumps({"model": "demo-x", **members})), words)
    return orjson.loads(body) if kind == "application/json" else (kind, body)


def test_vectors_are_of_one_length_and_the_same_for_the_same_text() -> None:
    made = ask("/embeddings", input=["a b", "c", "a b"], dimensions=8)
    rows = [row["embedding"] for row in made["data"]]
    assert rows[0] == rows[2] != rows[1]
    assert sum(value * value for value in rows[0]) == pytest.approx(1, abs=1e-5)
    assert made["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    packed = ask("/embeddings", input="a b", dimensions=8, encoding_format="base64")
    numbers = struct.unpack("<8f", base64.b64decode(packed["data"][0]["embedding"]))
    assert numbers == pytest.approx(rows[0])
    assert len(ask("/embeddings", input=[1, 2, 3])["data"]) == 1


def test_pictures_are_as_large_as_was_asked() -> None:
    made = ask("/images/generations", prompt="two words", n=2, size="64x32")
    assert len(made["data"]) == 2
    png = base64.b64decode(made["data"][0]["b64_json"])
    assert png.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", png[16:24]) == (64, 32)
    size = struct.unpack(">I", png[33:37])[0]
    assert len(zlib.decompress(png[41 : 41 + size])) == 32 * (1 + 3 * 64)
    assert made["usage"]["input_tokens"] == 2
    assert ask("/images/generations", prompt="x", size="auto")["size"] == "1024x1024"
    asked = Asked({"prompt": "x", "size": "9x9"}, [b"picture"])
    edited = orjson.loads(demo_services.images(asked, words)[1])
    assert edited["usage"]["input_tokens_details"]["image_tokens"] == demo_services.IMAGE_TOKENS


def test_recordings_have_words() -> None:
    asked = Asked({"response_format": "verbose_json"}, [bytes(32_000)])
    told = orjson.loads(demo_services.transcriptions(asked, words)[1])
    assert (told["duration"], told["usage"]["seconds"]) == (2.0, 2)
    text = demo_services.transcriptions(Asked({"response_format": "text"}, [b""]), words)
    assert text == ("text/plain", b"This recording has 0 bytes.\n")


def test_speech_is_as_long_as_its_text() -> None:
    kind, short = ask("/audio/speech", input="one two", voice="alloy")
    _, long = ask("/audio/speech", input="one two " * 10, voice="alloy")
    assert kind == "audio/mpeg"
    assert short.startswith(MP3_FRAME[:4])
    assert len(long) == pytest.approx(10 * len(short), rel=0.05)
    kind, sound = ask("/audio/speech", input="one two three four five", response_format="wav")
    with wave.open(io.BytesIO(sound)) as read:
        assert (kind, read.getnframes() / read.getframerate()) == ("audio/wav", 2.0)


def test_nothing_is_found_and_documents_are_ordered() -> None:
    assert len(ask("/moderations", input=["a", "b"])["results"]) == 2
    documents = ["Cats meow.", "Dogs bark loudly", {"text": "dogs"}]
    made = ask("/rerank", query="dogs bark", documents=documents, top_n=2)
    assert [row["index"] for row in made["results"]] == [1, 2]
    assert made["usage"]["total_tokens"] == 8


def test_tokens_are_counted() -> None:
    made = ask("/messages/count_tokens", messages=[{"role": "user", "content": "a b c"}])
    assert made == {"input_tokens": 10}
    contents = [{"parts": [{"text": "a b"}]}]
    for members in ({"contents": contents}, {"generateContentRequest": {"contents": contents}}):
        assert orjson.loads(GEMINI(Asked(members), words)[1]) == {"totalTokens": 6}


@pytest.mark.parametrize(
    ("service", "members"),
    [
        (SERVICES["/embeddings"], {}),
        (SERVICES["/embeddings"], {"input": []}),
        (SERVICES["/embeddings"], {"input": "a", "dimensions": "x"}),
        (SERVICES["/images/generations"], {"prompt": "a", "n": 11}),
        (SERVICES["/audio/transcriptions"], {}),
        (SERVICES["/audio/speech"], {"input": ""}),
        (SERVICES["/rerank"], {"query": "a"}),
        (SERVICES["/messages/count_tokens"], {}),
        (GEMINI, {}),
    ],
)
def test_what_is_no_request_is_refused(service: Service, members: Any) -> None:
    with pytest.raises(PromptError):
        service(Asked(members), words)
