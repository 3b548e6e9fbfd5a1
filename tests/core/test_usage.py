import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from proxy.core.entities import Usage, UsageSource
from proxy.core.usage import (
    OUTPUT_SLACK_TOKENS,
    Bill,
    UsageTally,
    bare_of,
    bare_of_message,
    bounded,
)
from proxy.core.usage_reports import (
    OPENAI,
    OPENAI_ALIASES,
    TOKENS_MAX,
    AnthropicReport,
    OpenAIReport,
)


def openai(*reports: object) -> UsageTally:
    tally = UsageTally()
    for report in reports:
        tally.openai(report)
    return tally


def anthropic(start: object, *rest: object) -> UsageTally:
    tally = UsageTally()
    tally.anthropic(start, final=False)
    for report in rest:
        tally.anthropic(report)
    return tally


def by_members(*reports: object) -> UsageTally:
    """The same as `openai`, each report read member by member."""
    tally = UsageTally()
    for report in reports:
        tally._take(report, OPENAI, OPENAI_ALIASES)
        tally._final = True
    return tally


def test_a_name_that_is_no_text_is_passed_over() -> None:
    # Half a surrogate pair: patient readers let it through, and msgspec does not convert it.
    tally = openai({"prompt_tokens": 3, "completion_tokens": 4, "half\ud800": 5})
    assert (tally.usage(), tally.final) == (Usage(3, 0, 0, 0, 4), True)


def billed(tally: UsageTally, *, complete: bool = True, output: int = 5) -> Bill:
    return tally.bill(complete=complete, input_tokens=40, output_tokens=output)


def test_openai_kinds_are_disjoint() -> None:
    tally = openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {
                "cached_tokens": 30,
                "cache_write_tokens": 20,
                "audio_tokens": 10,
                "text_tokens": 90,
            },
            "completion_tokens_details": {"reasoning_tokens": 15, "audio_tokens": 5},
        }
    )
    assert tally.usage() == Usage(
        input_uncached=40,
        cache_read=30,
        cache_write_5m=20,
        audio_input=10,
        output=45,
        reasoning=15,
        audio_output=5,
    )
    assert tally.final
    assert tally.anomalies == ()


@pytest.mark.parametrize(
    ("report", "usage"),
    [
        ({"input_tokens": 9, "output_tokens": 2}, Usage(input_uncached=9, output=2)),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "input_tokens": 0, "output_tokens": 0},
            Usage(input_uncached=9, output=2),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4},
            Usage(input_uncached=5, cache_read=4, output=2),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "cached_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 3},
            },
            Usage(input_uncached=6, cache_read=3, output=2),
        ),
        (
            {
                "input_tokens": 9,
                "output_tokens": 7,
                "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2},
                "output_tokens_details": {"reasoning_tokens": 5},
            },
            Usage(input_uncached=6, cache_read=1, cache_write_5m=2, output=7, reasoning=5),
        ),
        (
            {
                "input_tokens": 20,
                "output_tokens": 7,
                "input_tokens_details": {"text_tokens": 8, "image_tokens": 12},
                "output_tokens_details": {"text_tokens": 1, "image_tokens": 6},
            },
            Usage(input_uncached=8, image_input=12, output=1, image_output=6),
        ),
        (
            {
                "input_tokens": 132,
                "output_tokens": 121,
                "input_token_details": {
                    "text_tokens": 100,
                    "audio_tokens": 20,
                    "image_tokens": 12,
                    "cached_tokens": 80,
                    "cached_tokens_details": {
                        "text_tokens": 65,
                        "audio_tokens": 10,
                        "image_tokens": 5,
                    },
                },
                "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
            },
            Usage(
                input_uncached=35,
                cache_read=65,
                cache_read_audio=10,
                cache_read_image=5,
                audio_input=10,
                image_input=7,
                output=30,
                audio_output=91,
            ),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "server_tool_use": {"web_search_requests": 3},
            },
            Usage(input_uncached=9, output=2, searches=3),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "num_search_queries": 4},
            Usage(input_uncached=9, output=2, searches=4),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None},
            Usage(input_uncached=9, output=2),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": [1]},
            Usage(input_uncached=9, output=2),
        ),
    ],
)
def test_names_providers_use(report: dict[str, object], usage: Usage) -> None:
    assert openai(report).usage() == usage


