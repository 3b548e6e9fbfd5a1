"""A whole relay from its settings: start, serve, reload, revoke, drain, stop, and start again."""

import asyncio
import gc
import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import uvloop

from proxy.app import sockets
from proxy.app.front import bounds_of, used_tokenizers
from proxy.app.settings import Settings
from proxy.app.sockets import open_listeners
from proxy.app.wiring import Relay
from proxy.core.entities import Tokenizer
from proxy.edge.world import Bounds
from proxy.storage.accounts import add_user
from proxy.storage.imports import apply_catalog
from proxy.storage.keys import NewKey, add_key, set_key_enabled
from proxy.storage.secrets import key_digest, new_key
from proxy.storage.verify import verify
from tests.edge.harness import (
    CHAT,
    CONTENT,
    DONE,
    ROLE,
    answer,
    body,
    catalog,
    channel,
    error_of,
)
from tests.integration.raw_client import RawClient, RawResponse, request_bytes
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import (
    LAST_CHUNK,
    AwaitGone,
    Pause,
    Send,
    chunk,
    stream_head,
    stream_script,
)

KEY = new_key(b"w" * 23)
SECONDS_MAX = 20.0


class Running:
    """A relay in a thread of its own."""

    def __init__(self, path: Path, *channels: dict[str, Any], **settings: Any) -> None:
        self.relay = Relay()
        self.database = path / "data" / "sluice.db"
        (path / "data").mkdir(exist_ok=True)
        self.settings = Settings(
            data_dir=str(path / "data"), listen="127.0.0.1:0", operations_listen="127.0.0.1:0",
            console_listen="", **settings,
        )  # fmt: skip
        self._channels = channels
        self._loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS_MAX)

    def begin(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def __enter__(self) -> Self:
        self._listeners = open_listeners(self.settings, {})
        self._thread.start()
        self.run(self.relay.start(self.settings, self._listeners))
        if self._channels and not self.relay.keeper.catalog.users:
            self.run(self.relay.keeper.change(self._seed))
            self.run(self.relay.keeper.credit(1, 10**9, "test", "first"))
        self.port = self.relay.listen_address()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.run(self.relay.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(SECONDS_MAX)
            self._loop.close()
            self._listeners.close()
            gc.unfreeze()
        if error is None:
            assert verify(self.database, quiet=True).clean

    def _seed(self, connection: Any) -> None:
        document = catalog(self._channels, {})
        apply_catalog(connection, document, master=self.relay.keeper._master, now=0.0)
        add_user(connection, "ann", "free", 0.0)
        digest = key_digest(self.relay.world.pepper, KEY)
        add_key(connection, NewKey("ann", "first", "default", digest, KEY[:6], KEY[-4:]), 0.0)

    def client(self) -> RawClient:
        return RawClient(self.port)

    def ask(self) -> RawResponse:
        with self.client() as client:
            return client.send(request_bytes(CHAT, body(), key=KEY)).read_response()


STREAM = [Send(stream_head()), *[Send(chunk(event)) for event in (ROLE, *CONTENT)]]


def test_it_serves_and_starts_again_on_the_same_data(tmp_path: Path) -> None:
    with ScriptedUpstream(stream_script(answer())) as upstream:
        for _ in range(2):
            with Running(tmp_path, channel(upstream.base_url)) as running:
                assert running.ask().whole
                assert not running.relay.world.calls
        assert len(upstream.requests) == 2


def test_a_revoked_key_cuts_its_open_stream_and_is_refused(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([*STREAM, AwaitGone()]) as upstream,
        Running(tmp_path, channel(upstream.base_url)) as running,
        running.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), key=KEY)).read_until(CONTENT[-1])
        running.run(running.relay.keeper.change(lambda c: set_key_enabled(c, 1, enabled=False)))
        response = client.read_response()
        assert response.whole
        assert error_of(response)["code"] == "key_disabled"
        upstream.wait_until(lambda up: up.visits[0].gone is not None)
        refused = running.ask()
        assert refused.status == 401
        assert error_of(refused)["code"] == "key_disabled"


def test_a_change_that_does_not_concern_a_stream_leaves_it_alone(tmp_path: Path) -> None:
    rest = [Pause("rest"), Send(chunk(answer()[-3] + DONE) + LAST_CHUNK)]
    with (
        ScriptedUpstream([*STREAM, *rest]) as upstream,
        Running(tmp_path, channel(upstream.base_url)) as running,
        running.client() as client,
    ):
        client.send(request_bytes(CHAT, body(), key=KEY)).read_until(CONTENT[-1])
        running.run(running.relay.keeper.change(lambda c: add_user(c, "bob", "free", 0.0)))
        upstream.release("rest")
        assert DONE in client.read_response().body


@pytest.mark.parametrize("patient", [True, False])
def test_draining_lets_calls_end_and_then_cuts_them_in_band(tmp_path: Path, patient: bool) -> None:
    rest = [Pause("rest"), Send(chunk(answer()[-3] + DONE) + LAST_CHUNK)]
    with (
        ScriptedUpstream([*STREAM, *rest]) as upstream,
        Running(
            tmp_path, channel(upstream.base_url), drain_seconds=SECONDS_MAX if patient else 0.05
        ) as running,
        running.client() as client,
        running.client() as other,
    ):
        client.send(request_bytes(CHAT, body(), key=KEY)).read_until(CONTENT[-1])
        other.send(request_bytes("/v1/models", key=KEY, method="GET")).read_response("GET")
        draining = running.begin(running.relay.drain())
        if patient:
            while not running.relay.world.draining:
                pass
            upstream.release("rest")
        response = client.read_response()
        draining.result(SECONDS_MAX)
        if patient:
            assert DONE in response.body
        else:
            assert response.whole
            assert error_of(response)["code"] == "server_restarting"


def test_a_reload_puts_the_bounds_in_force_for_calls_to_come(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        running.relay.reload(replace(running.settings, slice_tokens=77))
        assert running.relay.world.bounds.slice_tokens == 77


def test_a_ledger_that_cannot_be_written_is_reported_once(tmp_path: Path) -> None:
    with Running(tmp_path) as running:
        failed = running.begin(running.relay.failed())
        fault = OSError("disk")
        for _ in range(2):
            running._loop.call_soon_threadsafe(running.relay._fatal, fault)
        assert failed.result(SECONDS_MAX) is fault


def test_every_bound_is_a_setting() -> None:
    settings = Settings()
    trusted, spool = settings.trusted_proxies, str(settings.data_path)
    own = replace(Bounds(), trusted_proxies=trusted, spool_dir=spool)
    assert bounds_of(settings) == own


def test_only_the_tables_in_use_are_read(tmp_path: Path) -> None:
    with Running(tmp_path, channel("http://127.0.0.1:9/v1")) as running:
        used = used_tokenizers(running.relay.keeper.catalog)
        assert set(used) == {Tokenizer.O200K, Tokenizer.ESTIMATE}
    assert sockets.BACKLOG >= 1_024
