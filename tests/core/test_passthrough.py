"""What passes by a pattern is what decoding would have passed, and is metered the same."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import passthrough
from proxy.core.deltas import OpenAIChunk, RunKey, openai_delta
from proxy.core.http1 import SIZE_MAX, SIZES
from proxy.core.metering import Meter
from proxy.core.passthrough import (
    BLOCK_DELTA_START,
    LENGTHS_MAX,
    LESSONS_MAX,
    MATCHES_MIN,
    PADDING_MAX,
    PATTERN_BYTES_MAX,
    ROOM_MAX,
    SEVERAL_MAX,
    TAILS_MAX,
    TEXT_BYTES_MAX,
    TEXTS_MAX,
    Passage,
    Take,
    string_text,
    take_anthropic,
    take_openai,
)

PLAIN = b'data: {"choices":[{"index":0,"delta":{"content":"two words"},"finish_reason":null}]}\n\n'
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}],"usage":null}\n\n'
REASONING = b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
BLOCK = BLOCK_DELTA_START + b'"type":"content_block_delta","index":0,"delta":{"text":"hi"}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def framed(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def letters() -> Meter:
    return Meter(len)


def test_no_other_spelling_is_canonical() -> None:
    assert not {b"0a", b"A", b"0x5", b"+5", b" 5", b"5 ", b"", b"1_0", b"5;a=b"} & set(SIZES)


@pytest.mark.parametrize(
    ("event", "taken", "counted"),
    [(PLAIN, True, 9), (REASONING, True, 2), (FINISH, False, 0), (STOP, False, 0)],
)
def test_one_event_of_many_openai(event: bytes, taken: bool, counted: int) -> None:
    meter = letters()
    assert take_openai(b"##" + event, 2, 2 + len(event), meter) is taken
    assert meter.advance() == counted


@pytest.mark.parametrize(("event", "counted"), [(BLOCK, 2), (STOP, 0), (PLAIN, 0)])
def test_one_event_of_many_anthropic(event: bytes, counted: int) -> None:
    meter = letters()
    assert take_anthropic(b"##" + event, 2, 2 + len(event), meter) is bool(counted)
    assert meter.advance() == counted


# Patterns

OPENAI_HEAD = (
    b'data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":17,"model":"m-1",'
)
SHAPES: dict[str, tuple[Take, bytes, bytes]] = {
    "OpenAI": (
        take_openai,
        OPENAI_HEAD + b'"choices":[{"index":0,"delta":{"content":"',
        b'"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"@"}\n\n',
    ),
    "without obfuscation": (
        take_openai,
        OPENAI_HEAD + b'"choices":[{"index":0,"delta":{"content":"',
        b'"},"finish_reason":null}]}\n\n',
    ),
    "second choice": (
        take_openai,
        b'data: {"choices":[{"index":1,"delta":{"content":"',
        b'"}}],"system_fingerprint":"fp_1"}\n\n',
    ),
    "reasoning": (
        take_openai,
        b'data: {"choices":[{"delta":{"content":null,"reasoning_content":"',
        b'"}}],"model":"@"}\n\n',
    ),
    "spaces between tokens": (
        take_openai,
        b'data: {"choices": [{"index": 0, "delta": {"content": "',
        b'"}}], "usage": null}\n\n',
    ),
    "Anthropic": (
        take_anthropic,
        BLOCK_DELTA_START + b'"type":"content_block_delta","index":0,"delta":{"text":"',
        b'"}   }\n\n',
    ),
    "thinking": (
        take_anthropic,
        BLOCK_DELTA_START + b'"type":"content_block_delta","index":3,"delta":{"thinking":"',
        b'"},"p":"@"}\n\n',
    ),
}  # fmt: skip
HOSTILE = [
    b"",
    b'"',
    b"\\",
    b"a\\",
    b"\\\\",
    b'\\"',
    b'a\\"},"logprobs":null',
    b"\\n",
    b"\\u0041",
    b"\\ud83d",
    b"\\ud83d\\ude00",
    b"\\x",
    b"\x00",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\x7f",
    b"\xff",
    b"\xed\xa0\x80",
    "\u3000\u200d\u0085".encode(),
    b'hi","refusal":"no',
    b'hi"},"finish_reason":"stop","x":{"y":"',
    b'hi"}}],"usage":{"prompt_tokens":1},"z":[{"x":{"y":"',
    b'hi"}}],"error":{"message":"boom"},"z":[{"x":{"y":"',
    b'hi"}}]}\n\ndata: [DONE]\n\ndata: {"choices":[{"delta":{"content":"',
    b'x","content":"y',
    b'","tool_calls":[],"x":"',
]


def seen(take: Take, data: bytes) -> tuple[str, RunKey, int] | None:
    """What decoding says of a read: text, run and size of its one ordinary event."""
    size = SIZES.get(data.partition(b"\r\n")[0])
    start = data.find(b"\r\n") + 2
    if size is None or len(data) != start + size + 2 or not data.endswith(b"}\n\n\r\n"):
        return None
    meter = letters()
    if not take(data, start, start + size, meter):
        return None
    return meter.last, meter.run, size


def seen_all(take: Take, data: bytes) -> list[tuple[str, RunKey, int] | None]:
    """The same for each chunk of a read; None for all that follows what is no chunk."""
    found: list[tuple[str, RunKey, int] | None] = []
    while data:
        size = SIZES.get(data.partition(b"\r\n")[0])
        stop = len(data) if size is None else data.index(b"\r\n") + 2 + size + 2
        found.append(seen(take, data[:stop]))
        data = data[stop:]
    return found


def teach(passage: Passage, take: Take, read: bytes, meter: Meter) -> None:
    event = read[read.index(b"\r\n") + 2 : -2]
    assert take(event, 0, len(event), meter)
    passage.grant(ROOM_MAX)
    passage.learn(event, meter)


def made(shape: str, text: bytes, hole: bytes = b"aZ3") -> bytes:
    _, before, after = SHAPES[shape]
    return framed(before + text + after.replace(b"@", hole))


@pytest.mark.parametrize("shape", SHAPES)
def test_events_like_the_one_before_pass(shape: str) -> None:
    take = SHAPES[shape][0]
    passage, meter = Passage(take), letters()
    assert not passage.passes(made(shape, b" first"))
    teach(passage, take, made(shape, b" first"), meter)
    texts = [" a", " longer text than that", "\n", 'say \\"', "日本", "👩‍👩‍👧", "\u3000", " a"]
    for number, text in enumerate(texts):
        raw = text.replace("\\", "\\\\").replace('"', "").replace("\n", "\\n").encode()
        read = made(shape, raw, b"Q" * (number + 1))
        assert passage.passes(read)
        found = seen(take, read)
        assert found == (passage.texts[-1], meter.run, passage.sizes[-1])
        assert passage.texts[-1] == text.replace('"', "")
    said = sum(len(text.encode()) for text in passage.texts)
    assert ROOM_MAX - passage.room == said + len(b"\\" * 2)  # as they stand: two are escaped


@given(text=st.text(min_size=1, max_size=8), ascii_only=st.booleans(), slashes=st.booleans())
def test_a_string_never_says_more_bytes_than_it_has(
    text: str, ascii_only: bool, slashes: bool
) -> None:
    raw = json.dumps(text, ensure_ascii=ascii_only).encode()[1:-1]
    if slashes:
        raw = raw.replace(b"/", b"\\/")
    assert string_text(raw) == (text, len(raw))
    assert len(raw) >= len(text.encode())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_hides_in_a_text_or_beside_it_is_found(shape: str, hostile: bytes) -> None:
    take = SHAPES[shape][0]
    passage, meter = Passage(take), letters()
    teach(passage, take, made(shape, b" first"), meter)
    for read in (
        made(shape, hostile),
        made(shape, b" a" + hostile),
        made(shape, hostile + b" b"),
        made(shape, b" a", hostile),
        made(shape, b" a", b"Q" + hostile),
        made(shape, b" a")[:-1] + hostile,
        made(shape, b" a").replace(b"null", b"null" + hostile),
        hostile + made(shape, b" a"),
    ):
        if passage.passes(read):
            assert seen(take, read) == (passage.texts[-1], meter.run, passage.sizes[-1])


@pytest.mark.parametrize("shape", SHAPES)
def test_no_part_of_a_pattern_may_be_letters(shape: str) -> None:
    take = SHAPES[shape][0]
    passage, meter = Passage(take), letters()
    read = made(shape, b" first")
    teach(passage, take, read, meter)
    assert passage.passes(read), "from now on its length is known, and its beginning with it"
    passed = 0
    for start in range(len(read)):
        for stop in range(start + 1, len(read) + 1):
            other = read[:start] + b"x" * (stop - start) + read[stop:]
            if other != read and passage.passes(other):
                passed += 1
                assert seen(take, other) == (passage.texts[-1], meter.run, passage.sizes[-1])
    # Any part of " first", and of the three letters in the last string where there is one.
    assert passed == 21 + (6 if b"@" in SHAPES[shape][2] else 0)


MUTATIONS = st.tuples(st.floats(0, 1), st.integers(0, 12), st.one_of(
    st.sampled_from([*HOSTILE, b"0", b" ", b"}", b",", b"null", b'"usage":{}', b'"error":1']),
    st.binary(max_size=3),
))  # fmt: skip
STEPS = st.tuples(
    st.sampled_from(sorted(SHAPES)),
    st.one_of(st.sampled_from([*HOSTILE, b" the", b" a"]), st.text(max_size=20).map(str.encode)),
    st.sampled_from([b"", b"a", b"Zz9", b"a-b", b"0" * 20, b'x","y":"z']),
    st.none() | MUTATIONS,
    st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(steps=st.lists(STEPS, max_size=30), anthropic=st.booleans())
def test_no_read_passes_that_decoding_would_not_pass(
    steps: list[tuple[str, bytes, bytes, tuple[float, int, bytes] | None, bool]], anthropic: bool
) -> None:
    take = take_anthropic if anthropic else take_openai
    passage, meter, last = Passage(take), letters(), b""
    for shape, text, hole, mutation, reframed in steps:
        read = made(shape, text, hole)
        if mutation is not None:
            place, dropped, inserted = mutation
            start = read.index(b"\r\n") + 2 if reframed else 0
            at = start + int(place * (len(read) - start))
            read = read[:at] + inserted + read[at + dropped :]
            if reframed:
                read = framed(read[start:-2])
        found = seen(take, read)
        if found is not None and not passage.passes(read):
            teach(passage, take, read, meter)
        before = len(passage.texts)
        for several in (read, last + read, read + read, read + last + read, read + last):
            if passage.passes(several):
                pairs = zip(passage.texts[before:], passage.sizes[before:], strict=True)
                assert seen_all(take, several) == [(text, meter.run, size) for text, size in pairs]
            before = len(passage.texts)
        last = read


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(STEPS, max_size=30), joined=st.integers(1, 3))
def test_whoever_is_given_a_read_gets_it_whole_and_nobody_else_does(
    steps: list[tuple[str, bytes, bytes, tuple[float, int, bytes] | None, bool]], joined: int
) -> None:
    twins = Passage(take_openai), Passage(take_openai)
    asked, told = twins
    meters, last = (letters(), letters()), b""
    forwarded: list[bytes] = []
    others: list[bytes] = []
    told.forward, told.otherwise = forwarded.append, others.append
    for shape, text, hole, mutation, _ in steps:
        read = made(shape, text, hole) * joined
        if mutation is not None:
            place, dropped, inserted = mutation
            at = int(place * len(read))
            read = read[:at] + inserted + read[at + dropped :]
        for data in (read, last + read):
            passed = asked.passes(data)
            told.receive(data)
            assert (forwarded, others) == (([data], []) if passed else ([], [data]))
            forwarded.clear()
            others.clear()
            for passage, meter in zip(twins, meters, strict=True):
                if not passed:
                    passage.drain(meter)
                    passage.look(data, meter)
                    passage.grant(ROOM_MAX)
            assert told.passes(data) == asked.passes(data)
            assert not forwarded
            assert not others
            assert (told.texts, told.sizes, told.room) == (asked.texts, asked.sizes, asked.room)
        last = read


IDENTITIES = [
    *(
        b"chatcmpl-7",
        b"gen_1-2",
        b"",
        b"a.b",
        b"a b",
        b"\\",
        b'\\"',
        b"\xc3\xa9",
        b"\xff",
        b"choices",
    ),
    *(b'x","choices":[{"index":1}],"y":"z', b'x","created":18,"y":"', b'x"},"z":{"id":"y'),
]
TIMES = [
    *(b"17", b"1741570283", b"0", b"017", b"-1", b"1.5", b"1e9", b'"17"', b"null", b"", b"9" * 400),
    *(
        b'1,"choices":[{"index":1}]',
        b'1,"usage":{}',
        b'1,"error":"e"',
        b"1,}",
        b'{"created":1,"x":2}',
    ),
]


@settings(max_examples=400, deadline=None)
@given(
    streams=st.lists(
        st.tuples(
            st.sampled_from(["OpenAI", "without obfuscation"]),
            st.sampled_from(IDENTITIES),
            st.sampled_from(TIMES),
            st.none() | MUTATIONS,
        ),
        max_size=8,
    )
)
def test_what_was_proven_of_one_stream_holds_for_another(
    streams: list[tuple[str, bytes, bytes, tuple[float, int, bytes] | None]],
) -> None:
    for shape, identity, time, mutation in streams:
        passage, meter = Passage(take_openai), letters()
        read = made(shape, b" first")
        event = read[read.index(b"\r\n") + 2 : -2]
        event = event.replace(b"chatcmpl-7", identity).replace(b":17,", b":" + time + b",")
        if mutation is not None:
            place, dropped, inserted = mutation
            at = int(place * len(event))
            event = event[:at] + inserted + event[at + dropped :]
        read = framed(event)
        if seen(take_openai, read) is None:
            continue
        teach(passage, take_openai, read, meter)
        for text in [b" first", b" the", *HOSTILE]:
            other = framed(event.replace(b" first", text))
            before = len(passage.texts)
            if passage.passes(other):
                found = (passage.texts[before], meter.run, passage.sizes[before])
                assert seen(take_openai, other) == found


def known_to_be_good(read: bytes, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a stream that begins with `read` learns from it without decoding a copy."""
    passage, meter, decoded = Passage(take_openai), letters(), 0
    event = read[read.index(b"\r\n") + 2 : -2]
    assert take_openai(event, 0, len(event), meter)

    def counted(payload: bytes) -> OpenAIChunk:
        nonlocal decoded
        decoded += 1
        return openai_delta(payload)

    with monkeypatch.context() as patch:
        patch.setattr(passthrough, "openai_delta", counted)
        passage.learn(event, meter)
    passage.grant(ROOM_MAX)
    assert passage.passes(read)
    return not decoded


