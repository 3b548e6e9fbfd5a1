"""Charts as text of HTML and SVG, drawn where the figures are: no script, no picture file.

Rules: every coordinate is a whole number; the plot stretches to its place and the writing beside
it does not, so it is legible at any width; colour comes from classes (`series-1` to `series-8`),
so a theme may choose it, and is never the only sign: a legend in the order of the stack, a tooltip
for every column, a sentence and a table for those who cannot see it. All text is escaped here.
This module must not know what is drawn, units, languages or pages.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

SERIES_MAX: Final = 8
"""As many as there are colours; `largest` puts the rest together."""
COLUMNS_MAX: Final = 400
_COLUMN = 100
"""Width of a column in the plot's own units; what they measure is up to the page."""
_BAR_LEFT, _BAR_WIDTH = 14, 72
_HEIGHT = 1000
_TICKS = 4
_VISIBLE = 6
"""A column with any value at all is drawn at least this high."""
_LABELS_MAX = 7
_LABEL_CHARACTERS_MAX = 44
"""As much as fits under a narrow plot, each label with a gap."""
_LABEL_GAP = 2
_STEPS = (10, 15, 20, 25, 30, 40, 50, 60, 80)
_SMALL_STEPS = (1, 2, 3, 4, 5, 6, 8)

Unit = Callable[[int], str]


class Chart(str):
    """Markup that is ready for a page: templates take it as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        """What marks text as markup, for those who escape."""
        return str(self)


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart: a value for each column, None where there is none to tell."""

    name: str
    values: tuple[int | None, ...]

    @property
    def total(self) -> int:
        """All its values together."""
        return sum(value or 0 for value in self.values)


@dataclass(frozen=True, slots=True)
class Words:
    """What a chart says besides its figures, in the reader's language.

    `summary` is said to those who cannot see the chart; it names `{title}`, `{most}` (the highest
    column's value) and `{where}` (that column).
    """

    column: str = "Day"
    table: str = "Show as a table"
    total: str = "Total"
    summary: str = "{title}: at most {most}, on {where}."


ENGLISH: Final = Words()


