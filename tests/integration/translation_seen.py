"""What a caller must hold of a scenario's answer, whichever SDK and language reads it."""

import json
from dataclasses import dataclass, field

from proxy.core.catalog import TRANSLATED
from proxy.core.translation.conversation import Wire
from tests.integration.provider_answers import SCENARIOS, Scenario

ARROWS = [
    (caller, upstream) for caller in TRANSLATED for upstream in TRANSLATED if caller is not upstream
]
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
    as_text = Wire.MESSAGES in (caller, upstream)  # which has no part for it
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
    found = []
    for place, said in enumerate(scenario.said):
        secret = said.text if said.kind == "redacted" else said.signature
        if secret is None or Wire.CHAT in (caller, upstream):
            continue
        if caller is Wire.MESSAGES:
            found.append(f"responses:rs_{place}:{secret}")
        else:
            redacted = "-redacted" if said.kind == "redacted" else ""
            found.append(f"relayed{redacted}:{secret}")
    return found


def _finish(scenario: Scenario, caller: Wire, upstream: Wire) -> str:
    finish = scenario.finish
    if finish == "refused" and scenario.of("refusal") and upstream is not Wire.MESSAGES:
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
    }
    return names[caller].get(finish, "completed" if caller is Wire.RESPONSES else "stop")


def reason_of(scenario: Scenario) -> str:
    """The message a scenario's stream ends with."""
    assert scenario.error is not None
    return scenario.error
