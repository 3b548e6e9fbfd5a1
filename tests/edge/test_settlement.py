"""What a call costs however it ends: the disconnect contract in figures, to the last unit."""

from pathlib import Path
from typing import Any

import pytest

from proxy.core.bill import Delivered
from proxy.core.entities import Verdict
from proxy.core.exchange import Exchange
from proxy.core.tokenizers import Characters
from proxy.edge import settlement
from proxy.edge.call import Call
from proxy.edge.client import ClientConnection
from proxy.edge.settlement import Ended
from tests.edge.harness import (
    ANN,
    BLOCK_START,
    CHAT,
    CONTENT,
    DONE,
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    MESSAGES,
    ROLE,
    SAID,
    STOP,
    USD,
    WORDS,
    Relay,
    answer,
    anthropic_channel,
    body,
    channel,
    plain_answer,
    price_of,
    text,
    usage,
)
from tests.edge.test_client import LEAVE
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    LAST_CHUNK,
    AwaitGone,
    Pause,
    Script,
    Send,
    chunk,
    plain_script,
    response_head,
    stream_head,
    stream_script,
)

END = b"0\r\n\r\n"
DRAIN = {"disconnect": "drain", "drain_seconds_max": 10.0}
ASK = request_bytes(CHAT, body(), key=ANN)
PROMPT_TOKENS = 3 + 4 + 4
"""`Say hello.` in o200k and its framing; counted when the provider said nothing of the prompt."""


def stream(*events: bytes, then: Script = ()) -> list[Any]:
    return [Send(stream_head()), *[Send(chunk(event)) for event in events], *then]


REST = [Pause("rest"), *[Send(chunk(event)) for event in (*CONTENT[3:], STOP)],
        Send(chunk(usage(9, 7))), Send(chunk(DONE)), Send(LAST_CHUNK)]  # fmt: skip


DONE_STEP = 1 + 4 + len(REST) - 1
"""After the last chunk nobody listens any more."""


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("mode", [{}, DRAIN])
def test_a_client_that_left_pays_what_was_delivered_or_what_the_provider_says(
    tmp_path: Path, how: str, mode: dict[str, Any]
) -> None:
    with (
        ScriptedUpstream(stream(ROLE, *CONTENT[:3], then=REST)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group=mode) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(CONTENT[2])
        call_now = relay.call()
        LEAVE[how](client)
        relay.until(lambda: call_now.gone)
        upstream.release("rest")
        (call,) = relay.calls()
        assert call["verdict"] == "client_gone"
        if mode:
            assert (call["source"], call["charge"]) == ("reported", price_of(9, 7))
            upstream.wait_until(lambda up: up.exchanges[0].steps_done >= DONE_STEP)
        else:
            assert (call["source"], call["output"]) == ("counted", 3)
            assert call["charge"] == price_of(call["input_uncached"], 3)
            assert call["input_uncached"] == PROMPT_TOKENS
            assert not upstream.exchanges[0].finished


@pytest.mark.parametrize("mode", [{}, DRAIN])
def test_leaving_before_content_costs_the_client_nothing(
    tmp_path: Path, mode: dict[str, Any]
) -> None:
    with (
        ScriptedUpstream([Pause("rest"), *stream_script(answer())]) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group=mode) as relay,
        relay.client() as client,
    ):
        client.send(ASK)
        upstream.wait_until(lambda up: len(up.requests) == 1)
        call_now = relay.call()
        client.leave()
        relay.until(lambda: call_now.gone)
        upstream.release("rest")
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("client_gone", 0)
        assert call["forgiven"] == (price_of(9, 7) if mode else 0)
        assert relay.do(lambda: relay.keeper.balance(1)) == USD


def test_a_drained_stream_of_many_bytes_before_content_reads_on(tmp_path: Path) -> None:
    many = [chunk(event) for event in CONTENT] * 2_000
    script = [Pause("rest"), Send(stream_head()), Send(b"".join(many)), Send(chunk(STOP)),
              Send(chunk(usage(9, 1_000))), Send(chunk(DONE)), Send(LAST_CHUNK)]  # fmt: skip
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group=DRAIN) as relay,
        relay.client() as client,
    ):
        client.send(ASK)
        upstream.wait_until(lambda up: len(up.requests) == 1)
        call_now = relay.call()
        client.reset()
        relay.until(lambda: call_now.gone)
        upstream.release("rest")
        (call,) = relay.calls()
        assert (call["charge"], call["forgiven"]) == (0, price_of(9, 1_000))