def bar_chart(
    title: str,
    columns: Sequence[str],
    series: Sequence[Series],
    unit: Unit,
    words: Words = ENGLISH,
) -> Chart:
    """A column for each of `columns`, in which the series stand on one another.

    `unit` writes a value. Values are whole and not negative, at most `SERIES_MAX` series and
    `COLUMNS_MAX` columns, each series with a value per column.
    """
    sums = _sums(columns, series)
    top = _top(max(sums, default=0))
    drawn = []
    for place, column in enumerate(columns):
        left, base, below = place * _COLUMN + _BAR_LEFT, _HEIGHT, 0
        for number, one in enumerate(series, 1):
            value = one.values[place]
            if not value:
                continue
            below += value
            head = max(min(_HEIGHT - below * _HEIGHT // top, base - 1, _HEIGHT - _VISIBLE), 0)
            drawn.append(
                f'<rect class="series-{number}" x="{left}" y="{head}" '
                f'width="{_BAR_WIDTH}" height="{base - head}"/>'
            )
            base = head
        drawn.append(_tip(place, column, series, unit, words, sums[place]))
    return _figure("bars", title, columns, series, unit, words, sums, top, drawn)


def line_chart(
    title: str,
    columns: Sequence[str],
    series: Sequence[Series],
    unit: Unit,
    words: Words = ENGLISH,
) -> Chart:
    """A line for each series over `columns`, broken where it has no value; one alone is filled."""
    _sums(columns, series)
    highest = [_highest(place, series) for place in range(len(columns))]
    top = _top(max(highest, default=0))
    drawn = []
    for number, one in enumerate(series, 1):
        for run in _runs(one.values):
            points = [
                (place * _COLUMN + _COLUMN // 2, _HEIGHT - value * _HEIGHT // top)
                for place, value in run
            ]
            if len(points) == 1:  # a line needs two ends
                ((x, y),) = points
                points = [(x - _COLUMN // 4, y), (x + _COLUMN // 4, y)]
            path = _path(points)
            if len(series) == 1:
                ends = f"L{points[-1][0]} {_HEIGHT}L{points[0][0]} {_HEIGHT}Z"
                drawn.append(f'<path class="area series-{number}" d="{path}{ends}"/>')
            drawn.append(f'<path class="line series-{number}" d="{path}"/>')
    drawn += [
        _tip(place, column, series, unit, words, None) for place, column in enumerate(columns)
    ]
    return _figure("lines", title, columns, series, unit, words, highest, top, drawn)


def share_bar(title: str, parts: Sequence[tuple[str, int]], unit: Unit) -> Chart:
    """One bar cut into `parts` (name, value), each with its share in the legend."""
    if len(parts) > SERIES_MAX:
        raise AssertionError(f"{len(parts)} parts, and {SERIES_MAX} colours")
    whole = sum(value for _, value in parts)
    drawn, rows, below = [], [], 0
    for number, (name, value) in enumerate(parts, 1):
        left, below = below * _HEIGHT // (whole or 1), below + value
        wide = below * _HEIGHT // (whole or 1) - left
        tenths = value * 1_000 // (whole or 1)
        share = f"{tenths // 10}.{tenths % 10}%"
        said = escape(f"{name}: {unit(value)} ({share})")
        drawn.append(
            f'<rect class="series-{number}" x="{left}" y="0" width="{wide}" height="10">'
            f"<title>{said}</title></rect>"
        )
        rows.append(_legend_row(number, name, f"{unit(value)} · {share}"))
    return Chart(
        f'<figure class="chart shares"><figcaption>{escape(title)}</figcaption>'
        f'<svg class="share" viewBox="0 0 {_HEIGHT} 10" preserveAspectRatio="none" '
        f'aria-hidden="true">{"".join(drawn)}</svg>'
        f'<ul class="legend" role="list">{"".join(rows)}</ul></figure>'
    )


def largest(series: Sequence[Series], rest: str, most: int = SERIES_MAX) -> list[Series]:
    """The series by size, largest first; those beyond `most` become one, named `rest`."""
    by_size = sorted(series, key=lambda one: (-one.total, one.name))
    if len(by_size) <= most:
        return by_size
    others = [one.values for one in by_size[most - 1 :]]
    together = tuple(sum(value or 0 for value in column) for column in zip(*others, strict=True))
    return [*by_size[: most - 1], Series(rest, together)]


def _sums(columns: Sequence[str], series: Sequence[Series]) -> list[int]:
    if len(series) > SERIES_MAX or len(columns) > COLUMNS_MAX:
        raise AssertionError(f"{len(series)} series of {len(columns)} columns are too many")
    if any(len(one.values) != len(columns) for one in series):
        raise AssertionError("each series has one value for each column")
    return [sum(one.values[place] or 0 for one in series) for place in range(len(columns))]


def _highest(place: int, series: Sequence[Series]) -> int:
    return max((one.values[place] or 0 for one in series), default=0)


def _top(most: int) -> int:
    """The value at the upper edge: `_TICKS` steps of a round figure."""
    for step in _SMALL_STEPS:
        if step * _TICKS >= most:
            return step * _TICKS
    scale = 1
    while _STEPS[-1] * scale * _TICKS < most:
        scale *= 10
    return next(step * scale * _TICKS for step in _STEPS if step * scale * _TICKS >= most)


def _runs(values: Sequence[int | None]) -> list[list[tuple[int, int]]]:
    """The stretches of values without a gap, each value with its place."""
    runs: list[list[tuple[int, int]]] = [[]]
    for place, value in enumerate(values):
        if value is not None:
            runs[-1].append((place, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _path(points: Sequence[tuple[int, int]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _tip(
    place: int,
    column: str,
    series: Sequence[Series],
    unit: Unit,
    words: Words,
    total: int | None,
) -> str:
    """What is said of a column when it is pointed at, anywhere in its height."""
    lines = [column]
    lines += [
        f"{one.name}: {unit(value)}"
        for one in reversed(series)
        if (value := one.values[place]) is not None and (value or total is None)
    ]
    if total is not None and len(series) != 1:
        lines.append(f"{words.total}: {unit(total)}")
    said = escape("\n".join(lines))
    return (
        f'<rect class="tip" x="{place * _COLUMN}" y="0" width="{_COLUMN}" height="{_HEIGHT}">'
        f"<title>{said}</title></rect>"
    )


def _legend_row(number: int, name: str, text: str) -> str:
    swatch = '<svg class="swatch" viewBox="0 0 10 10" aria-hidden="true">'
    return (
        f'<li>{swatch}<rect class="series-{number}" width="10" height="10"/></svg>'
        f"<span>{escape(name)}</span> <b>{escape(text)}</b></li>"
    )


def _figure(
    kind: str,
    title: str,
    columns: Sequence[str],
    series: Sequence[Series],
    unit: Unit,
    words: Words,
    heights: Sequence[int],
    top: int,
    drawn: Sequence[str],
) -> Chart:
    """The plot with everything that is written around it."""
    most = max(heights, default=0)
    where = columns[heights.index(most)] if heights else "–"
    named = kind == "bars" or len(series) > 1
    summary = words.summary.format(title=title, most=unit(most), where=where)
    legend = "".join(
        _legend_row(number, one.name, unit(one.total) if kind == "bars" else "")
        for number, one in enumerate(series, 1)
        if named
    )
    ticks = "".join(
        f"<span>{escape(unit(top * step // _TICKS)) if most or not step else ''}</span>"
        for step in range(_TICKS, -1, -1)
    )
    grid = "".join(
        f'<path class="grid" d="M0 {_HEIGHT * step // _TICKS}H{len(columns) * _COLUMN}"/>'
        for step in range(_TICKS + 1)
    )
    longest = max((len(column) for column in columns), default=0)
    labelled = max(min(_LABELS_MAX, _LABEL_CHARACTERS_MAX // (longest + _LABEL_GAP)), 1)
    every = -(-len(columns) // labelled) or 1
    labels = "".join(
        f"<span>{escape(column) if place % every == every // 2 else ''}</span>"
        for place, column in enumerate(columns)
    )
    width = max(len(columns), 1) * _COLUMN
    return Chart(
        f'<figure class="chart {kind}"><figcaption>{escape(title)}</figcaption>'
        + (f'<ul class="legend" role="list">{legend}</ul>' if legend else "")
        + f'<div class="plot"><div class="plot-y" aria-hidden="true">{ticks}</div>'
        f'<svg class="plot-area" viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(summary)}">{grid}{"".join(drawn)}</svg>'
        f'<div class="plot-x" aria-hidden="true">{labels}</div></div>'
        f"{_table(title, columns, series, unit, words)}</figure>"
    )


def _table(
    title: str, columns: Sequence[str], series: Sequence[Series], unit: Unit, words: Words
) -> str:
    """The same figures in rows, for those who read rather than look."""
    heads = "".join(f'<th scope="col" class="number">{escape(one.name)}</th>' for one in series)
    rows = "".join(
        f'<tr><th scope="row">{escape(column)}</th>'
        + "".join(_cell(one.values[place], unit) for one in series)
        + "</tr>"
        for place, column in enumerate(columns)
    )
    return (
        f'<details class="more"><summary>{escape(words.table)}</summary>'
        f'<div class="table-wrap" role="region" aria-label="{escape(title)}" tabindex="0">'
        f'<table class="table keep"><caption class="unseen">{escape(title)}</caption>'
        f'<thead><tr><th scope="col">{escape(words.column)}</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _cell(value: int | None, unit: Unit) -> str:
    said = "–" if value is None else escape(unit(value))
    return f'<td class="number">{said}</td>'
