"""Every named HTTP framing case through the real nginx: no request hides inside another.

nginx is more lenient than the relay (it reads bare LF, drops headers with strange names), so what
counts is not that a case is refused but that the two agree: the relay gets one request for each
that nginx took, in nginx's words, and nothing else. First with a recorder where the relay would
be, byte by byte; then with the relay, counted on both sides.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpora.framing import FramingCase, framing
from tests.integration.framing_player import Played, play
from tests.integration.nginx_process import NginxProcess
from tests.integration.raw_client import RawResponse
from tests.integration.relay_process import RelayProcess, UpstreamAt
from tests.integration.scripted import ReceivedRequest, ScriptedUpstream
from tests.integration.scripts import Script, plain_script

EDITS = {
    "client_body_timeout 30s": "client_body_timeout 1s",
    "client_header_timeout 10s": "client_header_timeout 1s",
}
MARK = ("x-recorded", "yes")
COUNTED_SECONDS_MAX = 20.0
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
).encode()


def recorded(request: ReceivedRequest) -> Script:
    """An answer with a mark; the body says what was asked for, so that the probe is known."""
    if request.method == "HEAD":
        return plain_script(b"", headers=[MARK])
    return plain_script(json.dumps({"target": request.target[:100]}).encode(), headers=[MARK])


@pytest.fixture(scope="module")
def recorder() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(recorded) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def nginx(
    recorder: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NginxProcess]:
    path = tmp_path_factory.mktemp("nginx") / "nginx"
    with NginxProcess(path, recorder.port, edits=EDITS) as process:
        yield process


def answers(played: Played) -> list[RawResponse]:
    return [*played.answers, *([played.probe] if played.probe else [])]


@pytest.mark.parametrize("case", framing(), ids=lambda case: case.name)
def test_the_relay_would_get_each_request_once_and_plain(
    case: FramingCase, nginx: NginxProcess, recorder: ScriptedUpstream
) -> None:
    before = {id(exchange) for exchange in recorder.exchanges}
    played = play(nginx.plain_port, case, "sk-nobody")
    passed = [one for one in answers(played) if one.header(MARK[0])]
    said = [one for one in answers(played) if not one.header(MARK[0])]
    assert {one.status for one in said} <= {400, 405, 413, 414, 501, 505}, played.raw[:500]
    for one in said:
        assert one.header("content-type") == "application/json", one
        assert one.error()["code"]
    requests = [one.request for one in recorder.exchanges if id(one) not in before]
    assert len(requests) == len(passed), (requests, played.raw[:500])
    for request in requests:
        assert request is not None
        check_plain(request)
    for visit in recorder.visits:
        whole = b"".join(one.request.raw for one in visit.exchanges if one.request)
        assert bytes(visit.received) == whole, "nothing but whole requests"


def check_plain(request: ReceivedRequest) -> None:
    """One Host, one framing, no second address, nothing about the connection."""
    assert request.version == "HTTP/1.1"
    assert request.target.startswith("/")
    assert request.header_all("host") == ("sluice",)
    assert request.header_all("x-forwarded-for") == ("127.0.0.1",)
    assert request.header_all("transfer-encoding") == ()
    assert len(request.header_all("content-length")) <= 1
    assert request.header("connection") is None
    for name, value in request.headers:
        assert re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^`|~-]+", name), name
        assert not re.search(r"[\0\r\n]", value)


def test_the_relay_counts_what_nginx_relayed(tmp_path: Path) -> None:
    with ScriptedUpstream(plain_script(ANSWER)) as upstream:
        channels = [
            UpstreamAt("o", "openai", upstream.base_url, {"m": "m"}),
            UpstreamAt("a", "anthropic", upstream.base_url, {"m": "m"}),
        ]
        with (
            RelayProcess(tmp_path / "relay", channels) as relay,
            NginxProcess(tmp_path / "nginx", relay.port, edits=EDITS) as nginx,
        ):
            account = relay.account()
            served = 0
            for case in framing():
                played = play(nginx.plain_port, case, account.key)
                told = answers(played)
                served += sum(one.status == 200 and b'"chatcmpl-1"' in one.body for one in told)
                assert len(upstream.requests) == served, case.name
            nginx.stop()
            relayed = sum(bool(line["relayed"]) for line in nginx.access())
            assert relayed > len(framing())
            deadline = time.monotonic() + COUNTED_SECONDS_MAX
            while counted(relay) != relayed and time.monotonic() < deadline:
                pass
            assert counted(relay) == relayed
            rows = relay.usage(account)
            assert [row["verdict"] for row in rows] == ["complete"] * served


def counted(relay: RelayProcess) -> int:
    """How many requests the relay has answered, by its own metrics."""
    rows = re.findall(r"^sluice_requests_total\{.*\} (\d+)", relay.metrics(), re.MULTILINE)
    return sum(int(row) for row in rows)
