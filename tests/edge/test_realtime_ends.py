"""Every end has its verdict, and a code that tells an SDK whether to come back."""

import json

import pytest
from openai.types.websocket_reconnection import is_recoverable_close

from proxy.core import websocket
from proxy.core.entities import Verdict
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.websocket import Control, FrameScanner, Message
from proxy.edge.open_call import Notice
from proxy.edge.realtime_ends import close_frame, cut_for, error_frame, failed_with


def closed(frame: bytes) -> tuple[int, str]:
    (control,) = FrameScanner(masked=False, message_bytes_max=0).feed(frame)
    assert isinstance(control, Control)
    return websocket.close_code(control.payload), control.payload[2:].decode()


def test_every_cut_has_a_verdict_and_an_error() -> None:
    for notice in Notice:
        ended = cut_for(notice)
        assert ended.verdict.value.startswith("cut_")
        assert ended.error is not None


@pytest.mark.parametrize(
    ("code", "recoverable"),
    [
        (ErrorCode.SERVER_RESTARTING, True),
        (ErrorCode.SETTLEMENT_UNAVAILABLE, True),
        (ErrorCode.UPSTREAM_TRUNCATED, True),
        (ErrorCode.RATE_LIMIT_EXCEEDED, True),
        (ErrorCode.INSUFFICIENT_QUOTA, False),
        (ErrorCode.KEY_DISABLED, False),
        (ErrorCode.MODEL_NOT_PRICED, False),
    ],
)
def test_an_sdk_comes_back_where_it_may_help(code: ErrorCode, recoverable: bool) -> None:
    number, reason = closed(close_frame(RelayError(code, "x")))
    assert is_recoverable_close(number) is recoverable
    assert reason == code.code


def test_the_protocols_own_code_is_kept() -> None:
    error = RelayError(ErrorCode.INVALID_REQUEST, "x")
    assert closed(close_frame(error, websocket.TOO_BIG))[0] == 1009


def test_an_error_is_an_event_of_the_server() -> None:
    error = RelayError(ErrorCode.INSUFFICIENT_QUOTA, "Add credit.", param="p")
    scanner = FrameScanner(masked=False, message_bytes_max=1_000, held_bytes_max=1_000)
    (message,) = scanner.feed(error_frame(error, 7))
    assert isinstance(message, Message)
    event = json.loads(message.payload)
    assert event["type"] == "error"
    assert event["event_id"].startswith("event_")
    assert event["error"] == {
        "type": "insufficient_quota",
        "code": "insufficient_quota",
        "message": "Add credit.",
        "param": "p",
        "event_id": None,
    }


def test_what_cannot_be_paid_is_not_our_fault() -> None:
    poor = failed_with(RelayError(ErrorCode.KEY_BUDGET_EXCEEDED, "x"))
    assert poor.verdict is Verdict.CUT_FOR_BALANCE
    broken = failed_with(RelayError(ErrorCode.SETTLEMENT_UNAVAILABLE, "x"))
    assert broken.verdict is Verdict.INTERNAL_ERROR