def test_reasoning_beside_the_completion_is_added() -> None:
    report = {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 34,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    assert openai(report).usage() == Usage(input_uncached=10, output=24, reasoning=20)
    assert openai(report | {"total_tokens": 14}).usage().output == 4


def test_parts_never_exceed_the_total() -> None:
    tally = openai(
        {
            "prompt_tokens": 10,
            "completion_tokens": 3,
            "prompt_tokens_details": {"cached_tokens": 50, "audio_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 9, "audio_tokens": 9},
        }
    )
    assert tally.usage() == Usage(cache_read=10, audio_output=3)
    assert billed(tally).anomalies == ("parts_exceed_total",)


def test_images_of_a_prompt_are_what_the_provider_says_they_are() -> None:
    report = {
        "prompt_tokens": 36_848,  # one picture, of gpt-4o-mini
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0, "image_tokens": 36_839},
    }
    usage = openai(report).usage()
    assert (usage.input_uncached, usage.image_input, usage.prompt_total) == (9, 36_839, 36_848)


def test_searches_are_told_by_the_usage_or_counted_beside_it() -> None:
    told = anthropic(
        {"input_tokens": 9, "server_tool_use": {"web_search_requests": 0}},
        {"output_tokens": 4, "server_tool_use": {"web_search_requests": 2, "x": 1}},
    )
    assert told.usage().searches == 2
    assert told.anomalies == ()
    beside = openai({"prompt_tokens": 9, "completion_tokens": 2})
    assert beside.usage().searches == 0
    beside.searched(1)
    beside.searched(3)
    assert beside.usage() == Usage(input_uncached=9, output=2, searches=3)
    assert billed(beside, output=2).usage.searches == 3
    lie = openai({"prompt_tokens": 9, "completion_tokens": 2, "num_search_queries": -1})
    assert (lie.usage().searches, lie.anomalies) == (0, ("negative",))


def test_searches_are_bounded() -> None:
    usage = Usage(searches=5)
    assert bounded(usage, None, searches_max=5) == (usage, ())
    assert bounded(usage, None) == (usage, ())
    assert bounded(usage, None, searches_max=2) == (Usage(searches=2), ("searches_bounded",))


def test_cumulative_reports_are_never_added() -> None:
    tally = openai(
        {"prompt_tokens": 10, "completion_tokens": 1},
        {"prompt_tokens": 10, "completion_tokens": 2},
        {"prompt_tokens": 10, "completion_tokens": 3},
    )
    assert tally.usage() == Usage(input_uncached=10, output=3)
    assert tally.anomalies == ()


def test_message_delta_replaces_field_by_field() -> None:
    tally = anthropic(
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            "output_tokens": 1,
        },
        {"output_tokens": 40},
        {
            "output_tokens": 50,
            "cache_creation_input_tokens": 45,
            "input_tokens": None,
            "output_tokens_details": {"thinking_tokens": 12},
        },
    )
    assert tally.usage() == Usage(
        input_uncached=10,
        cache_read=100,
        cache_write_5m=25,
        cache_write_1h=20,
        output=50,
        reasoning=12,
    )
    assert (tally.final, tally.anomalies) == (True, ())


def test_cache_writes_without_tiers_are_five_minutes() -> None:
    tally = anthropic({"input_tokens": 1, "cache_creation_input_tokens": 7}, {"output_tokens": 2})
    assert tally.usage() == Usage(input_uncached=1, cache_write_5m=7, output=2)


def test_tiers_without_a_total_count() -> None:
    tiers = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    tally = anthropic({"input_tokens": 1, "cache_creation": tiers}, {"output_tokens": 2})
    assert (tally.usage().cache_write_5m, tally.usage().cache_write_1h) == (3, 4)


