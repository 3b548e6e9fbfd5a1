"""Reads a provider's usage export: CSV or JSON, columns by their known names or as told.

Rules: nothing in a file is trusted: bytes, lines, columns and cells are bounded, a number is read
as one or the line is named as not understood; no line is dropped in silence. Which of the known
names a provider uses was taken from its documents and from exports. This module must not know our
attempts.

Sources: OpenAI's usage API and dashboard export (input_tokens with cached ones in it,
num_model_requests), Anthropic's usage report and console export (usage_input_tokens_no_cache and
the cached ones beside it), OpenRouter's activity export (generation_id, tokens_prompt, cost_total).
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Final

import orjson
from msgspec import Struct

from proxy.core.reconciliation.records import Their, day_of
from proxy.core.sentences import Sentence, text_of

EXPORT_BYTES_MAX: Final = 32 << 20
JSON_CHARS_MAX: Final = 8 << 20
"""Of one document: it is in memory as a whole, many times as large as it is written."""
LINES_MAX: Final = 200_000
LOOKED_AT: Final = 100
"""Rows of a JSON document whose names are its columns."""
COLUMNS_MAX: Final = 200
CELL_CHARS_MAX: Final = 1_000
PROBLEMS_MAX: Final = 20
"""Lines that are named as not understood; all are counted."""
COUNT_MAX: Final = 1 << 53
USD_MAX: Final = 10**9
DEPTH_MAX: Final = 2
"""How deep a JSON row is looked into for figures."""

REQUEST_ID, TIME, MODEL, REQUESTS, COST = "request_id", "time", "model", "requests", "cost"
INPUT, UNCACHED, CACHED, OUTPUT = "input", "input_uncached", "cached", "output"
WRITTEN_5M, WRITTEN_1H = "written_5m", "written_1h"

KNOWN_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    REQUEST_ID: (
        "request_id", "x_request_id", "upstream_request_id", "generation_id",
        "apim_request_id", "correlation_id", "correlationid",
    ),
    TIME: (
        "start_time_iso", "start_time", "starting_at", "usage_date_utc", "created_at", "timestamp",
        "timegenerated", "time_generated", "datetime", "date", "time",
    ),
    MODEL: (
        "model", "model_version", "model_permaslug", "model_name", "modelname", "snapshot_id",
        "modeldeploymentname", "deployment",
    ),
    REQUESTS: ("num_model_requests", "n_requests", "num_requests", "request_count", "requests"),
    INPUT: (
        "input_tokens", "prompt_tokens", "tokens_prompt", "n_context_tokens_total",
        "total_input_tokens",
    ),
    UNCACHED: ("usage_input_tokens_no_cache", "uncached_input_tokens", "input_uncached_tokens"),
    CACHED: (
        "input_cached_tokens", "cached_tokens", "tokens_cached", "cached_input_tokens",
        "usage_input_tokens_cache_read", "cache_read_input_tokens",
        "n_cached_context_tokens_total",
    ),
    WRITTEN_5M: (
        "usage_input_tokens_cache_write_5m", "ephemeral_5m_input_tokens",
        "cache_creation_input_tokens", "cache_write_tokens", "usage_input_tokens_cache_write",
    ),
    WRITTEN_1H: ("usage_input_tokens_cache_write_1h", "ephemeral_1h_input_tokens"),
    OUTPUT: (
        "output_tokens", "completion_tokens", "tokens_completion", "usage_output_tokens",
        "n_generated_tokens_total", "total_output_tokens",
    ),
    COST: (
        "cost_total", "cost_usd", "total_cost", "cost", "amount_usd", "costinusd", "cost_in_usd",
        "amount",
    ),
}  # fmt: skip
"""Names of columns by what they mean, as they are with letters lowered and signs made `_`."""
BESIDE: Final = frozenset({"cache_read_input_tokens", "usage_input_tokens_cache_read"})
"""Where cached tokens have one of these names, `input_tokens` are without them (Anthropic)."""
_SIGNS: Final = re.compile(r"[^a-z0-9]+")
_NUMBER: Final = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,16}(?:\.0{1,9})?", re.ASCII)
_SECONDS: Final = re.compile(r"[0-9]{9,11}", re.ASCII)
_MILLISECONDS: Final = re.compile(r"[0-9]{12,14}", re.ASCII)


class ExportError(ValueError):
    """The file cannot be read as an export; the message is for the operator."""


class Export(Struct, frozen=True):
    """What was read. `columns`: as the file names them; `mapping`: field to column.

    `problems`: lines not understood, the first few; `left_out`: how many there were.
    """

    rows: list[Their]
    columns: tuple[str, ...]
    mapping: dict[str, str]
    problems: tuple[tuple[int, str], ...]
    left_out: int

    @property
    def by_request(self) -> bool:
        """Whether every line is about one request that it names."""
        return bool(self.rows) and all(row.request_id is not None for row in self.rows)


def read_export(body: bytes, told: Mapping[str, str] | None = None) -> Export:
    """Read an export; `told` names columns for fields, beyond or against the known names.

    Raises ExportError.
    """
    text = read_text(body)
    if not text.strip():
        raise ExportError("the file is empty; export it again")
    lines: Iterator[tuple[int, dict[str, str]]]
    if text.lstrip()[0] in "[{":
        document = _document(text)
        early = islice(_from_json(document), LOOKED_AT)
        columns = tuple(dict.fromkeys(name for _, row in early for name in row))[:COLUMNS_MAX]
        lines = _from_json(document)
    else:
        lines = _from_csv(text)
        columns = tuple(next(lines, (0, {}))[1])
    return _read(lines, columns, _mapping(columns, told or {}))


def read_text(body: bytes) -> str:
    """The text of a file. Raises ExportError if it is none, or too large."""
    if len(body) > EXPORT_BYTES_MAX:
        raise ExportError(
            Sentence("the file is above {most} MiB; export fewer days", most=EXPORT_BYTES_MAX >> 20)
        )
    for coding in ("utf-8-sig", "utf-16"):
        if coding == "utf-16" and body[:2] not in {b"\xff\xfe", b"\xfe\xff"}:
            break
        try:
            return body.decode(coding)
        except UnicodeDecodeError:
            continue
    raise ExportError("the file is not text in UTF-8; export it as CSV or JSON")


def _from_csv(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the columns (with empty cells) as line 1, then every line's cells by column."""
    head = text[: text.find("\n") if "\n" in text else len(text)]
    sign = max(",;\t", key=head.count)
    reader = csv.reader(_lines(text), delimiter=sign, strict=True)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                if len(names) > COLUMNS_MAX:
                    raise ExportError(
                        Sentence("the file has more than {most} columns", most=COLUMNS_MAX)
                    )
                yield 1, dict.fromkeys(names, "")
            else:
                yield reader.line_num, dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise ExportError(
            Sentence(
                "line {line_num} is no CSV: {error}", line_num=reader.line_num, error=text_of(error)
            )
        ) from None


