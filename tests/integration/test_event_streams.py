"""Event streams through the relay, from a raw upstream socket to a raw client socket.

Ordinary streams must come out byte for byte (promise 1), however the upstream cuts its writes;
bad ones must come out as their case says, with the verdict on the bill and, after content, one
readable in-band error and nothing behind it.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.app.control import ask
from proxy.core.entities import Dialect, TerminalRule, Verdict
from tests.corpora.sse import SseCase, sse
from tests.integration.raw_client import (
    RawClient,
    RawResponse,
    parse_response,
    request_bytes,
)
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    LAST_CHUNK,
    Close,
    Pause,
    Script,
    Send,
    chunk,
    plain_script,
    stream_head,
)
from tests.integration.stream_record import UpstreamStream
from tests.integration.streams import CHAT_AND_MESSAGES as STREAMS

COMPLETE_STREAMS = tuple(stream for stream in STREAMS if stream.complete)
ONE_BYTE_WRITES_BYTES_MAX = 20_000
ROW_SECONDS_MAX = 5.0
HEARTBEATS = re.compile(rb': keep-alive\n\n|event: ping\ndata: \{"type": "ping"\}\n\n')
PATHS = {Dialect.OPENAI: "/v1/chat/completions", Dialect.ANTHROPIC: "/v1/messages"}


@dataclass(frozen=True, slots=True)
class Relayed:
    """The relay before one scripted upstream; a model for each dialect and terminal rule."""

    relay: RelayProcess
    upstream: ScriptedUpstream
    account: Account

    def call(
        self,
        dialect: Dialect,
        terminal: str,
        script: Script,
        *,
        usage_asked: bool = True,
        gate: tuple[str, bytes] | None = None,
    ) -> RawResponse:
        """Make one streamed call that is answered by `script`.

        With `gate`, the script's `Pause(name)` is released once the client has the bytes.
        """
        self.upstream.play(script)
        body: dict[str, object] = {
            "model": f"{dialect}-{terminal}",
            "stream": True,
            "max_tokens": 100_000,
            "messages": [{"role": "user", "content": "hi"}],
        }
        if dialect is Dialect.OPENAI and usage_asked:
            body["stream_options"] = {"include_usage": True}
        request = request_bytes(PATHS[dialect], json.dumps(body).encode(), key=self.account.key)
        with RawClient(self.relay.port) as client:
            client.send(request)
            if gate is not None:
                name, awaited = gate
                client.read_until(lambda data: awaited in body_so_far(data))
                self.upstream.release(name)
            return client.read_response()

    def row(self, response: RawResponse) -> dict[str, Any]:
        """The call's row of the bill. A call that failed is settled in the next few moments."""
        name = response.header("x-request-id") or response.header("request-id")
        deadline = time.monotonic() + ROW_SECONDS_MAX
        rows: Any = []
        while time.monotonic() < deadline:
            rows = ask(
                self.relay.data / "control.sock",
                "usage",
                {"user": self.account.user, "rows_max": 5},
            )
            for row in rows:
                if row["request_id"] == name:
                    found: dict[str, Any] = row
                    return found
            time.sleep(0.01)
        raise AssertionError(f"{name} is not on the bill; the last are {rows!r:.500}")


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relayed]:
    with ScriptedUpstream(plain_script(b"{}")) as upstream:
        channels = []
        for dialect in PATHS:
            for terminal in TerminalRule:
                name = f"{dialect}-{terminal}"
                settings: dict[str, object] = {"terminal": terminal.value}
                channels.append(
                    UpstreamAt(
                        name, dialect.value, upstream.base_url, {name: "m"}, settings=settings
                    )
                )
        models = {name: {"output_tokens_max": 200_000} for up in channels for name in up.models}
        directory = tmp_path_factory.mktemp("streams")
        with RelayProcess(directory, channels, models=models) as relay:
            yield Relayed(relay, upstream, relay.account(credit="1000000"))


def script_of(body: bytes, pieces: list[bytes], write_bytes: int | None) -> Script:
    """Play `pieces` as chunks, or the whole response in writes of `write_bytes`."""
    if write_bytes is None:
        verbs = [Send(chunk(piece)) for piece in pieces if piece]
        return [Send(stream_head()), *verbs, Send(LAST_CHUNK), Close()]
    framed = stream_head() + b"".join(chunk(piece) for piece in pieces if piece) + LAST_CHUNK
    return [Send(framed, write_bytes), Close()]


def body_so_far(data: bytes) -> bytes:
    """The de-chunked body in what a client has received."""
    response = parse_response(data)
    return b"" if response is None else response.body


def without_heartbeats(body: bytes) -> bytes:
    return HEARTBEATS.sub(b"", body)


def check_whole(relayed: Relayed, stream: UpstreamStream, script: Script, *, asked: bool) -> None:
    response = relayed.call(stream.dialect, stream.terminal, script, usage_asked=asked)
    assert response.status == 200, response.body[:500]
    assert response.whole
    assert (response.header("content-type") or "").startswith("text/event-stream")
    expected = stream.forwarded(usage_asked=asked)
    if expected.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")):
        assert response.body == expected
    else:
        assert response.body.rstrip(b"\n") == expected.rstrip(b"\n")
    row = relayed.row(response)
    assert row["verdict"] == Verdict.COMPLETE
    if stream.usage is not None:
        assert row["source"] == "reported"
        usage = stream.usage
        assert (row["input"], row["output"]) == (usage.prompt_total, usage.completion_total)


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not-asked"])
@pytest.mark.parametrize("stream", COMPLETE_STREAMS, ids=lambda stream: stream.name)
def test_stream_comes_out_byte_for_byte(
    stream: UpstreamStream, asked: bool, relayed: Relayed
) -> None:
    script = script_of(stream.body, list(stream.events), None)
    check_whole(relayed, stream, script, asked=asked)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stream",
    [stream for stream in COMPLETE_STREAMS if len(stream.body) <= ONE_BYTE_WRITES_BYTES_MAX],
    ids=lambda stream: stream.name,
)
def test_stream_in_one_byte_writes_comes_out_byte_for_byte(
    stream: UpstreamStream, relayed: Relayed
) -> None:
    check_whole(relayed, stream, script_of(stream.body, list(stream.events), 1), asked=False)


