import json

import pytest

from proxy.core.gemini_array import ArrayFrames

EVENTS = b': hello\n\ndata: {"a":1}\r\n\r\ndata: {"b":\ndata: 2}\n\n'


def test_events_are_elements_as_they_were() -> None:
    frames = ArrayFrames()
    out = frames.feed(EVENTS) + b"\n\n" + frames.feed(b'data: {"c":3}\n\n') + frames.end()
    assert json.loads(out) == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert b'{"a":1},\r\n{"b":' in out


@pytest.mark.parametrize("events", [b"", b": nothing\n\n"])
def test_nothing_is_an_array_too(events: bytes) -> None:
    frames = ArrayFrames()
    assert frames.feed(events) == b""
    assert json.loads(frames.end()) == []


def test_the_end_may_say_something() -> None:
    frames = ArrayFrames()
    assert json.loads(frames.feed(EVENTS) + frames.end(b'data: {"error":1}\n\n'))[2] == {"error": 1}
    assert json.loads(ArrayFrames().end(b'data: {"error":1}\n\n')) == [{"error": 1}]


@pytest.mark.parametrize("cut", range(len(EVENTS)))
def test_it_does_not_matter_where_events_are_split(cut: int) -> None:
    frames = ArrayFrames()
    out = frames.feed(EVENTS[:cut]) + frames.feed(EVENTS[cut:]) + frames.end()
    assert json.loads(out) == [{"a": 1}, {"b": 2}]
