"""The cost in the usage of every wire form: held, edited, and nothing else touched."""

import json
from decimal import Decimal
from typing import Any

import pytest

from proxy.core.entities import Usage, Wire
from proxy.core.telling import LOOKED_AT_BYTES_MAX, TELLABLE, Cost, UsageEvents, tell_plain
from tests.edge import harness

COST = Cost(23_000, 977_000, Usage(input_uncached=9, output=7))
DONE = harness.DONE
COMPLETED = harness.named(
    {"type": "response.completed", "sequence_number": 5,
     "response": {"id": "resp_1", "usage": {"input_tokens": 9, "output_tokens": 7}}}
)  # fmt: skip


def told(event: bytes) -> dict[str, Any]:
    data = event[event.index(b"data: ") + 6 :]
    found = json.loads(data, parse_float=Decimal)
    assert isinstance(found, dict)
    return found


def cut(data: bytes) -> list[bytes]:
    return [piece + b"\n\n" for piece in data.removesuffix(b"\n\n").split(b"\n\n")]


def test_chunks_pass_and_the_report_waits_for_its_cost() -> None:
    usage = UsageEvents(Wire.CHAT)
    *content, report, _ = harness.answer()
    passed = usage.feed(b"".join(content))
    assert passed == b"".join(content)
    assert usage.feed(report) == b""
    assert usage.held == report
    assert usage.feed(b": keep-alive\n\n") == b": keep-alive\n\n", "nobody is held up by it"
    event, done = cut(usage.end(DONE, COST))
    assert done == DONE
    found = told(event)
    assert found["choices"] == []
    assert found["usage"] == {
        "prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16,
        "cost": Decimal("0.000023"), "cost_nano_usd": 23_000, "balance_nano_usd": 977_000,
    }  # fmt: skip
    assert b'"cost":0.000023,' in event, "every digit, and no exponent"


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_it_does_not_matter_how_the_stream_was_cut(size: int) -> None:
    whole = b"".join(harness.answer()[:-1])
    usage = UsageEvents(Wire.CHAT)
    passed = b"".join(usage.feed(whole[at : at + size]) for at in range(0, len(whole), size))
    assert passed == b"".join(harness.answer()[:-2])
    assert told(cut(usage.end(DONE, COST))[0])["usage"]["cost_nano_usd"] == 23_000


@pytest.mark.parametrize("wire", [Wire.CHAT, Wire.COMPLETIONS])
def test_a_stream_that_reports_nothing_gets_a_report_like_its_chunks(wire: Wire) -> None:
    usage = UsageEvents(wire)
    first = harness.data(
        {"id": "c1", "object": "chunk", "created": 5, "model": "m", "choices": [{"index": 0}]}
    )
    # Usage beside content stays where it is: it says nothing of what follows.
    early = harness.data({"id": "c1", "choices": [{"index": 0}], "usage": {"prompt_tokens": 1}})
    null = harness.data({"id": "c1", "choices": [], "usage": None})
    broken = b'data: {"usage"\n\n' + b"event: usage\n\n" + b'data: ["usage"]\n\n'
    sent = first + early + null + broken
    assert usage.feed(sent) == sent
    event, done = cut(usage.end(DONE, COST))
    found = told(event)
    assert done == DONE
    assert {name: found[name] for name in ("id", "object", "created", "model", "choices")} == {
        "id": "c1", "object": "chunk", "created": 5, "model": "m", "choices": [],
    }  # fmt: skip
    assert (found["usage"]["prompt_tokens"], found["usage"]["completion_tokens"]) == (9, 7)
    assert found["usage"]["cost"] == Decimal("0.000023")


def test_a_second_report_lets_the_first_one_pass() -> None:
    usage = UsageEvents(Wire.CHAT)
    first, second = harness.usage(1, 1), harness.usage(9, 7)
    assert usage.feed(first + second) == first
    assert told(cut(usage.end(DONE, COST))[0])["usage"]["prompt_tokens"] == 9