def test_a_later_zero_does_not_erase_but_a_correction_counts() -> None:
    tally = anthropic({"input_tokens": 10}, {"input_tokens": 0, "output_tokens": 9})
    assert tally.usage().input_uncached == 10
    assert tally.anomalies == ("fell_to_zero",)
    tally.anthropic({"output_tokens": 8}, final=True)
    assert tally.usage().output == 8
    assert set(tally.anomalies) == {"decreased", "fell_to_zero"}


@pytest.mark.parametrize(
    ("value", "anomaly", "tokens"),
    [
        (-1, "negative", None),
        (-0.5, "fractional", 0),
        (-2.0, "negative", None),
        (12.0, None, 12),
        (12.7, "fractional", 12),
        ("12", "text", 12),
        ("-12", "not_a_number", None),
        ("many", "not_a_number", None),
        ("1" * 11, "not_a_number", None),
        (True, "not_a_number", None),
        ([1], "not_a_number", None),
        (10**18, "implausible", None),
        (1e18, "implausible", None),
        (float("inf"), "implausible", None),
        (float("nan"), "implausible", None),
        (TOKENS_MAX, None, TOKENS_MAX),
        (TOKENS_MAX + 1, "implausible", None),
        (0, None, 0),
        (None, None, None),
    ],
)
def test_lies(value: object, anomaly: str | None, tokens: int | None) -> None:
    tally = openai({"prompt_tokens": 7, "completion_tokens": value})
    assert tally.anomalies == (() if anomaly is None else (anomaly,))
    assert tally.final is (tokens is not None)
    bill = billed(tally)
    assert bill.usage.output == (5 if tokens is None else tokens)
    assert bill.usage.input_uncached == 7
    expected = UsageSource.COUNTED if tokens is None else UsageSource.REPORTED
    assert bill.source is expected


@pytest.mark.parametrize("report", [None, [], "usage", 5, True])
def test_what_is_no_object_is_malformed(report: object) -> None:
    tally = openai(report)
    assert not tally.seen
    assert not tally.final
    assert tally.anomalies == ("malformed",)
    assert billed(tally).source is UsageSource.COUNTED


def test_an_implausible_report_in_the_middle_does_not_survive() -> None:
    tally = openai(
        {"prompt_tokens": 10, "completion_tokens": 10**18},
        {"prompt_tokens": 10, "completion_tokens": 6},
    )
    assert billed(tally).usage == Usage(input_uncached=10, output=6)


def test_absent_is_counted_and_zero_is_a_value() -> None:
    assert billed(UsageTally()) == Bill(Usage(input_uncached=40, output=5), UsageSource.COUNTED)
    zero = billed(openai({"prompt_tokens": 0, "completion_tokens": 0}))
    assert zero == Bill(Usage(), UsageSource.REPORTED, ("zero_with_text",))
    silent = billed(openai({"prompt_tokens": 3, "completion_tokens": 0}), output=0)
    assert silent == Bill(Usage(input_uncached=3), UsageSource.REPORTED)


def test_each_side_is_counted_where_only_the_other_was_reported() -> None:
    no_input = billed(openai({"completion_tokens": 9}))
    assert no_input == Bill(Usage(input_uncached=40, output=9), UsageSource.COUNTED)
    cached = openai({"completion_tokens": 9, "prompt_cache_hit_tokens": 3})
    assert billed(cached).usage.input_total == 40
    no_output = billed(openai({"prompt_tokens": 9}))
    assert no_output == Bill(Usage(input_uncached=9, output=5), UsageSource.COUNTED)


def test_the_first_guess_of_message_start_is_not_the_output() -> None:
    tally = anthropic({"input_tokens": 10, "output_tokens": 1})
    for complete in (True, False):
        bill = billed(tally, complete=complete)
        assert bill == Bill(Usage(input_uncached=10, output=5), UsageSource.COUNTED)


