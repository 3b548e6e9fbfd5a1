"""The relay behind the real nginx with config/nginx/sluice.conf: what clients see, what is billed.

That events are not held back needs no clock: the upstream says the next one only after the client
has the one before. What nginx itself answers is in test_nginx_errors.py, framing
attacks in test_nginx_framing.py, long silence in test_nginx_silence.py.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from proxy.app.settings import Settings
from proxy.core.entities import Dialect
from proxy.edge.client import KEEPALIVE_SECONDS_MAX
from tests import programs
from tests.edge.harness import (
    CHAT,
    CONTENT,
    DONE,
    MESSAGE_DELTA,
    MESSAGE_START,
    MESSAGE_STOP,
    ROLE,
    SAID,
    STOP,
    WORDS,
    body,
    plain_answer,
    usage,
)
from tests.integration.nginx_process import EXAMPLE, NginxProcess, prepare
from tests.integration.nginx_site import LIST, TARGETS, Site, open_site, scripted_answer
from tests.integration.raw_client import RawClient, request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    LAST_CHUNK,
    AwaitGone,
    Pause,
    Send,
    Verb,
    chunk,
    plain_script,
    stream_head,
)
from tests.integration.test_gemini_channel import answer as gemini_answer

READ_BYTES = 65_536


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("nginx")) as site:
        yield site


@pytest.fixture
def site(built: Site) -> Site:
    return replace(built, account=built.relay.account())


@pytest.fixture(params=list(TARGETS))
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return Dialect(request.param)


# The file itself


def test_the_example_passes_nginx_t_as_it_stands(tmp_path: Path) -> None:
    done = subprocess.run(
        [*prepare(tmp_path, {}), "-t"], capture_output=True, text=True, check=False
    )
    assert "test is successful" in done.stderr, done.stderr
    assert done.returncode == 0


def test_the_examples_numbers_are_the_relays() -> None:
    def figure(name: str, context: str = "") -> str:
        found = re.findall(rf"^ *{name} +([^;]+);", EXAMPLE.read_text(), re.MULTILINE)
        assert found, name
        return str(found[1 if context == "server" else 0])

    settings = Settings()
    assert int(figure("keepalive_timeout").removesuffix("s")) < KEEPALIVE_SECONDS_MAX
    assert int(figure("client_max_body_size").removesuffix("m")) << 20 == settings.body_bytes_max
    assert figure("client_header_timeout") == f"{settings.header_seconds_max:g}s"
    assert figure("send_timeout") == f"{settings.write_stall_seconds_max:g}s"
    assert f"sndbuf={settings.send_buffer_bytes >> 10}k " in figure("listen")
    assert figure("server") == f"{settings.listen} max_fails=0"
    assert settings.operations_listen not in EXAMPLE.read_text()


# Answers pass


def stepped(events: list[bytes], gate: str) -> list[Verb]:
    """After each event the upstream waits until the client has it. The first two go together:
    the relay keeps back what is no content yet.
    """
    script: list[Verb] = [Send(stream_head()), Send(chunk(events[0]))]
    for number, event in enumerate(events[1:]):
        script += [Send(chunk(event)), Pause(f"{gate}-{number}")]
    return script


def rest(*events: bytes) -> list[Verb]:
    return [*[Send(chunk(event)) for event in events], Send(LAST_CHUNK)]


def test_events_arrive_one_by_one(site: Site, dialect: Dialect) -> None:
    gate = f"step-{dialect}"
    if dialect is Dialect.OPENAI:
        events, tail = [ROLE, *CONTENT, STOP], [usage(9, 7), DONE]
    elif dialect is Dialect.ANTHROPIC:
        events, tail = [MESSAGE_START, *SAID], [MESSAGE_DELTA, MESSAGE_STOP]
    else:
        *events, last = gemini_answer()
        tail = [last]
    site.upstream.play([*stepped(events, gate), *rest(*tail)])
    sent = site.call(dialect).replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n", 1)
    with site.client() as client:
        client.send(sent)
        for number, event in enumerate(events[1:]):
            assert event in client.read_until(event)
            site.upstream.release(f"{gate}-{number}")
        response = client.read_response()
    assert response.whole
    shown = [*events, tail[-1]] if dialect is Dialect.OPENAI else [*events, *tail]
    assert response.body == b"".join(shown)
    assert response.header("content-encoding") is None
    assert response.header("x-accel-buffering") == "no", "the next proxy must not buffer either"
    assert site.bill()["verdict"] == "complete"


def test_events_arrive_one_by_one_over_http_2(site: Site) -> None:
    site.upstream.play([*stepped([ROLE, *CONTENT, STOP], "h2"), *rest(usage(9, 7), DONE)])
    command = [
        programs.need("curl"), "--silent", "--no-buffer", "--http2", "--max-time", "40",
        "--cacert", str(site.nginx.certificate), "--write-out", "%{http_version}",
        "--header", f"Authorization: Bearer {site.account.key}",
        "--header", "Content-Type: application/json",
        "--data-binary", body().decode(), f"{site.nginx.url}{CHAT}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        received = b""
        for number, event in enumerate([*CONTENT, STOP]):
            while event not in received:
                data = os.read(process.stdout.fileno(), READ_BYTES)
                assert data, received
                received += data
            site.upstream.release(f"h2-{number}")
        received += process.stdout.read()
    assert received == b"".join([ROLE, *CONTENT, STOP, DONE, b"2"])
    assert site.bill()["verdict"] == "complete"


def test_a_body_of_20_mb_passes(site: Site) -> None:
    photo = "data:image/png;base64," + "QUJD" * (5 << 20)
    content: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": photo}},
    ]
    site.upstream.play(plain_script(plain_answer()))
    before = len(site.upstream.requests)
    response = site.ask(site.call(Dialect.OPENAI, content=content, stream=False))
    assert (response.status, response.body) == (200, plain_answer())
    (request,) = site.upstream.requests[before:]
    assert json.loads(request.body)["messages"][0]["content"] == content
    assert len(request.body) > 20 << 20


def test_both_sdks_stream_and_ask_by_tls(site: Site) -> None:
    site.upstream.play(scripted_answer)
    key, trust = site.account.key, site.nginx.trust()
    with (
        openai.OpenAI(
            base_url=f"{site.nginx.url}/v1", api_key=key,
            http_client=openai.DefaultHttpxClient(verify=trust),
        ) as ours,
        anthropic.Anthropic(
            base_url=site.nginx.url, api_key=key,
            http_client=anthropic.DefaultHttpxClient(verify=trust),
        ) as theirs,
    ):  # fmt: skip
        chunks = ours.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        said = [one.choices[0].delta.content or "" for one in chunks if one.choices]
        assert "".join(said) == "".join(WORDS)
        plain = ours.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=50
        )
        assert plain.choices[0].message.content == "Hello there"
        with theirs.messages.stream(
            model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=50
        ) as stream:
            assert "".join(stream.text_stream) == "".join(WORDS)
            assert stream.get_final_message().usage.output_tokens == len(WORDS)
    verdicts = [row["verdict"] for row in site.relay.usage(site.account)]
    assert verdicts == ["complete"] * 3


# Clients leave


@pytest.mark.parametrize("leave", [RawClient.leave, RawClient.reset], ids=["fin", "rst"])
def test_a_client_that_leaves_cancels_the_upstream_and_pays_what_was_delivered(
    site: Site, leave: Any
) -> None:
    site.upstream.play([Send(stream_head()), *rest(ROLE, *CONTENT[:3])[:-1], AwaitGone()])
    with site.client() as client:
        client.send(site.call(Dialect.OPENAI)).read_until(CONTENT[2])
        leave(client)
        site.until_cancelled()
    bill = site.bill()
    assert (bill["verdict"], bill["source"], bill["output"]) == ("client_gone", "counted", 3)


def test_a_client_that_leaves_a_silent_plain_call_cancels_it_for_nothing(site: Site) -> None:
    site.upstream.play([AwaitGone()])
    with site.client() as client:
        client.send(site.call(Dialect.OPENAI, stream=False))
        site.until_asked()
        client.leave()
        site.until_cancelled()
    bill = site.bill()
    assert (bill["verdict"], float(bill["charge_usd"])) == ("client_gone", 0)


# What the relay is told


def test_a_forged_forwarded_for_is_not_believed(site: Site) -> None:
    site.upstream.play(scripted_answer)
    inside = site.relay.account(network="10.9.8.0/24")
    forged = {
        "X-Forwarded-For": "10.9.8.7", "X-Real-IP": "10.9.8.7", "Forwarded": "for=10.9.8.7",
        "X_Forwarded_For": "10.9.8.7",
    }  # fmt: skip
    sent = request_bytes(CHAT, body(), key=inside.key, headers=forged)
    response = site.ask(sent)
    assert (response.status, response.error()["code"]) == (403, "address_not_allowed")
    # The relay itself believes whoever talks to it from this machine: that is nginx, else nobody.
    with RawClient(site.relay.port) as client:
        told = sent.replace(b"X_Forwarded_For: 10.9.8.7\r\n", b"")
        assert client.send(told).read_response().status == 200


def test_the_relay_gets_a_plain_request_whatever_the_client_wrote(tmp_path: Path) -> None:
    written = {
        "Connection": "close, x-secret", "Keep-Alive": "5", "TE": "trailers", "Upgrade": "h2c",
        "Expect": "100-continue", "X-Forwarded-For": "1.2.3.4", "X-Custom": "kept",
    }  # fmt: skip
    chunked = (
        "POST http://evil.test/v1/messages?a=%2F HTTP/1.1\r\nHost: other.test\r\n"
        "Transfer-Encoding: chunked\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in written.items())
        + '\r\n4;x=y\r\n{"a"\r\n3\r\n:1}\r\n0\r\nX-Trailer: 1\r\n\r\n'
    )
    with (
        ScriptedUpstream(plain_script(b"{}")) as recorder,
        NginxProcess(tmp_path / "nginx", recorder.port) as nginx,
        RawClient(nginx.port, tls=nginx.trust()) as client,
    ):
        assert client.send(chunked.encode()).read_response().status == 200
        (request,) = recorder.requests
    assert (request.method, request.target) == ("POST", "/v1/messages?a=%2F")
    assert request.body == b'{"a":1}'
    headers = {name.lower(): value for name, value in request.headers}
    assert headers == {
        "host": "sluice", "x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "https",
        "content-length": "7", "x-custom": "kept",
    }  # fmt: skip


def test_connections_to_the_relay_are_kept(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(plain_script(b"{}")) as recorder,
        NginxProcess(tmp_path / "nginx", recorder.port) as nginx,
    ):
        for _ in range(20):
            with RawClient(nginx.plain_port) as client:
                assert client.send(LIST).read_response().status == 200
        assert len(recorder.requests) == 20
        assert len(recorder.visits) <= 2, "one for each of two nginx workers"
