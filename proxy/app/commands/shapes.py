"""How handlers look, results and refusals are written, and moments read.

Rules: times are ISO 8601 in UTC, to the second; a refusal is a message and a remedy. This module
must not know any command.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from proxy.app.office import Office
from proxy.core.actions.action import Actor

Handler = Callable[[Office, Actor, Any], Awaitable[object]]
"""Does one action for an actor who may, and returns plain JSON values. Raises CommandError."""

SPANS = {"d": 86_400, "h": 3_600, "m": 60}

REMEDY_VERBS = frozenset(
    {"see", "add", "set", "export", "make", "write", "leave", "remove", "check", "name", "stop"}
)


def iso(moment: float | None) -> str | None:
    """Unix seconds as ISO 8601 in UTC, to the second."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_span(text: str) -> float:
    """Seconds of a span such as `30d`, `12h` or `15m`. Raises ValueError."""
    if text[-1:] in SPANS and text[:-1].isascii() and text[:-1].isdigit() and len(text) < 10:
        return float(int(text[:-1]) * SPANS[text[-1]])
    raise ValueError(f"{text!r} is no span such as 30d, 12h or 15m")


def parse_time(text: str, now: float) -> float:
    """A moment: `30d`, `12h` from now, or an ISO 8601 date or time. Raises ValueError."""
    try:
        return now + parse_span(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a span such as 30d nor a date such as 2030-01-31"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def split_remedy(message: str) -> tuple[str, str]:
    """Storage writes `what is wrong: what to do` or `...; what to do` in one sentence."""
    for separator in (": ", "; "):
        what, _, remedy = message.rpartition(separator)
        if what and remedy.split(" ", 1)[0] in REMEDY_VERBS:
            return what, remedy
    return message, ""
