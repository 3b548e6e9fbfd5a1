import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.metering import Meter
from proxy.core.sights import FAILED, GARBAGE, Sight
from proxy.core.text_chunks import TextChunk, TextChunks, text_chunk


def choice(text: object, index: int = 0, finish: str | None = None) -> dict[str, object]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def event(*choices: dict[str, object], **more: object) -> bytes:
    return b"data: " + orjson.dumps({"choices": choices, **more}) + b"\n\n"


def see(*choices: dict[str, object], chunks: TextChunks | None = None, **more: object) -> Sight:
    return (chunks or TextChunks()).see("", orjson.dumps({"choices": choices, **more}))


def taken(data: bytes, chunks: TextChunks | None = None) -> tuple[bool, Meter]:
    meter = Meter(len)
    return (chunks or TextChunks()).take(b"##" + data, 2, 2 + len(data), meter), meter


def test_text_alone_is_ordinary() -> None:
    found, meter = taken(event(choice("Hi", 3), usage=None))
    assert (found, meter.advance(), meter.run) == (True, 2, (3, "text", 0))
    assert taken(event(choice(None)))[0]
    assert taken(event(choice("")))[0]


@pytest.mark.parametrize(
    "data",
    [
        event(),
        event(choice("a"), choice("b", 1)),
        event(choice("a", finish="stop")),
        event(choice("a"), usage={"prompt_tokens": 1}),
        event(choice("a"), error={"message": "no"}),
        b"data: [DONE]\n\n",
        b"data: {nonsense}\n\n",
        b'event: x\ndata: {"choices":[]}\n\n',
    ],
)
def test_what_is_not_ordinary_is_left_alone(data: bytes) -> None:
    found, meter = taken(data)
    assert not found
    assert meter.taken == 0


def test_what_an_event_means() -> None:
    assert see(choice("a"), choice("b", 1)) == Sight(
        (((0, "text", 0), "a"), ((1, "text", 0), "b")), content=True
    )
    assert see(choice("", finish="stop")) == Sight(finished=((0, "stop"),))
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    assert see(usage=usage) == Sight(usage=usage, only_usage=True)
    assert see(choice("a", finish="length"), usage=usage) == Sight(
        (((0, "text", 0), "a"),), usage=usage, finished=((0, "length"),), content=True
    )
    assert see(error={"message": "no"}) is FAILED
    chunks = TextChunks()
    assert chunks.see("", b"[DONE]").terminal
    assert chunks.see("", b"nonsense") is GARBAGE
    assert chunks.ends("", b"[DONE]")
    assert not chunks.ends("", b"{}")
    assert chunks.runs(b"nonsense") == []


def test_a_prompt_that_comes_back_is_content_but_not_counted() -> None:
    chunks = TextChunks((5, 0))
    assert not taken(event(choice("Say")), chunks)[0], "not yet ordinary"
    assert taken(event(choice("Say", 1)), chunks)[0]
    data = orjson.dumps({"choices": [choice("Say")]})
    assert chunks.runs(data) == []
    assert see(choice("Say"), chunks=chunks) == Sight(content=True)
    assert see(choice("!? Hello"), chunks=chunks).runs == (((0, "text", 0), " Hello"),)
    assert taken(event(choice(" there")), chunks)[0], "from now on"
    assert see(choice(None), chunks=TextChunks((5,))).runs == ()


def test_odd_types_are_read_tolerantly() -> None:
    chunk = text_chunk(b'{"choices":[{"text":["a",{"text":"b"}],"index":"0","finish_reason":5},7]}')
    assert chunk is not None
    assert [(one.text, one.index, one.finish_reason) for one in chunk.choices] == [
        ("ab", 0, "5"), ("", 0, None),
    ]  # fmt: skip
    assert text_chunk(b'{"choices":5,"usage":7}') == TextChunk(usage=7)
    assert text_chunk(b"[]") is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "text", "index", "finish_reason", "usage", "error"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(VALUES, st.lists(st.integers(0, 9), max_size=3))
def test_no_json_raises(value: object, echoed: list[int]) -> None:
    data = json.dumps(value).encode()
    chunks = TextChunks(tuple(echoed))
    before = chunks.runs(data)
    sight = chunks.see("", data)
    assert sight.failed or sight.garbage or list(sight.runs) == before
    whole = b"data: " + data + b"\n\n"
    chunks.take(whole, 0, len(whole), Meter(len))
