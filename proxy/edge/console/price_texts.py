"""Tables of the catalog as people write them into a form, and back.

Rules: one entry a line, so that a list of hundreds can be pasted; what a line cannot say (tiers,
image variants) is JSON. Reading what was written gives the same table. A line that is not
understood is a ValueError that quotes it. This module must not know what the figures mean.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from proxy.core.sentences import Sentence, text_of

TEXT_CHARS_MAX: Final = 1 << 20
QUOTED_CHARS_MAX: Final = 60
_SIGN: Final = ": "


def models_text(models: Mapping[str, str]) -> str:
    """A channel's models: `name`, or `name = the upstream's own`."""
    return "\n".join(
        name if name == theirs else f"{name} = {theirs}" for name, theirs in sorted(models.items())
    )


def read_models(text: str) -> dict[str, str]:
    """Read what `models_text` wrote. Raises ValueError."""
    models: dict[str, str] = {}
    for line in _lines(text):
        name, sign, theirs = (part.strip() for part in line.partition("="))
        if not name or (sign and not theirs) or name in models:
            raise _fault(line)
        models[name] = theirs or name
    return models


def prices_text(prices: Mapping[str, Mapping[str, Any]]) -> str:
    """Prices by model: `name: input 2.50, output 10.00`, or JSON behind the name."""
    return "\n".join(f"{name}{_SIGN}{_price(table)}" for name, table in sorted(prices.items()))


def read_prices(text: str) -> dict[str, dict[str, Any]]:
    """Read what `prices_text` wrote. Raises ValueError."""
    prices: dict[str, dict[str, Any]] = {}
    for line in _lines(text):
        # The name may have colons in it (`model:free`); the sign is followed by a space.
        start = line.find(f"{_SIGN}{{")
        at = start if start >= 0 else line.rfind(_SIGN)
        name = line[: max(at, 0)].strip()
        if not name or name in prices:
            raise _fault(line)
        prices[name] = _read_price(line[at + len(_SIGN) :].strip(), line)
    return prices


def json_text(value: object) -> str:
    """Tiers or variants as indented JSON; empty for nothing."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() if value else ""


def read_json(text: str) -> Any:
    """Read what `json_text` wrote; None for nothing. Raises ValueError."""
    if not text.strip():
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(Sentence("is no JSON: {error}", error=text_of(error))) from None


def _price(table: Mapping[str, Any]) -> str:
    if all(isinstance(value, str) for value in table.values()):
        return ", ".join(f"{name} {value}" for name, value in table.items())
    return orjson.dumps(table).decode()


def _read_price(text: str, line: str) -> dict[str, Any]:
    if text.startswith("{"):
        table = read_json(text)
        return {str(name): value for name, value in table.items()}
    table = {}
    for part in text.split(","):
        words = part.split()
        if len(words) != 2 or words[0] in table:
            raise _fault(line)
        table[words[0]] = words[1]
    return table


def _lines(text: str) -> Iterable[str]:
    if len(text) > TEXT_CHARS_MAX:
        raise ValueError(Sentence("has more than {most:,} characters", most=TEXT_CHARS_MAX))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _fault(line: str) -> ValueError:
    return ValueError(
        Sentence("has a line that is not understood: {line}", line=line[:QUOTED_CHARS_MAX])
    )
