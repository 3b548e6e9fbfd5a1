import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from proxy.app.admin_client import AdminClient, read_token
from proxy.app.control import CommandError

SEEN: list[tuple[str, str | None, Any]] = []


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A server that answers everything with the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["content-length"]))
            SEEN.append((self.path, self.headers["authorization"], json.loads(sent)))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def test_a_command_is_one_request_with_the_token() -> None:
    SEEN.clear()
    with answering(200, b'{"result": [1]}') as url:
        assert AdminClient(url + "/console/", "sa-x").do("key list", {"user": "ann"}) == [1]
    assert SEEN == [("/console/api/v1/actions/key-list", "Bearer sa-x", {"user": "ann"})]


def test_a_refusal_is_told_as_the_relay_itself_would() -> None:
    said = {"error": {"code": "refused", "message": "no", "remedy": "do", "fields": {"a": "b"}}}
    with (
        answering(422, json.dumps(said).encode()) as url,
        pytest.raises(CommandError, match="no") as refused,
    ):
        AdminClient(url, "sa-x").do("key list", {})
    assert (refused.value.remedy, refused.value.fields) == ("do", {"a": "b"})


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b"[]"), (200, b"{}"), (500, b"oops"), (404, b"{}"), (302, b"")],
)
def test_what_is_no_console_is_said_so(status: int, body: bytes) -> None:
    with (
        answering(status, body, location="http://127.0.0.1:9/") as url,
        pytest.raises(CommandError, match="no console of this relay") as refused,
    ):
        AdminClient(url, "sa-x").do("key list", {})
    assert refused.value.remedy == "check --url"


def test_nobody_there_is_said_so() -> None:
    with answering(200, b"") as url:
        pass
    with pytest.raises(CommandError, match="does not answer") as refused:
        AdminClient(url, "sa-x").do("key list", {})
    assert "urlopen" not in refused.value.message
    assert refused.value.remedy.startswith("check the URL")


@pytest.mark.parametrize(
    ("url", "token", "word"),
    [
        ("relay.example.com", "sa-x", "no address"),
        ("ftp://relay.example.com", "sa-x", "no address"),
        ("http://[::1", "sa-x", "no address"),
        ("http://relay.example.com", "sa-x", "in the clear"),
        ("http://10.0.0.1:8082", "sa-x", "in the clear"),
        ("https://relay.example.com", "", "no token"),
        ("https://relay.example.com", "sa-\n", "no token"),
    ],
)
def test_a_token_goes_nowhere_it_could_be_read(url: str, token: str, word: str) -> None:
    with pytest.raises(CommandError, match=word):
        AdminClient(url, token)


def test_a_token_goes_over_tls_or_to_this_machine() -> None:
    for url in ("https://a.example/", "http://localhost:1", "http://[::1]:1", "http://127.0.0.1"):
        assert AdminClient(url, "sa-x").url == url.rstrip("/")


def test_a_token_is_read_from_its_file_first(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("sa-file\n")
    assert read_token(file, "sa-given") == "sa-file"
    assert read_token(None, " sa-given ") == "sa-given"
    assert read_token(None, None) == ""
    with pytest.raises(CommandError, match=r"cannot be read: No such file or directory$"):
        read_token(tmp_path / "none", None)
    file.write_bytes(b"\xff")
    with pytest.raises(CommandError, match="cannot be read: it is not plain text"):
        read_token(file, None)
