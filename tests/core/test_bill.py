from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import pricing
from proxy.core.bill import NOTHING, Delivered, Statement, Terms, state, state_bare, state_opened
from proxy.core.entities import MULTIPLIER_ONE, Price, Usage, UsageSource
from proxy.core.usage import OUTPUT_SLACK_TOKENS, UsageTally

PRICE = Price(
    model="m",
    version=1,
    input=2_000_000_000,
    cache_read=1_000_000_000,
    output=10_000_000_000,
    call=5,
)
TERMS = Terms(PRICE, MULTIPLIER_ONE, output_tokens_max=100)


def delivered(output: int, *, content: bool = True, exact: bool = True) -> Delivered:
    return Delivered(content, output, exact)


def reported(prompt: object = 10, completion: object = 4) -> UsageTally:
    tally = UsageTally()
    tally.openai({"prompt_tokens": prompt, "completion_tokens": completion})
    return tally


def never() -> int:
    raise AssertionError("the prompt was counted though the provider had said")


def bill(
    tally: UsageTally,
    what: Delivered,
    *,
    complete: bool = True,
    prompt: Callable[[], int] = lambda: 30,
    terms: Terms = TERMS,
) -> Statement:
    return state(terms, tally, what, prompt, complete=complete)


def price(usage: Usage) -> int:
    return pricing.charge(usage, PRICE, MULTIPLIER_ONE)


def test_the_providers_figure_is_billed_and_the_prompt_not_counted() -> None:
    made = bill(reported(), delivered(3), prompt=never)
    assert made.usage == Usage(input_uncached=10, output=4)
    assert made.source is UsageSource.REPORTED
    assert made.charge == price(made.usage) == 10 * 2_000 + 4 * 10_000 + 5
    assert (made.forgiven, made.anomalies) == (0, ())


@pytest.mark.parametrize(
    ("exact", "source"), [(True, UsageSource.COUNTED), (False, UsageSource.ESTIMATED)]
)
def test_without_a_report_prompt_and_delivered_output_are_billed(
    exact: bool, source: UsageSource
) -> None:
    made = bill(UsageTally(), delivered(7, exact=exact), complete=False)
    assert made.usage == Usage(input_uncached=30, output=7)
    assert made.source is source
    assert made.charge == price(made.usage)


def test_nothing_delivered_and_nothing_reported_is_nothing() -> None:
    assert bill(UsageTally(), delivered(0, content=False), complete=False, prompt=never) == NOTHING
    assert (NOTHING.charge, NOTHING.forgiven, NOTHING.usage.calls) == (0, 0, 0)
    start = UsageTally()
    start.anthropic({"input_tokens": 9, "output_tokens": 1}, final=False)
    assert bill(start, delivered(0, content=False), complete=False, prompt=never) == NOTHING


def test_what_was_used_for_nothing_delivered_is_forgiven() -> None:
    made = bill(reported(), delivered(0, content=False), complete=False, prompt=never)
    assert made.charge == 0
    assert made.forgiven == price(Usage(input_uncached=10, output=4))
    assert made.source is UsageSource.REPORTED


def test_an_early_report_of_a_broken_call_does_not_lower_what_was_delivered() -> None:
    made = bill(reported(10, 1), delivered(20), complete=False, prompt=never)
    assert made.usage == Usage(input_uncached=10, output=20)
    assert made.source is UsageSource.COUNTED


def test_only_the_input_was_reported() -> None:
    start = UsageTally()
    start.anthropic({"input_tokens": 9, "output_tokens": 1}, final=False)
    made = bill(start, delivered(6), complete=False, prompt=never)
    assert made.usage == Usage(input_uncached=9, output=6)
    assert made.source is UsageSource.COUNTED


def test_claims_are_bounded_and_told() -> None:
    terms = replace_terms(input_tokens_max=50)
    made = bill(reported(1_000, 900_000), delivered(3), terms=terms)
    assert made.usage.output == 100 + OUTPUT_SLACK_TOKENS
    assert made.usage.input_total == 50
    assert made.anomalies == ("input_bounded", "output_bounded")
    assert made.charge == price(made.usage)
    unbounded = bill(reported(1_000, 3), delivered(3))
    assert unbounded.usage.input_total == 1_000


