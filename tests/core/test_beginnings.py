"""What streams begin with is taken as decoding would have taken it, and is met again."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import beginnings, deltas, exchange
from proxy.core.beginnings import BEGINNINGS_MAX, begun
from proxy.core.entities import Wire
from proxy.core.exchange import UNLIMITED, FailureKind, Phase
from proxy.core.passthrough import PATTERN_BYTES_MAX
from tests.core.playbook import END, STREAM, STRIPPED, Connection, anywhere, chunk, head, new, state

DONE = b"data: [DONE]\n\n"
OPENING = b'data: {"id":"%b","object":"chat.completion.chunk","created":%b,"model":"m-1",'
SILENT = b'{"role":"assistant","content":"","refusal":null}'
PADDED = b'"finish_reason":null}],"usage":null,"obfuscation":"%b"}\n\n'
BARE = b'"finish_reason":null}],"usage":null}\n\n'


def event(
    delta: bytes, answer_id: bytes = b"chatcmpl-7", time: bytes = b"17", last: bytes = BARE
) -> bytes:
    return OPENING % (answer_id, time) + b'"choices":[{"index":0,"delta":%b,%b' % (delta, last)


def text(said: bytes, *args: bytes, **kwargs: bytes) -> bytes:
    return event(b'{"content":"%b"}' % said, *args, **kwargs)


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    beginnings.forget()
    yield
    beginnings.forget()


def stream(*events: bytes, verbatim: bool = True, allowed: int = UNLIMITED) -> Connection:
    """A stream that began with `events`, a read each, and was shown as the edge does."""
    connection = Connection(new(replace(STREAM, verbatim=verbatim), allowed=allowed))
    connection.feed(head())
    for each in events:
        connection.feed(chunk(each))
        if connection.at(Phase.CONTENT):
            connection.exchange.learn()
    return connection


def known() -> bool:
    return bool(beginnings._known)


@pytest.mark.parametrize("last", [BARE, PADDED % b"aZ0"], ids=["bare", "padded"])
def test_the_next_stream_is_not_decoded(last: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    stream(event(SILENT, last=last), text(b"Hi", last=last))
    for name in ("_decode_chunk", "_decode_first"):
        monkeypatch.delattr(deltas, name)
    other = last.replace(b"aZ0", b"b1c2d3")
    events = [
        event(SILENT, b"chatcmpl-x_Y", b"1800000001", other),
        text(b"So", b"chatcmpl-x_Y", b"1800000001", last),
        text(b" what?", b"chatcmpl-x_Y", b"1800000001", other),
    ]
    for reads in (map(chunk, events), [chunk(events[0]) + chunk(events[1]), chunk(events[2])]):
        connection = stream()
        for data in reads:
            connection.feed(data)
        assert connection.at(Phase.CONTENT)
        assert connection.body == b"".join(events)
        assert connection.verbatim == len(chunk(events[2])), "the first is the edge's to write"
        assert connection.exchange.events == 3
        assert connection.exchange.meter.advance() == len("So what?")


def test_what_was_expected_and_came_otherwise_is_a_pattern_all_the_same() -> None:
    stream(event(SILENT), text(b"Hi"))
    connection = stream(event(SILENT))
    connection.feed(chunk(text(b"Two")) + chunk(text(b" at once")))
    connection.exchange.learn()
    for said in (b" and", b" three"):
        assert connection.exchange.passes(chunk(text(said)))
    assert connection.exchange.meter.advance() == len("Two at once and three")


def test_where_nothing_may_pass_as_it_is_the_beginning_is_known_all_the_same() -> None:
    stream(event(SILENT), text(b"Hi"))
    connection = stream(event(SILENT), text(b"Hi"), text(b" there"), verbatim=False)
    assert connection.body == event(SILENT) + text(b"Hi") + text(b" there")
    assert not connection.verbatim


@pytest.mark.parametrize(
    "first",
    [
        text(b"no silence"),
        event(b'{"role":"assistant","audio":{"id":"a"}}'),
        event(b'{"role":"assistant"}', last=BARE.replace(b'"usage":null', b'"usage":{"a":1}')),
        event(b'{"role":"assistant"}', last=BARE.replace(b'"usage":null', b'"usage":"x1"')),
        event(b'{"role":"assistant"}', last=BARE.replace(b'"usage"', b'"error":"x1","usage"')),
        event(SILENT).replace(b'"choices":[', b'"choices":[],"x":['),
        event(SILENT).replace(b'"index":0', b'"index":1'),
        event(SILENT).replace(b'"id"', b'"Id"'),
        event(SILENT).replace(b'"created"', b'"Created"'),
        event(SILENT, b"a b"),
        event(SILENT, b""),
        event(SILENT, b"\\u0041"),
        event(SILENT, time=b"017"),
        event(SILENT, time=b"0"),
        event(SILENT, time=b"1.7"),
        event(SILENT, time=b"-17"),
        event(SILENT, time=b"1" * 19),
        event(SILENT).replace(b'"model"', b'\n"model"'),
        event(SILENT).replace(b"data: ", b"data:  "),
        b"id: 1\n" + event(SILENT),
        event(SILENT, last=BARE.replace(b"null}", b'null,"x":"%b"}' % (b"-" * PATTERN_BYTES_MAX))),
    ],
)  # fmt: skip
def test_what_is_not_remembered(first: bytes) -> None:
    own = first.partition(b',"model"')[0]
    stream(first, own + text(b"Hi")[len(text(b"").partition(b',"model"')[0]) :])
    assert not known()


def test_an_event_of_several_lines_is_not_remembered() -> None:
    """JSON may go on behind a line feed, an event's data does not."""
    stream(event(SILENT).replace(b'"model"', b'\n"model"'), text(b"Hi"))
    assert not known()


