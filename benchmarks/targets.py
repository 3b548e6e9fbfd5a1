"""What the relay aims at, P1 to P14, and whether the medians of a run are there.

    python -m benchmarks.targets                  every full run of this commit, pieces put together
    python -m benchmarks.targets A.json B.json    those; where two measured the same, the later

Rules: every figure is read from the JSON of runs; the median decides, its interval stands beside
it. A figure from a void case meets nothing. What was not measured is said to be so.
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import facts

RESULTS = Path(__file__).resolve().parent / "results"
OURS = "sluice"
RIG = frozenset({OURS, "nginx", "baseline", "direct", "sluice-unbilled"})
FLAT_BYTES_MAX = 2_000_000
"""Memory of a stream of 100 MB beyond one of 1 MB that still counts as the same."""
BUFFERS_BYTES_MAX = 4_000_000
"""Memory of one large body beyond a small one that is the buffers it passes, and not the body."""
_HEADER = (
    "| # | what | measured | first release | goal | beyond | verdict |",
    "|---|---|--:|--:|--:|--:|---|",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure, what is shown of its spread, and whether its case was void.

    `bounded`: the rig was the limit, so the true figure is at least this.
    """

    value: float
    spread: str = ""
    void: bool = False
    bounded: bool = False


Find = Callable[["Results"], Measured | None]


@dataclass(frozen=True, slots=True)
class Target:
    """Bounds in the unit of the figure; None where there is none. `most`: smaller is better."""

    number: str
    what: str
    find: Find
    first: float | None = None
    goal: float | None = None
    beyond: float | None = None
    digits: int = 2
    most: bool = True

    def meets(self, value: float, bound: float | None) -> bool:
        """Whether the figure is on the right side of a bound that exists."""
        if bound is None:
            return False
        return value <= bound if self.most else value >= bound

    def verdict(self, found: Measured | None) -> str:
        """In words, for the last column."""
        if found is None:
            return "not measured"
        if found.void:
            return "VOID"
        for bound, said in ((self.beyond, "beyond met"), (self.goal, "goal met")):
            if self.meets(found.value, bound):
                return said
        if self.meets(found.value, self.first):
            return "first release met"
        if found.bounded:
            return "not shown: the rig was the limit"
        return "goal NOT met" if self.first is None else "first release NOT met"


@dataclass(frozen=True, slots=True)
class Results:
    """The summaries and sections of one run, or of several put together."""

    summary: Mapping[tuple[str, str], Mapping[str, Any]]
    sections: Mapping[str, Sequence[Mapping[str, Any]]]

    def interval(self, case: str, name: str, relay: str = OURS) -> Measured | None:
        """An interval of a case's summary."""
        record = self.summary.get((case, relay))
        found = record and record[name]
        if not record or not found:
            return None
        spread = f"{found['low']:.2f}–{found['high']:.2f}, rounds: {found['rounds']}"
        base = self.summary.get((case, "nginx"), {})
        return Measured(found["median"], spread, bool(record["void"] or base.get("void")))

    def row(self, section: str, name: str, scale: float = 1.0) -> Measured | None:
        """A figure of ours in a section."""
        for record in self.sections.get(section, ()):
            if record.get("relay", OURS) == OURS:
                bounded = bool(record.get("limited_by_rig"))
                spread = "at least" if bounded else ""
                return Measured(record[name] * scale, spread, bool(record["void"]), bounded)
        return None

    def quotient(self, case: str, peers: Callable[[str], bool]) -> Measured | None:
        """The cheapest of the peers ÷ ours, CPU."""
        ours = self.summary.get((case, OURS))
        theirs = [
            (record["cpu"]["median"], relay, bool(record["void"]))
            for (measured, relay), record in self.summary.items()
            if measured == case and peers(relay)
        ]
        if not ours or not theirs:
            return None
        cost, name, void = min(theirs)
        return Measured(cost / ours["cpu"]["median"], name, void or bool(ours["void"]))


def _case(case: str, name: str) -> Find:
    return lambda results: results.interval(case, name)


def _row(section: str, name: str, scale: float = 1.0) -> Find:
    return lambda results: results.row(section, name, scale)


