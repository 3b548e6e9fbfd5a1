"""The tables and plots of a run. Rules: every figure comes from the JSON; nothing is left out."""

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.figures import Interval
from benchmarks.rounds import DENOMINATOR, Case, Round, Summary

_COLOURS = {"nginx": "#5b7083", "sluice": "#0b7a75", "baseline": "#b5651d", "direct": "#999999"}
_LEGEND = (
    "Median of the rounds and the 95 % bootstrap interval of that median. CPU is that of the "
    "whole process tree, in µs per event delivered (streams) or per request (plain). Ratios "
    "are round by round against nginx. Lateness is arrival minus the stamp in the event."
)
_HEADER = (
    "| case | relay | CPU µs | CPU ÷ nginx | events or requests/s | gap p99 µs | gap ÷ nginx | "
    "first p99 µs | first ÷ nginx | answer p99 µs | ok |"
)
_TITLES = {
    "instructions": "User instructions per event",
    "syscalls": "System calls per event",
    "idle": "Memory of idle streams (bytes)",
    "long": "Memory of one long stream (bytes)",
    "capacity": "Capacity, events a second on one core at p99 lateness 5 ms",
    "commit": "Wait for the commit (ms)",
    "money": "Money on against off",
    "translation": "Translated events against events of the caller's own dialect",
    "services_memory": "Memory of large bodies (bytes)",
    "console": "Streams beside a user of the console",
    "workers": "Two workers against one process",
}
_NAMESPACE = "http://www.w3.org/2000/svg"
_FONT = 'font-family="sans-serif" font-size="13"'
_DASHED = 'stroke="#5b7083" stroke-dasharray="4 3"'
_LEFT, _RIGHT, _TOP, _ROW = 220, 40, 50, 34


def _figure(value: Interval | None, digits: int = 2) -> str:
    if value is None:
        return "–"
    return f"{value.median:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"


def markdown(
    facts: dict[str, Any],
    cases: Sequence[Case],
    summaries: Sequence[Summary],
    sections: dict[str, list[dict[str, Any]]],
    notes: Sequence[str],
) -> str:
    """The whole report."""
    lines = [
        "# Benchmark",
        "",
        f"Commit {facts['commit']}"
        + (
            f" with {facts['uncommitted_files']} uncommitted files"
            if facts["uncommitted_files"]
            else ""
        )
        + f", {facts['started_at']}, {facts['processor']}, {facts['cores']} cores, Linux "
        f"{facts['kernel']}, Python {facts['python']}, {facts['nginx']}, "
        f"load at start {facts['load'][0]:.2f}, nice {facts['nice']}, "
        f"steal {facts['steal_seconds']:.2f} s.",
        "",
    ]
    if summaries:
        lines += [_LEGEND, "", _HEADER, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|"]
    titles = {case.name: case.title for case in cases}
    lines += [
        f"| {titles[each.case]} | {each.relay} | {_figure(each.cpu)} | {_figure(each.ratio)} | "
        f"{each.rate:,.0f} | {_figure(each.gap_p99, 0)} | {_figure(each.gap_ratio)} | "
        f"{_figure(each.ttft_p99, 0)} | {_figure(each.ttft_ratio)} | "
        f"{_figure(each.total_p99, 0)} | {'VOID' if each.void else 'yes'} |"
        for each in summaries
    ]
    for title, records in sections.items():
        lines += ["", f"## {_TITLES.get(title, title)}", "", *_records(records)]
    if notes:
        lines += ["", "## Not measured", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _records(records: list[dict[str, Any]]) -> list[str]:
    if not records:
        return ["Not measured."]
    names = list(records[0])
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for record in records:
        cells = []
        for name in names:
            value = record[name]
            if isinstance(value, float):
                cells.append(f"{value:,.2f}")
            elif isinstance(value, int) and not isinstance(value, bool):
                cells.append(f"{value:,}")
            else:
                cells.append(str(value) if value else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def rounds_table(rounds: Sequence[Round]) -> str:
    """Every round, none left out."""
    lines = [
        "| case | round | relay | CPU µs | per s | mock µs | generator µs | steal s | load | ok |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    lines += [
        f"| {each.case} | {each.number} | {each.relay} | {each.cpu_us:.2f} | {each.rate:,.0f} | "
        f"{each.mock_cpu_us:.1f} | {each.generator_cpu_us:.1f} | {each.steal_seconds:.2f} | "
        f"{each.load:.2f} | {'VOID' if each.void else 'yes'} |"
        for each in rounds
    ]
    return "\n".join(lines) + "\n"


def plot(cases: Sequence[Case], rounds: Sequence[Round], title: str) -> str:
    """CPU as a multiple of nginx's in the same round: one dot a round, a bar at the median."""
    rows: list[tuple[str, str, list[float]]] = []
    for case in cases:
        base = {
            each.number: each.cpu_us
            for each in rounds
            if each.case == case.name and each.relay == DENOMINATOR
        }
        names = dict.fromkeys(each.relay for each in rounds if each.case == case.name)
        for name in names:
            if name in (DENOMINATOR, "direct"):
                continue
            dots = [
                each.cpu_us / base[each.number]
                for each in rounds
                if each.case == case.name and each.relay == name and base.get(each.number)
            ]
            if dots:
                rows.append((case.title, name, dots))
    most = max([max(dots) for _, _, dots in rows] + [2.0]) * 1.05
    width, inner = 960, 960 - _LEFT - _RIGHT - 120
    height = _TOP + _ROW * len(rows) + 40

    def x(value: float) -> float:
        return _LEFT + 120 + inner * value / most

    parts = [
        f'<svg xmlns="{_NAMESPACE}" width="{width}" height="{height}" {_FONT}>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="24" font-size="16">{escape(title)}</text>',
        f'<line x1="{x(1):.1f}" y1="{_TOP - 8}" x2="{x(1):.1f}" y2="{height - 30}" {_DASHED}/>',
        f'<text x="{x(1):.1f}" y="{height - 12}" text-anchor="middle">nginx = 1</text>',
    ]
    for position, (case_title, name, dots) in enumerate(rows):
        y = _TOP + _ROW * position + _ROW / 2
        colour = _COLOURS.get(name, "#7a3b8f")
        middle = sorted(dots)[len(dots) // 2]
        parts.append(f'<text x="10" y="{y + 4:.1f}">{escape(case_title[:38])}</text>')
        parts.append(
            f'<text x="{_LEFT + 30}" y="{y + 4:.1f}" fill="{colour}">{escape(name)}</text>'
        )
        parts.append(
            f'<rect x="{x(0):.1f}" y="{y - 8:.1f}" width="{x(middle) - x(0):.1f}" height="16" '
            f'fill="{colour}" opacity="0.25"/>'
        )
        parts += [
            f'<circle cx="{x(dot):.1f}" cy="{y:.1f}" r="3.5" fill="{colour}" opacity="0.75"/>'
            for dot in dots
        ]
        parts.append(f'<text x="{x(max(dots)) + 8:.1f}" y="{y + 4:.1f}">{middle:.2f}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
