import io

import orjson

from proxy.app import show
from proxy.app.selftest import Check, Outcome


def shown(result: object) -> str:
    stream = io.StringIO()
    show.as_table(result, stream)
    return stream.getvalue()


def test_rows_become_a_table_with_readable_heads() -> None:
    rows = [
        {"request_id": "r1", "charge_usd": "0.10", "ok": True, "models": ["a", "b"]},
        {"request_id": "r2", "charge_usd": "12.00", "ok": False, "models": None},
    ]
    head, first, second = shown(rows).splitlines()
    assert head.split() == ["request", "id", "charge", "$", "ok", "models"]
    assert first.split() == ["r1", "0.10", "yes", "a,", "b"]
    assert second.split() == ["r2", "12.00", "no", "-"]
    assert first.index("0.10") + 4 == second.index("12.00") + 5, "money is aligned to the right"


def test_a_record_becomes_two_columns_and_what_it_holds_comes_below() -> None:
    record = {
        "user": "u",
        "price": {"input": "1", "cached": None},
        "none": None,
        "empty": [],
        "old": [{"version": 1, "withdrawn": False, "price": {"input": "2", "free": True}}],
        "groups": ["a", "b"],
    }
    assert [line.split() for line in shown(record).splitlines()] == [
        ["user", "u"],
        ["price"],
        ["input", "1"],
        ["cached", "-"],
        ["none", "-"],
        ["empty", "-"],
        ["groups", "a,", "b"],
        [],
        ["old"],
        ["version", "withdrawn", "price"],
        ["1", "no", "input=2,", "free=yes"],
    ]


def test_nothing_and_plain_text() -> None:
    assert shown([]) == "nothing to show\n"
    assert shown("done") == "done\n"


def test_names_are_neither_markup_nor_control_bytes() -> None:
    text = shown([{"name": "[red]x[/red]\x1b[31m\r\n"}])
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert text.count("\n") == 2


def test_a_pipe_gets_no_colour_and_no_narrow_columns() -> None:
    text = shown([{"name": "x" * 150}])
    assert "x" * 150 in text
    assert "\x1b" not in text


def test_json_is_the_result_itself() -> None:
    stream = io.StringIO()
    show.as_json({"a": [1, None]}, stream)
    assert orjson.loads(stream.getvalue()) == {"a": [1, None]}
    assert stream.getvalue().endswith("\n")


def test_a_problem_has_a_remedy_line_only_if_there_is_one() -> None:
    stream = io.StringIO()
    show.problem("it broke", "mend it", stream)
    show.problem("it broke", stream=stream)
    assert stream.getvalue() == "error: it broke\n  try: mend it\nerror: it broke\n"


def test_a_line_of_a_report_has_its_outcome_first_and_a_remedy_only_if_there_is_one() -> None:
    stream = io.StringIO()
    show.check_line(Check("keys", Outcome.OK, "two\x1b"), stream)
    show.check_line(Check("disk", Outcome.WARNING, "nearly full", "make room"), stream)
    assert stream.getvalue() == (
        "ok       keys: two\ufffd\nwarning  disk: nearly full\n         try: make room\n"
    )
