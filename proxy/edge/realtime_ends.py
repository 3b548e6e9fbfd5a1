"""How a realtime session ends: the verdict, the error event and the close code for each reason.

Rules: a code tells an SDK whether to come back: after 1011, 1012 and 1013 it does, after 1008 the
same again would end the same. This module must not know sockets or money.

Sources: RFC 6455 section 7.4.1; openai-python `types/websocket_reconnection.py` (codes it comes
back from) and `types/realtime/realtime_error_event.py`.
"""

from typing import Final

import orjson

from proxy.core import websocket
from proxy.core.entities import Verdict
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.ids import format_id
from proxy.edge.open_call import Notice
from proxy.edge.settlement import Ended

_POOR: Final = frozenset({ErrorCode.INSUFFICIENT_QUOTA, ErrorCode.KEY_BUDGET_EXCEEDED})
_CODES: Final = {
    ErrorCode.SERVER_RESTARTING: websocket.RESTART,
    ErrorCode.SETTLEMENT_UNAVAILABLE: websocket.RESTART,
    ErrorCode.SERVICE_UNAVAILABLE: websocket.RESTART,
    ErrorCode.UPSTREAM_TRUNCATED: websocket.INTERNAL_ERROR,
    ErrorCode.UPSTREAM_TIMEOUT: websocket.INTERNAL_ERROR,
    ErrorCode.RATE_LIMIT_EXCEEDED: websocket.TRY_LATER,
    ErrorCode.TOKEN_LIMIT_EXCEEDED: websocket.TRY_LATER,
    ErrorCode.CONCURRENCY_LIMIT_EXCEEDED: websocket.TRY_LATER,
}
"""Close codes by error; for every other the same again would end the same (1008)."""
_REASONS: Final = {
    Notice.REVOKED: (
        Verdict.CUT_BY_REVOCATION,
        ErrorCode.KEY_DISABLED,
        "This API key was disabled during the session.",
    ),
    Notice.SHUTDOWN: (
        Verdict.CUT_BY_SHUTDOWN,
        ErrorCode.SERVER_RESTARTING,
        "The server is restarting. Connect again.",
    ),
    Notice.UNBILLED: (
        Verdict.CUT_BY_SHUTDOWN,
        ErrorCode.SETTLEMENT_UNAVAILABLE,
        "The ledger cannot be written. Connect again later.",
    ),
    Notice.BALANCE: (
        Verdict.CUT_FOR_BALANCE,
        ErrorCode.INSUFFICIENT_QUOTA,
        "Your balance or this key's budget is used up. Add credit.",
    ),
    Notice.MAX_COST: (
        Verdict.CUT_FOR_MAX_COST,
        ErrorCode.MAX_COST_EXCEEDED,
        "The response reached `x-max-cost`. Raise the limit.",
    ),
}


def cut_for(notice: Notice) -> Ended:
    """Return the end of a session that we cut."""
    verdict, code, message = _REASONS[notice]
    return Ended(verdict, RelayError(code, message))


def failed_with(error: RelayError) -> Ended:
    """Return the end of a session whose next response could not be held for, or billed."""
    poor = error.code in _POOR
    return Ended(Verdict.CUT_FOR_BALANCE if poor else Verdict.INTERNAL_ERROR, error)


def close_frame(error: RelayError, code: int | None = None) -> bytes:
    """Return the close frame that says why; `code`: the protocol's own, if it is that."""
    code = code or _CODES.get(error.code, websocket.POLICY)
    return websocket.frame(websocket.CLOSE, websocket.close_payload(code, error.code.code))


def error_frame(error: RelayError, call_id: int) -> bytes:
    """Return the server's `error` event."""
    row = error.code.value
    event = {
        "type": "error",
        "event_id": f"event_{format_id(call_id)}",
        "error": {
            "type": row.openai_type,
            "code": row.code,
            "message": error.message,
            "param": error.param,
            "event_id": None,
        },
    }
    return websocket.frame(websocket.TEXT, orjson.dumps(event))