def _lines(text: str) -> Iterator[str]:
    """The lines of a text one at a time, without a second copy of all of it."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _document(text: str) -> Iterable[object]:
    """What stands in a JSON document: its list, or a document a line. Read as it is asked for."""
    try:
        document = orjson.loads(text) if len(text) <= JSON_CHARS_MAX else None
    except orjson.JSONDecodeError:
        document = None
    if document is None:
        return _JsonLines(text)
    if isinstance(document, dict):
        listed = (document.get(name) for name in ("data", "results", "rows"))
        return next((each for each in listed if isinstance(each, list)), [document])
    return list(document)


class _JsonLines:
    """A JSON document on each line, read one at a time and as often as asked."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self) -> Iterator[object]:
        for number, line in enumerate(_lines(self._text), 1):
            if line.strip():
                yield _json_line(number, line)


def _from_json(document: Iterable[object]) -> Iterator[tuple[int, dict[str, str]]]:
    number = 0
    for each in document:
        if isinstance(each, dict):
            for row in _bucket(each):
                number += 1
                yield number, row


def _json_line(number: int, line: str) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ExportError(
            Sentence(
                "line {number} is no JSON of its own, and a document of several lines may have "
                "{most} MiB; export it as CSV, or fewer days",
                number=number,
                most=JSON_CHARS_MAX >> 20,
            )
        ) from None


def _bucket(each: dict[str, object]) -> Iterator[dict[str, str]]:
    """Rows of a bucket of time, each with the bucket's own times; or the row itself."""
    results = each.get("results")
    if not isinstance(results, list):
        yield dict(_cells(each, 0))
        return
    own = dict(_cells({name: each[name] for name in each if name != "results"}, 0))
    for row in results:
        if isinstance(row, dict):
            yield {**own, **dict(_cells(row, 0))}


def _cells(row: dict[str, object], depth: int) -> Iterator[tuple[str, str]]:
    for name, value in row.items():
        if isinstance(value, dict) and depth < DEPTH_MAX:
            if isinstance(value.get("value"), int | float | str):
                yield name, str(value["value"])  # an amount beside its currency
            else:
                yield from _cells(value, depth + 1)
        elif isinstance(value, str | int | float):
            yield name, str(value)


