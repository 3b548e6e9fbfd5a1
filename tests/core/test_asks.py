"""Our own request headers: read exactly, refused when they cannot be."""

import json

import pytest
from msgspec import Raw

from proxy.core.asks import (
    CACHE_SECONDS_MAX,
    HEADERS,
    NOTHING,
    Asks,
    CacheMode,
    asks_anything,
    asks_for_usage,
    read_asks,
    taken_out,
    with_report,
)
from proxy.core.entities import Dialect
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.money import NANO
from proxy.core.requests import CallRequest, parse_call


@pytest.mark.parametrize("name", HEADERS)
def test_any_of_our_headers_is_seen(name: str) -> None:
    assert asks_anything({"host": "x", name: "1"})
    assert not asks_anything({"host": "x"})


def test_nothing_sent_asks_nothing() -> None:
    assert read_asks({}) == NOTHING == Asks()


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0.05", 50_000_000),
        ("$0.05", 50_000_000),
        ("3", 3 * NANO),
        ("0.000000001", 1),
        ("50000 nano", 50_000),
        ("50000n", 50_000),
        ("7 nanousd", 7),
        ("7 nano-USD", 7),
        ("1000000000", NANO * NANO),
    ],
)
def test_an_amount_is_in_dollars_unless_it_has_its_unit(text: str, nano: int) -> None:
    assert read_asks({"x-max-cost": text}).cost_max == nano


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1e3", "0.0000000001", "five", "0 nano", "1000000001", "5 euro", "١"]
)
def test_what_is_no_amount_is_refused_by_the_name_of_its_header(text: str) -> None:
    with pytest.raises(RelayError, match="x-max-cost") as raised:
        read_asks({"x-max-cost": text})
    assert (raised.value.code, raised.value.param) == (ErrorCode.INVALID_REQUEST, "x-max-cost")


@pytest.mark.parametrize(
    ("text", "dry"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False)]
)
def test_a_dry_run_is_asked_for_in_so_many_words(text: str, dry: bool) -> None:
    assert read_asks({"x-dry-run": text}).dry_run is dry


def test_a_misread_dry_run_would_be_charged_so_it_is_refused() -> None:
    with pytest.raises(RelayError, match="`x-dry-run` must be"):
        read_asks({"x-dry-run": "yes please"})


def test_usage_can_only_be_included() -> None:
    assert read_asks({"x-sluice-usage": "Include"}).usage
    with pytest.raises(RelayError, match="must be `include`"):
        read_asks({"x-sluice-usage": "yes"})


@pytest.mark.parametrize("mode", CacheMode)
def test_a_cache_mode_is_one_of_three(mode: CacheMode) -> None:
    assert read_asks({"x-sluice-cache": mode.upper()}).cache is mode
    with pytest.raises(RelayError, match="use, refresh, off"):
        read_asks({"x-sluice-cache": "sometimes"})


def test_a_time_to_live_is_bounded_seconds() -> None:
    assert read_asks({"x-sluice-cache-ttl": str(CACHE_SECONDS_MAX)}).cache_seconds == 604_800
    for text in ("0", "-1", "604801", "1.5", "", "9" * 40, "٣"):
        with pytest.raises(RelayError, match="must be seconds from 1"):
            read_asks({"x-sluice-cache-ttl": text})


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        (b'{"include":true}', True),
        (b'{"include": false}', False),
        (b'{"include":true,"more":1}', None),
        (b'{"include":"true"}', None),
        (b"true", None),
        (b"null", None),
    ],
)
def test_a_body_asks_in_the_form_others_know(written: bytes, asked: bool | None) -> None:
    assert asks_for_usage({"usage": Raw(written)}) is asked
    assert asks_for_usage({}) is None


def chat(**more: object) -> tuple[bytes, CallRequest]:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]} | more)
    return body.encode(), parse_call(body.encode(), Dialect.OPENAI)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (
            b'{"usage":{"include":true},"model":"m","messages":[{}]}',
            b'{"model":"m","messages":[{}]}',
        ),
        (
            b'{ "model":"m", "usage" : {"include": true} , "messages":[{}]}',
            b'{ "model":"m" , "messages":[{}]}',
        ),
        (
            b'{"model":"m","messages":[{}],"usage":{"include":true}}',
            b'{"model":"m","messages":[{}]}',
        ),
    ],
)
def test_the_member_for_us_is_taken_out_wherever_it_stands(body: bytes, left: bytes) -> None:
    assert taken_out(body, parse_call(body, Dialect.OPENAI)) == left


def test_a_stream_is_asked_for_its_report_where_its_form_leaves_that_open() -> None:
    body, request = chat(stream=True)
    assert json.loads(with_report(body, request))["stream_options"] == {"include_usage": True}
    body, request = chat(stream=True, stream_options={"include_usage": True})
    assert with_report(body, request) == body
    body = b'{"model":"m","max_tokens":5,"stream":true,"messages":[{}]}'
    assert with_report(body, parse_call(body, Dialect.ANTHROPIC)) == body
