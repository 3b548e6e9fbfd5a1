import re
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core import metering
from proxy.core.deltas import anthropic_event, openai_delta
from proxy.core.entities import Tokenizer
from proxy.core.metering import Meter, safe_cut
from proxy.core.tokenizers import exact_count

TABLES = [Tokenizer.O200K, Tokenizer.CL100K]


def words(text: str) -> int:
    """A tokenizer whose tokens are words with the space before them."""
    return len(re.findall(r"\s*\S+", text))


def openai(delta: object, index: int = 0, **more: object) -> bytes:
    return orjson.dumps({"choices": [{"index": index, "delta": delta, **more}]})


def test_a_word_over_two_events_counts_once() -> None:
    meter = Meter(words)
    meter.add("Hel", 10)
    meter.add("lo wor", 10)
    assert meter.advance() == 2
    meter.add("ld again", 10)
    assert meter.advance() == 3
    assert meter.final() == meter.delivered == 3


def test_unsent_events_wait_and_are_not_lost() -> None:
    meter = Meter(words)
    for word in ("one", " two", " three"):
        meter.add(word, 10)
    assert meter.advance(1) == 2
    assert meter.advance(11) == 2  # counted once is counted, whatever the kernel says later
    assert meter.advance(0) == 3
    meter.add(" four", 10)
    meter.add(" five", 10)
    assert meter.advance(10) == 4
    assert meter.advance(10) == 4
    assert meter.advance(9) == 4
    assert meter.final(10) == 4
    assert meter.advance() == 4


def test_more_unsent_than_known_delivers_nothing() -> None:
    meter = Meter(words)
    meter.add("one", 10)
    assert meter.advance(1_000) == 0
    assert meter.advance(-5) == 1


def test_bytes_without_text_take_their_part_of_the_tail() -> None:
    meter = Meter(words)
    meter.add("one", 10)
    meter.add("", 14)
    assert meter.advance(14) == 1


def test_texts_of_one_event_are_delivered_together() -> None:
    meter = Meter(words)
    meter.add("one", 10)
    meter.add_run((0, "text", 0), " two", 0)
    meter.add_run((1, "text", 0), "three", 20)
    assert meter.advance(5) == 1
    assert meter.advance(0) == 3


def test_runs_are_counted_apart() -> None:
    meter = Meter(words)
    for run in ((0, "text", 0), (1, "text", 0), (0, "tool", 0), (0, "text", 0)):
        meter.add_run(run, "a", 5)
    assert meter.advance() == 3  # "aa", "a", "a"
    meter.add("a", 5)
    assert meter.advance() == 3


def test_ordinary_chunks_choose_their_run() -> None:
    meter = Meter(words)
    for payload in (
        openai({"role": "assistant", "content": ""}),
        openai({"reasoning_content": "th"}),
        openai({"reasoning": "ink"}),
        openai({"thinking": "!"}),
        openai({"content": "an"}),
        openai({"content": "swer"}),
        openai({"content": "other"}, 1),
        openai({"reasoning": "deep"}, 1),
    ):
        assert meter.add_openai(openai_delta(payload), 9)
    assert meter.advance(9) == 3
    meter.add("!", 9)
    assert meter.advance(9) == 4
    assert meter.final() == 4


@pytest.mark.parametrize(
    "payload",
    [
        openai({"content": "a", "reasoning": "b"}),
        openai({"tool_calls": [{"index": 0}]}),
        openai({"refusal": "no"}),
        openai({"function_call": {"name": "f"}}),
        openai({"content": "a"}, finish_reason="stop"),
        b'{"choices":[]}',
        b'{"choices":[{"index":0}]}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{}}',
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"error":"x"}',
        b"garbage",
    ],
)
def test_what_is_not_ordinary_is_not_taken(payload: bytes) -> None:
    meter = Meter(words)
    assert not meter.add_openai(openai_delta(payload), 9)
    assert meter.final() == 0