def test_an_incomplete_call_is_billed_what_was_delivered_after_an_early_report() -> None:
    tally = openai({"prompt_tokens": 10, "completion_tokens": 3})
    assert billed(tally, complete=False, output=8).usage.output == 8
    assert billed(tally, complete=False, output=2) == Bill(
        Usage(input_uncached=10, output=3), UsageSource.REPORTED
    )
    assert billed(tally, complete=True, output=8).usage.output == 3


@pytest.mark.parametrize(
    ("tally", "decisive"),
    [
        (openai({"prompt_tokens": 9, "completion_tokens": 2}), True),
        (by_members({"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 3}), True),
        (anthropic({"input_tokens": 9, "output_tokens": 1}, {"output_tokens": 7}), True),
        (anthropic({"input_tokens": 9, "output_tokens": 1}), False),
        (openai({"prompt_tokens": 9, "completion_tokens": 0}), False),
        (openai({"completion_tokens": 9}), False),
        (openai({"prompt_tokens": 9}), False),
        (openai("nothing"), False),
        (UsageTally(), False),
    ],
)
def test_what_is_decisive_is_billed_whatever_was_counted(tally: UsageTally, decisive: bool) -> None:
    assert tally.decisive is decisive
    bills = {billed(tally, output=output) for output in (0, 1, 7, 1_000)}
    assert len(bills) == 1 or not decisive


def test_who_said_nothing_is_silent() -> None:
    assert UsageTally().silent
    for report in ("nothing", {"prompt_tokens": -1}, {"prompt_tokens": 0}):
        assert not openai(report).silent


COUNTS = st.one_of(st.none(), st.integers(-2, 50))


@given(
    report=st.fixed_dictionaries(
        {},
        optional={
            "input_tokens": COUNTS,
            "output_tokens": COUNTS,
            "cache_read_input_tokens": COUNTS,
            "cache_creation_input_tokens": COUNTS,
            "cache_creation": st.fixed_dictionaries(
                {}, optional={"ephemeral_5m_input_tokens": COUNTS,
                              "ephemeral_1h_input_tokens": COUNTS}
            ),
            "server_tool_use": st.fixed_dictionaries(
                {}, optional={"web_search_requests": st.integers(0, 2)}
            ),
            "output_tokens_details": st.fixed_dictionaries(
                {}, optional={"thinking_tokens": COUNTS}
            ),
        },
    ),
    output=st.integers(0, 300),
    final=st.booleans(),
)  # fmt: skip
def test_what_a_stream_began_with_is_billed_in_short_as_at_length(
    report: dict[str, object], output: int, *, final: bool
) -> None:
    tally = UsageTally()
    assert tally.opened(output) is None, "nothing is known"
    tally.anthropic(report, final=final)
    short = tally.opened(output)
    long = billed(tally, complete=False, output=output)
    if short is not None:
        assert not final
        assert (short, UsageSource.COUNTED, ()) == (long.usage, long.source, long.anomalies)
    elif not final and not long.anomalies and "input_tokens" in report:
        assert long.usage.searches or report["input_tokens"] is None


def test_an_opening_of_the_usual_kind_is_known_in_short() -> None:
    tally = UsageTally()
    given = {"input_tokens": 9, "cache_read_input_tokens": 4_000, "output_tokens": 1}
    tally.anthropic(given, final=False)
    assert tally.opened(30) == Usage(input_uncached=9, cache_read=4_000, output=30)
    other = openai({"prompt_tokens": 9, "completion_tokens": 1})
    assert other.opened(30) is None, "who reports at the end says all of it"


def test_an_estimate_is_called_one() -> None:
    bill = UsageTally().bill(
        complete=False, input_tokens=1, output_tokens=2, counted=UsageSource.ESTIMATED
    )
    assert bill.source is UsageSource.ESTIMATED


def test_output_is_bounded_by_the_limit_and_slack() -> None:
    usage = Usage(input_uncached=5, output=200, reasoning=180, audio_output=7)
    assert bounded(usage, None) == (usage, ())
    assert bounded(usage, output_tokens_max=207 - OUTPUT_SLACK_TOKENS) == (usage, ())
    cut, anomalies = bounded(usage, output_tokens_max=100, slack=0)
    assert (cut.output, cut.reasoning, cut.audio_output) == (100, 100, 0)
    assert anomalies == ("output_bounded",)
    audio, _ = bounded(
        Usage(output=10, audio_output=500, image_output=3), output_tokens_max=50, slack=4
    )
    assert (audio.output, audio.audio_output, audio.image_output) == (10, 44, 0)


def test_input_is_bounded_by_the_prompt() -> None:
    usage = Usage(
        input_uncached=10, cache_read=20, cache_write_5m=5, cache_write_1h=5, audio_input=5
    )
    assert bounded(usage, output_tokens_max=None, input_tokens_max=45) == (usage, ())
    seen = Usage(image_input=9, cache_read_audio=4, cache_read_image=3)
    assert bounded(seen, None, input_tokens_max=10)[0] == replace(seen, image_input=3)
    cut, anomalies = bounded(usage, output_tokens_max=None, input_tokens_max=32)
    assert (cut.cache_read, cut.input_uncached, cut.cache_write_5m) == (20, 10, 2)
    assert (cut.cache_write_1h, cut.audio_input) == (0, 0)
    assert anomalies == ("input_bounded",)


NUMBERS = st.integers() | st.floats() | st.text(max_size=5) | st.none() | st.booleans()
NAMES = st.sampled_from(
    [
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "cached_tokens",
    ]
)
DETAILS = st.dictionaries(
    st.sampled_from(
        [
            "cached_tokens",
            "audio_tokens",
            "image_tokens",
            "reasoning_tokens",
            "ephemeral_1h_input_tokens",
            "web_search_requests",
        ]
    ),
    NUMBERS,
)
REPORTS = st.dictionaries(NAMES, NUMBERS).flatmap(
    lambda flat: st.dictionaries(
        st.sampled_from(
            [
                "prompt_tokens_details",
                "completion_tokens_details",
                "cache_creation",
                "server_tool_use",
            ]
        ),
        DETAILS | NUMBERS,
    ).map(lambda nested: {**flat, **nested})
)


@given(
    st.lists(REPORTS, max_size=4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_no_report_makes_an_impossible_bill(
    reports: list[object], is_openai: bool, complete: bool, output_max: int, input_max: int
) -> None:
    tally = UsageTally()
    for report in reports:
        if is_openai:
            tally.openai(report)
        else:
            tally.anthropic(report)
    bill = tally.bill(complete=complete, input_tokens=3, output_tokens=4)
    usage, _ = bounded(bill.usage, output_tokens_max=output_max, input_tokens_max=input_max)
    kinds = {name: count for name, count in asdict(usage).items() if name != "variant"}
    assert all(type(kind) is int and kind >= 0 for kind in kinds.values())
    assert usage.completion_total <= output_max + OUTPUT_SLACK_TOKENS
    assert usage.prompt_total <= input_max
    assert usage.reasoning <= usage.output


@given(
    st.lists(st.tuples(REPORTS | st.none(), st.booleans()), max_size=4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 30),
)
def test_who_asks_between_two_reports_changes_no_bill(
    reports: list[tuple[object, bool]], is_openai: bool, complete: bool, delivered: int
) -> None:
    asked, unasked = UsageTally(), UsageTally()
    asked.usage()
    for report, look in reports:
        for tally in (asked, unasked):
            (tally.openai if is_openai else tally.anthropic)(report)
        if look:
            asked.usage()
    bills = [
        tally.bill(complete=complete, input_tokens=3, output_tokens=delivered)
        for tally in (asked, unasked)
    ]
    assert bills[0] == bills[1]
    if is_openai:
        plainly = by_members(*[report for report, _ in reports])
        bill = plainly.bill(complete=complete, input_tokens=3, output_tokens=delivered)
        assert bills[0] == bill


@pytest.mark.parametrize("details", ["prompt_tokens_details", "completion_tokens_details"])
def test_a_report_counts_though_somebody_asked_before_there_was_one(details: str) -> None:
    """A mark does, between the events of a slow stream."""
    parts = {"cached_tokens": 3} if details.startswith("prompt") else {"reasoning_tokens": 3}
    tally = UsageTally()
    assert tally.usage() == Usage()
    tally.openai({"prompt_tokens": 12, "completion_tokens": 34, details: parts})
    bill = billed(tally)
    assert (bill.usage.prompt_total, bill.usage.output, bill.source) == (12, 34, "reported")
    of_messages = UsageTally()
    of_messages.usage()
    assert of_messages.anthropic_report(AnthropicReport(input_tokens=12, output_tokens=34))
    assert of_messages.usage() == Usage(input_uncached=12, output=34)


BOTH = {"prompt_tokens": 100, "completion_tokens": 50}


@pytest.mark.parametrize(
    "report",
    [
        BOTH,
        BOTH | {"total_tokens": 150, "completion_tokens_details": {}, "prompt_tokens_details": {}},
        BOTH | {"prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 10}},
        BOTH | {"prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 90}},
        BOTH | {"completion_tokens_details": {"reasoning_tokens": 15, "audio_tokens": 5}},
        BOTH | {"prompt_tokens_details": {"image_tokens": 0}, "completion_tokens_details": {}},
        BOTH | {"total_tokens": 170, "completion_tokens_details": {"reasoning_tokens": 20}},
        BOTH | {"prompt_tokens_details": {}, "completion_tokens_details": {"audio_tokens": 2}},
        {"prompt_tokens": 0, "completion_tokens": 0},
    ],
)
@pytest.mark.parametrize("delivered", [0, 5, 60])
@pytest.mark.parametrize("complete", [True, False])
def test_a_typed_openai_report_is_the_same_as_its_members(
    report: dict[str, object], *, complete: bool, delivered: int
) -> None:
    typed = UsageTally()
    assert typed.openai_report(msgspec.convert(report, OpenAIReport))
    assert typed.usage() == by_members(report).usage() == openai(report).usage()
    assert (typed.seen, typed.input_seen, typed.final) == (True, True, True)
    assert billed(typed, complete=complete, output=delivered) == billed(
        openai(report), complete=complete, output=delivered
    )


@pytest.mark.parametrize(
    "report",
    [
        {"input_tokens": 9, "output_tokens": 4},
        {
            "input_tokens": 9,
            "output_tokens": 4,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5},
            "output_tokens_details": {"thinking_tokens": 2},
            "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 1},
        },
        {
            "input_tokens": 0,
            "output_tokens": 0,
            "cache_creation": {},
            "output_tokens_details": {},
            "server_tool_use": {},
        },
    ],
)
@pytest.mark.parametrize("delivered", [0, 2, 60])
def test_a_typed_anthropic_report_is_the_same_as_its_members(
    report: dict[str, object], delivered: int
) -> None:
    typed, slow = UsageTally(), UsageTally()
    assert typed.anthropic_report(msgspec.convert(report, AnthropicReport))
    slow.anthropic(report)
    assert typed.usage() == slow.usage()
    assert (typed.seen, typed.input_seen, typed.final) == (True, True, True)
    assert billed(typed, output=delivered) == billed(slow, output=delivered)


@pytest.mark.parametrize(
    "report",
    [
        {"prompt_tokens": 1},
        {"completion_tokens": 1},
        BOTH | {"prompt_tokens_details": {"image_tokens": 1}},
        BOTH | {"prompt_tokens_details": {"cached_tokens_details": {"audio_tokens": 1}}},
        BOTH | {"completion_tokens_details": {"image_tokens": 1}},
    ],
)
def test_what_is_not_plain_is_left_for_the_long_way(report: dict[str, object]) -> None:
    tally = UsageTally()
    assert not tally.openai_report(msgspec.convert(report, OpenAIReport))
    assert not tally.seen
    assert not tally.anthropic_report(AnthropicReport(output_tokens=1))
    assert not tally.anthropic_report(AnthropicReport(input_tokens=1))
    assert not tally.seen


def test_a_typed_report_is_the_first_or_none() -> None:
    tally = openai({"prompt_tokens": 1, "completion_tokens": 1})
    assert not tally.openai_report(OpenAIReport(prompt_tokens=9, completion_tokens=9))
    assert not tally.anthropic_report(AnthropicReport(input_tokens=9, output_tokens=9))
    assert tally.usage() == Usage(input_uncached=1, output=1)


@pytest.mark.parametrize("lie", [-1, TOKENS_MAX + 1, 1.5, "1", True, [1]])
def test_no_lie_passes_for_a_typed_report(lie: object) -> None:
    for kind, name in ((OpenAIReport, "prompt_tokens"), (AnthropicReport, "output_tokens")):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({name: lie}, kind)


_COUNTS = st.one_of(st.none(), st.integers(0, 9))
_GIVEN = ("cached_tokens", "cache_write_tokens", "audio_tokens", "image_tokens")
_MADE = ("reasoning_tokens", "audio_tokens", "image_tokens")


_CREATION = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"), _COUNTS)
)


@given(
    report=st.fixed_dictionaries(
        {"input_tokens": _COUNTS, "output_tokens": _COUNTS},
        optional={
            "cache_read_input_tokens": _COUNTS,
            "cache_creation_input_tokens": _COUNTS,
            "cache_creation": st.none() | _CREATION,
            "output_tokens_details": st.none()
            | st.fixed_dictionaries({}, optional={"thinking_tokens": _COUNTS}),
            "server_tool_use": st.none()
            | st.fixed_dictionaries({}, optional={"web_search_requests": _COUNTS}),
        },
    )
)
def test_a_bare_report_of_a_message_is_read_as_it_is_member_by_member(
    report: dict[str, object],
) -> None:
    typed = msgspec.convert(report, AnthropicReport)
    bare, tally, slow = bare_of_message(typed), UsageTally(), UsageTally()
    assert bare == (tally.bare if tally.anthropic_report(typed) else None)
    if bare is None:
        return
    slow.anthropic(report)
    whole = UsageTally.of_bare(bare)
    assert whole.usage() == tally.usage() == slow.usage() == bare
    assert (whole.final, whole.input_seen, whole.silent) == (True, True, False)
    for complete in (True, False):
        for output in (0, 4, 20):
            assert billed(whole, complete=complete, output=output) == billed(
                slow, complete=complete, output=output
            )


@given(
    prompt=_COUNTS,
    completion=_COUNTS,
    given_=st.one_of(st.none(), st.fixed_dictionaries({}, optional=dict.fromkeys(_GIVEN, _COUNTS))),
    made=st.one_of(st.none(), st.fixed_dictionaries({}, optional=dict.fromkeys(_MADE, _COUNTS))),
)
def test_a_bare_report_is_read_as_it_is_member_by_member(
    prompt: int | None,
    completion: int | None,
    given_: dict[str, int | None] | None,
    made: dict[str, int | None] | None,
) -> None:
    report = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": given_,
        "completion_tokens_details": made,
    }
    bare = bare_of(msgspec.convert(report, OpenAIReport))
    slow = by_members(report)
    parts = [count for part in (given_, made) if part for count in part.values()]
    assert (bare is None) is (prompt is None or completion is None or any(parts))
    if bare is not None:
        tally = UsageTally.of_bare(bare)
        assert tally.usage() == slow.usage() == bare
        assert (tally.final, tally.input_seen, tally.silent) == (True, True, False)
        assert tally.decisive is bool(completion)
        for complete in (True, False):
            for output in (0, 4, 20):
                assert billed(tally, complete=complete, output=output) == billed(
                    slow, complete=complete, output=output
                )


def gemini(*reports: object) -> UsageTally:
    tally = UsageTally()
    for report in reports:
        tally.gemini(report)
    return tally


def test_gemini_counts_thoughts_beside_candidates_and_caches_inside_the_prompt() -> None:
    tally = gemini(
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 30,
            "toolUsePromptTokenCount": 7,
            "candidatesTokenCount": 50,
            "thoughtsTokenCount": 15,
            "totalTokenCount": 172,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 80},
                {"modality": "AUDIO", "tokenCount": 20},
                {"tokenCount": 3},
                "noise",
            ],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}],
            "candidatesTokensDetails": [
                {"modality": "AUDIO", "tokenCount": 4},
                {"modality": "IMAGE", "tokenCount": 8},
            ],
            "trafficType": "ON_DEMAND",
        }
    )
    assert tally.usage() == Usage(
        input_uncached=62,
        cache_read=25,
        cache_read_audio=5,
        audio_input=15,
        output=53,
        reasoning=15,
        audio_output=4,
        image_output=8,
    )
    assert tally.final
    assert tally.anomalies == ()


