"""A file of rows is data: whatever is in a cell, no spreadsheet runs it."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.spreadsheets import csv_line, defused


def test_a_line_is_what_rfc_4180_says() -> None:
    assert csv_line(["plain", 'a "quoted" one', "a,b", "two\nlines", None, ""]) == (
        'plain,"a ""quoted"" one","a,b","two\nlines",,\r\n'
    )


def test_numbers_stay_numbers() -> None:
    assert csv_line([1, -2, 1.5, 0]) == "1,-2,1.5,0\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\ufeff=1", "\u200b+1", "|cmd",
        "%0A=1", "＝1", "\tplain", "\n",
    ],
)  # fmt: skip
def test_a_formula_is_text(text: str) -> None:
    assert defused(text) == f"'{text}"
    (cells,) = csv.reader(io.StringIO(csv_line([text, "next"]), newline=""))
    assert cells == [f"'{text}", "next"]


@pytest.mark.parametrize("text", ["", "gpt-4o", "a=b", "1-2", "用量", "a@b.example"])
def test_other_text_is_left_alone(text: str) -> None:
    assert defused(text) == text


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=5))
def test_what_is_written_is_read_back(texts: list[str]) -> None:
    line = csv_line(texts)
    (cells,) = csv.reader(io.StringIO(line, newline=""))
    assert cells == [defused(text) for text in texts]
    assert not any(cell.lstrip()[:1] in set("=+-@") - {""} for cell in cells if cell)