def test_blocks_choose_their_run() -> None:
    meter = Meter(words)
    for index, delta in (
        (0, {"type": "thinking_delta", "thinking": "hm"}),
        (0, {"type": "signature_delta", "signature": "AA"}),
        (1, {"type": "text_delta", "text": "a"}),
        (1, {"type": "text_delta", "text": "b"}),
        (2, {"type": "input_json_delta", "partial_json": "{}"}),
    ):
        body = {"type": "content_block_delta", "index": index, "delta": delta}
        assert meter.add_anthropic(anthropic_event(orjson.dumps(body)), 9)
    assert meter.final() == 3
    for payload in (b'{"type":"ping"}', b'{"type":"message_delta","delta":{}}', b"x"):
        assert not meter.add_anthropic(anthropic_event(payload), 9)


def test_unread_bytes_are_weighed_and_no_longer_exact() -> None:
    meter = Meter(words)
    meter.add("one", 10)
    meter.add_unread(1_000)
    meter.add_unread(1)
    meter.add(" two", 10)
    assert meter.exact
    assert meter.advance(10) == 1 + 251
    assert not meter.exact
    assert meter.final() == 2 + 251


def test_runs_beyond_the_limit_share_one() -> None:
    meter = Meter(words)
    for index in range(metering.RUNS_MAX + 10):
        meter.add_run((index, "text", 0), "a", 1)
    assert meter.final() == metering.RUNS_MAX + 1
    assert len(meter._runs) == metering.RUNS_MAX + 1


def test_an_estimator_turns_its_measure_into_tokens_once() -> None:
    meter = Meter(len, lambda characters: -(-characters // 4), exact=False)
    for _ in range(10):
        meter.add("a b", 1)
        meter.advance()
    assert meter.final() == 8  # 30 characters, rounded up once and not per window
    assert meter.measured() == 30
    assert meter.count("12345") == 2
    assert not meter.exact


def test_memory_is_flat() -> None:
    meter = Meter(len)
    for _ in range(500):
        for _ in range(20):
            meter.add("some words of prose ", 300)
        meter.advance(600)
    assert len(meter._pieces) == len(meter._sizes) == 2
    assert len(meter._runs[0, "text", 0].tail) < 20
    assert not meter._switches
    assert meter.final() == 500 * 20 * 20


def test_text_without_any_cut_is_cut_by_force() -> None:
    meter = Meter(len)
    half = metering.WINDOW_CHARACTERS_MAX // 2
    for _ in range(7):
        meter.add("x" * half, half)
        meter.advance()
        assert len(meter._runs[0, "text", 0].tail) <= metering.WINDOW_CHARACTERS_MAX
    assert meter.final() == 7 * half


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("", 0),
        ("word", 0),
        (" word", 0),
        ("a b", 1),
        ("a b c", 3),
        ("a  b", 1),
        ("a\n b", 1),
        (";\n b", 0),
        ("a. b", 2),
        ("it's ok", 4),
        ("12 34", 2),
        ("\u4e2d\u6587\uff0c\u6587", 2),
        ("\uff01\uff0c", 0),
        ("word ", 4),
        ("a\x1f b", 0),
        ("a\u00a0 b", 0),
    ],
)
def test_safe_cuts(text: str, cut: int) -> None:
    assert safe_cut(text) == cut


SCRIPTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.text("abcXYZ  \n\n\t.,;:'\"(){}/_-0123456789\r", max_size=20),
    st.text("'sStTdDmMlLvVeErR  a\n", max_size=12),
    st.text(
        "\u4e2d\u6587\u8a9e\u306e\u30ab\u30fc\u30fb\ud55c\uff0c\u3002\uff01\u3001 a\n", max_size=12
    ),
    st.text(
        "\U0001f600\U0001f468\u200d\U0001f469\ufe0f\U0001f1eb\U0001f1f7\u0301\u093e\u0e48 e",
        max_size=10,
    ),
    st.text("\u00a0\u3000\u2028\u0085\x1c\x1f\u200b \n\ta", max_size=10),
    st.sampled_from(
        [
            "The quick brown fox, it's jumping.",
            "def f(x):\n    return {'a': [1, 2]}\n\n\n",
            "<|endoftext|>",
            "https://example.org/a?b=1&c=%20 ",
            "x = 1234567 * 0.5e-10; // ok\r\n",
        ]
    ),
)


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(SCRIPTS, max_size=25), every=st.integers(1, 5))
def test_windowed_equals_whole(table: Tokenizer, pieces: Sequence[str], every: int) -> None:
    count = exact_count(table)
    meter = Meter(count)
    for position, piece in enumerate(pieces):
        meter.add(piece, 1)
        if position % every == 0:
            meter.advance(position % 3)
    assert meter.final() == count("".join(pieces))