def _named(section: str, column: str, wanted: str, name: str) -> Find:
    def find(results: Results) -> Measured | None:
        for record in results.sections.get(section, ()):
            if record[column] == wanted:
                return Measured(record[name], record.get("spread", ""), bool(record["void"]))
        return None

    return find


def _growth(results: Results) -> Measured | None:
    short, long = results.row("long", "peak_short"), results.row("long", "peak_long")
    if short is None or long is None:
        return None
    return Measured((long.value - short.value) / 1e6, void=long.void)


def _larger(what: str) -> Find:
    """How much more memory large bodies take than small ones, MB."""

    def find(results: Results) -> Measured | None:
        small = _named("services_memory", "what", what, "peak_small")(results)
        large = _named("services_memory", "what", what, "peak_large")(results)
        if small is None or large is None:
            return None
        return Measured((large.value - small.value) / 1e6, void=large.void)

    return find


def _beside(name: str) -> Find:
    """The median over the pairs of rounds with and without a user of the console."""

    def find(results: Results) -> Measured | None:
        pairs = results.sections.get("console", ())
        if not pairs:
            return None
        ratios = sorted(record[name] for record in pairs)
        spread = f"{ratios[0]:.2f}–{ratios[-1]:.2f}"
        void = any(record["void"] for record in pairs)
        return Measured(statistics.median(ratios), spread, void)

    return find


def _peer(case: str, *, litellm: bool) -> Find:
    def peers(relay: str) -> bool:
        return relay not in RIG and relay.startswith("litellm") == litellm

    return lambda results: results.quotient(case, peers)


def _none(_results: Results) -> Measured | None:
    return None


TARGETS = (
    Target("P1", "CPC ÷ nginx, 100 events a stream", _case("stream100", "ratio"), 1.6, 1.25, 1.1),
    Target("P1", "CPC ÷ nginx, 300 events a stream", _case("stream300", "ratio"), 1.6, 1.25, 1.1),
    Target("P2", "user instructions an event", _row("instructions", "whole"), 14e3, 9e3, 7.5e3, 0),
    Target("P3", "system calls an event", _row("syscalls", "whole"), 3.3, 3.1),
    Target("P4", "CPR ÷ nginx, saturated", _case("plain_saturated", "ratio"), 5, 3.5, 2.5),
    Target("P4", "CPR ÷ nginx, 500/s", _case("plain_paced", "ratio"), 6, 4.5, 3.5),
    Target(
        "P5", "first event p99 ÷ nginx, c = 1", _case("single_first", "ttft_ratio"), 2, 1.5, 1.1
    ),
    Target("P6", "gap p99 ÷ nginx, c = 1", _case("single_gap", "gap_ratio"), 2, 1.5, 1.1),
    Target("P6", "gap p99 ÷ nginx, 200 streams", _case("stream300", "gap_ratio"), 2, 1.5, 1.1),
    Target(
        "P7",
        "events/s on one core at p99 5 ms late",
        _row("capacity", "events_per_second"),
        30e3,
        40e3,
        60e3,
        0,
        most=False,
    ),
    Target(
        "P8", "LiteLLM ÷ ours, CPC", _peer("stream300", litellm=True), 25, 35, 45, 1, most=False
    ),
    Target(
        "P8",
        "LiteLLM ÷ ours, CPR",
        _peer("plain_saturated", litellm=True),
        80,
        120,
        200,
        0,
        most=False,
    ),
    Target(
        "P9",
        "cheapest peer ÷ ours, CPC",
        _peer("stream300", litellm=False),
        None,
        1,
        2,
        2,
        most=False,
    ),
    Target(
        "P9",
        "cheapest peer ÷ ours, CPR",
        _peer("plain_saturated", litellm=False),
        None,
        1,
        2,
        2,
        most=False,
    ),
    Target("P10", "kB an idle stream", _row("idle", "per_stream", 1e-3), 25, 18, 12),
    Target("P10", "MB more at 100 MB of output than at 1 MB", _growth, FLAT_BYTES_MAX / 1e6),
    Target(
        "P10",
        "MB with 5,000 streams, without token tables",
        _row("idle", "beyond_tables", 1e-6),
        200,
        digits=0,
    ),
    Target(
        "P11",
        "money: instructions an event, % more",
        _named("money", "what", "instructions", "difference"),
        goal=2,
    ),
    Target(
        "P11",
        "money: µs a request more, saturated",
        _named("money", "what", "plain_saturated", "difference"),
        goal=40,
        digits=1,
    ),
    Target(
        "P11",
        "money: µs a request more, 500/s",
        _named("money", "what", "plain_paced", "difference"),
        goal=150,
        digits=1,
    ),
    Target(
        "P12",
        "ms a stream's end waits for the commit, p99, 1M calls",
        _named("commit", "case", "commit-streams", "p99_ms"),
        5,
        2,
        1,
    ),
    Target(
        "P12",
        "ms a plain answer waits for the commit, p99, 1M calls",
        _named("commit", "case", "commit-plain", "p99_ms"),
        5,
        2,
        1,
    ),
    Target("P13", "CPC ÷ nginx, TLS upstream", _case("tls300", "ratio"), 2, 1.5, 1.3),
    Target(
        "–",
        "CPC of 2 workers ÷ 1 process, 300 events",
        _named("workers", "what", "CPU of two workers ÷ one process, per event", "ratio"),
        1.15,
    ),
    Target(
        "–", "commit wait p99, with a user of the console ÷ without", _beside("commit_ratio"), 1.2
    ),
    Target("–", "gap p99, with a user of the console ÷ without", _beside("gap_ratio"), 1.2),
    *(
        Target("–", f"CPC, {pair}", _named("translation", "what", pair, "ratio"), 3)
        for pair in (
            "chat, Anthropic channel ÷ messages, Anthropic channel",
            "chat, Anthropic channel ÷ chat, OpenAI channel",
            "messages, OpenAI channel ÷ chat, OpenAI channel",
        )
    ),
    *(
        Target("–", f"MB more, {what}, than of small ones", _larger(what), BUFFERS_BYTES_MAX / 1e6)
        for what in ("embeddings of 1 MB, 1 at once", "an audio upload of 20 MB, 1 at once")
    ),
    Target("P14", "2 workers ÷ 1, per core (needs 4 cores)", _none, goal=0.95, most=False),
)