def test_anomalies_of_the_report_stay_with_those_of_the_bounds() -> None:
    made = bill(reported(-5, 900_000), delivered(3))
    assert made.anomalies == ("negative", "output_bounded")
    assert made.usage.input_uncached == 30


def replace_terms(**changes: int) -> Terms:
    return Terms(
        **{
            "price": PRICE,
            "multiplier": MULTIPLIER_ONE,
            "output_tokens_max": 100,
            **changes,
        }  # type: ignore[arg-type]  # fields of Terms
    )


@given(
    prompt=st.one_of(st.none(), st.integers(-5, 10**19)),
    completion=st.one_of(st.none(), st.integers(-5, 10**19)),
    counted=st.integers(0, 10_000),
    content=st.booleans(),
    exact=st.booleans(),
    complete=st.booleans(),
)
def test_a_statement_is_always_within_its_terms(
    prompt: int | None,
    completion: int | None,
    counted: int,
    content: bool,
    exact: bool,
    complete: bool,
) -> None:
    tally = UsageTally()
    tally.openai({"prompt_tokens": prompt, "completion_tokens": completion})
    made = bill(
        tally,
        delivered(counted if content else 0, content=content, exact=exact),
        complete=complete,
        terms=replace_terms(input_tokens_max=500),
    )
    ceiling = pricing.quote(PRICE, MULTIPLIER_ONE, 500, 100 + OUTPUT_SLACK_TOKENS)
    assert 0 <= made.charge <= ceiling
    assert 0 <= made.forgiven <= ceiling
    assert not (made.charge and made.forgiven)
    assert content or not made.charge
    assert made.charge + made.forgiven == price(made.usage) or made == NOTHING
    assert list(made.anomalies) == sorted(set(made.anomalies))


def test_the_multiplier_is_the_groups() -> None:
    dear = Terms(replace(PRICE, call=0), 1_500_000, output_tokens_max=100)
    made = bill(reported(), delivered(3), terms=dear)
    assert made.charge == 15 * (10 * 2_000 + 4 * 10_000) // 10


def test_a_call_that_we_ended_is_charged_for_no_more_than_was_delivered() -> None:
    def cut(tally: UsageTally, what: Delivered) -> Statement:
        return state(TERMS, tally, what, never, complete=False, delivered_only=True)

    made = cut(reported(), delivered(3))
    assert made.usage == Usage(input_uncached=10, output=3)
    assert made.source is UsageSource.COUNTED
    assert made.charge == price(made.usage)
    assert cut(reported(), delivered(3, exact=False)).source is UsageSource.ESTIMATED
    assert cut(reported(), delivered(4)).source is UsageSource.REPORTED
    nothing = cut(reported(), delivered(0, content=False))
    assert (nothing.charge, nothing.usage.output) == (0, 4), "what was used is still known"
    assert nothing.forgiven == price(nothing.usage)


def test_searches_are_charged_up_to_what_the_request_allowed() -> None:
    dear = Terms(Price("m", 1, search=10_000_000), MULTIPLIER_ONE, 100, searches_max=2)
    tally = reported()
    tally.searched(2)
    assert bill(tally, delivered(4), terms=dear).charge == 20_000_000
    tally.searched(3)
    cut = bill(tally, delivered(4), terms=dear)
    assert (cut.charge, cut.anomalies) == (20_000_000, ("searches_bounded",))


def test_tokens_of_images_the_client_did_not_get_are_not_charged_when_we_cut() -> None:
    tally = UsageTally()
    details = {"image_tokens": 50}
    tally.openai(
        {"prompt_tokens": 1, "completion_tokens": 60, "completion_tokens_details": details}
    )
    cut = state(TERMS, tally, delivered(4), never, complete=False, delivered_only=True)
    assert (cut.usage.output, cut.usage.image_output) == (4, 0)


@given(
    prompt=st.integers(0, 300),
    completion=st.integers(0, 300),
    counted=st.integers(0, 300),
    cached=st.sampled_from([0, 0, 5]),
    content=st.booleans(),
    complete=st.booleans(),
    ours=st.booleans(),
    input_max=st.sampled_from([None, 100]),
)
def test_the_short_way_of_a_bare_report_says_what_the_long_one_would(
    prompt: int,
    completion: int,
    counted: int,
    cached: int,
    *,
    content: bool,
    complete: bool,
    ours: bool,
    input_max: int | None,
) -> None:
    made = []
    for bare in (True, False):
        tally = UsageTally()
        details = {"cached_tokens": cached}
        figures = {"prompt_tokens": prompt, "completion_tokens": completion}
        tally.openai(figures | ({"prompt_tokens_details": details} if cached else {}))
        if not bare:
            tally.bare = None
        terms = Terms(PRICE, 1_500_000, 100, input_max)
        what = delivered(counted, content=content)
        made.append(state(terms, tally, what, never, complete, ours))
    assert made[0] == made[1]