@pytest.mark.parametrize("table", TABLES)
@settings(max_examples=300, deadline=None)
@given(text=st.lists(SCRIPTS, max_size=8).map("".join))
def test_every_prefix_can_be_cut(table: Tokenizer, text: str) -> None:
    count = exact_count(table)
    whole = count(text)
    for end in range(1, len(text) + 1):
        cut = safe_cut(text[:end])
        if cut:
            assert count(text[:cut]) + count(text[cut:]) == whole


@settings(max_examples=100, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["text", "tool"]), SCRIPTS), max_size=20
    ),
    unsent=st.lists(st.integers(0, 40), max_size=20),
)
def test_interleaved_runs_equal_whole_runs(
    events: list[tuple[int, str, str]], unsent: list[int]
) -> None:
    count = exact_count(Tokenizer.O200K)
    meter = Meter(count)
    wholes: dict[tuple[int, str], str] = {}
    for position, (index, kind, text) in enumerate(events):
        meter.add_run((index, kind, 0), text, 10)
        wholes[index, kind] = wholes.get((index, kind), "") + text
        if position < len(unsent):
            meter.advance(unsent[position])
    assert meter.final() == sum(map(count, wholes.values()))


@given(sizes=st.lists(st.integers(1, 50), max_size=20), unsent=st.integers(0, 500))
def test_exactly_the_wholly_sent_events_count(sizes: list[int], unsent: int) -> None:
    meter = Meter(len)
    for size in sizes:
        meter.add("x", size)
    sent = sum(sizes) - unsent
    expected = sum(1 for end in range(1, len(sizes) + 1) if sum(sizes[:end]) <= sent)
    assert meter.advance(unsent) == expected


def test_an_event_with_several_texts_carries_its_size_once() -> None:
    meter = Meter(len)
    assert meter.add_runs([((0, "text", 0), "ab"), ((1, "text", 0), "c")], 30)
    assert not meter.add_runs([], 14)
    assert meter.advance(15) == 0
    assert meter.advance(14) == 3


def test_what_waits_is_counted_in_its_place_and_nothing_changes() -> None:
    meter = Meter(words)
    assert meter.projected() == 0
    meter.add("one tw", 10)
    meter.add("o three", 10)
    assert meter.projected() == 3
    assert meter.projected([((0, "text", 0), "s"), ((7, "text", 0), "x y")]) == 3 + 2
    meter.add_run((1, "text", 0), "four", 10)
    meter.add_unread(9)
    meter.add(" five", 10)
    assert meter.projected() == 4 + 1 + 3
    assert meter.advance(38) == 2
    assert meter.projected() == 4 + 1 + 3
    assert meter.projected([((0, "text", 0), "s"), ((1, "text", 0), "s")]) == 4 + 1 + 3
    assert meter.advance() == meter.projected() == 4 + 1 + 3


@given(texts=st.lists(SCRIPTS, max_size=12), unsent=st.integers(0, 30), more=st.lists(SCRIPTS))
def test_what_is_projected_comes_true(texts: list[str], unsent: int, more: list[str]) -> None:
    meter = Meter(exact_count(Tokenizer.O200K))
    for text in texts:
        meter.add(text, 3)
    meter.advance(unsent)
    promised = meter.projected([((0, "text", 0), text) for text in more])
    for text in more:
        meter.add(text, 3)
    assert meter.advance() == promised