def table(results: Results) -> str:
    """Markdown: one row a figure, the last column says what it meets."""
    lines = [*_HEADER]
    for target in TARGETS:
        found = target.find(results)
        shown = "–"
        if found is not None:
            shown = f"{found.value:,.{target.digits}f}"
            shown += f" ({found.spread})" if found.spread else ""
        sign = "≤" if target.most else "≥"
        bounds = [
            "–" if bound is None else f"{sign} {bound:,g}"
            for bound in (target.first, target.goal, target.beyond)
        ]
        cells = (target.number, target.what, shown, *bounds, target.verdict(found))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def merged(runs: Iterable[Mapping[str, Any]]) -> Results:
    """Several runs' JSON as one: a case or section is taken from the last run that has it."""
    summary: dict[tuple[str, str], Mapping[str, Any]] = {}
    sections: dict[str, Sequence[Mapping[str, Any]]] = {}
    for run in runs:
        measured = {record["case"] for record in run["summary"]}
        summary = {place: kept for place, kept in summary.items() if place[0] not in measured}
        summary |= {(record["case"], record["relay"]): record for record in run["summary"]}
        sections |= {name: records for name, records in run["sections"].items() if records}
    return Results(summary, sections)


def main(arguments: Sequence[str]) -> None:
    """Print the table of the given runs, or of this commit's, and write it beside them."""
    commit = str(facts()["commit"])
    paths = [Path(name) for name in arguments] or sorted(RESULTS.glob(f"*-{commit}.json"))
    runs = [json.loads(path.read_text()) for path in paths]
    runs = [run for run in runs if arguments or not run["facts"].get("quick")]
    if not runs:
        raise SystemExit(f"no full run of commit {commit} in {RESULTS}")
    runs.sort(key=lambda run: str(run["facts"]["started_at"]))
    text = "# Targets\n\nFrom " + ", ".join(
        f"{run['facts']['started_at']} ({run['facts']['commit']})" for run in runs
    )
    text += ".\n\n" + table(merged(runs))
    print(text)
    written = RESULTS / f"targets-{commit}.md"
    written.write_text(text)
    print(f"written: {written}")


if __name__ == "__main__":
    main(sys.argv[1:])
