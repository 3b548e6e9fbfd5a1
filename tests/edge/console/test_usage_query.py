"""What an address asks of the log is read strictly, bounded, and written back the same."""

import pytest

from proxy.core.ids import format_id
from proxy.edge.console.languages import ENGLISH, Translator
from proxy.edge.console.usage_query import TEXT_CHARS_MAX, Asked, read
from proxy.storage.reports.usage_log import Wanted

TEXTS = Translator(ENGLISH, {})


def ask(**query: str) -> Asked:
    return read(query, 7, None, TEXTS)


def test_a_question_is_read_and_written_back() -> None:
    asked = ask(key="3", model="m", group="g", verdict="timeout", before=format_id(77))
    assert asked.wanted == Wanted(wallet=7, key=3, model="m", group="g", verdict="timeout")
    assert (asked.before, asked.filtered, asked.faults) == (77, True, ())
    assert asked.address("/usage") == "/usage?key=3&model=m&group=g&verdict=timeout"
    assert asked.address("/usage", 9).endswith(f"&before={format_id(9)}")
    assert ask().address("/usage") == "/usage"
    assert not ask(before=format_id(1)).filtered
    assert read({}, None, 4, TEXTS).wanted == Wanted(person=4)


def test_days_are_utc_and_the_last_one_is_in_it() -> None:
    wanted = ask(**{"from": "2026-01-31", "to": "2026-02-01"}).wanted
    assert wanted.since == 1_769_817_600
    assert wanted.until == wanted.since + 2 * 86_400


@pytest.mark.parametrize(
    "query",
    [
        {"key": "-1"}, {"key": "１"}, {"key": "9" * 16}, {"verdict": "good"},
        {"from": "2026-13-01"}, {"to": "9999-12-31"}, {"from": "1970-01-01"}, {"to": "2026"},
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_passed_over_and_said(query: dict[str, str]) -> None:
    asked = ask(**query)
    assert asked.wanted == Wanted(wallet=7)
    assert (len(asked.faults), dict(asked.fields)) == (1, {})


def test_what_is_too_long_is_no_question() -> None:
    assert ask(model="m" * (TEXT_CHARS_MAX + 1)).wanted == Wanted(wallet=7)
    assert ask(model="m" * TEXT_CHARS_MAX).wanted.model is not None
    assert ask(before="nonsense").before is None


def test_failed_is_every_verdict_but_complete() -> None:
    wanted = ask(verdict="failed").wanted
    assert (wanted.failed, wanted.verdict) == (True, None)