def test_a_pattern_is_proven_once_for_all_streams_of_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passthrough, "_proven", set())
    read = made("OpenAI", b" first")
    assert not known_to_be_good(read, monkeypatch)
    other = read.replace(b"chatcmpl-7", b"gen_77-xY").replace(b":17,", b":18,")
    event = other[other.index(b"\r\n") + 2 : -2]
    assert known_to_be_good(framed(event), monkeypatch)
    assert known_to_be_good(framed(event.replace(b" first", b"word")), monkeypatch)
    for old, new in (
        *(
            (b"m-1", b"m-2"),
            (b"gen_77-xY", b"gen.77"),
            (b":18,", b":1.5,"),
            (b'"usage":null,', b""),
        ),
        *((b'"id":', b'"xd":'), (b'"created":', b'"made":'), (b'"index":0', b'"index":1')),
    ):
        changed = framed(event.replace(old, new))
        assert not known_to_be_good(changed, monkeypatch), new
        assert known_to_be_good(changed, monkeypatch), new


def test_what_is_proven_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    proven: set[object] = set()
    monkeypatch.setattr(passthrough, "_proven", proven)
    monkeypatch.setattr(passthrough, "PROVEN_MAX", 3)
    for number in range(20):
        event = PLAIN.replace(b"null}]", b'null}],"at":%d' % number)
        assert not known_to_be_good(framed(event), monkeypatch)
        assert 1 <= len(proven) <= 3