def test_pictures_a_gemini_prompt_holds_are_apart_from_its_text() -> None:
    tally = gemini(
        {
            "promptTokenCount": 300,
            "cachedContentTokenCount": 100,
            "totalTokenCount": 300,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 42},
                {"modality": "IMAGE", "tokenCount": 258},
            ],
            "cacheTokensDetails": [{"modality": "IMAGE", "tokenCount": 90}],
        }
    )
    assert tally.usage() == Usage(
        input_uncached=32, cache_read=10, cache_read_image=90, image_input=168
    )


@pytest.mark.parametrize(
    ("report", "output", "final"),
    [
        ({"promptTokenCount": 10}, 0, False),
        ({"promptTokenCount": 10, "totalTokenCount": 10}, 0, True),
        ({"promptTokenCount": 10, "totalTokenCount": 14, "thoughtsTokenCount": 4}, 4, True),
        ({"promptTokenCount": 10, "totalTokenCount": 9}, 0, True),
        ({"promptTokenCount": 10, "candidatesTokenCount": 3, "thoughtsTokenCount": 2}, 5, True),
        (
            {
                "promptTokenCount": 10,
                "candidatesTokenCount": 3,
                "thoughtsTokenCount": 2,
                "totalTokenCount": 13,
            },
            3,
            True,
        ),
        ({"candidatesTokenCount": 3}, 0, False),
        ("nonsense", 0, False),
    ],
)
def test_what_gemini_leaves_out_is_told_by_the_sum(
    report: object, output: int, final: bool
) -> None:
    tally = gemini(report)
    assert (tally.usage().output, tally.final) == (output, final)


