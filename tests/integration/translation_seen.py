"""What a caller must hold of a scenario's answer, whichever SDK and language reads it."""

import json
from dataclasses import dataclass, field

from proxy.core.translation.conversation import Wire
from proxy.core.translation.translator import SIDES
from tests.integration.provider_answers import SCENARIOS, Scenario

ARROWS = [
    (caller, upstream)
    for caller in (Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES)
    for upstream in SIDES
    if caller is not upstream
]
FROM_GEMINI = [(Wire.GEMINI, upstream) for upstream in SIDES if upstream is not Wire.GEMINI]
_DECLINE = {Wire.MESSAGES, Wire.GEMINI}
"""Protocols in which a refusal is why an answer ends, and its words are like any others."""
NAMED = [scenario for scenario in SCENARIOS if scenario.error is None]
ERROR = next(scenario for scenario in SCENARIOS if scenario.error is not None)


@dataclass(frozen=True, slots=True)
class Seen:
    """What an SDK made of an answer. `tokens`: given in all, cached, output."""

    text: str
    refusal: str = ""
    thinking: str = ""
    secrets: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, object]] = field(default_factory=list)
    finish: str | None = ""
    tokens: tuple[int, int, int] = (0, 0, 0)


def expected(scenario: Scenario, caller: Wire, upstream: Wire) -> Seen:
    """What the caller must hold, by what the two protocols can say."""

    def words(kind: str) -> str:
        return "".join(said.text for said in scenario.of(kind))

    declined = words("refusal")
    as_text = not _DECLINE.isdisjoint((caller, upstream))
    calls = [
        (said.call_id, said.name, json.loads(said.text or "{}")) for said in scenario.of("call")
    ]
    used = scenario.tokens
    return Seen(
        words("text") + (declined if as_text else ""),
        "" if as_text else declined,
        words("thinking"),
        _secrets(scenario, caller, upstream),
        calls,
        _finish(scenario, caller, upstream),
        (used.given, used.read, used.output),
    )


def _secrets(scenario: Scenario, caller: Wire, upstream: Wire) -> list[str]:
    """Signatures reach who can send them back: marked, where they are another maker's."""
    if Wire.CHAT in (caller, upstream):
        return []  # Gemini's are beside what a chat knows
    found = []
    for place, said in enumerate(scenario.said):
        secret = said.text if said.kind == "redacted" else said.signature
        if secret is None or (upstream is Wire.GEMINI and said.kind == "redacted"):
            continue
        if upstream is Wire.RESPONSES:
            secret = f"responses:rs_{place}:{secret}"
        elif upstream is Wire.GEMINI:
            secret = f"gemini:{'call' if scenario.of('call') else 'text'}:{secret}"
        if caller is not Wire.MESSAGES:
            redacted = "-redacted" if said.kind == "redacted" and upstream is Wire.MESSAGES else ""
            secret = f"relayed{redacted}:{secret}"
        found.append(secret)
    return found


def _finish(scenario: Scenario, caller: Wire, upstream: Wire) -> str:
    finish = scenario.finish
    if finish == "refused" and scenario.of("refusal") and upstream not in _DECLINE:
        finish = "stop"  # there a refusal is words, and not why it ends
    if finish == "END" and upstream is not Wire.MESSAGES:
        finish = "stop"  # the others do not say which
    names = {
        Wire.CHAT: {"tools": "tool_calls", "refused": "content_filter", "length": "length"},
        Wire.MESSAGES: {
            "stop": "end_turn",
            "tools": "tool_use",
            "refused": "refusal",
            "length": "max_tokens",
            "END": "END",
        },
        Wire.RESPONSES: {"refused": "content_filter", "length": "max_output_tokens"},
        Wire.GEMINI: {"refused": "SAFETY", "length": "MAX_TOKENS"},
    }
    usual = {Wire.RESPONSES: "completed", Wire.GEMINI: "STOP"}
    return names[caller].get(finish, usual.get(caller, "stop"))


def reason_of(scenario: Scenario) -> str:
    """The message a scenario's stream ends with."""
    assert scenario.error is not None
    return scenario.error
