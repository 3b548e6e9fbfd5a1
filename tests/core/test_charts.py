import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.core.charts import (
    COLUMNS_MAX,
    SERIES_MAX,
    Chart,
    Series,
    Words,
    bar_chart,
    largest,
    line_chart,
    share_bar,
)

DAYS = ("1 Nov", "2 Nov", "3 Nov")
NASTY = "<b>&\"'"


def euros(value: int) -> str:
    return f"{value} €"


def parsed(chart: Chart) -> ET.Element:
    return ET.fromstring(str(chart))


def rects(chart: Chart, name: str) -> list[dict[str, int]]:
    return [
        {side: int(rect.attrib[side]) for side in ("x", "y", "width", "height")}
        for rect in parsed(chart).iter("rect")
        if rect.get("class") == name and "y" in rect.attrib
    ]


def titles(chart: Chart) -> list[str]:
    return [title.text or "" for title in parsed(chart).iter("title")]


def paths(chart: Chart, name: str) -> list[str]:
    return [path.attrib["d"] for path in parsed(chart).iter("path") if path.get("class") == name]


def test_bars_stand_on_one_another_and_reach_to_their_sum() -> None:
    chart = bar_chart("Spent", DAYS, [Series("a", (10, 0, 4)), Series("b", (10, 40, None))], euros)
    # The highest sum is 40: four steps of ten.
    assert rects(chart, "series-1") == [
        {"x": 14, "y": 750, "width": 72, "height": 250},
        {"x": 214, "y": 900, "width": 72, "height": 100},
    ]
    assert rects(chart, "series-2") == [
        {"x": 14, "y": 500, "width": 72, "height": 250},
        {"x": 114, "y": 0, "width": 72, "height": 1000},
    ]
    assert titles(chart) == [
        "1 Nov\nb: 10 €\na: 10 €\nTotal: 20 €",
        "2 Nov\nb: 40 €\nTotal: 40 €",
        "3 Nov\na: 4 €\nTotal: 4 €",
    ]
    assert 'aria-label="Spent: at most 40 €, on 2 Nov."' in chart
    assert "<b>14 €</b>" in chart
    assert "<b>50 €</b>" in chart


def test_one_series_needs_no_total() -> None:
    assert titles(bar_chart("Calls", DAYS[:1], [Series("calls", (3,))], str)) == ["1 Nov\ncalls: 3"]


def test_the_smallest_value_is_still_to_be_seen() -> None:
    chart = bar_chart("x", DAYS[:2], [Series("a", (1, 10_000)), Series("b", (1, 0))], str)
    first, _ = rects(chart, "series-1")
    (second,) = rects(chart, "series-2")
    assert first["height"] == 6
    assert second["height"] == 1
    assert second["y"] + second["height"] == first["y"]