@pytest.mark.parametrize("last", [BARE, PADDED % b"aZ0"], ids=["bare", "padded"])
def test_one_byte_amiss_in_what_was_met_before(last: bytes) -> None:
    """An event of a size that was met is taken apart as any other would be."""
    whole = event(SILENT, last=last)
    stream(whole, text(b"Hi", last=last))
    assert begun(chunk(whole)) is not None
    met = 0
    for place in range(len(whole)):
        for byte in b'"\\a0-,{ }:\n':
            other = whole[:place] + bytes([byte]) + whole[place + 1 :]
            parts, found = beginnings._split(other), begun(chunk(other))
            if parts is None or parts[0] not in beginnings._known:
                assert found is None
            else:
                assert found is not None
                assert found[:2] == (other, parts[1])
                met += 1
    assert met > 20


def test_a_beginning_is_remembered_with_what_followed_it_last() -> None:
    stream(event(SILENT), text(b"Hi"))
    padded = PADDED % b"q1"
    assert stream(event(SILENT), text(b"Hi", last=padded)).at(Phase.CONTENT)
    connection = stream(event(SILENT), text(b"Ho", last=padded))
    assert connection.exchange.passes(chunk(text(b" ho", last=padded)))


def test_only_so_many_are_remembered() -> None:
    for number in range(BEGINNINGS_MAX + 3):
        model = b'"model":"m-%d"' % number
        both = (each.replace(b'"model":"m-1"', model) for each in (event(SILENT), text(b"Hi")))
        stream(*both)
    assert len(beginnings._known) == 3
    for size in range(BEGINNINGS_MAX + 3):
        stream(event(SILENT, b"x" * (size + 1)), text(b"Hi", b"x" * (size + 1)))
    for size in range(BEGINNINGS_MAX + 3):
        stream(event(SILENT, b"x" * (size + 1)), text(b"Hi", b"x" * (size + 1)))
    assert len(beginnings._by_size) <= BEGINNINGS_MAX


def test_nothing_passes_beyond_the_hold() -> None:
    stream(event(SILENT), text(b"Hi"))
    connection = stream(event(SILENT), text(b"much more than five"), allowed=5)
    assert connection.exchange.at_edge
    assert connection.exchange.held == event(SILENT)
    connection.allow(UNLIMITED)
    assert connection.body == event(SILENT) + text(b"much more than five")


def test_what_begins_alike_without_end_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """However a stream goes on, what is kept of it before its first content is bounded."""
    monkeypatch.setattr(exchange, "PREAMBLE_BYTES_MAX", 5 * len(event(SILENT)))
    stream(event(SILENT), text(b"Hi"))
    for verbatim in (False, True):
        connection = stream(*[event(SILENT)] * 5, verbatim=verbatim)
        assert connection.at(Phase.PREAMBLE)
        connection.feed(chunk(event(SILENT)))
        assert connection.exchange.failure is not None
        assert connection.exchange.failure.kind is FailureKind.TOO_LARGE


def test_what_comes_as_several_events_at_first_passes_from_then_on() -> None:
    stream(event(SILENT), text(b"Hi"))
    both = chunk(text(b"So")) + chunk(text(b" what"))
    for reads in ([chunk(event(SILENT)), both], [chunk(event(SILENT)) + both]):
        connection = stream()
        for data in reads:
            connection.feed(data)
        connection.exchange.learn()
        assert connection.exchange.passes(chunk(text(b" now")))


def test_only_what_is_short_enough_to_be_known_is_looked_up() -> None:
    """Whatever is longer is for the rules on events that are too large to hold."""
    stream(event(SILENT), text(b"Hi"))
    fits = PATTERN_BYTES_MAX - len(event(SILENT, b""))
    assert begun(chunk(event(SILENT, b"x" * fits))) is not None
    assert begun(chunk(event(SILENT, b"x" * (fits + 1)))) is None


def test_streams_of_another_form_teach_nothing() -> None:
    first = OPENING % (b"a", b"17") + b'"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
    said = OPENING % (b"a", b"17") + b'"choices":[{"index":0,"text":"Hi"}]}\n\n'
    for wire in (Wire.COMPLETIONS, Wire.CHAT):
        connection = Connection(new(replace(STREAM, wire=wire)))
        for data in (head(), chunk(first), chunk(said)):
            connection.feed(data)
        connection.exchange.learn()
        assert connection.at(Phase.PREAMBLE if wire is Wire.CHAT else Phase.CONTENT)
        assert not known()


