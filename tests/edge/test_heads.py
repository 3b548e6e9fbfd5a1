"""The head of a request to an upstream: the channel's key, our own headers, and made once."""

from pathlib import Path

import pytest

from proxy.core.entities import Channel, ChannelKey, Dialect
from proxy.core.urls import Endpoint
from proxy.edge import heads
from tests.edge.harness import Relay

KEY = ChannelKey(1, "sk-upstream")


def a_channel(dialect: Dialect = Dialect.OPENAI, **changes: object) -> Channel:
    return Channel(
        id=7,
        name="main",
        dialect=dialect,
        base_url="http://127.0.0.1:9/v1",
        keys=(KEY,),
        models={"m": "up m"},
        groups=frozenset({"default"}),
        allow_private=True,
        **changes,  # type: ignore[arg-type]  # a row of a few of its fields
    )


def lines(head: bytes) -> list[str]:
    assert head.endswith(b"\r\n")
    return head.decode().split("\r\n")[:-1]


def test_a_head_for_json_is_made_once_for_all_that_are_alike(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        world, channel = relay.world, a_channel()
        made = heads.known_head(world, channel, KEY, Endpoint.CHAT, "up m", (), False)
        assert (made[0], made[3]) == (channel, b'"up m"')
        first = made[2]
        assert lines(first) == [
            "POST /v1/chat/completions HTTP/1.1",
            "host: 127.0.0.1:9",
            "content-type: application/json",
            "accept: application/json",
            "accept-encoding: identity",
            "user-agent: sluice",
            "authorization: Bearer sk-upstream",
        ]
        assert heads.known_head(world, channel, KEY, Endpoint.CHAT, "up m", (), False) is made
        named = heads.known_head(world, channel, KEY, Endpoint.CHAT, "other", (), False)
        assert named[1:] == (made[1], first, b'"other"')
        stream = heads.known_head(world, channel, KEY, Endpoint.CHAT, "up m", (), True)[2]
        assert "accept: text/event-stream" in lines(stream)
        other = heads.known_head(world, channel, KEY, Endpoint.RESPONSES, "up m", (), False)
        assert lines(other[2])[0] == "POST /v1/responses HTTP/1.1"
        changed = a_channel(api_version="2024-10-21")
        azure = heads.known_head(world, changed, KEY, Endpoint.CHAT, "up m", (), False)[2]
        assert "deployments/up%20m/chat" in lines(azure)[0]
        assert "api-key: sk-upstream" in lines(azure)


def test_heads_kept_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEADS_MAX", 2)
    with Relay(tmp_path) as relay:
        for number in range(5):
            key = ChannelKey(number, "sk")
            heads.known_head(relay.world, a_channel(), key, Endpoint.CHAT, "m", (), True)
            assert len(relay.world.heads) <= 2


def test_a_long_head_is_not_kept(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        for number in range(3):
            long = (("anthropic-beta", f"{number}" * heads.HEAD_KEPT_BYTES_MAX),)
            args = (relay.world, a_channel(), KEY, Endpoint.MESSAGES, "m", long, False)
            assert f"anthropic-beta: {long[0][1]}" in lines(heads.known_head(*args)[2])
        assert not relay.world.heads


@pytest.mark.parametrize("endpoint", [Endpoint.MESSAGES, Endpoint.COUNT_TOKENS])
def test_anthropic_is_told_a_version_the_callers_or_ours(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    with Relay(tmp_path) as relay:
        channel = a_channel(Dialect.ANTHROPIC)
        ours = heads.known_head(relay.world, channel, KEY, endpoint, "m", (), False)[2]
        assert "anthropic-version: 2023-06-01" in lines(ours)
        assert "x-api-key: sk-upstream" in lines(ours)
        theirs = heads.known_head(
            relay.world, channel, KEY, endpoint, "m", (("anthropic-version", "x"),), False
        )[2]
        assert [line for line in lines(theirs) if "version" in line] == ["anthropic-version: x"]


def test_a_head_for_any_body_keeps_its_content_type(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        _, head = heads.new_head(
            relay.world,
            a_channel(),
            ChannelKey(1, ""),
            Endpoint.TRANSCRIPTIONS,
            "up m",
            (("accept-language", "de"),),
            content_type='multipart/form-data; boundary="a b"',
            accept="*/*",
        )
        assert lines(head) == [
            "POST /v1/audio/transcriptions HTTP/1.1",
            "host: 127.0.0.1:9",
            'content-type: multipart/form-data; boundary="a b"',
            "accept: */*",
            "accept-encoding: identity",
            "user-agent: sluice",
            "accept-language: de",
        ]
