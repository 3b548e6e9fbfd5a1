"""What a relay process keeps of large bodies and answers, and what is left of them after kill -9.

Peaks are the kernel's own (VmHWM of proc(5), reset by clear_refs); no test looks at a clock.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.integration.raw_client import RawClient, request_bytes
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import AwaitGone, Flood, Pause, Send, chunk, response_head

MIB = 1 << 20
LISTEN = "/v1/audio/transcriptions"
SPEECH = "/v1/audio/speech"
PRICES: dict[str, dict[str, object]] = {
    "ear": {"price": {"input": "0", "output": "0", "audio_minute": "0.006"}},
    "voice": {"price": {"input": "0", "output": "0", "character": "15"}},
    "m": {"price": {"input": "1", "output": "2"}},
}
NAMES = {name: f"up-{name}" for name in PRICES}
KEPT_MIB_MAX = 16
"""What a relay may grow by for a body or an answer of any size."""


class Sink:
    """An upstream that reads bodies of any size, keeping none, and then answers; or only a head."""

    def __init__(self, *, reads: bool = True) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._reads = reads
        self.begun = threading.Event()
        self._done = threading.Event()
        self.sizes: list[int] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                visitor, _ = self._listener.accept()
                with visitor:
                    self._exchange(visitor)

    def _exchange(self, visitor: socket.socket) -> None:
        data = bytearray()
        while b"\r\n\r\n" not in data and (more := visitor.recv(65_536)):
            data += more
        head, _, rest = bytes(data).partition(b"\r\n\r\n")
        self.begun.set()
        if not self._reads:
            self._done.wait(60)
            return
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        taken = len(rest)
        while taken < length:
            taken += len(visitor.recv(min(1 << 20, length - taken)))
        self.sizes.append(taken)
        visitor.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n"
            b'connection: close\r\n\r\n{"text":"hi"}'
        )


def form(size: int) -> tuple[bytes, int]:
    """The head of a form with a file of `size` bytes before its model, and its length."""
    before = (
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n'
        b"Content-Type: audio/mpeg\r\n\r\n"
    )
    return before, len(before) + size + len(AFTER)


AFTER = b'\r\n--B\r\nContent-Disposition: form-data; name="model"\r\n\r\near\r\n--B--\r\n'


def upload(client: RawClient, account: Account, size: int) -> None:
    before, length = form(size)
    wire = request_bytes(LISTEN, b"", key=account.key)
    wire = wire.replace(b"Content-Length: 0", b"Content-Length: %d" % length)
    wire = wire.replace(b"application/json", b"multipart/form-data; boundary=B")
    client.send(wire + before)
    piece = bytes(65_536)
    for _ in range(size // len(piece)):
        client.send(piece)
    client.send(AFTER)


class Peak:
    """How much a process has grown at most since this was made, in bytes."""

    def __init__(self, process: int) -> None:
        self._status = Path(f"/proc/{process}/status")
        Path(f"/proc/{process}/clear_refs").write_text("5")
        self._before = self._read("VmRSS")

    def growth(self) -> int:
        return self._read("VmHWM") - self._before

    def _read(self, name: str) -> int:
        text = self._status.read_text()
        return int(text.partition(f"{name}:")[2].split()[0]) * 1024


def relay_at(base_url: str, directory: Path) -> RelayProcess:
    return RelayProcess(
        directory, [UpstreamAt("main", "openai", base_url, NAMES)], models=PRICES,
        settings={"upload_bytes_max": 64 * MIB},
    )  # fmt: skip


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as upstream:
        yield upstream


def test_an_upload_of_any_size_takes_the_same_memory(sink: Sink, tmp_path: Path) -> None:
    with relay_at(sink.base_url, tmp_path) as relay:
        account = relay.account()
        grown = []
        for size in (1 * MIB, 20 * MIB, 40 * MIB):
            peak = Peak(relay.process_id)
            with RawClient(relay.port, seconds_max=60) as client:
                upload(client, account, size)
                assert client.read_response().status == 200
            grown.append(peak.growth())
        assert max(grown) < KEPT_MIB_MAX * MIB, grown
        lengths = [form(size)[1] + 3 for size in (1 * MIB, 20 * MIB, 40 * MIB)]
        assert sink.sizes == lengths, "with the model's other name, three characters longer"
        assert len(relay.usage(account)) == 3


def test_an_answer_of_any_size_takes_the_same_memory(tmp_path: Path) -> None:
    rows = [("content-type", "audio/mpeg"), ("transfer-encoding", "chunked")]
    script = [
        Send(response_head(200, rows)), Flood(chunk(b"A" * 65_536), 1_024), Send(b"0\r\n\r\n")
    ]  # fmt: skip
    with ScriptedUpstream(script) as upstream, relay_at(upstream.base_url, tmp_path) as relay:
        account = relay.account()
        body = b'{"model":"voice","input":"hello","voice":"x"}'
        peak = Peak(relay.process_id)
        with RawClient(relay.port, seconds_max=60) as client:
            client.send(request_bytes(SPEECH, body, key=account.key))
            taken = 0
            while not client.received.endswith(b"0\r\n\r\n") and client.read_once(1 << 20):
                taken += max(0, len(client.received) - 100)
                del client.received[:-100]
        assert taken >= 64 * MIB
        assert peak.growth() < KEPT_MIB_MAX * MIB
        (row,) = relay.usage(account)
        assert row["verdict"] == "complete"


def test_an_upload_that_kill_9_ends_is_not_charged(tmp_path: Path) -> None:
    with Sink(reads=False) as upstream, relay_at(upstream.base_url, tmp_path) as relay:
        account = relay.account()
        with RawClient(relay.port, seconds_max=60) as client:
            upload(client, account, 20 * MIB)
            assert upstream.begun.wait(60)
            relay.kill()
        relay.start()
        rows = relay.usage(account)
        assert [row["charge_usd"] for row in rows] in ([], ["0.00"])
        assert relay.balance(account) == "100.00"
        assert relay.verify()["clean"]
        assert not list(relay.data.glob("tmp*")), "its file had no name"


def test_an_answer_that_kill_9_ends_is_not_charged(tmp_path: Path) -> None:
    rows = [("content-type", "audio/mpeg"), ("content-length", "1000")]
    script = [Send(response_head(200, rows) + b"A" * 500), Pause("never"), AwaitGone()]
    with ScriptedUpstream(script) as upstream, relay_at(upstream.base_url, tmp_path) as relay:
        account = relay.account()
        body = b'{"model":"voice","input":"hello","voice":"x"}'
        with RawClient(relay.port, seconds_max=60) as client:
            client.send(request_bytes(SPEECH, body, key=account.key))
            client.read_until(b"A" * 400)
            relay.kill()
        relay.start()
        (row,) = relay.usage(account)
        assert (row["charge_usd"], row["verdict"]) == ("0.00", "internal_error")
        assert relay.balance(account) == "100.00"
        assert relay.verify()["clean"]
        upstream.release("never")
