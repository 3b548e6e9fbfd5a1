"""Service answers kept and given again: embeddings, sound, streams of pictures; never a form."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.edge import kept_service
from tests.edge.harness import Relay, error_of
from tests.edge.services import (
    EMBEDDING,
    EMBEDDINGS,
    IMAGES,
    SPEECH,
    answered,
    asked,
    service_channel,
    service_relay,
    sound,
)
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import Send, plain_script, response_head

USE = {"x-sluice-cache": "use"}


def cache_relay(path: Path, upstream: ScriptedUpstream, **options: Any) -> Relay:
    group = {"cache_multiplier": "0.5"}
    return service_relay(path, service_channel(upstream.base_url), group=group, **options)


def test_an_embedding_is_given_again_at_the_groups_share(tmp_path: Path) -> None:
    with ScriptedUpstream(answered()) as upstream, cache_relay(tmp_path, upstream) as relay:
        first = relay.ask(asked(), EMBEDDINGS, headers=USE)
        assert first.header("x-sluice-cache") == "stored"
        again = relay.ask(asked(), EMBEDDINGS, headers=USE)
        assert (again.header("x-sluice-cache"), again.header("age")) == ("hit", "0")
        assert again.body == first.body == json.dumps(EMBEDDING).encode()
        assert again.header("x-sluice-cost") == "1500"
        assert again.header("content-type") == "application/json"
        assert len(upstream.requests) == 1
        before, row = relay.calls()
        assert (before["charge"], row["charge"]) == (3_000, 1_500)
        assert (row["source"], row["verdict"], row["channel_id"]) == ("cached", "complete", None)
        other = relay.ask(asked(input="another"), EMBEDDINGS, headers=USE)
        assert other.header("x-sluice-cache") == "stored"
        receipt = relay.get(f"/v1/generation?id={again.header('x-request-id')}")
        assert json.loads(receipt.body)["data"]["charge_nano_usd"] == 1_500


@pytest.mark.parametrize("size", [200, 300_000])
def test_sound_is_given_again_byte_for_byte(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    with ScriptedUpstream(sound(data)) as upstream, cache_relay(tmp_path, upstream) as relay:
        body = asked("voice", input="Hello", voice="x")
        first, again = (relay.ask(body, SPEECH, headers=USE) for _ in range(2))
        assert (first.header("x-sluice-cache"), again.header("x-sluice-cache"))[1] == "hit"
        assert again.body == first.body == data
        assert again.header("content-type") == "audio/mpeg"
        assert again.header("content-length") == str(len(data))
        assert [call["charge"] for call in relay.calls()] == [75_000, 37_500]


def test_a_stream_of_events_comes_again_as_one(tmp_path: Path) -> None:
    usage = {"input_tokens": 5, "output_tokens": 300, "total_tokens": 305}
    last = {"type": "image_generation.completed", "b64_json": "AAAA", "usage": usage}
    event = b"event: image_generation.completed\ndata: " + json.dumps(last).encode() + b"\n\n"
    rows = [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]
    script = [Send(response_head(200, rows)), Send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))]
    with ScriptedUpstream(script) as upstream, cache_relay(tmp_path, upstream) as relay:
        body = asked("drawer", prompt="x", stream=True)
        first, again = (relay.ask(body, IMAGES, headers=USE) for _ in range(2))
        assert (first.header("x-sluice-cache"), again.header("x-sluice-cache")) == ("miss", "hit")
        assert again.body == first.body == event
        assert (again.header("content-type") or "").startswith("text/event-stream")


def test_a_limit_of_cost_is_that_of_the_kept_answer(tmp_path: Path) -> None:
    with ScriptedUpstream(answered()) as upstream, cache_relay(tmp_path, upstream) as relay:
        relay.ask(asked(), EMBEDDINGS, headers=USE)
        little = relay.ask(asked(), EMBEDDINGS, headers=USE | {"x-max-cost": "1499 nano"})
        assert error_of(little)["code"] == "max_cost_exceeded"
        enough = relay.ask(asked(), EMBEDDINGS, headers=USE | {"x-max-cost": "1500 nano"})
        assert enough.header("x-sluice-cache") == "hit"
        dry = json.loads(relay.ask(asked(), EMBEDDINGS, headers=USE | {"x-dry-run": "1"}).body)
        assert dry["hold_nano_usd"] == 1_500
        limited = relay.ask(asked(), EMBEDDINGS, headers={"x-max-cost": "1 nano"})
        assert error_of(limited)["code"] == "max_cost_exceeded"


def test_what_is_spooled_has_no_place(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(answered()) as upstream,
        cache_relay(tmp_path, upstream, spool_memory_bytes_max=1_000) as relay,
    ):
        large = asked(input="x" * 5_000)
        for _ in range(2):
            assert relay.ask(large, EMBEDDINGS, headers=USE).header("x-sluice-cache") is None
        assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    "script",
    [
        plain_script(b'{"error":{"message":"no"}}', status=400),
        answered({"error": {"message": "no"}}),
    ],
)
def test_what_failed_is_not_kept(tmp_path: Path, script: Any) -> None:
    with ScriptedUpstream(script) as upstream, cache_relay(tmp_path, upstream) as relay:
        for _ in range(2):
            assert relay.ask(asked(), EMBEDDINGS, headers=USE).status >= 400
        assert len(upstream.requests) == 2
        assert len(relay.world.cache) == 0


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(answered()) as upstream,
        cache_relay(tmp_path, upstream, cache_entry_bytes_max=1_100) as relay,
    ):
        response = relay.ask(asked(), EMBEDDINGS, headers=USE)
        assert response.header("x-sluice-cache") == "miss"
        relay.quiet()
        assert len(relay.world.cache) == 0
    assert kept_service.__doc__