def test_what_a_stream_knows_of_itself_is_proven_for_it_alone() -> None:
    taken = 0

    def own(data: bytes, start: int, stop: int, meter: Meter) -> bool:
        nonlocal taken
        taken += 1
        return take_openai(data, start, stop, meter)

    for number in range(1, 4):
        teach(Passage(own), own, made("OpenAI", b" first"), letters())
        assert taken == 2 * number
    assert not {key for key in passthrough._proven if key[0] is own}


def test_nothing_passes_beyond_the_room_nor_without_text() -> None:
    passage, meter = Passage(take_openai), letters()
    teach(passage, take_openai, made("OpenAI", b"a"), meter)
    passage.grant(3)
    assert passage.passes(made("OpenAI", b"ab"))
    assert not passage.passes(made("OpenAI", b"cd"))
    assert not passage.passes(made("OpenAI", b""))
    assert passage.passes(made("OpenAI", b"e"))
    assert passage.texts == ["ab", "e"]


def test_nothing_passes_once_closed_until_one_more_event_was_looked_at() -> None:
    passage, meter = Passage(take_openai), letters()
    read = made("OpenAI", b"a")
    teach(passage, take_openai, read, meter)
    passage.close()
    assert not passage.passes(read)
    teach(passage, take_openai, read, meter)
    assert passage.passes(read)
    # The same bytes, but other text came between: it is for the meter to say which run is meant.
    passage.close()
    teach(passage, take_openai, made("second choice", b"a"), meter)
    assert not passage.passes(read)


