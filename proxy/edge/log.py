"""Log lines: one JSON object (or key=value text) per line, safe to keep and to show.

Rules: only fields in FIELDS are written, the names of others are listed under `dropped`; every
text is redacted (keys, bearer tokens, `x-api-key` values) and shortened, control bytes are
escaped, so that no request can forge a line or leave a secret in one. Lines of other libraries
pass through the same door. Log once, where something is handled. This module must not know
what a call is.
"""

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, BinaryIO, Literal

import orjson
import structlog

from proxy.core.redact import REDACTED
from proxy.core.redact import redact as redact_keys

FIELDS = frozenset(
    {
        *("timestamp", "level", "event", "request_id", "endpoint", "dialect", "model", "group"),
        *("channel", "channel_id", "key_id", "user_id", "status", "code", "verdict", "source"),
        *("charge_nano", "input_tokens", "output_tokens", "duration_ms", "ttft_ms", "attempts"),
        *("delivered_bytes", "delivered_events", "reason", "remedy", "error", "where", "line"),
        *("address", "path", "signal", "setting", "count", "seconds", "version", "logger"),
        *("role", "worker", "process", "console"),
    }
)
TEXT_CHARACTERS_MAX = 2000

_HEADERS = re.compile(
    r"""
      (?<=x-api-key)["']?\s*[:=,]\s*["']?[^\s"',]+          # header or dictionary form
    | (?<=authorization)["']?\s*[:=,]\s*["']?(?!bearer\b)(?:\w+\s+)?[^\s"',]+
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

Event = MutableMapping[str, Any]


def redact(text: str) -> str:
    """`text` without anything that looks like a credential, shortened, on one line."""
    # Redacted before it is cut, or a secret across the cut would leave its first half behind.
    cut = _HEADERS.sub(REDACTED, redact_keys(text[: 2 * TEXT_CHARACTERS_MAX]))
    if len(cut) > TEXT_CHARACTERS_MAX:
        cut = cut[:TEXT_CHARACTERS_MAX] + "…"
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", cut)


class Lines:
    """Writes rendered lines. A log that cannot be written must not end the call it tells of."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def msg(self, line: bytes) -> None:
        """Write one line, or lose it: disk full, reader gone, stream closed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + b"\n")
            self._stream.flush()

    debug = info = warning = error = msg


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["json", "text"] = "json",
    stream: BinaryIO | None = None,
) -> None:
    """Set up structlog and the standard library's logging; may be called again on reload."""
    target = sys.stderr.buffer if stream is None else stream
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            keep_allowed,
            _render_json if form == "json" else _render_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: Lines(target),
        # Reload must reach loggers that modules already hold.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(_LEVELS[level], logging.WARNING))


def get() -> structlog.typing.FilteringBoundLogger:
    """The logger: `get().info("what happened", request_id=..., ...)` with fields of FIELDS."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return logger


def keep_allowed(_logger: object, _method: str, event: Event) -> Event:
    """Drop fields that are not in FIELDS and redact the texts of the others."""
    kept: Event = {name: _safe(event[name]) for name in event if name in FIELDS}
    if len(kept) < len(event):
        kept["dropped"] = sorted(redact(str(name)) for name in event if name not in FIELDS)
    return kept


def _safe(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(value if isinstance(value, str) else str(value))


def _render_json(_logger: object, _method: str, event: Event) -> bytes:
    return orjson.dumps(
        event, default=str, option=orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_UTC_Z
    )


def _render_text(_logger: object, _method: str, event: Event) -> bytes:
    head = f"{event.pop('timestamp', '')} {event.pop('level', ''):<7} {event.pop('event', '')}"
    tail = " ".join(f"{name}={_quoted(value)}" for name, value in event.items())
    return f"{head} {tail}".rstrip().encode("utf-8", "backslashreplace")


def _quoted(value: object) -> str:
    text = str(value)
    return orjson.dumps(text).decode() if not text or " " in text or '"' in text else text


class _Bridge(logging.Handler):
    """Lines of aiohttp, asyncio and others, through the same allow-list and redaction."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            fields["error"] = f"{type(error).__name__}: {error}"
            fields["where"] = place_of(error)
        level = "error" if record.levelno >= logging.ERROR else "warning"
        getattr(get(), level)(record.getMessage(), **fields)


def place_of(error: BaseException) -> str:
    """The innermost `file:line` of a traceback: enough to find the fault, and no data."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