@pytest.mark.parametrize("mode", [{}, DRAIN])
@pytest.mark.parametrize("reported", [True, False])
def test_after_the_finish_reason_usage_is_awaited_in_every_mode(
    tmp_path: Path, mode: dict[str, Any], reported: bool
) -> None:
    rest = [Pause("rest"), *([Send(chunk(usage(11, 40)))] if reported else []), Send(chunk(DONE))]
    with (
        ScriptedUpstream(stream(ROLE, *CONTENT, STOP, then=rest)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group=mode) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(STOP)
        call_now = relay.call()
        client.leave()
        relay.until(lambda: call_now.gone)
        upstream.release("rest")
        (call,) = relay.calls()
        assert call["verdict"] == "client_gone"
        if reported:
            assert (call["source"], call["charge"]) == ("reported", price_of(11, 40))
        else:
            assert (call["source"], call["output"]) == ("counted", len(WORDS))


def test_the_wait_for_usage_ends(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream(ROLE, *CONTENT, STOP, then=[AwaitGone()])) as upstream,
        Relay(tmp_path, channel(upstream.base_url), usage_wait_ms=50) as relay,
        relay.client() as client,
    ):
        client.send(ASK).read_until(STOP)
        client.leave()
        upstream.wait_until(lambda up: up.visits[0].gone is not None)
        (call,) = relay.calls()
        assert (call["verdict"], call["source"]) == ("client_gone", "counted")


def test_an_anthropic_client_that_left_pays_the_reported_prompt_and_counted_output(
    tmp_path: Path,
) -> None:
    with (
        ScriptedUpstream(
            stream(MESSAGE_START, BLOCK_START, *SAID[:4], then=[AwaitGone()])
        ) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(MESSAGES, body(max_tokens=50), key=ANN)).read_until(SAID[3])
        client.leave()
        (call,) = relay.calls()
        assert (call["source"], call["charge"]) == ("counted", price_of(9, 4))


def test_hidden_output_is_always_drained_and_billed_as_reported(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream(ROLE, *CONTENT[:3], then=REST)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(model="thinker"), key=ANN)).read_until(CONTENT[2])
        call_now = relay.call()
        client.leave()
        relay.until(lambda: call_now.gone)
        upstream.release("rest")
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("client_gone", price_of(9, 7))