@pytest.mark.parametrize(
    "event",
    [
        ROLE,
        PLAIN.replace(b"two words", rb"\u0041"),
        PLAIN.replace(b'"choices"', b'"x":"two words","choices"'),
        PLAIN.replace(b'"content"', b'"content":"two words","content"'),
        PLAIN.replace(b"null}]", b'null}],"x":"' + b"y" * PATTERN_BYTES_MAX + b'"'),
        PLAIN.replace(b"two words", b"He\xff").replace(b"null}]", b'null}],"x":"He?"'),
    ],
)
def test_an_event_that_is_no_pattern_teaches_nothing(event: bytes) -> None:
    passage, meter = Passage(take_openai), letters()
    teach(passage, take_openai, framed(event), meter)
    assert not passage.passes(framed(event))


def test_events_that_always_differ_are_given_up() -> None:
    passage, meter = Passage(take_openai), letters()

    def numbered(number: int, text: bytes = b"a") -> bytes:
        return made("OpenAI", text).replace(b'"created":17', b'"created":%d' % (number + 20))

    for number in range(LESSONS_MAX + 1):
        teach(passage, take_openai, numbered(number), meter)
    assert not passage.passes(numbered(LESSONS_MAX))
    # The last pattern learnt stays good, and one that pays makes up for all.
    teach(passage, take_openai, numbered(LESSONS_MAX - 1), meter)
    for _ in range(MATCHES_MIN):
        assert passage.passes(numbered(LESSONS_MAX - 1))
    passage.drain(meter)
    assert not passage.texts
    assert not passage.sizes
    teach(passage, take_openai, numbered(50), meter)
    assert passage.passes(numbered(50))


