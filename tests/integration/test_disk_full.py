"""F33 and F36: a disk that fills up, or stops taking writes, under open streams.

A tmpfs of a fixed size is a real file system that really runs full, mounted where that is allowed
(root); a limit on file sizes (RLIMIT_FSIZE, anybody's) makes a write fail with another error at
any later moment. Free space that runs low is seen before either happens.
"""

import contextlib
import http.client
import json
import resource
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.storage import space
from tests.integration.relay_process import OPENAI_MODEL, Account, RelayProcess, UpstreamAt
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import LAST_CHUNK, Pause, Send, chunk, plain_script, stream_head
from tests.integration.test_backup_drill import ANSWER

pytestmark = pytest.mark.timeout(180)
DISK_BYTES = 64 << 20
MINIMUM = 24 << 20
CALLS_MAX = 5_000
WAIT_SECONDS_MAX = 20.0
UNAVAILABLE = {"service_unavailable", "server_restarting"}
PAUSED: list[Any] = [
    Send(stream_head()),
    Send(chunk(b'data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n')),
    Pause("rest"),
    Send(chunk(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')),
    Send(
        chunk(
            b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1,'
            b'"total_tokens":11}}\n\n'
        )
    ),
    Send(chunk(b"data: [DONE]\n\n")),
    Send(LAST_CHUNK),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of `DISK_BYTES`."""
    where = tmp_path / "disk"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "none", str(where)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def ask(relay: RelayProcess, account: Account, *, stream: bool = False) -> tuple[int, bytes, Any]:
    """One call: status, body as far as it came, headers. Status 0: no answer."""
    body = {"model": OPENAI_MODEL, "stream": stream, "messages": [{"role": "user", "content": "x"}]}
    request = urllib.request.Request(
        f"{relay.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {account.key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, read(response), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers
    except (OSError, http.client.HTTPException):
        return 0, b"", {}


def read(response: Any) -> bytes:
    parts: list[bytes] = []
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
        while part := response.read1(65_536):
            parts.append(part)
    return b"".join(parts)


def fill(where: Path, leave: int, name: str = "filler") -> Path:
    """Take all but `leave` bytes of the file system; returns the file that does."""
    filler = where / name
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while (free := space.free_bytes(where)) > leave or not leave:
            file.write(bytes(max(4096, min(free - leave, 1 << 20))))
    return filler


def readiness(relay: RelayProcess) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(f"{relay.operations_url}/readyz", timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class Streams:
    """Streams that are open while something fails; `bodies` are what their clients saw."""

    def __init__(self, relay: RelayProcess, account: Account, count: int) -> None:
        self.answers: list[tuple[int, bytes, Any]] = []
        self._threads = [
            threading.Thread(
                target=lambda: self.answers.append(ask(relay, account, stream=True)), daemon=True
            )
            for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> list[tuple[int, bytes, Any]]:
        for thread in self._threads:
            thread.join(WAIT_SECONDS_MAX)
        assert len(self.answers) == len(self._threads)
        return self.answers


def until_it_dies(relay: RelayProcess, account: Account) -> list[tuple[int, bytes, Any]]:
    """Plain calls until the relay has ended; everything it answered."""
    answers = []
    for _ in range(CALLS_MAX):
        answers.append(ask(relay, account))
        if relay.ended() is not None:
            break
    else:
        pytest.fail("the relay did not notice that it cannot write")
    return [each for each in answers if each[0]]


def check_end(relay: RelayProcess, answers: list[tuple[int, bytes, Any]]) -> None:
    """It ended by itself, said why once, and told nobody that it was their fault."""
    assert relay.ended() == 1
    lines = [line for line in relay.log_lines() if line.get("level") == "error"]
    assert [line["event"] for line in lines] == ["the ledger cannot be written; stopping"], lines
    assert {status for status, _, _ in answers} <= {200, 503}
    for status, body, headers in answers:
        code = json.loads(body)["error"]["code"] if status == 503 else None
        assert code in {None, *UNAVAILABLE, "settlement_unavailable"}
        if code in UNAVAILABLE:
            assert int(headers["retry-after"]) > 0


def check_streams(answers: list[tuple[int, bytes, Any]]) -> None:
    """Each had content and then an error in-band, never an end as if complete."""
    for status, body, _ in answers:
        assert status == 200
        assert b"hello" in body
        assert b"[DONE]" not in body
        assert b'"settlement_unavailable"' in body or b'"server_restarting"' in body


def check_books(relay: RelayProcess, account: Account, answers: list[Any]) -> None:
    """Whoever saw a whole answer finds it charged, and the books add up."""
    assert relay.verify()["clean"] is True
    charged = {row["request_id"] for row in relay.usage(account)}
    told = {headers["x-request-id"] for status, body, headers in answers if status == 200 and body}
    assert told <= charged


def test_a_full_disk_stops_the_relay_and_loses_nothing(tmp_path: Path, disk: Path) -> None:
    with ScriptedUpstream(PAUSED, PAUSED, plain_script(ANSWER)) as upstream:
        at = UpstreamAt("o", "openai", upstream.base_url, {OPENAI_MODEL: "m"})
        settings = {"data_dir": str(disk / "data"), "disk_free_bytes_min": 0}
        relay = RelayProcess(tmp_path / "relay", [at], settings=settings)
        relay.data = disk / "data"
        with relay:
            account = relay.account()
            streams = Streams(relay, account, 2)
            wait_for(lambda: len(upstream.requests) == 2)
            answers = [ask(relay, account) for _ in range(3)]
            filler = fill(disk, 0)
            answers += until_it_dies(relay, account)
            check_streams(streams.join())
            check_end(relay, answers)
            more = fill(disk, 0, "more")  # what its own files gave back when it ended
            refused = " ".join(relay.start_refused().split())
            assert "free space at" in refused
            assert "Traceback" not in refused
            filler.unlink()
            more.unlink()
            relay.start()
            check_books(relay, account, answers)
            assert ask(relay, account)[0] == 200


def test_a_disk_that_takes_no_write_stops_the_relay_and_loses_nothing(tmp_path: Path) -> None:
    with ScriptedUpstream(PAUSED, PAUSED, plain_script(ANSWER)) as upstream:
        at = UpstreamAt("o", "openai", upstream.base_url, {OPENAI_MODEL: "m"})
        relay = RelayProcess(tmp_path / "relay", [at])
        with relay:
            account = relay.account()
            streams = Streams(relay, account, 2)
            wait_for(lambda: len(upstream.requests) == 2)
            answers = [ask(relay, account) for _ in range(3)]
            size = Path(f"{relay.database}-wal").stat().st_size
            resource.prlimit(
                relay.process_id, resource.RLIMIT_FSIZE, (size + 50_000, size + 50_000)
            )
            answers += until_it_dies(relay, account)
            check_streams(streams.join())
            check_end(relay, answers)
            relay.start()
            check_books(relay, account, answers)
            assert ask(relay, account)[0] == 200


def test_free_space_that_runs_low_stops_admission_only(tmp_path: Path, disk: Path) -> None:
    with ScriptedUpstream(PAUSED, plain_script(ANSWER)) as upstream:
        at = UpstreamAt("o", "openai", upstream.base_url, {OPENAI_MODEL: "m"})
        settings = {"data_dir": str(disk / "data"), "disk_free_bytes_min": MINIMUM}
        relay = RelayProcess(tmp_path / "relay", [at], settings=settings)
        relay.data = disk / "data"
        with relay:
            account = relay.account()
            streams = Streams(relay, account, 1)
            wait_for(lambda: len(upstream.requests) == 1)
            filler = fill(disk, MINIMUM - (1 << 20))
            wait_for(lambda: readiness(relay)[0] == 503)
            assert "nearly full" in readiness(relay)[1]["reason"]
            status, body, headers = ask(relay, account)
            assert (status, json.loads(body)["error"]["code"]) == (503, "service_unavailable")
            assert int(headers["retry-after"]) > 0
            upstream.release("rest")
            ((status, body, _),) = streams.join()
            assert (status, b"[DONE]" in body) == (200, True), "what was admitted is served"
            filler.unlink()
            wait_for(lambda: readiness(relay)[0] == 200)
            assert ask(relay, account)[0] == 200
            assert relay.verify()["clean"] is True


def test_a_file_system_that_became_read_only_refuses_the_start(tmp_path: Path, disk: Path) -> None:
    with ScriptedUpstream(plain_script(ANSWER)) as upstream:
        at = UpstreamAt("o", "openai", upstream.base_url, {OPENAI_MODEL: "m"})
        settings = {"data_dir": str(disk / "data"), "disk_free_bytes_min": 0}
        relay = RelayProcess(tmp_path / "relay", [at], settings=settings)
        relay.data = disk / "data"
        with relay:
            account = relay.account()
            answers = [ask(relay, account)]
            relay.kill()
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            refused = " ".join(relay.start_refused().split())
            assert "Read-only file system" in refused
            assert "try:" in refused
            assert "Traceback" not in refused
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            relay.start()
            check_books(relay, account, answers)