def test_an_estimated_model_is_marked_so(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(stream_script([ROLE, *CONTENT, STOP, DONE])) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        relay.ask(body(model="guess"))
        (call,) = relay.calls()
        assert call["source"] == "estimated"
        assert call["charge"] > 0


@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_leaving_while_the_commit_is_awaited_is_billed_once(
    tmp_path: Path, how: str, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F29: settled, not yet committed; the terminal frame never left."""
    first: tuple[bytes, ...]
    rest: tuple[bytes, ...]
    if dialect == "openai":
        target, first, rest = CHAT, (ROLE, *CONTENT), (STOP, usage(9, 7), DONE)
    else:
        target, first, rest = MESSAGES, (MESSAGE_START, *SAID), (MESSAGE_DELTA, MESSAGE_STOP)
    ending = [Pause("rest"), *[Send(chunk(event)) for event in rest], Send(LAST_CHUNK)]
    with (
        ScriptedUpstream(stream(*first, then=ending)) as upstream,
        Relay(tmp_path, channel(upstream.base_url, dialect=dialect)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(target, body(max_tokens=50), key=ANN)).read_until(first[-1])
        call_now = relay.call()
        held = relay.hold_commits(monkeypatch)
        upstream.release("rest")
        relay.until(lambda: call_now.receipt is not None)
        client.read_until(rest[0])
        LEAVE[how](client)
        relay.until(lambda: call_now.gone)
        held.set()
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("complete", price_of(9, 7))
        assert rest[-1] not in bytes(client.received)


def test_every_byte_of_a_reference_answer_is_a_place_to_leave(tmp_path: Path) -> None:
    """F25, F26: the charge is what left, never more than the whole, and the books balance."""
    script = stream_script(answer())
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), plan="free") as relay,
    ):
        with relay.client() as client:
            client.send(ASK)
            whole = len(client.read_until(b"0\r\n\r\n"))
        for position in range(1, whole, 23):
            for how in ("fin", "rst"):
                with relay.client() as client:
                    client.send(ASK)
                    while len(client.received) < position and not client.received.endswith(END):
                        client.read_once(position - len(client.received))
                    LEAVE[how](client)
        calls = relay.calls()
        assert {call["verdict"] for call in calls} <= {"complete", "client_gone"}
        for call in calls:
            assert 0 <= call["charge"] <= price_of(PROMPT_TOKENS, 7)
            assert call["charge"] == price_of(call["input_uncached"], call["output"])


def test_a_plain_call_whose_client_left_costs_nothing(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([Pause("rest"), *plain_script(plain_answer())]) as upstream,
        Relay(tmp_path, channel(upstream.base_url), group=DRAIN) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(CHAT, body(stream=False, max_tokens=50), key=ANN))
        upstream.wait_until(lambda up: len(up.requests) == 1)
        call_now = relay.call()
        client.leave()
        relay.until(lambda: call_now.gone)
        upstream.release("rest")
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("client_gone", 0)
        assert call["forgiven"] == price_of(9, 2)


def test_a_plain_answer_without_usage_is_counted(tmp_path: Path) -> None:
    said = plain_answer().split(b', "usage"')[0] + b"}"
    with (
        ScriptedUpstream(plain_script(said)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body(stream=False, max_tokens=50)).body == said
        (call,) = relay.calls()
        assert (call["source"], call["output"]) == ("counted", 2)


def test_an_upstream_that_failed_is_nobodys_charge(tmp_path: Path) -> None:
    broken = [Send(response_head(500, [("content-length", "0")]))]
    with (
        ScriptedUpstream(broken) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body()).status == 502
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"], call["status"]) == ("upstream_error", 0, 502)
        assert call["error_code"] == "upstream_error"


def test_an_end_says_its_verdict_and_error() -> None:
    assert Ended(Verdict.COMPLETE, None).error is None
    assert settlement.CLIENT_GONE_STATUS == 499


@pytest.mark.parametrize(
    ("report", "counts", "source", "output"),
    [((9, 7), 0, "reported", 7), ((9, 0), 1, "reported", 0), (None, 1, "counted", len(WORDS))],
)
def test_a_whole_stream_is_counted_only_where_the_count_may_be_billed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    report: tuple[int, int] | None,
    counts: int,
    source: str,
    output: int,
) -> None:
    told = [] if report is None else [usage(*report)]
    measure, counted = settlement.measure, []

    def counting(call: Call, exchange: Exchange, unsent_bytes: int | None) -> Delivered:
        counted.append(unsent_bytes)
        return measure(call, exchange, unsent_bytes)

    monkeypatch.setattr(settlement, "measure", counting)
    with (
        ScriptedUpstream(stream_script([ROLE, *CONTENT, STOP, *told, DONE])) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body()).status == 200
        (call,) = relay.calls()
    assert (call["source"], call["output"], call["delivered_events"]) == (
        source, output, 2 + len(CONTENT)
    )  # fmt: skip
    assert len(counted) == counts


def test_complete_streams_teach_the_estimate_of_their_model(tmp_path: Path) -> None:
    words = [text(f" word{number:04d}") for number in range(40)]
    characters = len(" word0000") * len(words)
    events = [ROLE, *words, STOP, usage(9, characters), DONE]
    with (
        ScriptedUpstream(stream_script(events)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):

        def weight() -> int:
            return relay.world.calibration.tokens("guess", Characters(1_000, 0))

        assert relay.do(weight) == 250  # a quarter of a token each, before anything was seen
        relay.ask(body(model="guess", max_tokens=500))
        (call,) = relay.calls()
        assert (call["source"], call["output"]) == ("reported", characters)
        assert 250 < relay.do(weight) < 1_000


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "estimated"])
def test_a_mark_says_what_the_call_would_cost_if_it_ended_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    """In short where no report has come yet, for what has left this machine and nothing else."""
    opened = [MESSAGE_START, BLOCK_START] if dialect == "anthropic" else [ROLE]
    said = SAID if dialect == "anthropic" else CONTENT
    target = MESSAGES if dialect == "anthropic" else CHAT
    made_for = anthropic_channel if dialect == "anthropic" else channel
    with (
        ScriptedUpstream(stream(*opened, *said, then=[AwaitGone()])) as upstream,
        Relay(tmp_path, made_for(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        asked = body(model="guess") if dialect == "estimated" else body(max_tokens=50)
        client.send(request_bytes(target, asked, key=ANN)).read_until(said[-1])
        call = relay.call()

        def compare() -> list[int]:
            charges = []
            attempt = call.attempt
            assert attempt is not None
            exchange = attempt.exchange
            for unsent in (10**6, len(said[-1]), 0):
                monkeypatch.setattr(ClientConnection, "unsent_bytes", lambda _, n=unsent: n)
                marked = settlement.progress(call, exchange)
                delivered = settlement.measure(call, exchange, unsent)
                whole = settlement.statement(call, delivered, exchange, complete=False)
                assert (marked.usage, marked.source) == (whole.usage, whole.source)
                assert (marked.charge, marked.delivered_bytes) == (
                    whole.charge,
                    exchange.wire_bytes,
                )
                assert (marked.call_id, marked.channel_id) == (call.opening.call_id, 1)
                charges.append(marked.charge)
            return charges

        nothing, some, everything = relay.do(compare)
        assert nothing == 0 < some <= everything
