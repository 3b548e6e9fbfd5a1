import subprocess
import sys
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import tokenizers
from proxy.core.entities import Model, Tokenizer
from proxy.core.tokenizers import (
    Calibration,
    Characters,
    Count,
    characters,
    count_texts,
    exact_count,
    measure_characters,
    new_meter,
    preload,
    repair,
    unpack_characters,
)

EXACT = Model("gpt-4o", 128_000, 16_384, Tokenizer.O200K)
ESTIMATED = Model("claude", 200_000, 64_000, Tokenizer.ESTIMATE)
JAPANESE = "\u304a\u8a95\u751f\u65e5\u304a\u3081\u3067\u3068\u3046"


# Published counts: OpenAI cookbook, "How to count tokens with tiktoken".
@pytest.mark.parametrize(
    ("table", "text", "tokens"),
    [
        (Tokenizer.CL100K, "antidisestablishmentarianism", 6),
        (Tokenizer.CL100K, "2 + 2 = 4", 7),
        (Tokenizer.CL100K, JAPANESE, 9),
        (Tokenizer.CL100K, "tiktoken is great!", 6),
        (Tokenizer.O200K, "antidisestablishmentarianism", 6),
        (Tokenizer.O200K, "2 + 2 = 4", 7),
        (Tokenizer.O200K, JAPANESE, 8),
        (Tokenizer.O200K, "tiktoken is great!", 6),
        (Tokenizer.O200K, "", 0),
    ],
)
def test_published_counts(table: Tokenizer, text: str, tokens: int) -> None:
    assert exact_count(table)(text) == tokens


@given(st.text(max_size=60))
def test_count_is_the_length_of_the_encoding(text: str) -> None:
    preload()
    for table, encoding in tokenizers._ENCODINGS.items():
        backend = tokenizers._table(encoding)
        repaired = repair(text)
        assert exact_count(table)(text) == len(backend.encode(repaired))  # type: ignore[attr-defined]


def test_surrogate_halves_are_joined_or_replaced() -> None:
    assert repair("a\ud83d\ude00b") == "a\U0001f600b"
    assert repair("\ud83dx") == "\ufffdx"
    count = exact_count(Tokenizer.O200K)
    assert count("\ud83d" + "\ude00") == count("\U0001f600")
    assert count("\ud83d") == count("\ufffd")


def test_an_estimate_has_no_table() -> None:
    preload(Tokenizer.ESTIMATE)
    with pytest.raises(KeyError):
        exact_count(Tokenizer.ESTIMATE)


def test_tables_are_read_by_the_first_who_counts_and_without_a_connection() -> None:
    program = (
        "import sys\n"
        "from proxy.core.tokenizers import Tokenizer, exact_count\n"
        "assert 'bpe_openai' not in sys.modules\n"
        "def refuse(event, arguments):\n"
        "    if event.startswith('socket.'):\n"
        "        raise AssertionError(event)\n"
        "sys.addaudithook(refuse)\n"
        "print(exact_count(Tokenizer.O200K)('hello world'))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "2\n"), ran.stderr


def test_characters_are_split_by_weight() -> None:
    assert characters("abc") == Characters(3, 0)
    assert characters("abc\u00e9") == Characters(4, 0)
    assert characters("a\u4e2d\U0001f600") == Characters(1, 2)


@given(st.lists(st.text(max_size=20), max_size=10))
def test_measures_add_up(texts: list[str]) -> None:
    assert unpack_characters(sum(map(measure_characters, texts))) == characters("".join(texts))


def test_an_unknown_model_has_the_prior() -> None:
    calibration = Calibration()
    assert calibration.tokens("m", Characters(400, 0)) == 100
    assert calibration.tokens("m", Characters(0, 10)) == 10
    assert calibration.tokens("m", Characters(1, 0)) == 1
    assert calibration.tokens("m", Characters(0, 0)) == 0


def test_reports_move_the_estimate_towards_them() -> None:
    calibration = Calibration()
    for _ in range(100):
        assert calibration.observe("m", Characters(3_000, 0), 1_000)
        assert calibration.observe("m", Characters(100, 2_000), 1_233)
    assert 330 <= calibration.tokens("m", Characters(1_000, 0)) <= 334
    assert 595 <= calibration.tokens("m", Characters(0, 1_000)) <= 612
    assert calibration.tokens("other", Characters(1_000, 0)) == 250


def test_a_running_call_keeps_its_weights() -> None:
    calibration = Calibration()
    estimator = calibration.estimator("m")
    calibration.observe("m", Characters(100_000, 0), 50_000)
    assert estimator(measure_characters("a" * 400)) == 100
    assert calibration.tokens("m", Characters(400, 0)) > 190


ANY_TEXT = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=())),  # halves of surrogate pairs among them
        st.binary(max_size=40).map(lambda raw: raw.decode("utf-8", "replace")),
        st.sampled_from(
            ["the ", "\ufffd", "👩‍👩‍👧", "日本語", "==" * 9, "\n\n\t", "e\u0301", "\ud83d"]
        ),
    ),
    max_size=12,
).map("".join)


