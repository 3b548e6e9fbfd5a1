"""What a call may cost at most, said by its caller: refused up front, or cut on the way."""

from pathlib import Path

import pytest

from tests.edge.harness import (
    CONTENT,
    DONE,
    MESSAGES,
    ROLE,
    STOP,
    Relay,
    anthropic_channel,
    body,
    channel,
    error_of,
    message,
    plain_answer,
    price_of,
    text,
    usage,
)
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    Flood,
    Send,
    chunk,
    plain_script,
    stream_head,
    stream_script,
)


def limit(nano: int) -> dict[str, str]:
    return {"x-max-cost": f"{nano} nano"}


def test_a_stream_is_cut_where_its_caller_will_pay_no_more(tmp_path: Path) -> None:
    script = [Send(stream_head()), Flood(chunk(CONTENT[1]), 100_000)]
    most = price_of(100, 200)
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url), slice_tokens=16) as relay,
    ):
        response = relay.ask(body(), headers=limit(most))
        assert response.whole
        assert error_of(response)["code"] == "max_cost_exceeded"
        (call,) = relay.calls()
        assert (call["verdict"], call["error_code"]) == ("cut_for_max_cost", "max_cost_exceeded")
        assert 0 < call["charge"] <= most
        assert (call["overrun"], call["forgiven"]) == (0, 0)
        assert call["output"] == response.body.count(CONTENT[1]) > 16, "extended up to the limit"
        upstream.wait_until(lambda up: up.visits[0].gone is not None)


def test_a_stream_that_fits_is_not_cut(tmp_path: Path) -> None:
    many = [text(" word") for _ in range(60)]
    events = [ROLE, *many, STOP, usage(9, 60), DONE]
    with (
        ScriptedUpstream(stream_script(events)) as upstream,
        Relay(tmp_path, channel(upstream.base_url), slice_tokens=16) as relay,
    ):
        # A word is at most four tokens while it is on its way, hence more room than 60 tokens.
        response = relay.ask(body(), headers=limit(price_of(40, 400)))
        assert response.body == b"".join([ROLE, *many, STOP, DONE])
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("complete", price_of(9, 60))


def test_what_a_provider_reports_above_the_limit_is_the_operators(tmp_path: Path) -> None:
    events = [ROLE, *CONTENT, STOP, usage(9_000, 7), DONE]
    most = price_of(100, 100)
    with (
        ScriptedUpstream(stream_script(events)) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        assert relay.ask(body(), headers=limit(most)).whole
        (call,) = relay.calls()
        assert (call["verdict"], call["charge"]) == ("complete", most)
        assert call["overrun"] == price_of(9_000, 7) - most


def test_a_prompt_that_turns_out_larger_leaves_less_for_the_answer(tmp_path: Path) -> None:
    """Anthropic's first event says what the prompt came to."""
    first, *rest = message()
    events = [first.replace(b'"input_tokens":9', b'"input_tokens":90000'), *rest]
    with (
        ScriptedUpstream(stream_script(events)) as upstream,
        Relay(tmp_path, anthropic_channel(upstream.base_url), slice_tokens=16) as relay,
    ):
        most = price_of(100, 300)
        assert relay.ask(body(max_tokens=1_000), MESSAGES, headers=limit(most)).status == 200
        (call,) = relay.calls()
        assert call["charge"] <= most


@pytest.mark.parametrize("stream", [True, False])
def test_what_cannot_fit_is_refused_before_anything_is_asked(tmp_path: Path, stream: bool) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(stream=stream), headers=limit(1_000))
        assert response.status == 400
        error = error_of(response)
        assert (error["code"], error["param"]) == ("max_cost_exceeded", "x-max-cost")
        assert response.header("x-sluice-verdict") == "rejected"
        assert response.header("x-sluice-cost") == "0"
        assert response.header("x-ratelimit-limit-requests") == "600", "announced"
        assert relay.calls() == []
        assert not upstream.visits


def test_the_hold_of_a_plain_call_is_within_the_limit(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(plain_answer())) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
    ):
        response = relay.ask(body(stream=False, max_tokens=50), headers=limit(price_of(9, 40)))
        assert "`max_tokens` of at most" in error_of(response)["message"]