@pytest.mark.parametrize("stream", COMPLETE_STREAMS, ids=lambda stream: stream.name)
def test_stream_in_odd_chunks_comes_out_byte_for_byte(
    stream: UpstreamStream, relayed: Relayed
) -> None:
    step = max(len(stream.body) // 97, 7)
    body = stream.body
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    check_whole(relayed, stream, script_of(body, pieces, None), asked=True)


def keep_well(relayed: Relayed, dialect: Dialect, terminal: str) -> None:
    """Two good calls before one that fails: where half of the calls of 30 s fail, which depends on
    how fast the tests run, the channel's breaker answers and not the upstream.
    """
    good = next(
        one for one in COMPLETE_STREAMS if (one.dialect, one.terminal) == (dialect, terminal)
    )
    for _ in range(2):
        assert relayed.call(dialect, terminal, script_of(b"", list(good.events), None)).whole


@pytest.mark.parametrize(
    "stream", [stream for stream in STREAMS if not stream.complete], ids=lambda stream: stream.name
)
def test_incomplete_stream_never_looks_complete(stream: UpstreamStream, relayed: Relayed) -> None:
    keep_well(relayed, stream.dialect, stream.terminal)
    script = script_of(stream.body, list(stream.events), None)
    response = relayed.call(stream.dialect, stream.terminal, script)
    row = relayed.row(response)
    assert row["verdict"] in {Verdict.UPSTREAM_TRUNCATED, Verdict.UPSTREAM_ERROR}
    assert not is_terminated(response.body, stream.dialect)
    if response.status == 200:
        assert in_band_error(response.body, stream.dialect)["code"] in {
            "upstream_truncated",
            "upstream_error",
        }
    else:
        assert response.error()["code"] in {"upstream_truncated", "upstream_error"}
        assert row["charge_usd"] == "0.00"


def dispatched(body: bytes) -> list[tuple[str, bytes]]:
    """(name, data) of each event as an SDK dispatches it (WIRE.md section 2)."""
    found = []
    for block in re.split(rb"(?:\r\n|\n|\r(?!\n)){2,}", body)[:-1]:
        name, data = "", []
        for line in re.split(rb"\r\n|\n|\r", block):
            field, _, value = line.partition(b":")
            if field == b"event":
                name = value.strip().decode("utf-8", "replace")
            if field == b"data":
                data.append(value.removeprefix(b" "))
        if data:
            found.append((name, b"\n".join(data)))
    return found


def is_terminated(body: bytes, dialect: Dialect) -> bool:
    """Whether a client would take `body` for a whole answer."""
    events = dispatched(body)
    if dialect is Dialect.OPENAI:
        return any(data.startswith(b"[DONE]") for _, data in events)
    return any(name == "message_stop" for name, _ in events)


def in_band_error(body: bytes, dialect: Dialect) -> dict[str, Any]:
    """The error object of the last event; fails if a client could not read it as one."""
    name, data = dispatched(body)[-1]
    value = json.loads(data)
    if dialect is Dialect.ANTHROPIC:
        assert name == "error"
        assert value["type"] == "error"
    error: dict[str, Any] = value["error"]
    return error


def check_case(case: SseCase, relayed: Relayed, write_bytes: int | None) -> None:
    """Play one case. What must reach the client before a failure is waited for, not raced."""
    if case.verdict is not Verdict.COMPLETE:
        keep_well(relayed, case.dialect, case.terminal.value)
    gate: tuple[str, bytes] | None = None
    script = script_of(case.body, [case.body], write_bytes)
    required = case.required
    if case.code is not None and required:
        name = f"{case.name}-{write_bytes}"
        gate = (name, required)
        rest = chunk(case.body.removeprefix(required)) if case.body != required else b""
        script = [
            Send(stream_head() + chunk(required), write_bytes),
            Pause(name),
            Send(rest + LAST_CHUNK, write_bytes),
            Close(),
        ]
    response = relayed.call(
        case.dialect, case.terminal.value, script, usage_asked=case.usage_asked, gate=gate
    )
    assert response.status == case.status, response.body[:500]
    assert response.whole
    row = relayed.row(response)
    assert row["verdict"] == case.verdict
    if case.usage is not None and case.verdict is Verdict.COMPLETE:
        assert (row["input"], row["output"]) == case.usage
    body = without_heartbeats(response.body)
    if case.status != 200:
        assert response.error()["code"] == case.code
        assert row["charge_usd"] == "0.00"
    elif case.code is None:
        assert body == without_heartbeats(required)
    else:
        assert body.startswith(without_heartbeats(required))
        assert in_band_error(body, case.dialect)["code"] == case.code
        assert not is_terminated(body, case.dialect)


def test_there_are_enough_cases_each_with_its_own_name() -> None:
    assert len({case.name for case in sse()}) == len(sse()) >= 200


@pytest.mark.parametrize("case", sse(), ids=lambda case: case.name)
def test_case_in_one_write(case: SseCase, relayed: Relayed) -> None:
    check_case(case, relayed, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [case for case in sse() if len(case.body) <= ONE_BYTE_WRITES_BYTES_MAX],
    ids=lambda case: case.name,
)
def test_case_in_one_byte_writes(case: SseCase, relayed: Relayed) -> None:
    check_case(case, relayed, 1)
