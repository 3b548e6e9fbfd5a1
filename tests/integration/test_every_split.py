"""Generated streams and named cases, cut at every place: the exchange always answers the same."""

from dataclasses import replace

import pytest

from proxy.core.entities import Dialect, Wire
from tests.core.playbook import (
    END,
    Connection,
    Played,
    anywhere,
    check_case,
    check_stream,
    chunk,
    chunked,
    each_byte,
    expectation,
    expectation_of,
    head,
    new,
    play,
)
from tests.corpora.framing import bytes_of
from tests.corpora.sse import SseCase, sse
from tests.integration import streams
from tests.integration.gemini_streams import GEMINI_STREAMS
from tests.integration.stream_record import UpstreamStream

STREAMS = streams.STREAMS + GEMINI_STREAMS
EVERYWHERE_BYTES_MAX = 5_200
"""Streams up to here are cut at every place; of larger ones, the places around event ends."""
EVERYWHERE_THOUGH_BIG = frozenset({"responses-llama"})
"""Recorded from a server, not made here."""


def _is_small(stream: UpstreamStream) -> bool:
    return len(stream.body) <= EVERYWHERE_BYTES_MAX or stream.name in EVERYWHERE_THOUGH_BIG


SMALL = tuple(stream for stream in STREAMS if _is_small(stream))
BIG = tuple(stream for stream in STREAMS if not _is_small(stream))


def name(stream: UpstreamStream) -> str:
    return stream.name


def whole(stream: UpstreamStream, wire: bytes, *, usage_asked: bool, verbatim: bool) -> Played:
    """What one read of everything gives, checked against the record."""
    expect = expectation(stream, strip_usage=not usage_asked, verbatim=verbatim)
    played = play(expect, [wire])
    check_stream(stream, played, usage_asked=usage_asked)
    return played


def test_there_are_enough_small_streams_of_every_dialect() -> None:
    assert len(SMALL) >= 60
    assert {stream.dialect for stream in SMALL} == set(Dialect)


@pytest.mark.parametrize("stream", SMALL, ids=name)
def test_cut_in_two_at_every_place(stream: UpstreamStream) -> None:
    wire = head() + chunked(stream.events)
    expect = expectation(stream, strip_usage=True)
    expected = whole(stream, wire, usage_asked=False, verbatim=True)
    for place in range(1, len(wire)):
        assert play(expect, [wire[:place], wire[place:]]) == expected, place


@pytest.mark.parametrize("stream", BIG, ids=name)
def test_big_streams_cut_in_two_around_ends_of_events(stream: UpstreamStream) -> None:
    wire = head() + chunked(stream.events)
    expect = expectation(stream, strip_usage=True)
    expected = whole(stream, wire, usage_asked=False, verbatim=True)
    ends, end = [], len(head())
    for event in stream.events:
        end += len(chunk(event))
        ends.append(end)
    for end in [len(head()), *ends[:: max(1, len(ends) // 4)], *ends[-3:]]:
        for place in range(max(1, end - 12), min(end + 12, len(wire))):
            assert play(expect, [wire[:place], wire[place:]]) == expected, place


@pytest.mark.parametrize("stream", STREAMS, ids=name)
def test_byte_by_byte(stream: UpstreamStream) -> None:
    wire = head() + chunked(stream.events)
    expected = whole(stream, wire, usage_asked=True, verbatim=True)
    reads = each_byte(wire) if len(wire) < 300_000 else anywhere(wire, 5, 5)
    assert play(expectation(stream), reads) == expected


@pytest.mark.parametrize("stream", STREAMS, ids=name)
@pytest.mark.parametrize("verbatim", [True, False], ids=["verbatim", "re-framed"])
@pytest.mark.parametrize("usage_asked", [True, False], ids=["usage-asked", "usage-ours"])
def test_chunks_and_reads_of_any_size(
    stream: UpstreamStream, verbatim: bool, usage_asked: bool
) -> None:
    wire = head() + chunked(stream.events)
    expect = expectation(stream, strip_usage=not usage_asked, verbatim=verbatim)
    expected = whole(stream, wire, usage_asked=usage_asked, verbatim=verbatim)
    assert play(expect, [head(), *map(chunk, stream.events), END]) == expected
    assert play(expect, [head(framing=str(len(stream.body))), stream.body]) == expected
    closed = play(expect, [head(framing="close"), stream.body], eof=True)
    assert replace(closed, reusable=expected.reusable) == expected
    for seed in range(4):
        longest = 60 if len(wire) < 30_000 else 9_000
        sent = head() + chunked(anywhere(stream.body, seed, longest))
        assert play(expect, anywhere(sent, seed + 99, longest)) == expected


@pytest.mark.parametrize("stream", STREAMS, ids=name)
def test_ordinary_events_pass_as_the_very_chunks_they_came_in(stream: UpstreamStream) -> None:
    connection = Connection(new(expectation(stream)))
    for read in [head(), *map(chunk, stream.events), END]:
        connection.feed(read)
    if "long-" in stream.name:
        # The last events of a Responses stream repeat the whole answer.
        share = 0.9 if stream.wire is Wire.RESPONSES else 0.99
        assert connection.verbatim > share * len(stream.body)


@pytest.mark.parametrize("case", sse(), ids=lambda case: case.name)
def test_named_cases(case: SseCase) -> None:
    segments = [bytes_of(raw) for raw, _ in case.segments]
    wire = head() + chunked(segments)
    expect = expectation_of(case)
    expected = play(expect, [wire])
    check_case(case, expected)
    assert play(expect, [head(), *map(chunk, filter(None, segments)), END]) == expected
    closed = play(expect, [head(framing="close"), case.body], eof=True)
    assert replace(closed, reusable=expected.reusable) == expected
    longest = 30 if len(wire) < 30_000 else 9_000
    for seed in range(3):
        sent = head() + chunked(anywhere(case.body, seed, longest))
        assert play(expect, anywhere(sent, seed + 99, longest)) == expected
    if len(wire) < 30_000:
        assert play(expect, each_byte(wire)) == expected
    if len(wire) < 1_000:
        for place in range(1, len(wire)):
            assert play(expect, [wire[:place], wire[place:]]) == expected, place