def test_grains_on_a_full_column_stay_within_the_plot() -> None:
    chart = bar_chart("x", DAYS[:1], [Series("a", (4 * 10**9 - 3,)), *[Series("b", (1,))] * 3], str)
    ends = [rects(chart, f"series-{number}")[0] for number in (1, 2, 3, 4)]
    assert [(one["y"], one["height"]) for one in ends] == [(1, 999), (0, 1), (0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("most", "top"),
    [(1, 4), (2, 4), (4, 4), (5, 8), (9, 12), (32, 32), (33, 40), (41, 60), (321, 400), (470, 600)],
)
def test_the_scale_ends_at_a_round_figure(most: int, top: int) -> None:
    chart = bar_chart("x", DAYS[:1], [Series("a", (most,))], euros)
    ticks = re.findall(r"<span>(\d+) €</span>", chart)
    assert ticks == [str(top * step // 4) for step in (4, 3, 2, 1, 0)]


def test_where_all_is_zero_there_is_no_scale_to_read() -> None:
    chart = bar_chart("x", DAYS[:1], [Series("a", (0,))], euros)
    assert re.findall(r"<span>(\d+) €</span>", chart) == ["0"]


def test_lines_break_where_nothing_is_known() -> None:
    chart = line_chart("Wait", DAYS * 2, [Series("a", (None, 10, 40, None, None, 20))], euros)
    assert paths(chart, "line series-1") == ["M150 750L250 0", "M525 500L575 500"]
    assert paths(chart, "area series-1") == [
        "M150 750L250 0L250 1000L150 1000Z",
        "M525 500L575 500L575 1000L525 1000Z",
    ]
    assert titles(chart)[:3] == ["1 Nov", "2 Nov\na: 10 €", "3 Nov\na: 40 €"]
    assert '<td class="number">–</td>' in chart


def test_several_lines_are_not_filled_and_have_no_total() -> None:
    chart = line_chart("Wait", DAYS[:2], [Series("a", (1, 2)), Series("b", (0, 4))], euros)
    assert paths(chart, "line series-1") == ["M50 750L150 500"]
    assert paths(chart, "line series-2") == ["M50 1000L150 0"]
    assert not paths(chart, "area series-1")
    assert titles(chart)[0] == "1 Nov\nb: 0 €\na: 1 €"


def test_shares_fill_the_bar_without_a_gap() -> None:
    chart = share_bar("Where", [("a", 1), ("b", 1), ("c", 1)], euros)
    widths = [rects(chart, f"series-{number}")[0] for number in (1, 2, 3)]
    assert [one["x"] for one in widths] == [0, 333, 666]
    assert sum(one["width"] for one in widths) == 1000
    assert "<b>1 € · 33.3%</b>" in chart
    assert "0 € · 0.0%" in share_bar("Where", [("a", 0)], euros)


def test_the_largest_come_first_and_the_rest_together() -> None:
    series = [Series(str(size), (size, None)) for size in range(1, 11)]
    found = largest(series, "others", 3)
    assert found == [
        Series("10", (10, None)),
        Series("9", (9, None)),
        Series("others", (36, 0)),
    ]
    assert [one.name for one in largest(series[:2], "others")] == ["2", "1"]


def test_nothing_is_a_chart_too() -> None:
    for chart in (bar_chart("x", [], [], str), line_chart("x", [], [], str)):
        assert 'viewBox="0 0 100 1000"' in chart
        assert "at most 0, on –." in chart


def test_few_columns_are_named_and_every_one_is_in_the_table() -> None:
    columns = [f"day {number}" for number in range(90)]
    chart = bar_chart("x", columns, [Series("a", (1,) * 90)], str)
    labels = re.findall(r"<span>(day \d+)</span>", chart)
    assert labels == [f"day {number}" for number in range(9, 90, 18)]
    assert len(re.findall(r'<th scope="row">', chart)) == 90
    chart = bar_chart("x", ["a very long name indeed, and more than fits"] * 3, [], str)
    assert len(re.findall("<span>a very", chart)) == 1


def test_whatever_is_said_is_escaped() -> None:
    words = Words(column=NASTY, table=NASTY, total=NASTY, summary="{title}{most}{where}")
    series = [Series(NASTY, (1,)), Series("b", (2,))]

    def unit(value: int) -> str:
        return f"{value}{NASTY}"

    for chart in (
        bar_chart(NASTY, [NASTY], series, unit, words),
        line_chart(NASTY, [NASTY], series, unit, words),
        share_bar(NASTY, [(NASTY, 1)], unit),
    ):
        assert NASTY not in chart
        assert "<b>&" not in chart
        parsed(chart)
        assert chart.__html__() == str(chart)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(AssertionError, match="too many"):
        bar_chart("x", ["a"], [Series("a", (1,))] * (SERIES_MAX + 1), str)
    with pytest.raises(AssertionError, match="too many"):
        line_chart("x", ["a"] * (COLUMNS_MAX + 1), [], str)
    with pytest.raises(AssertionError, match="one value for each"):
        bar_chart("x", ["a"], [Series("a", (1, 2))], str)
    with pytest.raises(AssertionError, match="parts"):
        share_bar("x", [("a", 1)] * (SERIES_MAX + 1), str)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 12).flatmap(
        lambda columns: st.lists(
            st.lists(st.none() | st.integers(0, 10**18), min_size=columns, max_size=columns).map(
                tuple
            ),
            min_size=1,
            max_size=SERIES_MAX,
        )
    )
)
def test_everything_stays_within_the_plot_and_is_whole(rows: list[tuple[int | None, ...]]) -> None:
    columns = [str(place) for place in range(len(rows[0]))]
    series = [Series(str(number), row) for number, row in enumerate(rows)]
    chart = bar_chart("x", columns, series, str)
    for number in range(1, len(series) + 1):
        for rect in rects(chart, f"series-{number}"):
            assert 0 <= rect["y"] <= rect["y"] + rect["height"] <= 1000
    assert "." not in re.sub(r"at most \d+, on \d+\.", "", chart)
    parsed(line_chart("x", columns, series, str))
