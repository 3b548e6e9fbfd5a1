"""What a caller of Gemini's own endpoint gets who does not ask for events: one array, billed."""

import json
from pathlib import Path

import pytest

from proxy.edge.array_call import Array
from tests.edge.harness import ANN, Relay, channel, price_of
from tests.integration.raw_client import request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import AwaitGone, Script, Send, chunk, stream_head, stream_script
from tests.integration.test_gemini_channel import answer, google, text

TARGET = "/v1beta/models/m:streamGenerateContent"
ASKED = b'{"contents":[{"parts":[{"text":"Say hello."}]}]}'


def test_an_array_of_the_events_is_complete_only_when_it_is_billed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        held = relay.hold_commits(monkeypatch)
        client.send(request_bytes(TARGET, ASKED, key=ANN))
        relay.call()
        held.set()
        response = client.read_response()
        assert len(json.loads(response.body)) == len(answer())
        assert relay.calls()[0]["charge"] == price_of(9, 7)


def test_what_has_not_left_is_told_in_the_upstreams_bytes(tmp_path: Path) -> None:
    script: Script = [Send(stream_head()), Send(chunk(text("Hello"))), AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, google(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        client.send(request_bytes(TARGET, ASKED, key=ANN))
        client.read_until(b"Hello")
        call = relay.call()

        def unsent() -> tuple[int, int]:
            assert call.attempt is not None
            array = call.attempt.translation
            assert isinstance(array, Array)
            assert array.header() == []
            with pytest.raises(AssertionError, match="nothing is translated"):
                array.request(b"", call.offer, "m")
            return array.unsent(0), array.unsent(1)

        assert relay.do(unsent) == (0, len(text("Hello")))
        client.leave()
        (row,) = relay.calls()
        assert row["verdict"] == "client_gone"


def test_what_is_translated_is_told_so_and_its_bytes_are_the_upstreams(tmp_path: Path) -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
    script: Script = [Send(stream_head()), Send(chunk(event)), AwaitGone()]
    with (
        ScriptedUpstream(script) as upstream,
        Relay(tmp_path, channel(upstream.base_url)) as relay,
        relay.client() as client,
    ):
        body = ASKED[:-1] + b',"safetySettings":[{"category":"x"}]}'
        client.send(request_bytes(TARGET, body, key=ANN))
        head = client.read_until(b"Hello")
        assert b"x-sluice-left-out: safetySettings" in head
        call = relay.call()

        def unsent() -> int:
            assert call.attempt is not None
            assert call.attempt.translation is not None
            return call.attempt.translation.unsent(1)

        assert relay.do(unsent) == len(event)
        client.leave()
        assert relay.calls()[0]["verdict"] == "client_gone"


def test_an_array_is_not_kept(tmp_path: Path) -> None:
    """What is kept of a stream are its events."""
    with (
        ScriptedUpstream(stream_script(answer())) as upstream,
        Relay(tmp_path, google(upstream.base_url), cache_bytes_max=1 << 20) as relay,
    ):
        use = {"x-sluice-cache": "use"}
        for number in (1, 2):
            response = relay.ask(ASKED, TARGET, headers=use)
            assert response.header("x-sluice-cache") is None
            assert len(upstream.requests) == number
        for hit in ("miss", "hit"):
            response = relay.ask(ASKED, f"{TARGET}?alt=sse", headers=use)
            assert response.header("x-sluice-cache") == hit
            assert response.body == b"".join(answer())
            assert response.header("content-type") == "text/event-stream; charset=utf-8"
        assert len(upstream.requests) == 3