def test_gemini_repeats_its_figures_and_the_last_counts() -> None:
    tally = gemini(
        {"promptTokenCount": 10, "totalTokenCount": 10},
        {"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 12},
        {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
    )
    assert tally.usage() == Usage(input_uncached=10, output=5)
    assert tally.anomalies == ()


def test_a_report_of_a_prompt_and_a_completion_is_bare_until_more_is_said() -> None:
    tally = openai({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13})
    assert tally.bare == tally.usage() == Usage(input_uncached=9, output=4)
    tally.searched(1)
    assert tally.bare is None
    tally = openai({"prompt_tokens": 9, "completion_tokens": 4})
    tally.openai({"completion_tokens": 5})
    assert tally.bare is None
    assert tally.usage() == Usage(input_uncached=9, output=5)
    cached = {"cached_tokens": 3}
    assert openai(BOTH | {"prompt_tokens_details": cached}).bare is None
    message = UsageTally()
    assert message.anthropic_report(AnthropicReport(input_tokens=9, output_tokens=4))
    assert message.bare == message.usage() == Usage(input_uncached=9, output=4)
    message = UsageTally()
    report = AnthropicReport(input_tokens=9, output_tokens=4, cache_read_input_tokens=1)
    assert message.anthropic_report(report)
    assert message.bare is None


def test_where_nothing_was_reported_all_is_counted() -> None:
    tally = UsageTally()
    made = tally.bill(complete=False, input_tokens=7, output_tokens=5)
    assert made == Bill(Usage(input_uncached=7, output=5), UsageSource.COUNTED)
    tally.openai("nonsense")
    made = tally.bill(complete=True, input_tokens=7, output_tokens=0)
    assert made == Bill(Usage(input_uncached=7), UsageSource.COUNTED, ("malformed",))
