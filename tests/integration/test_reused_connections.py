"""A kept upstream connection that turns out dead: once more on a fresh one, and nobody notices.

DESIGN.md section 6: end of file or reset on a *reused* connection before any response byte is
tried once more on a fresh one; on a fresh connection it is a failure.
"""

import json
from collections.abc import Iterator

import pytest

from tests.integration.raw_client import RawClient, RawResponse, request_bytes
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    Close,
    HalfClose,
    Reset,
    Send,
    Verb,
    plain_script,
    response_head,
    stream_script,
)
from tests.integration.streams import BY_NAME

STREAM = BY_NAME["openai-short-with-usage"]
PLAIN = plain_script(
    json.dumps(
        {
            "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        }
    ).encode()
)
SILENT_ENDS: dict[str, list[Verb]] = {"fin": [Close()], "rst": [Reset()], "half": [HalfClose()]}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(PLAIN) as server:
        yield server


@pytest.fixture(scope="module")
def relay(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RelayProcess]:
    # A channel for each failing test, or the breaker of one would answer for another.
    names = ("m", *SILENT_ENDS)
    channels = [UpstreamAt(name, "openai", upstream.base_url, {name: "m"}) for name in names]
    with RelayProcess(tmp_path_factory.mktemp("reused"), channels) as process:
        yield process


@pytest.fixture(scope="module")
def account(relay: RelayProcess) -> Account:
    return relay.account()


def call(
    relay: RelayProcess,
    upstream: ScriptedUpstream,
    account: Account,
    *,
    stream: bool,
    model: str = "m",
) -> RawResponse:
    """One call, to the end of what the upstream had to say: the last chunk of a stream comes
    after the client has all of it, and only then is the connection kept.
    """
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    request = request_bytes("/v1/chat/completions", json.dumps(body).encode(), key=account.key)
    with RawClient(relay.port) as client:
        response = client.send(request).read_response()
    upstream.wait_until(lambda up: all(one.finished for one in up.exchanges))
    return response


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("end", sorted(SILENT_ENDS))
def test_a_reused_connection_that_dies_silently_is_replaced(
    end: str, stream: bool, relay: RelayProcess, upstream: ScriptedUpstream, account: Account
) -> None:
    good = stream_script(STREAM.events) if stream else PLAIN
    upstream.play(good, SILENT_ENDS[end], good)
    assert call(relay, upstream, account, stream=stream).status == 200
    seen = len(upstream.visits)
    asked = len(upstream.requests)
    answer = call(relay, upstream, account, stream=stream)
    assert answer.status == 200, answer.body
    assert len(upstream.visits) == seen + 1, "the dead connection, then a fresh one"
    assert len(upstream.requests) == asked + 2


@pytest.mark.parametrize("end", sorted(SILENT_ENDS))
def test_a_fresh_connection_that_dies_silently_is_a_failure_without_a_charge(
    end: str, relay: RelayProcess, upstream: ScriptedUpstream, account: Account
) -> None:
    # A half-answered request makes the kept connection, if any, unfit for reuse.
    upstream.play([Send(response_head(200, [("content-length", "5")])), Close()])
    assert call(relay, upstream, account, stream=False, model=end).status == 502
    balance = relay.balance(account)
    upstream.play(SILENT_ENDS[end], PLAIN)
    answer = call(relay, upstream, account, stream=False, model=end)
    assert answer.status == 502
    assert answer.error()["code"] == "upstream_truncated"
    assert relay.balance(account) == balance


def test_a_connection_closed_between_calls_is_not_reused(
    relay: RelayProcess, upstream: ScriptedUpstream, account: Account
) -> None:
    upstream.play([*PLAIN, Close()])
    for _ in range(20):
        assert call(relay, upstream, account, stream=False).status == 200
