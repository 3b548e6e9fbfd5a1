"""The engine of plain calls judges every answer as the engine of streams does in its plain phases."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import outcomes
from proxy.core.exchange import UNLIMITED, Exchange, FailureKind, Phase
from proxy.core.metering import Meter
from proxy.core.plain_exchange import PlainExchange
from proxy.core.usage import UsageTally
from tests.core.playbook import PLAIN, anywhere, chunk, chunked, each_byte, head

BODY = b'{"choices":[{"finish_reason":"stop"}]}'
JSON = "application/json"
WIRES = {
    "length": head(kind=JSON, framing=str(len(BODY))) + BODY,
    "chunked": head(kind=JSON) + chunked([BODY[:9], BODY[9:]]),
    "close": head(kind=JSON, framing="close") + BODY,
    "interim": b"HTTP/1.1 103 Early\r\n\r\n" + head(kind=JSON, framing="2") + b"{}",
    "excess": head(kind=JSON, framing="2") + b"{}{}",
    "refused": head("Retry-After: 7", status=429, kind=JSON, framing="2") + b"{}",
    "nothing": head(status=204, kind="", framing="close"),
    "compressed": head("Content-Encoding: gzip", kind=JSON, framing="3") + b"\x1f\x8b\x08",
    "compressed refusal": head("Content-Encoding: br", status=503, framing="1") + b"\1",
    "compressed and broken": head("Content-Encoding: br") + b"zz\r\n",
    "events": head() + chunked([b"data: {}\n\n", b"data: [DONE]\n\n"]),
    "a half": head(kind=JSON, framing="50") + BODY,
    "a half in chunks": head(kind=JSON) + chunk(BODY),
    "no head": b"HTTP/1.1 200 OK\r\nContent-",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "bad chunk": head(kind=JSON) + chunk(BODY) + b"xyz\r\n",
    "silence": b"",
}


def new_plain() -> tuple[PlainExchange, Exchange]:
    return PlainExchange(PLAIN), Exchange(PLAIN, Meter(len), UsageTally())


def state(exchange: Exchange) -> tuple[object, ...]:
    """Everything the relay asks of an exchange whose answer is plain."""
    return (
        exchange.phase, exchange.failure, exchange.over, exchange.body, exchange.plain_bytes,
        exchange.reusable, exchange.progress(), exchange.head, exchange.events, exchange.shown,
        exchange.held, exchange.terminal, exchange.finish_reason, exchange.answer_id,
        exchange.at_edge, exchange.has_id, exchange.in_event, exchange.upper, exchange.finishing,
        exchange.tokens_allowed, exchange.tally.seen, exchange.meter.written, exchange.wire_bytes,
    )  # fmt: skip


@pytest.mark.parametrize("name", WIRES)
@pytest.mark.parametrize("cut", ["whole", "bytes", "anywhere"])
def test_it_judges_as_the_engine_of_streams_does(name: str, cut: str) -> None:
    wire = WIRES[name]
    reads = {"whole": [wire], "bytes": list(each_byte(wire)), "anywhere": anywhere(wire, 3, 40)}
    ours, theirs = new_plain()
    ours.splice(len, len)  # typed to return nothing
    for data in filter(None, reads[cut]):
        assert not ours.passes(data)
        assert ours.ordinary(data) == theirs.ordinary(data) == 0
        assert ours.receive(data) == theirs.receive(data) == b""
        assert state(ours) == state(theirs)
    assert ours.finish(b"") == theirs.finish(b"")
    assert ours.receive_eof() == theirs.receive_eof() == b""
    assert state(ours) == state(theirs)
    assert ours.receive(b"HTTP/1.1") == theirs.receive(b"HTTP/1.1") == b""
    assert ours.receive_eof() == theirs.receive_eof() == b""
    assert state(ours) == state(theirs)
    assert ours.over


@given(
    status=st.sampled_from([200, 200, 204, 299, 400, 503]),
    kind=st.sampled_from([JSON, "", "text/event-stream"]),
    framing=st.sampled_from(["2", "2", "3", "02", "x", "chunked", "close"]),
    headers=st.lists(
        st.sampled_from(
            ["Content-Encoding: gzip", "content-encoding: identity", "Content-Length: 2",
             "Connection: close", "x-request-id: a", "date: 1", " folded", "a : b", "b: \0", "c: d\ne: f"]
        ),
        max_size=3,
    ),
    body=st.sampled_from([b"{}", b"{}", b"", b"{}{}", b"2\r\n{}\r\n0\r\n\r\n"]),
    place=st.none() | st.integers(1, 200),
)  # fmt: skip
def test_it_judges_any_answer_as_the_engine_of_streams_does(
    status: int, kind: str, framing: str, headers: list[str], body: bytes, place: int | None
) -> None:
    wire = head(*headers, status=status, kind=kind, framing=framing) + body
    ours, theirs = new_plain()
    ours.splice(len, len)  # typed to return nothing
    for data in filter(None, [wire] if place is None else [wire[:place], wire[place:]]):
        assert ours.receive(data) == theirs.receive(data) == b""
        assert state(ours) == state(theirs)
    assert ours.finish(b"") == theirs.finish(b"")
    assert ours.receive_eof() == theirs.receive_eof() == b""
    assert state(ours) == state(theirs)


def test_a_read_over_the_bound_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "RESPONSE_BYTES_MAX", 100)
    for exchange in new_plain():
        exchange.receive(head(kind=JSON, framing="101") + b"x" * 101)
        assert exchange.failure is not None
        assert exchange.failure.kind is FailureKind.TOO_LARGE


def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "RESPONSE_BYTES_MAX", 100)
    for exchange in new_plain():
        exchange.receive(head(kind=JSON, framing="close") + b"x" * 100)
        assert exchange.phase is Phase.PLAIN
        exchange.receive(b"x")
        assert exchange.failure is not None
        assert exchange.failure.kind is FailureKind.TOO_LARGE
        assert len(exchange.body) == 100


def test_nothing_waits_for_a_hold() -> None:
    for exchange in new_plain():
        exchange.receive(WIRES["a half"])
        assert exchange.allow(5) == b""
        assert (exchange.tokens_allowed, exchange.at_edge) == (5, False)
        assert exchange.allow(UNLIMITED) == b""
        exchange.reject(dataclasses.replace(FAILURE))
        assert exchange.phase is Phase.FAILED


FAILURE = outcomes.Failure(FailureKind.ERROR_EVENT, "an error inside a 200")


def test_nobody_is_told_of_another_call() -> None:
    """What instances share is never written into."""
    first, _ = new_plain()
    first.receive(WIRES["length"])
    second, _ = new_plain()
    assert not second.tally.seen
    assert second.meter.written == 0
    assert second.body == b""