def _mapping(columns: Iterable[str], told: Mapping[str, str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for column in columns:
        named.setdefault(_plain(column), column)
    mapping: dict[str, str] = {}
    for field, names in KNOWN_NAMES.items():
        chosen = told.get(field)
        if chosen is not None and chosen not in named.values():
            raise ExportError(
                Sentence("the file has no column {chosen!r}; choose one it has", chosen=chosen)
            )
        found = chosen or next((named[name] for name in names if name in named), None)
        if found is not None:
            mapping[field] = found
    if UNCACHED not in mapping and _plain(mapping.get(CACHED, "")) in BESIDE and INPUT in mapping:
        mapping[UNCACHED] = mapping.pop(INPUT)
    figures = {INPUT, UNCACHED, OUTPUT, COST} & mapping.keys()
    if not figures or not {TIME, REQUEST_ID} & mapping.keys():
        seen = ", ".join(list(named.values())[:10])
        raise ExportError(
            Sentence(
                "no usage was found in its columns ({seen}); say which column is what", seen=seen
            )
        )
    return mapping


def _plain(column: str) -> str:
    return _SIGNS.sub("_", column.lower()).strip("_")


def _read(
    lines: Iterable[tuple[int, dict[str, str]]], columns: tuple[str, ...], mapping: dict[str, str]
) -> Export:
    rows: list[Their] = []
    problems: list[tuple[int, str]] = []
    left_out = 0
    for number, cells in lines:
        if len(rows) + left_out == LINES_MAX:
            raise ExportError(
                Sentence("the file has more than {most:,} lines; export fewer days", most=LINES_MAX)
            )
        try:
            rows.append(_row(number, cells, mapping))
        except ValueError as error:
            left_out += 1
            if left_out <= PROBLEMS_MAX:
                problems.append((number, text_of(error)))
    return Export(rows, columns, mapping, tuple(problems), left_out)


def _row(number: int, cells: dict[str, str], mapping: dict[str, str]) -> Their:
    def cell(field: str) -> str:
        text = cells.get(mapping.get(field, ""), "").strip()
        if len(text) > CELL_CHARS_MAX:
            raise ValueError(
                Sentence(
                    "its {field} is longer than {most} characters", field=field, most=CELL_CHARS_MAX
                )
            )
        return text

    request_id = cell(REQUEST_ID) or None
    moment = read_moment(cell(TIME))
    if request_id is None and moment is None:
        raise ValueError("it has neither a request id nor a time")
    cached, written_5m, written_1h, read = (
        _count(cell(field), field) for field in (CACHED, WRITTEN_5M, WRITTEN_1H, UNCACHED)
    )
    written = None if written_5m is None and written_1h is None else _sum(written_5m, written_1h)
    total = _count(cell(INPUT), INPUT)
    if total is None and read is not None:
        total = _sum(read, cached, written)
    return Their(
        line=number,
        request_id=request_id,
        day=None if moment is None else day_of(moment),
        model=cell(MODEL),
        input=total,
        cached=cached,
        written=written,
        output=_count(cell(OUTPUT), OUTPUT),
        cost=_cost(cell(COST)),
        requests=_count(cell(REQUESTS), REQUESTS) or 1,
    )


def _sum(*counts: int | None) -> int:
    return sum(count or 0 for count in counts)


def _count(text: str, field: str) -> int | None:
    if not text:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(Sentence("its {field} {text!r} is no count", field=field, text=text[:40]))
    count = int(text.replace(",", "").split(".")[0])
    if count > COUNT_MAX:
        raise ValueError(Sentence("its {field} is above 2^53", field=field))
    return count


def _cost(text: str) -> int | None:
    """US dollars as nano-USD, rounded to the nearest; providers write finer ones."""
    text = text.removeprefix("$").replace(",", "")
    if not text:
        return None
    try:
        amount = Decimal(text[:60])
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or abs(amount) > USD_MAX:
        raise ValueError(Sentence("its cost {text!r} is no amount", text=text[:40]))
    return round(amount * 10**9)


def read_moment(text: str) -> float | None:
    """A time as Unix seconds, None for nothing; without a zone it is UTC. Raises ValueError."""
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    if _MILLISECONDS.fullmatch(text):
        return int(text) / 1000
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            Sentence("its time {text!r} is not like 2026-01-31 or 1769817600", text=text[:40])
        ) from None
