"""Invariant I9: no secret in a log, metric, error body, database file, command line, environment.

A real relay gets secrets that are known here, and calls that succeed and fail in many ways, upstreams
among them that give back the very key they were called with. The same search finds a control that
is no secret in each of these places, so that nothing passes by looking where nothing is.
"""

import base64
import http.client
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.canaries import (
    Canaries,
    files_below,
    forms,
    process_texts,
    process_tree,
    random_text,
)
from tests.integration.relay_process import CommandFailedError, RelayProcess, UpstreamAt

BEHAVIOURS = (
    "plain", "refused-401", "refused-403", "refused-400", "refused-422", "limited-429", "broken-500",
    "overloaded-529", "moved-302", "garbage", "no-json", "header", "in-band", "cut", "reset",
)  # fmt: skip
LONG_HEADER = 9_000


class EchoingUpstream(BaseHTTPRequestHandler):
    """Answers by the model's name, and gives the key away wherever it can."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = (self.headers["authorization"] or self.headers["x-api-key"]).split()[-1]
        behaviour = body["model"]
        if behaviour == "plain":
            self._stream() if body.get("stream") else self._json(200, answer("hello"))
        elif behaviour[-3:].isdigit():
            message = f"Incorrect API key provided: {key}. Sent as Bearer {key}; {key[:12]}***"
            self._json(int(behaviour[-3:]), {"error": {"message": message, "param": key}}, key)
        elif behaviour == "garbage":
            self._send(200, f"{{ {key} not json {key}".encode(), key)
        elif behaviour == "no-json":
            self._send(200, f"<html>{key}</html>".encode(), key, "text/html")
        elif behaviour == "header":
            self._json(200, answer("hello"), key)
        elif behaviour == "in-band":
            self._events([{"error": {"message": f"bad key {key}", "type": key, "code": key}}])
        elif behaviour == "cut":
            self._stream(terminal=False)
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _json(self, status: int, value: Any, key: str = "") -> None:
        self._send(status, json.dumps(value).encode(), key)

    def _send(
        self, status: int, body: bytes, key: str = "", kind: str = "application/json"
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if key:
            for name in ("x-request-id", "location", "www-authenticate", "openai-organization"):
                self.send_header(name, f"http://127.0.0.1:1/?key={key}")
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, terminal: bool = True) -> None:
        chunk = {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        events = [{**chunk, "choices": [{"index": 0, "delta": {"content": "hi"}}]}]
        self._events(events, terminal=terminal)

    def _events(self, events: list[Any], terminal: bool = True) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.writelines(f"data: {json.dumps(each)}\n\n".encode() for each in events)
        if terminal:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def answer(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "a", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }  # fmt: skip


@pytest.fixture
def upstream_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), EchoingUpstream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


class Caller:
    """Makes calls and keeps everything that came back with an error."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.errors: list[bytes] = []
        self.statuses: set[int] = set()

    def call(
        self, path: str, headers: dict[str, str], body: bytes | None, method: str = "POST"
    ) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {"content-type": "application/json", **headers})
            response = connection.getresponse()
            self.statuses.add(response.status)
            head = str(response.headers).encode()
            try:
                content = response.read()
            except http.client.IncompleteRead as error:
                content = error.partial
            if response.status >= 400 or b"error" in content:
                self.errors.append(head + content)
            else:
                self.errors.append(head)
        except (http.client.HTTPException, OSError) as error:
            self.errors.append(repr(error).encode())
        finally:
            connection.close()

    def chat(self, key: str, model: str, **rest: Any) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **rest}
        bearer = {"authorization": f"Bearer {key}"}
        self.call("/v1/chat/completions", bearer, json.dumps(body).encode())

    def ways_to_fail(self, key: str, typo: str) -> None:
        """Everything a caller may do wrong with a key in its hand."""
        for wrong in (typo, typo[:-1], typo + "0", "sk-" + key[4:]):
            self.chat(wrong, "plain-1")
            self.call("/v1/models", {"x-api-key": wrong}, None, "GET")
        good = {"authorization": f"Bearer {key}"}
        basic = base64.b64encode(f"user:{key}".encode()).decode()
        for headers in (
            {"authorization": f"Basic {basic}"}, {"authorization": f"Token {key}"},
            {"authorization": key}, {"authorization": f"Bearer  {key} {key}"},
            {"x-api-key": f"Bearer {key}"}, {"x-api-key": f'"{key}"'},
            {"authorization": f"Bearer {typo}", "x-api-key": key},
            {"cookie": f"key={key}"}, {"x-goog-api-key": key, "referer": f"http://h/{key}"},
            {"x-request-id": "r", "user-agent": f"agent/{key}"},
            {**good, "x-large": key * (LONG_HEADER // len(key))},
        ):  # fmt: skip
            self.call("/v1/models", headers, None, "GET")
        for path in (
            f"/v1/models?key={key}",
            f"/v1/chat/completions?api_key={typo}",
            "/v1/nothing",
        ):
            self.call(path, good, b"{}")
            self.call(path, {}, b"{}")
        for body in (
            b"", b"{", f'{{"key": "{key}"'.encode(), f'["{key}"]'.encode(), key.encode(),
            json.dumps({"model": "plain-1", "messages": key}).encode(),
            json.dumps({"model": "plain-1", "max_tokens": key, "messages": []}).encode(),
            json.dumps({"model": "plain-1", "stream": key, "api_key": key}).encode(),
        ):  # fmt: skip
            for path in ("/v1/chat/completions", "/v1/messages"):
                self.call(path, good, body)
        self.call("/v1/chat/completions", {**good, "content-length": key}, None)


def catalog(url: str, control: str, keys: list[str]) -> list[UpstreamAt]:
    """A channel for each behaviour and key: a model of its own, and no other channel to try."""
    channels = [
        UpstreamAt(f"{control}-{behaviour}-{number}", "openai", url,
                   {f"{behaviour}-{number}": behaviour}, (key,))
        for behaviour in BEHAVIOURS
        for number, key in enumerate(keys)
    ]  # fmt: skip
    channels.append(UpstreamAt(f"{control}-named", "openai", url, {control: "plain"}, (keys[0],)))
    return channels


def changed(key: str) -> str:
    """`key` with one character replaced, as a person mistypes it."""
    return key[:20] + ("A" if key[20] != "A" else "B") + key[21:]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
def test_no_secret_is_anywhere_but_in_memory(
    tmp_path_factory: pytest.TempPathFactory, upstream_url: str, workers: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("c")  # short: a unix socket's path is below it
    control = f"control-{secrets.token_hex(4)}"
    canaries, controls = Canaries(), Canaries()
    controls.add("control", control)
    upstream_keys = [random_text("sk-proj-"), random_text("gsk_")]
    files = {name: tmp_path / name for name in ("pepper", "master")}
    for name, path in files.items():
        text = secrets.token_hex(32)
        path.write_text(text + "\n")
        path.chmod(0o600)
        canaries.add(name, text)
    for number, key in enumerate(upstream_keys):
        canaries.add(f"upstream key {number}", key)
    relay = RelayProcess(
        tmp_path / control,
        catalog(upstream_url, control, upstream_keys),
        settings={
            "workers": workers, "log_level": "debug", "pepper_file": str(files["pepper"]),
            "master_file": str(files["master"]),
        },
        environment={"SLUICE_TEST_CONTROL": control},
    )  # fmt: skip
    places: dict[str, bytes] = {}
    with relay:
        key = relay.account().key
        canaries.add("client key", key)
        canaries.add("mistyped client key", changed(key))
        caller = Caller(relay.port)
        caller.chat(key, control)
        caller.chat(key, f"{control}-unknown")
        for behaviour in BEHAVIOURS:
            for number in range(len(upstream_keys)):
                caller.chat(key, f"{behaviour}-{number}")
                caller.chat(key, f"{behaviour}-{number}", stream=True)
        caller.ways_to_fail(key, changed(key))
        assert {200, 400, 401, 404, 429, 503} <= caller.statuses
        places |= commands(relay, upstream_keys, tmp_path)
        good = relay.catalog_file.read_text()
        relay.catalog_file.write_text(
            good + f'[[channel]]\nname = 1\nkeys = ["{upstream_keys[1]}"]\n'
        )
        relay.reload()
        wait_for(relay, "reload refused")
        relay.catalog_file.write_text(good)
        processes = process_tree(relay.process_id)
        assert len(processes) == (1 if workers == 1 else 3 + workers)
        places |= process_texts(processes)
        places["metrics"] = relay.metrics().encode()
        places |= files_below(relay.data)
        relay.kill()
        relay.start()
        caller.chat(key, control)
        places |= process_texts(process_tree(relay.process_id))
    places["log"] = relay.log().encode()
    places |= {f"after: {name}": content for name, content in files_below(relay.data).items()}
    places |= {f"error {n}": content for n, content in enumerate(caller.errors)}
    leaks = canaries.within_all(places)
    assert not leaks, "\n".join(leaks)
    seen = " ".join(controls.within_all(places))
    wanted = (
        "/cmdline",
        "/environ",
        "in metrics",
        "in log",
        "in error",
        "sluice.db",
        "-wal",
        "list",
    )
    assert [place for place in wanted if place not in seen] == [], "the search looks there"


def commands(relay: RelayProcess, keys: list[str], folder: Path) -> dict[str, bytes]:
    """What the command line shows of things that have secrets, also when it refuses."""
    broken = folder / "broken.toml"
    broken.write_text(f'[[channel]]\nname = "x"\nkeys = ["{keys[0]}", "{keys[1]}"]\nnope = 1\n')
    shown = {}
    for arguments in (
        ("channel", "list"), ("key", "list"), ("user", "list"), ("usage",), ("catalog", "export"),
        ("ledger", "verify"), ("check", "--config", str(broken)), ("catalog", "apply", str(broken)),
        ("channel", "test", "nobody"),
    ):  # fmt: skip
        try:
            shown[" ".join(arguments)] = json.dumps(relay.command(*arguments)).encode()
        except CommandFailedError as error:
            shown[" ".join(arguments)] = str(error).encode()
    return shown


def wait_for(relay: RelayProcess, words: str) -> None:
    """Until the log says so; a request each time, so that the loop has turned."""
    for _ in range(2_000):
        if words in relay.log():
            return
        relay.is_ready()
    raise AssertionError(f"the relay never said {words!r}")


@pytest.mark.parametrize("pad", [b"", b"a", b"ab", b"user:"])
def test_every_form_of_a_planted_secret_is_found(pad: bytes) -> None:
    text = secrets.token_hex(32)
    canaries = Canaries()
    canaries.add("planted", text)
    raw = bytes.fromhex(text)
    for secret in (text.encode(), raw):
        for content in (
            pad + secret + pad, secret.hex().encode(), secret.hex().upper().encode(),
            base64.b64encode(pad + secret + pad), base64.urlsafe_b64encode(pad + secret + pad),
            secret[: len(secret) // 2] + b"...", b"..." + secret[len(secret) // 2 :],
        ):  # fmt: skip
            assert canaries.within("here", b"before " + content + b" after") == ["planted in here"]
    assert canaries.within("here", secrets.token_hex(4096).encode()) == []
    assert min(map(len, forms(raw))) >= 16, "nothing so short that it is found by chance"
