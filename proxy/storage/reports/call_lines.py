"""An ended call as plain values by name, for files and programs.

Rules: amounts are exact decimals in US dollars, times ISO 8601 in UTC; names and their order do not
change. This module must not know who reads them.
"""

from datetime import UTC, datetime
from typing import Final

from msgspec.structs import asdict

from proxy.core.entities import Usage
from proxy.core.ids import format_id
from proxy.core.money import format_usd
from proxy.core.spreadsheets import Cell
from proxy.storage.reports.usage_log import CallRow

_USAGE: Final = Usage.__struct_fields__
COLUMNS: Final = (
    "time", "request_id", "key", "model", "served_model", "group", "endpoint", "stream", "verdict",
    "finish_reason", "error_code", "status", "charge_usd", "balance_after_usd", "usage_source",
    *_USAGE, "first_token_ms", "duration_ms", "client_reference", "channel",
)  # fmt: skip


def fields(row: CallRow) -> dict[str, Cell]:
    """A call by the names of `COLUMNS`; amounts are exact decimals, times ISO 8601 in UTC."""
    shown: dict[str, Cell] = {
        "time": datetime.fromtimestamp(row.started_at, UTC).isoformat(timespec="milliseconds"),
        "request_id": format_id(row.id),
        "key": row.key,
        "model": row.model,
        "served_model": row.upstream_model,
        "group": row.group,
        "endpoint": row.endpoint,
        "stream": int(row.stream),
        "verdict": row.verdict,
        "finish_reason": row.finish_reason,
        "error_code": row.error_code,
        "status": row.status,
        "charge_usd": format_usd(row.charge),
        "balance_after_usd": format_usd(row.balance_after),
        "usage_source": row.source,
        **asdict(row.usage),
        "first_token_ms": row.ttft_ms,
        "duration_ms": row.duration_ms,
        "client_reference": row.client_reference,
        "channel": row.channel,
    }
    return shown