def test_unread_bytes_weigh_the_same_however_they_were_counted() -> None:
    meter = Meter(words)
    for _ in range(8):
        meter.add_unread(1)
        meter.advance()
    assert meter.delivered == 2


def test_bytes_of_text_bound_tokens_without_a_count() -> None:
    meter = Meter(words)
    assert meter.add_openai(openai_delta(openai({"content": "ab"})), 5)
    assert meter.add_openai(openai_delta(openai({"content": ""})), 5)
    assert meter.add_openai(openai_delta(openai({"reasoning": "cde"})), 5)
    event = anthropic_event(b'{"type":"content_block_delta","delta":{"text":"f"}}')
    assert meter.add_anthropic(event, 5)
    meter.add("gh", 5)
    meter.add_run((0, "tool", 0), "i", 5)
    meter.add_unread(40)
    assert meter.text_bytes == 2 + 3 + 1 + 2 + 1 + 40
    assert [meter.room(tokens) for tokens in (400, 1, 0, -5)] == [300, 0, 0, 0]
    assert Meter(words, density=3).room(400) == 100


@given(texts=st.lists(st.text(st.characters(exclude_categories=())), max_size=20))
def test_texts_are_never_longer_than_their_bound(texts: list[str]) -> None:
    meter = Meter(len)
    for text in texts:
        meter.add(text, 1)
    assert meter.text_bytes >= len("".join(texts).encode("utf-8", "surrogatepass"))


def test_many_texts_at_once_are_as_many_one_by_one() -> None:
    meter, single = Meter(words), Meter(words)
    for each in (meter, single):
        assert (each.last, each.taken, each.written) == ("", 0, 0)
        each.add_run((1, "text", 0), "one", 10)
    meter.add_all([" tw", "o", " three"], [7, 8, 9], 10)
    for text, size in ((" tw", 7), ("o", 8), (" three", 9)):
        single.add_run((1, "text", 0), text, size)
    for each in (meter, single):
        assert (each.last, each.taken, each.written) == (" three", 4, 34)
        assert each.run == (1, "text", 0)
        assert each.text_bytes == len("one two three")
        assert each.advance(9) == 2
        assert each.taken == 4
        assert each.advance() == 3
        assert (each.last, each.taken) == ("", 4)


@given(
    counted=st.lists(st.booleans(), min_size=1, max_size=8),
    unsent=st.integers(0, 12),
    batches=st.lists(st.lists(st.sampled_from(["on", "e", " two", " "]), max_size=4), max_size=8),
)
def test_lists_that_were_taken_are_the_meters_own(
    counted: list[bool], unsent: int, batches: list[list[str]]
) -> None:
    """Whoever gives them goes on with the ones that were returned, which hold nothing."""
    meter, single = Meter(words), Meter(words)
    texts: list[str] = []
    sizes: list[int] = []
    for turn, batch in enumerate(batches):
        texts += batch
        sizes += [3] * len(batch)
        for text in batch:
            single.add(text, 3)
        texts, sizes = meter.add_all(texts, sizes, len("".join(batch)))
        assert (texts, sizes) == ([], [])
        if counted[turn % len(counted)]:
            assert meter.advance(unsent) == single.advance(unsent)
        assert (meter.taken, meter.written, meter.last) == (
            single.taken, single.written, single.last
        )  # fmt: skip
    assert meter.final() == single.final()
    assert meter.text_bytes == single.text_bytes


def test_runs_that_share_one_are_counted_there_by_every_way() -> None:
    meter = Meter(words)
    for index in range(metering.RUNS_MAX + 2):
        meter.add_run((index, "text", 0), " word", 1)
        meter.advance()
    for _ in range(3):
        meter.add_run((metering.RUNS_MAX + 1, "text", 0), " more", 1)
        meter.advance()
    meter.add_run((metering.RUNS_MAX + 5, "text", 0), " end", 1)
    assert meter.advance() == metering.RUNS_MAX + 2 + 3 + 1
