"""Memory of calls that are no conversation: embeddings of 1 MB, and an audio upload of 20 MB.

Rules: peak resident memory of the whole process tree while such calls are under way, one at a time
and several at once, and while small ones are; what large bodies cost is the difference, and it must
be no more than a few buffers (`targets.py`). Every answer names the SHA-256 of what the upstream
received, which must be that of what was sent; answers come in whole, and each call is on the bill.
"""

import hashlib
import http.client
import json
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.machine import Child, free_ports, listening
from benchmarks.memory import watched
from benchmarks.relays import Mock, Relay, start_sluice
from benchmarks.rounds import BILL_SECONDS_MAX, Say
from benchmarks.service_mock import embedding_answer

AT_ONCE = (1, 4)
CALLS = 12
WARM_UP_CALLS = 8
SAMPLES_A_SECOND = 16_000
_BOUNDARY = "benchmark-boundary"
_CATALOG = """
[[model]]
name = "text-embedding-3-small"
context_window = 1000000
output_tokens_max = 1
endpoints = ["embeddings"]
price = {{ input = "0.02" }}

[[model]]
name = "whisper-1"
context_window = 448
output_tokens_max = 448
endpoints = ["transcriptions"]
price = {{ audio_minute = "0.006" }}

[[channel]]
name = "mock-services"
dialect = "openai"
base_url = "http://127.0.0.1:{port}/v1"
keys = ["sk-upstream-benchmark"]
groups = ["default"]
allow_private = true
models = {{ "text-embedding-3-small" = "text-embedding-3-small", "whisper-1" = "whisper-1" }}
"""


@dataclass(frozen=True, slots=True)
class Services:
    """Bytes: resident before, and at the peak of small and of large bodies."""

    what: str
    before: int
    peak_small: int
    peak_large: int
    void: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request; `answer_bytes` is how large its answer must at least be."""

    path: str
    content_type: str
    body: bytes
    answer_bytes: int


def embeddings(size: int) -> Ask:
    """A request of about `size` bytes, answered by as many."""
    words = "streaming relays forward whole events and count what they carry "
    text = (words * (size // len(words) + 1))[:size]
    body = json.dumps({"model": "text-embedding-3-small", "input": text}).encode()
    digest = hashlib.sha256(body).hexdigest()
    answer_bytes = len(embedding_answer(digest, len(body)))
    return Ask("/v1/embeddings", "application/json", body, answer_bytes)


def transcription(size: int) -> Ask:
    """An upload of about `size` bytes: a WAV file of one channel, silent, with 16 bits a sample."""
    rate = SAMPLES_A_SECOND
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    sound = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + struct.pack("<I", 16) + form
    sound += b"data" + struct.pack("<I", size) + bytes(size)
    part = f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    file = (
        f'--{_BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n'
        "content-type: audio/wav\r\n\r\n"
    )
    body = (part + file).encode() + sound + f"\r\n--{_BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={_BOUNDARY}"
    return Ask("/v1/audio/transcriptions", kind, body, 1)


def call(relay: Relay, ask: Ask) -> str | None:
    """Make one call; returns what is wrong with its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", relay.port, timeout=60)
    try:
        headers = {"authorization": f"Bearer {relay.key}", "content-type": ask.content_type}
        connection.request("POST", ask.path, ask.body, headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    if answer.status != 200:
        return f"status {answer.status}: {body[:200]!r}"
    if json.loads(body).get("sha256") != hashlib.sha256(ask.body).hexdigest():
        return "another body arrived upstream"
    return None if len(body) >= ask.answer_bytes else f"only {len(body)} bytes came back"


def _calls(relay: Relay, ask: Ask, count: int, at_once: int) -> list[str]:
    with ThreadPoolExecutor(at_once) as threads:
        found = threads.map(lambda _: call(relay, ask), range(count))
        return [problem for problem in found if problem is not None]


def _measure(relay: Relay, what: str, small: Ask, large: Ask, at_once: int) -> Services:
    rows, wanted = relay.rows(), WARM_UP_CALLS + 2 * CALLS
    before, problems = watched(relay, partial(_calls, relay, small, WARM_UP_CALLS, at_once))
    peak_small, wrong_small = watched(relay, partial(_calls, relay, small, CALLS, at_once))
    peak_large, wrong_large = watched(relay, partial(_calls, relay, large, CALLS, at_once))
    problems = [*problems, *wrong_small, *wrong_large]
    deadline = time.monotonic() + BILL_SECONDS_MAX
    while relay.rows() - rows != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    if relay.rows() - rows != wanted:
        problems.append(f"{relay.rows() - rows} rows billed for {wanted} calls")
    void = tuple(dict.fromkeys(problems))
    return Services(f"{what}, {at_once} at once", before, peak_small, peak_large, void)


def compare(directory: Path, mock: Mock, say: Say) -> list[Services]:
    """Both kinds of call, each on a relay started for it; `directory` is empty."""
    (port,) = free_ports(1)
    upstream = Child(
        [sys.executable, "-m", "benchmarks.service_mock", "--port", str(port)],
        directory / "service-mock.log",
    )
    kinds = (
        ("embeddings of 1 MB", embeddings(10_000), embeddings(1_000_000)),
        ("an audio upload of 20 MB", transcription(200_000), transcription(20_000_000)),
    )
    found: list[Services] = []
    try:
        upstream.wait_until(lambda: listening(port), "the upstream of services")
        for at_once in AT_ONCE:
            for what, small, large in kinds:
                home = directory / f"{len(found)}"
                home.mkdir()
                relay = start_sluice(home, mock, more=_CATALOG.format(port=port))
                try:
                    one = _measure(relay, what, small, large, at_once)
                finally:
                    relay.stop()
                found.append(one)
                say(
                    f"  {one.what}: {one.before / 1e6:.1f} MB before, peak "
                    f"{one.peak_small / 1e6:.1f} MB with small ones, {one.peak_large / 1e6:.1f} MB"
                    + (f"  VOID: {one.void}" if one.void else "")
                )
    finally:
        upstream.stop()
    return found
