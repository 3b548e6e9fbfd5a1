"""`sluice models import`: what published prices would change in a catalog, as a reviewable plan.

Rules: pure, from a document and a list to a document and rows of a diff; a price the catalog has
and the list lacks is left alone, and what an operator added by hand (per call, image, search and
whatever else is no token) stays. A name that several providers price differently is nobody's until
one is chosen. This module must not know files, terminals, or where either side comes from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from proxy.app.seed import CONTEXT_WINDOW, OUTPUT_TOKENS_MAX, tokenizer_of
from proxy.storage.price_tables import read_price

SHOWN = (
    "input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "audio_input",
    "audio_output", "image_input", "image_output", "cache_read_audio", "cache_read_image",
    "audio_hour", "character", "search", "call", "tiers",
)  # fmt: skip
AUDIO = ("audio_second", "audio_minute", "audio_hour")
KEPT = ("image", "image_variants", "character", "call", "search", *AUDIO)
"""Set by hand and not in the list: kept when the list says nothing of it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One model of one provider. `price` is a table for a catalog document; None with `problem`."""

    provider: str
    name: str
    context_window: int | None
    price: dict[str, Any] | None
    problem: str = ""
    """Why there is no price: what it has that a price of ours cannot express."""
    notes: tuple[str, ...] = ()
    """What is charged beside it, or otherwise, on request."""


class Status(StrEnum):
    """What an import does with one model."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the diff. Prices are texts in USD per 1M tokens, `OLD -> NEW` where changed."""

    status: Status
    model: str
    provider: str
    prices: dict[str, str]
    context_window: str
    notes: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The document as it would be, and how that differs; `tables` are the models new or changed."""

    document: dict[str, Any]
    rows: list[Row]
    tables: list[dict[str, Any]]


def plan(document: Mapping[str, Any], found: Sequence[Listed]) -> Plan:
    """Lay what the list says over `document`, an exported catalog."""
    models = {str(model["name"]): dict(model) for model in document["model"]}
    rows: list[Row] = []
    tables: list[dict[str, Any]] = []
    for name, candidates in _by_name(found).items():
        chosen = _agreed(candidates)
        known = models.get(name)
        if isinstance(chosen, str):
            where = ", ".join(sorted({each.provider for each in candidates}))
            rows.append(Row(Status.SKIPPED, name, where, {}, "", chosen))
            continue
        table = _merged(name, known, chosen)
        row = _row(known, table, chosen)
        rows.append(row)
        if row.status in {Status.NEW, Status.CHANGED}:
            models[name] = table
            tables.append(table)
    return Plan({**document, "model": list(models.values())}, rows, tables)


def wanted(
    document: Mapping[str, Any],
    provider_ids: Sequence[str],
    patterns: Sequence[str],
    *,
    listed: Callable[[Sequence[str], Sequence[str]], list[Listed]],
    look_up: Callable[[str, Sequence[tuple[str, str]]], list[Listed]],
) -> list[Listed]:
    """What to import: models by provider and pattern; with neither, those the catalog has."""
    if provider_ids or patterns:
        return listed(provider_ids, patterns)
    names = [str(model["name"]) for model in document["model"]]
    return [each for name in names for each in look_up(name, _places(document, name))]


def _places(document: Mapping[str, Any], name: str) -> list[tuple[str, str]]:
    """Where a model is served: base URL and the upstream's own name for it."""
    return [
        (str(channel["base_url"]), str(channel["models"][name]))
        for channel in document["channel"]
        if name in channel["models"]
    ]


def _by_name(found: Sequence[Listed]) -> dict[str, list[Listed]]:
    names: dict[str, list[Listed]] = {}
    for each in found:
        names.setdefault(each.name, []).append(each)
    return names


def _agreed(candidates: Sequence[Listed]) -> Listed | str:
    """The one price all of them have, or why there is none."""
    priced = [each for each in candidates if each.price is not None]
    if not priced:
        return "; ".join(dict.fromkeys(each.problem for each in candidates))
    if any(each.price != priced[0].price for each in priced) or len(priced) < len(candidates):
        return "its providers differ: choose one with --provider"
    try:
        read_price("", priced[0].name, priced[0].price)
    except ValueError as error:
        return str(error).removeprefix(": ")
    return priced[0]


def _merged(name: str, known: Mapping[str, Any] | None, listed: Listed) -> dict[str, Any]:
    if listed.price is None:
        raise AssertionError("a model without a price is not imported")
    window = listed.context_window
    if known is None:
        context = window or CONTEXT_WINDOW
        return {
            "name": name,
            "context_window": context,
            "output_tokens_max": min(OUTPUT_TOKENS_MAX, context),
            "tokenizer": tokenizer_of(name),
            "price": dict(listed.price),
        }
    # An audio price of the list replaces whichever unit of time was written by hand.
    said = {*listed.price, *(AUDIO if "audio_hour" in listed.price else ())}
    by_hand = known.get("price", {}).items()
    kept = {key: value for key, value in by_hand if key in KEPT and key not in said}
    merged = {**known, "price": {**kept, **listed.price}}
    return merged if window is None else {**merged, "context_window": window}


def _row(known: Mapping[str, Any] | None, table: Mapping[str, Any], listed: Listed) -> Row:
    name = str(table["name"])
    after = read_price("", name, table["price"])
    before = (
        read_price("", name, known["price"]) if known is not None and known.get("price") else None
    )
    window, notes = str(table["context_window"]), list(listed.notes)
    if known is None:
        status = Status.NEW
        if listed.context_window is None:
            notes.append("its context window is not listed and was assumed")
        if "input" not in table["price"]:
            notes.append("name its endpoints: it is for no conversation")
    else:
        same = before is not None and replace(after, version=before.version) == before
        moved = known["context_window"] != table["context_window"]
        status = Status.UNCHANGED if same and not moved else Status.CHANGED
        if moved:
            window = f"{known['context_window']} -> {window}"
    old = {} if known is None else dict(known.get("price") or {})
    new = table["price"]
    prices = {key: _change(_text(old.get(key)), _text(new.get(key))) for key in SHOWN}
    return Row(status, name, listed.provider, prices, window, "; ".join(notes))


def _text(price: Any) -> str | None:
    """One price as a cell: tiers as what is paid above each length."""
    if not isinstance(price, list):
        return None if price is None else str(price)
    return "; ".join(
        f"over {tier['over']:,}: "
        + ", ".join(f"{name} {each}" for name, each in tier.items() if name != "over")
        for tier in price
    )


def _change(before: str | None, after: str | None) -> str:
    if before is None or after is None or _same(before, after):
        return after or ("" if before is None else f"{before} -> input's")
    return f"{before} -> {after}"


def _same(before: str, after: str) -> bool:
    one, other = (text.rstrip("0").rstrip(".") if "." in text else text for text in (before, after))
    return one == other