def test_what_an_upstream_says_of_its_own_price_is_not_passed_on() -> None:
    usage = UsageEvents(Wire.CHAT)
    usage.feed(harness.data({"choices": [], "usage": {"prompt_tokens": 9, "cost": 77}}))
    assert told(usage.end(b"", COST))["usage"]["cost"] == Decimal("0.000023")


def test_parts_of_an_event_too_large_to_hold_pass_and_end() -> None:
    usage = UsageEvents(Wire.CHAT)
    large = harness.text("x" * (2 << 20))
    half = len(large) // 2
    passed = usage.feed(large[:half]) + usage.feed(large[half:-1])
    rest = usage.end(DONE, COST)
    assert (passed + rest).startswith(large[:-1])
    assert rest.endswith(DONE)


def test_a_message_tells_in_its_delta() -> None:
    usage = UsageEvents(Wire.MESSAGES)
    *content, delta, stop = harness.message()
    assert usage.feed(b"".join([*content, delta])) == b"".join(content)
    event, last = cut(usage.end(stop, COST))
    assert last == stop
    assert event.startswith(b"event: message_delta\n")
    found = told(event)
    assert found["delta"] == {"stop_reason": "end_turn"}
    assert found["usage"]["output_tokens"] == 7
    assert found["usage"]["cost"] == Decimal("0.000023")


def test_a_message_without_a_delta_gets_one() -> None:
    usage = UsageEvents(Wire.MESSAGES)
    assert usage.feed(harness.MESSAGE_START) == harness.MESSAGE_START, "a report, but not the last"
    event, _ = cut(usage.end(harness.MESSAGE_STOP, COST))
    found = told(event)
    assert (found["type"], found["usage"]["input_tokens"]) == ("message_delta", 9)


def test_a_response_tells_in_its_last_event() -> None:
    usage = UsageEvents(Wire.RESPONSES)
    created = harness.named({"type": "response.created", "response": {"usage": None}})
    assert usage.feed(created) == created
    found = told(usage.end(COMPLETED, COST))
    assert found["sequence_number"] == 5
    assert found["response"]["usage"] == {
        "input_tokens": 9, "output_tokens": 7, "cost": Decimal("0.000023"),
        "cost_nano_usd": 23_000, "balance_nano_usd": 977_000,
    }  # fmt: skip
    silent = harness.named({"type": "response.incomplete", "response": {"usage": None}})
    assert told(usage.end(silent, COST))["response"]["usage"]["total_tokens"] == 16


@pytest.mark.parametrize(
    "last",
    [
        b"",
        b": a comment\n\n",
        b"data: not json\n\n",
        b"data: [1]\n\n",
        harness.named({"type": "response.completed", "response": 5}),
        harness.named({"type": "response.created", "response": {}}),
        b"data: " + b"x" * LOOKED_AT_BYTES_MAX + b"y\n\n",
    ],
    ids=range(7),
)
def test_a_last_event_that_cannot_be_edited_passes(last: bytes) -> None:
    assert UsageEvents(Wire.RESPONSES).end(last, COST) == last


@pytest.mark.parametrize("wire", sorted(TELLABLE))
def test_a_plain_answer_keeps_all_its_bytes_but_usage(wire: Wire) -> None:
    body = b'{ "id" : "c1", "n": 1.50, "usage": {"prompt_tokens":9,"cost":5}, "t": "\\u00e9" }'
    edited = tell_plain(body, wire, COST)
    assert edited == (
        b'{"id":"c1","n":1.50,"usage":{"prompt_tokens":9,"cost":0.000023,"cost_nano_usd":23000,'
        b'"balance_nano_usd":977000},"t":"\\u00e9"}'
    )


@pytest.mark.parametrize("usage", [b"", b',"usage":null', b',"usage":[]'])
def test_a_plain_answer_without_usage_gets_what_was_billed(usage: bytes) -> None:
    found = json.loads(tell_plain(b'{"id":"c1"' + usage + b"}", Wire.CHAT, COST))
    assert (found["usage"]["total_tokens"], found["usage"]["cost_nano_usd"]) == (16, 23_000)


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff"])
def test_what_is_no_object_stays_as_it_is(body: bytes) -> None:
    assert tell_plain(body, Wire.CHAT, COST) == body