def padded(spaces: int) -> bytes:
    _, before, after = SHAPES["Anthropic"]
    return framed(before + b"b" + after.replace(b"   }", b" " * spaces + b"}"))


def test_a_look_takes_whole_chunks_and_learns_from_the_last() -> None:
    passage, meter = Passage(take_openai), letters()
    one = framed(PLAIN)
    passage.grant(ROOM_MAX)
    assert passage.look(one + framed(FINISH), meter) == (len(one), 1)
    assert passage.look(one + b"7;a=b", meter) == (len(one), 1)
    assert passage.look(one[:-1], meter) == (0, 0)
    assert not passage.passes(one)
    assert passage.look(one + one, meter) == (2 * len(one), 2)
    passage.close()
    assert passage.look(one, meter) == (len(one), 1)
    assert passage.passes(one)
    assert meter.written == 5 * len(PLAIN)
    assert passage.drain(meter) == 1
    assert passage.drain(meter) == 0
    assert meter.written == 6 * len(PLAIN)
    assert meter.advance() == 6 * len("two words")


def test_a_text_of_another_run_ends_what_passed_into_the_run_before() -> None:
    passage, meter = Passage(take_openai), letters()
    one, other = made("OpenAI", b"a"), made("second choice", b"")
    passage.grant(ROOM_MAX)
    assert passage.look(one, meter) == (len(one), 1)
    assert passage.passes(one)
    passage.drain(meter)
    assert passage.look(other, meter) == (len(other), 1)
    assert not passage.passes(one)
    assert passage.look(one, meter) == (len(one), 1)
    assert passage.passes(one)


