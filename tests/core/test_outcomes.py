import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import outcomes
from proxy.core.entities import TerminalRule, Wire
from proxy.core.outcomes import ERROR_BODY_BYTES_MAX, RESPONSE_BYTES_MAX, Expectation, FailureKind
from proxy.core.response_head import Framing, ResponseHead


def head(status: int = 200, **headers: str) -> ResponseHead:
    lines = [f"\r\n{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    block = f"HTTP/1.1 {status} Any{''.join(lines)}".encode()
    noted = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    return ResponseHead(status, block, Framing.CLOSE, 0, keep_alive=False, noted=noted)


def test_what_is_expected_by_default() -> None:
    expect = Expectation(Wire.CHAT, stream=True)
    assert (expect.terminal, expect.choices, expect.verbatim) == (TerminalRule.DONE, 1, True)
    assert not expect.strip_usage


@pytest.mark.parametrize(("status", "good"), [(199, False), (200, True), (299, True), (300, False)])
def test_only_2xx_is_good(status: int, good: bool) -> None:
    assert outcomes.is_good(head(status)) is good


@pytest.mark.parametrize(
    ("kind", "stream"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream ; charset=utf-8", True),
        ("", True),
        ("application/json", False),
        ("text/html", False),
    ],
)
def test_event_streams_by_their_type(kind: str, stream: bool) -> None:
    assert outcomes.is_event_stream(head(content_type=kind)) is stream


def test_no_type_may_be_a_stream() -> None:
    assert outcomes.is_event_stream(head())


@given(
    status=st.sampled_from([199, 200, 201, 204, 299, 300, 429]),
    kind=st.sampled_from(
        [None, b"", b"text/event-stream", b"text/event-stream; charset=utf-8", b"text/event-stream;x",
         b"text/event-stream;charset=UTF-8", b"TEXT/event-stream", b"application/json", b"\xe9"]
    ),
    coding=st.sampled_from([None, b"", b"identity", b"gzip"]),
)  # fmt: skip
def test_what_is_seen_in_one_look_is_what_a_closer_one_sees(
    status: int, kind: bytes | None, coding: bytes | None
) -> None:
    noted = {"content-type": kind, "content-encoding": coding}
    said = {name: value for name, value in noted.items() if value is not None}
    made = ResponseHead(status, b"", Framing.CHUNKED, 0, keep_alive=True, noted=said)
    closer = (
        outcomes.compressed(made) is None
        and outcomes.is_good(made)
        and outcomes.is_event_stream(made)
    )
    assert closer or not outcomes.streams(made)
    if status == 200 and kind == b"text/event-stream" and coding is None:
        assert outcomes.streams(made)


def test_compression() -> None:
    for coding in ("identity", "Identity", ""):
        assert outcomes.compressed(head(content_encoding=coding)) is None
    assert outcomes.compressed(head()) is None
    failure = outcomes.compressed(head(content_encoding="gzip"))
    assert failure is not None
    assert failure.kind is FailureKind.UNEXPECTED_ANSWER
    failure = outcomes.compressed(head(429, content_encoding="gzip", retry_after="9"))
    assert failure is not None
    assert (failure.kind, failure.status, failure.retry_after) == (FailureKind.STATUS, 429, "9")


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({}, None),
        ({"retry_after": "6"}, "6"),
        ({"retry_after": "6", "retry_after_ms": "5750"}, "5.750"),
        ({"retry_after_ms": "0.5"}, "0.001"),
        ({"retry_after": "6", "retry_after_ms": "soon"}, "6"),
        ({"retry_after": "6", "retry_after_ms": "9" * 13}, "6"),
        ({"x_rate_limit_reset_tokens": "55"}, "55"),
        ({"x_rate_limit_reset_tokens": "55", "retry_after": "6"}, "6"),
    ],
)
def test_the_pause_an_upstream_asks_for(headers: dict[str, str], asked: str | None) -> None:
    failure = outcomes.plain(head(429, **headers), b"", stream=True, whole=True)
    assert failure is not None
    assert failure.retry_after == asked


def test_how_much_of_a_plain_body_is_kept() -> None:
    assert outcomes.plain_bytes_max(head(), stream=False) == RESPONSE_BYTES_MAX
    assert outcomes.plain_bytes_max(head(), stream=True) == ERROR_BODY_BYTES_MAX
    assert outcomes.plain_bytes_max(head(500), stream=False) == ERROR_BODY_BYTES_MAX


def test_plain_answers() -> None:
    assert outcomes.plain(head(), b"{}", stream=False, whole=True) is None
    kinds = {
        (200, False, False): FailureKind.TOO_LARGE,
        (200, True, True): FailureKind.UNEXPECTED_ANSWER,
        (200, True, False): FailureKind.UNEXPECTED_ANSWER,
        (404, False, True): FailureKind.STATUS,
        (404, True, False): FailureKind.STATUS,
    }
    for (status, stream, whole), kind in kinds.items():
        failure = outcomes.plain(head(status), b"why", stream=stream, whole=whole)
        assert failure is not None
        assert failure.kind is kind
        assert failure.body == (b"" if kind is FailureKind.TOO_LARGE else b"why")
        assert failure.status == (404 if kind is FailureKind.STATUS else None)


def test_the_others() -> None:
    failure = outcomes.error_event(b"x" * 100_000)
    assert (failure.kind, len(failure.body)) == (FailureKind.ERROR_EVENT, ERROR_BODY_BYTES_MAX)
    assert outcomes.truncated("it stopped").kind is FailureKind.TRUNCATED
    assert outcomes.too_large("an event").message == "an event"


def test_google_says_in_the_body_what_others_say_in_the_head() -> None:
    """A key it does not know is a 400, and how long to wait is a detail of the error."""
    unknown = b'{"error":{"code":400,"details":[{"reason": "API_KEY_INVALID"}]}}'
    for status, body, told in ((400, unknown, 401), (400, b"{}", 400), (404, unknown, 404)):
        failure = outcomes.plain(head(status), body, stream=False, whole=True)
        assert failure is not None
        assert failure.status == told
    delay = b'{"error":{"details":[{"retryDelay": "17.4s"}]}}'
    for headers, wanted in (({}, "17.4"), ({"retry_after": "3"}, "3")):
        failure = outcomes.plain(head(429, **headers), delay, stream=False, whole=True)
        assert failure is not None
        assert failure.retry_after == wanted
