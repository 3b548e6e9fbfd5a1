"""What a translation costs: the same relay, streams of the caller's own dialect and of another.

Rules: CPU per event, in turns, round by round, one process with everything on. Where it is
translated, every text must arrive in an event of its own; the events before and after the text
are counted on the other side alone. At most 3 times is wanted (`targets.py`).
"""

from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import interval, ratios
from benchmarks.relays import Relay
from benchmarks.rounds import Bench, Case, line, of
from benchmarks.script import ANTHROPIC, OPENAI

_PACED = {"kind": "streams", "streams": 100, "events": 300, "pace": 50.0, "ramp_seconds": 0.5}
CHAT = Case("chat", "chat, OpenAI channel", _PACED)
MESSAGES = Case("messages", "messages, Anthropic channel", {**_PACED, "dialect": ANTHROPIC})
CHAT_BY_MESSAGES = Case(
    "chat_by_messages",
    "chat, Anthropic channel",
    {**_PACED, "dialect": OPENAI, "upstream": ANTHROPIC, "model": "claude-sonnet-4-5"},
)
MESSAGES_BY_CHAT = Case(
    "messages_by_chat",
    "messages, OpenAI channel",
    {**_PACED, "dialect": ANTHROPIC, "upstream": OPENAI, "model": "gpt-4o"},
)
CASES = (CHAT, CHAT_BY_MESSAGES, MESSAGES, MESSAGES_BY_CHAT)
PAIRS = ((CHAT_BY_MESSAGES, MESSAGES), (CHAT_BY_MESSAGES, CHAT), (MESSAGES_BY_CHAT, CHAT))
"""What is compared; first the same channel's events, translated and not."""


@dataclass(frozen=True, slots=True)
class Translation:
    """CPU of a translated event ÷ that of one that passes; both medians in microseconds."""

    what: str
    translated: float
    passed: float
    ratio: float
    spread: str
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def compare(bench: Bench, relay: Relay, rounds: int) -> list[Translation]:
    """All cases in every round."""
    for case in CASES:
        bench.warm_up(relay, case)
    results = []
    for number in range(1, rounds + 1):
        for case in CASES:
            result = bench.measure(relay, case, number)
            bench.say(f"{line(result, case)}  {case.title}")
            results.append(result)
    found = []
    for translated, passed in PAIRS:
        sides = [of(results, case.name, relay.name) for case in (translated, passed)]
        costs = [[each.cpu_us for each in side] for side in sides]
        ratio = ratios(*costs)
        one = Translation(
            f"{translated.title} ÷ {passed.title}",
            interval(costs[0]).median,
            interval(costs[1]).median,
            ratio.median,
            f"{ratio.low:.2f}–{ratio.high:.2f}, {ratio.rounds} rounds",
            tuple(reason for side in sides for each in side for reason in each.void),
        )
        found.append(one)
        bench.say(
            f"  {one.what}: {one.ratio:.2f} ({one.spread}), {one.translated:.2f} us, "
            f"{one.passed:.2f} us"
        )
    return found