def test_padding_is_learnt_whole() -> None:
    passage, meter = Passage(take_anthropic), letters()
    teach(passage, take_anthropic, made("Anthropic", b"a"), meter)
    for spaces in range(PADDING_MAX + 1):
        assert passage.passes(padded(spaces))
    read = padded(99)
    assert not passage.passes(read)
    teach(passage, take_anthropic, read, meter)
    assert passage.passes(read)
    assert passage.passes(made("Anthropic", b"b"))


def test_what_a_stream_remembers_is_bounded() -> None:
    passage, meter = Passage(take_openai), letters()
    for number in range(TAILS_MAX + 5):
        shape = PLAIN.replace(b"null}]", b'null}],"at":%d' % number)
        teach(passage, take_openai, framed(shape), meter)
        for _ in range(MATCHES_MIN):
            assert passage.passes(framed(shape))
        passage.drain(meter)
        assert len(passage._tails) <= TAILS_MAX
    teach(passage, take_openai, made("OpenAI", b"a"), meter)
    for size in range(1, 400):
        passage.grant(ROOM_MAX)
        assert passage.passes(made("OpenAI", b"a" * size))
        assert len(passage._lengths) <= LENGTHS_MAX
    # An end of the other kind takes the place of both.
    teach(passage, take_openai, made("without obfuscation", b"a"), meter)
    assert passage.passes(made("without obfuscation", b"b"))
    assert not passage.passes(made("OpenAI", b"a"))


def test_only_canonical_chunks_fit_a_pattern() -> None:
    passage, meter = Passage(take_openai), letters()
    teach(passage, take_openai, framed(PLAIN), meter)
    before, _, after = PLAIN.partition(b"two words")
    for length in (*range(1, 300), *range(4_000, 4_100), *range(8_000, 8_200)):
        event = before + b"x" * length + after
        read = framed(event)
        passage.grant(ROOM_MAX)
        assert passage.passes(read) == (len(event) <= SIZE_MAX)
        size = b"%x" % len(event)
        for wrong in (b"0" + size, size + b" ", size + b";a=b", size.upper() + b"\n", b"", b"1"):
            assert not passage.passes(wrong + read[len(size) :])


def test_several_chunks_in_one_read_pass_together_or_not_at_all() -> None:
    passage, meter = Passage(take_openai), letters()
    reads = [made("OpenAI", text) for text in (b" a", b" longer", rb"\n", b" a")]
    assert not passage.passes(b"".join(reads))
    teach(passage, take_openai, reads[0], meter)
    assert passage.passes(b"".join(reads))
    assert passage.texts == [" a", " longer", "\n", " a"]
    assert passage.sizes == [len(read) - len(b"cd\r\n\r\n") for read in reads]
    assert passage.room == ROOM_MAX - 13
    for odd in (
        framed(FINISH),
        framed(USAGE),
        framed(b"data: [DONE]\n\n"),
        reads[1][:-1],
        reads[1][1:],
        b"0\r\n\r\n",
        b"x",
        made("OpenAI", b""),
    ):
        for place in range(4):
            assert not passage.passes(b"".join([*reads[:place], odd, *reads[place:]]))
    assert passage.texts == [" a", " longer", "\n", " a"]
    assert len(passage.sizes) == 4
    assert passage.room == ROOM_MAX - 13
    passage.grant(3)
    assert not passage.passes(reads[0] + reads[3])
    assert passage.room == 3
    passage.close()
    assert not passage.passes(reads[0] + reads[3])


def test_one_chunk_may_be_as_long_as_several() -> None:
    passage, meter = Passage(take_openai), letters()
    one = made("OpenAI", b"a")
    teach(passage, take_openai, one, meter)
    twice = made("OpenAI", b"b" * len(one))  # its size line has a digit more
    assert len(twice) == 2 * len(one)
    for _ in range(3):
        assert passage.passes(one + one)
        assert passage.passes(twice)
    assert len(passage.texts) == 9
    assert passage.texts[:4] == ["a", "a", "b" * len(passage.texts[2]), "a"]
    assert passage.sizes[1] == len(one) - len(b"cd\r\n\r\n")