def mostly(usual: bytes, *others: bytes) -> st.SearchStrategy[bytes]:
    """One of `others` a fourth of the time: what is remembered must be met again."""
    return st.sampled_from([usual] * 3 * len(others) + list(others))


IDS = mostly(
    *(b"zz-1", b"a", b"chatcmpl-9_x", b"", b'x"y', b'x","content":"y', b"a b", b"\\u0041", b"\xff"),
    b"\\",
)
TIMES = mostly(
    *(b"9", b"17", b"0", b"007", b"1" * 18, b"1" * 19, b"1.5", b"-3", b"1e5", b'"5"', b"null", b""),
    b"x",
)
HOLES = mostly(b"q", b"aZ09", b"stop", b"", b"a b", b"\\n", b"\xc3\xa9", b'","content":"x')
DELTAS = mostly(
    SILENT,
    b'{"role":"assistant"}',
    b'{"role":"@"}',
    b'{"role":"assistant","content":null}',
    b'{"role":"assistant","content":"@"}',
    b'{"reasoning":"","content":""}',
    b'{"reasoning_content":"hm"}',
    b'{"refusal":"@"}',
    b'{"audio":{"id":"a"}}',
    b'{"x":"@"}',
    b'{"tool_calls":[{"index":0,"id":"c","function":{"name":"f"}}]}',
    b"{}",
    b"null",
)
TEXTS = mostly(b"Hi", b" ", b"", b"\\n", b"\\ud83d", b"x" * 60, b"\xc3\xa9", b'a","b":"')
LASTS = mostly(
    PADDED.replace(b"%b", b"@"),
    BARE,
    b'"finish_reason":"@"}]}\n\n',
    b'"finish_reason":null}],"usage":"@"}\n\n',
    b'"finish_reason":null}],"error":"@"}\n\n',
    b'"x":"@"}]}\n\n',
    b'"finish_reason":null}],"usage":{"prompt_tokens":3},"x":"@"}\n\n',
    b'"finish_reason":null}]} \n\n',
    b'"finish_reason":null}]}\n\ndata: {"x":"@"}\n\n',
    b'"x":"@","finish_reason":null}]}\n\n',
)
IDENTITIES = st.tuples(IDS, TIMES)
SHAPES = st.tuples(DELTAS, LASTS)
SAID = st.tuples(TEXTS, LASTS, HOLES)
MET_AGAIN = ((b"chatcmpl-x_Y", b"1800000001"), b"aZ09")
FIRST = st.sampled_from([(b"a", b"17"), (b"chatcmpl-9_x", b"1800000000")])


def written(
    identity: tuple[bytes, bytes],
    shapes: list[tuple[bytes, bytes]],
    texts: list[tuple[bytes, bytes, bytes]],
    hole: bytes,
) -> list[bytes]:
    events = [event(delta, *identity, last).replace(b"@", hole) for delta, last in shapes]
    return [
        *events,
        *(text(said, *identity, last).replace(b"@", other) for said, last, other in texts),
        DONE,
    ]


@given(
    shapes=st.lists(SHAPES, min_size=1, max_size=1),
    others=st.lists(SHAPES, max_size=1),
    texts=st.lists(SAID, min_size=1, max_size=3),
    first=FIRST,
    identities=st.lists(IDENTITIES, max_size=3),
    holes=st.lists(HOLES, min_size=3, max_size=3),
    verbatim=st.booleans(),
    allowed=st.sampled_from([3, 40, UNLIMITED]),
    longest=st.sampled_from([0, 400, 7]),
)
def test_it_makes_no_difference_what_is_known(
    shapes: list[tuple[bytes, bytes]],
    others: list[tuple[bytes, bytes]],
    texts: list[tuple[bytes, bytes, bytes]],
    first: tuple[bytes, bytes],
    identities: list[tuple[bytes, bytes]],
    holes: list[bytes],
    verbatim: bool,
    allowed: int,
    longest: int,
) -> None:
    beginnings.forget()
    expect = replace(STRIPPED, verbatim=verbatim)
    # What the first one taught is always met again, whatever came between.
    for identity, hole in [(first, b"q"), *zip(identities, holes, strict=False), MET_AGAIN]:
        events = written(identity, shapes + others, texts, hole)
        wire = head() + b"".join(map(chunk, events)) + END
        reads = (
            anywhere(wire, len(wire), longest) if longest else [head(), *map(chunk, events), END]
        )
        short, long = (Connection(new(expect, allowed=allowed)) for _ in range(2))
        for data in reads:
            for connection in (short, long):
                with pytest.MonkeyPatch.context() as patch:
                    if connection is long:
                        patch.setattr(beginnings, "begun", lambda _: None)
                        patch.setattr(beginnings, "learn", lambda *_: None)
                    connection.feed(data)
                    if connection.at(Phase.CONTENT):
                        connection.exchange.learn()
            assert state(short) == state(long)
        for connection in (short, long):
            connection.allow(UNLIMITED)
        assert state(short) == state(long)
        others = []