@given(
    prompt=st.integers(0, 300),
    completion=st.integers(0, 300),
    multiplier=st.sampled_from([0, 1, MULTIPLIER_ONE, 1_500_000]),
    call=st.sampled_from([0, 5]),
    input_max=st.sampled_from([None, 100]),
)
def test_a_whole_answer_with_a_bare_report_is_stated_as_any_other(
    prompt: int, completion: int, multiplier: int, call: int, input_max: int | None
) -> None:
    terms = Terms(replace(PRICE, call=call), multiplier, 100, input_max)
    usage = Usage(input_uncached=prompt, output=completion)
    rates = pricing.rates_of(terms.price, multiplier)
    assert (rates is None) is bool(call)
    if rates is None:
        return
    short = state_bare(usage, rates, 100, input_max)
    bounded = completion > 100 + OUTPUT_SLACK_TOKENS or (input_max or prompt) < prompt
    assert (short is None) is bounded
    if short is None:
        return
    assert short == state(terms, UsageTally.of_bare(usage), delivered(0), never, complete=True)
    for exact, source in ((True, UsageSource.COUNTED), (False, UsageSource.ESTIMATED)):
        marked = state_bare(usage, rates, 100, input_max, source)
        what = delivered(completion, exact=exact)
        for tally in (UsageTally(), talking()):
            assert marked == state(terms, tally, what, lambda: prompt, complete=False)


@given(
    given=st.integers(0, 150),
    read=st.integers(0, 150),
    written=st.integers(0, 20),
    counted=st.integers(0, 200),
    exact=st.booleans(),
    ours=st.booleans(),
    input_max=st.sampled_from([None, 100]),
)
def test_a_call_of_which_the_prompt_is_known_is_stated_in_short_as_at_length(
    given: int,
    read: int,
    written: int,
    counted: int,
    *,
    exact: bool,
    ours: bool,
    input_max: int | None,
) -> None:
    terms = Terms(PRICE, 1_500_000, 100, input_max)
    tally = UsageTally()
    report = {"cache_read_input_tokens": read, "cache_creation_input_tokens": written}
    tally.anthropic({"input_tokens": given, "output_tokens": 1} | report, final=False)
    opened = tally.opened(counted)
    assert opened is not None
    source = UsageSource.COUNTED if exact else UsageSource.ESTIMATED
    short = state_opened(opened, PRICE, 1_500_000, 100, input_max, source)
    long = state(terms, tally, delivered(counted, exact=exact), never, False, ours)
    assert (short is None) is bool(long.anomalies)
    assert short is None or short == long


def talking() -> UsageTally:
    """One without a report, that goes the long way."""
    tally = UsageTally()
    tally.silent = False
    return tally


@given(
    prompt=st.integers(0, 60),
    counted=st.integers(0, 300),
    content=st.booleans(),
    exact=st.booleans(),
    complete=st.booleans(),
    ours=st.booleans(),
    input_max=st.sampled_from([None, 0, 30, 1_000]),
)
def test_the_short_way_without_a_report_says_what_the_long_one_would(
    prompt: int,
    counted: int,
    *,
    content: bool,
    exact: bool,
    complete: bool,
    ours: bool,
    input_max: int | None,
) -> None:
    terms = Terms(PRICE, 1_500_000, 100, input_max)
    what = delivered(counted, content=content, exact=exact)
    short, long = (
        state(terms, tally, what, lambda: prompt, complete, ours)
        for tally in (UsageTally(), talking())
    )
    assert short == long
    assert (short.source is UsageSource.NONE) is not content


def test_who_reported_nonsense_is_not_silent() -> None:
    tally = UsageTally()
    assert tally.silent
    tally.openai({"prompt_tokens": -1})
    assert not tally.silent
    assert bill(tally, delivered(3)).anomalies == ("negative",)
    assert not reported().silent