def test_several_are_cut_as_several_before_them_only_where_they_fit() -> None:
    passage, meter = Passage(take_openai), letters()
    reads = {size: made("OpenAI", b"a" * size) for size in range(1, 7)}
    teach(passage, take_openai, reads[1], meter)
    for sizes in ((3, 3), (1, 5), (5, 1), (3, 3), (2, 4), (2, 2, 2), (1, 2, 3), (2, 2, 2)):
        before = len(passage.texts)
        data = b"".join([reads[size] for size in sizes])
        for place in range(0, len(data), 7):
            odd = data[:place] + b'"' + data[place + 1 :]
            assert passage.passes(odd) == (odd == data)
        del passage.texts[before:], passage.sizes[before:]
        assert passage.passes(data)
        assert passage.texts[before:] == ["a" * size for size in sizes]


def test_lengths_of_several_are_bounded() -> None:
    passage, meter = Passage(take_openai), letters()
    teach(passage, take_openai, made("OpenAI", b"a"), meter)
    for size in range(1, 40):
        read = made("OpenAI", b"a" * size)
        for number in (2, 3, 4):
            assert passage.passes(read * number)
            assert len(passage._lengths) <= LENGTHS_MAX
    several = passthrough._SEVERAL
    kept = [beginning for beginning, _ in passage._lengths.values() if beginning is several]
    assert 0 < len(kept) < SEVERAL_MAX


def test_none_is_kept_for_reads_that_are_longer_than_what_stands_for_their_beginning() -> None:
    passage, meter = Passage(take_openai), letters()
    one = made("OpenAI", b"a")
    teach(passage, take_openai, one, meter)
    for number in (2, len(passthrough._SEVERAL) // len(one) + 1):
        several = one * number
        assert passage.passes(several)
        assert (len(several) in passage._lengths) == (number == 2)
        assert passage.passes(several)


@pytest.mark.parametrize("first", [b"\n", b"\0", b"\r\n", b"a"])
def test_what_begins_with_no_chunk_does_not_pass_where_several_of_its_length_did(
    first: bytes,
) -> None:
    passage, meter = Passage(take_openai), letters()
    one = made("OpenAI", b"a")
    teach(passage, take_openai, one, meter)
    assert passage.passes(one + one)
    tail = SHAPES["OpenAI"][2].replace(b"@", b"aZ3") + b"\r\n"
    text = b"b" * (2 * len(one) - len(first) - len(tail))
    assert not passage.passes(first + text + tail)
    assert passage.passes(one + one)


def test_short_strings_are_remembered_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passthrough, "_texts", {})
    assert TEXTS_MAX > 1_000
    monkeypatch.setattr(passthrough, "TEXTS_MAX", 2)
    for raw, text in ((b"a", "a"), (rb"\n", "\n"), (b"b", "b"), (b"x" * 17, "x" * 17)):
        assert string_text(raw) == (text, len(raw))
        assert len(passthrough._texts) <= 2
    assert passthrough._texts == {b"b": ("b", 1)}
    assert TEXT_BYTES_MAX == 16
    for raw in (b"", b"\n", b"\xff", b"a\\", b'a"b', rb"\ud800"):
        assert string_text(raw) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_that_is_expected_is_what_passes_where_it_was_learnt(shape: str) -> None:
    take, before, after = SHAPES[shape]
    meter, learnt = letters(), Passage(take)
    learnt.look(framed(before + b"two words" + after.replace(b"@", b"aZ0")), meter)
    opening, middle, end, tails = learnt.pattern
    own, pattern = opening[:30], (opening[30:], middle, end, tails)
    assert learnt.run is not None
    wire = framed(before + b"and" + after.replace(b"@", b"b1"))
    met, expecting = 0, Passage(take)
    for place in range(len(wire)):
        for put in (b'"', b"\\", b"a", b"0", b" ", b",", b"}", b"\n", b""):
            for data in (wire[:place] + put + wire[place:], wire[:place] + put + wire[place + 1 :]):
                expecting = Passage(take)
                expecting.expect(own, pattern, learnt.run)
                learnt.grant(40)
                expecting.grant(40)
                passes, content = learnt.passes(data), expecting.first(data)
                assert (content is not None) is passes
                texts = learnt.texts[:]
                learnt.drain(meter)
                if content is not None:
                    met += 1
                    assert content == (data.partition(b"\r\n")[2][:-2], texts[0])
                    assert expecting.room == learnt.room
                    assert expecting.passes(wire)
                else:
                    assert not expecting.passes(wire), "locked until it was seen"
    assert met > 20
    expecting.expect(own, pattern, learnt.run)
    expecting.grant(2)
    assert expecting.first(wire) is None, "there is no room for it"