@pytest.mark.parametrize("table", [Tokenizer.O200K, Tokenizer.CL100K])
@given(text=ANY_TEXT)
def test_a_token_of_a_table_is_at_least_one_byte(table: Tokenizer, text: str) -> None:
    assert exact_count(table)(text) <= len(text.encode("utf-8", "surrogatepass"))


@given(text=ANY_TEXT, learnt=st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=9))
def test_no_estimate_is_denser_than_it_says(text: str, learnt: list[tuple[bool, int]]) -> None:
    calibration = Calibration()
    for wide, factor in learnt:
        size = Characters(0, 90_000) if wide else Characters(90_000, 0)
        calibration.observe("claude", size, factor * calibration.tokens("claude", size))
    meter = new_meter(ESTIMATED, calibration)
    meter.add(text, 1)
    assert meter.advance() <= meter.density * len(text.encode("utf-8", "surrogatepass"))
    assert 1 <= meter.density <= tokenizers.WEIGHT_MAX // tokenizers.MICRO


@pytest.mark.parametrize("tokens", [0, -5, 10, 10_000, 10**18])
def test_lies_are_not_learnt(tokens: int) -> None:
    calibration = Calibration()
    assert not calibration.observe("m", Characters(1_000, 0), tokens)
    assert len(calibration) == 0


def test_short_texts_are_not_learnt() -> None:
    assert not Calibration().observe("m", Characters(63, 0), 16)
    assert Calibration().observe("m", Characters(64, 0), 16)


def test_models_are_bounded_and_the_stalest_goes() -> None:
    calibration = Calibration(models_max=2)
    for model in ("a", "b", "a", "c"):
        calibration.observe(model, Characters(1_000, 0), 500)
    assert len(calibration) == 2
    assert calibration.tokens("b", Characters(400, 0)) == 100
    assert calibration.tokens("a", Characters(400, 0)) > 100


def test_weights_are_bounded_and_old_observations_fade() -> None:
    calibration = Calibration()
    for _ in range(2_000):
        size = Characters(10_000, 0)
        calibration.observe("m", size, calibration.tokens("m", size) * 7)
    assert calibration.tokens("m", Characters(1_000_000, 0)) == tokenizers.WEIGHT_MAX
    for _ in range(2_000):
        size = Characters(10_000, 0)
        calibration.observe("m", size, calibration.tokens("m", size) // 7)
    assert calibration.tokens("m", Characters(1_000_000, 0)) == tokenizers.WEIGHT_MIN
    assert calibration._weights["m"][0].characters <= tokenizers.MEMORY_CHARACTERS_MAX


def test_meters_by_model() -> None:
    calibration = Calibration()
    exact = new_meter(EXACT, calibration)
    exact.add("hello world", 1)
    assert (exact.final(), exact.exact) == (2, True)
    estimated = new_meter(ESTIMATED, calibration)
    estimated.add("hello world", 1)
    assert (estimated.final(), estimated.exact) == (3, False)
    assert unpack_characters(estimated.measured()) == Characters(11, 0)


def test_texts_are_counted_apart_and_boundedly() -> None:
    calibration = Calibration()
    assert count_texts(["hello", " world"], EXACT, calibration) == Count(2, exact=True)
    assert count_texts([], EXACT, calibration) == Count(0, exact=True)
    assert count_texts(["abcd", "efgh"], ESTIMATED, calibration) == Count(2, exact=False)
    text = "hello world " * 100
    whole = count_texts([text], EXACT, calibration).tokens
    bounded = count_texts([text, text], EXACT, calibration, characters_max=600)
    assert not bounded.exact
    assert abs(bounded.tokens - 2 * whole) <= 4
    assert count_texts(["abc"], EXACT, calibration, characters_max=0) == Count(3, exact=False)


def test_texts_that_recur_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return exact_count(Tokenizer.O200K)(text)

    monkeypatch.setattr(tokenizers, "exact_count", lambda _table: count)
    monkeypatch.setattr(tokenizers, "REMEMBERED_MAX", 2)
    monkeypatch.setattr(
        tokenizers, "_recurring_count", cache(tokenizers._recurring_count.__wrapped__)
    )
    calibration = Calibration()

    def tokens(*texts: str) -> int:
        counted.clear()
        return count_texts(texts, EXACT, calibration).tokens

    system, question, answer = "You are careful." * 9, "Why? " * 20, "\ud83d because " * 9
    first = tokens(system, question, "Go on.")
    assert counted == [system, question, "Go on."]
    assert tokens(system, question, "Go on.") == first
    assert counted == ["Go on."], "too short to be worth a digest"
    assert tokens(answer) == tokens(answer) > 0
    assert counted == []
    short = tokens("Go on.")
    assert tokens(question, system) == first - short
    assert counted == [system], "the oldest had left"
    # A text is another one with any difference, also where only the first part is counted.
    assert tokens(system + " No") == tokens(system) + 1
    part = count_texts([system + question], EXACT, calibration, characters_max=len(system))
    assert not part.exact
