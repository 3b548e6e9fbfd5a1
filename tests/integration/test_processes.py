"""Keeper, workers, console and supervisor as real processes: served, killed, drained, replaced.

The big runs are `python -m tests.integration.kill_rounds` and `...reload_rounds`.
SLUICE_KILL_SEED makes other rounds; the seed is printed.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.app.control import ask
from tests.integration.kill_rounds import KillRounds, table
from tests.integration.raw_client import RawClient, RawResponse, request_bytes
from tests.integration.relay_process import RelayProcess, UpstreamAt, children_of, until_gone
from tests.integration.reload_rounds import ReloadRounds
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import LAST_CHUNK, Pause, Send, chunk, stream_head
from tests.integration.workload import Plan

WORKERS = 2
STREAMS = 8
ROUNDS = 5

CONTENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
)
STOP = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
DONE = b"data: [DONE]\n\n"
REST = [Send(chunk(STOP + DONE) + LAST_CHUNK)]
HELD = [Send(stream_head()), Send(chunk(CONTENT)), Pause("rest"), *REST]
AT_ONCE = [Send(stream_head()), Send(chunk(CONTENT)), *REST]
REQUEST = Plan.of(
    "steady", 1, next(n for n in range(99) if Plan.of("steady", 1, n).dialect == "openai")
)


class Bench:
    """A relay of several processes, its upstream, and streams that wait for it."""

    def __init__(self, relay: RelayProcess, upstream: ScriptedUpstream) -> None:
        self.relay = relay
        self.upstream = upstream
        self.clients: list[RawClient] = []
        self.key = relay.account().key

    def begin(self, count: int = STREAMS) -> None:
        """Open streams that have received content and wait for more."""
        for _ in range(count):
            client = RawClient(self.relay.port)
            self.clients.append(client)
            client.send(REQUEST.request(self.key)).read_until(CONTENT)

    def finish(self) -> list[RawResponse]:
        """Let the upstream go on, and read every stream to its end."""
        self.upstream.release("rest")
        responses = []
        for client in self.clients:
            client.read_until(lambda data: b"\r\n0\r\n\r\n" in data)
            if client.ended is None:
                responses.append(client.read_response())
        return responses

    def ask(self) -> RawResponse:
        """A stream on a connection of its own, to its end."""
        self.upstream.play(AT_ONCE)
        with RawClient(self.relay.port) as client:
            return client.send(REQUEST.request(self.key)).read_response()

    def serves_again(self) -> bool:
        """Calls on so many connections are answered that each worker has had some."""
        return all(DONE in self.ask().body for _ in range(3 * WORKERS))


@contextmanager
def running(path: Path, **settings: object) -> Iterator[Bench]:
    with ScriptedUpstream(HELD) as upstream:
        ats = [UpstreamAt("o", "openai", upstream.base_url, {"model-o": "m"})]
        given = {"workers": WORKERS, "drain_seconds": 20.0, **settings}
        with RelayProcess(path, ats, settings=given) as relay:
            bench = Bench(relay, upstream)
            try:
                yield bench
            finally:
                for client in bench.clients:
                    client.__exit__(None, None, None)


def done(responses: list[RawResponse]) -> int:
    return sum(each.status == 200 and DONE in each.body for each in responses)


def test_several_processes_serve_as_one(tmp_path: Path) -> None:
    with running(tmp_path) as bench:
        bench.begin()
        children = bench.relay.children()
        assert {role: len(found) for role, found in children.items()} == {
            "keeper": 1, "worker": WORKERS, "console": 1,
        }  # fmt: skip
        bench.relay.until_metric("sluice_streams_active 8")
        assert done(bench.finish()) == STREAMS
        assert bench.serves_again()
        assert bench.relay.terminate() == 0
        until_gone(each for row in children.values() for each in row)
        assert bench.relay.verify()["problems"] in ([], 0, None)


def test_a_key_holds_in_every_worker_once_the_command_has_answered(tmp_path: Path) -> None:
    with running(tmp_path, workers=3) as bench:
        control = bench.relay.data / "control.sock"
        ask(control, "user add", {"name": "quick"})
        for number in range(8):
            name = f"k{number}"
            made: Any = ask(control, "key add", {"user": "quick", "name": name})
            request = request_bytes("/v1/models", key=made["key"], method="GET")

            def statuses(request: bytes = request) -> set[int]:
                found = set()
                for _ in range(9):  # one connection each: the kernel chooses the worker
                    with RawClient(bench.relay.port) as client:
                        found.add(client.send(request).read_response("GET").status)
                return found

            assert statuses() == {200}
            ask(control, "key disable", {"key": name, "user": "quick"})
            assert statuses() == {401}
        assert "is not yet in force" not in bench.relay.log()


def test_streams_outlive_their_keeper(tmp_path: Path) -> None:
    with running(tmp_path) as bench:
        bench.begin()
        os.kill(bench.relay.children()["keeper"][0], signal.SIGKILL)
        assert bench.serves_again(), "an admission waits for the next keeper"
        assert done(bench.finish()) == STREAMS
        assert bench.relay.terminate() == 0
        bench.relay.verify()


def test_a_worker_takes_only_its_own_streams_with_it(tmp_path: Path) -> None:
    with running(tmp_path) as bench:
        bench.begin()
        victim = bench.relay.children()["worker"][0]
        os.kill(victim, signal.SIGKILL)
        assert bench.serves_again()
        survivors = done(bench.finish())
        lost = sum(client.ended is not None for client in bench.clients)
        print("survived", survivors, "lost", lost)
        assert survivors + lost == STREAMS
        assert victim not in bench.relay.children()["worker"]
        assert bench.relay.terminate() == 0
        bench.relay.verify()


def test_nobody_outlives_the_supervisor_and_its_successor_serves(tmp_path: Path) -> None:
    with running(tmp_path) as bench:
        bench.begin()
        children = children_of(bench.relay.process_id)
        bench.relay.kill_main()
        bench.relay.start()
        assert bench.serves_again()
        until_gone(children)
        for client in bench.clients:
            assert b"server_restarting" in client.read_all()
        bench.relay.verify()


def test_a_reload_with_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as bench:
        relay = bench.relay
        good = relay.settings_file.read_text()
        relay.settings_file.write_text(good + "nope = 1\n")
        relay.reload()
        relay.wait_for("reload refused, old settings stay")
        relay.settings_file.write_text(good.replace("20.0", "21.0") + 'log_level = "debug"\n')
        catalog = relay.catalog_file.read_text()
        relay.catalog_file.write_text("[[plan]]\n")
        relay.reload()
        relay.wait_for("reload refused, old settings stay", 2)
        relay.catalog_file.write_text(catalog)
        relay.reload()
        relay.wait_for("reloaded")
        assert bench.serves_again()
        assert relay.terminate() == 0
        draining = next(line for line in relay.log_lines() if line["event"] == "draining")
        assert draining["seconds"] == 21.0


@pytest.mark.parametrize("patient", [True, False])
def test_being_told_to_stop_lets_streams_end_and_being_told_twice_does_not(
    tmp_path: Path, patient: bool
) -> None:
    with running(tmp_path) as bench:
        bench.begin()
        relay = bench.relay
        os.kill(relay.process_id, signal.SIGTERM)
        relay.wait_for("draining")
        if patient:
            assert done(bench.finish()) == STREAMS
        else:
            os.kill(relay.process_id, signal.SIGTERM)
            for client in bench.clients:
                assert b"server_restarting" in client.read_all()
        assert relay.exit_status() == 0
        relay.verify()


def test_a_resting_connection_is_served_once_more_by_who_retires(tmp_path: Path) -> None:
    with running(tmp_path) as bench:
        relay = bench.relay
        bench.upstream.play(AT_ONCE)
        with RawClient(relay.port) as client:
            request = REQUEST.request(bench.key)
            assert client.send(request).read_response().header("connection") is None
            client.received.clear()
            before = relay.children()["worker"]
            relay.upgrade()
            relay.wait_for("upgraded")
            response = client.send(request).read_response()
            assert (response.status, response.header("connection")) == (200, "close")
            client.read_all()
            assert client.ended == "fin"
        until_gone(before)
        assert bench.serves_again()


def test_a_program_that_cannot_start_replaces_nobody(tmp_path: Path) -> None:
    with running(tmp_path) as bench:
        relay = bench.relay
        children = relay.children()
        good = relay.settings_file.read_text()
        relay.settings_file.write_text(good + "nope = 1\n")
        relay.upgrade()
        relay.wait_for("upgrade refused, the old program stays")
        assert relay.children() == children
        relay.settings_file.write_text(good)
        assert bench.serves_again()


@pytest.mark.timeout(120)
def test_reloads_and_restarts_fail_no_request_and_reset_no_connection(tmp_path: Path) -> None:
    with ReloadRounds(tmp_path, workers=WORKERS, streams=30, rate=30.0) as rounds:
        report = rounds.run(reloads=4, restarts=2)
    print(report)
    assert report.clean, report
    assert (report.reloads, report.refused_reloads, report.restarts) == (3, 1, 2)
    assert report.kept > 0
    assert report.streams >= 30


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_whoever_is_killed_the_books_say_what_happened(tmp_path: Path) -> None:
    seed = int(os.environ.get("SLUICE_KILL_SEED", "4"))
    print("seed", seed)
    with KillRounds(tmp_path, seed, workers=WORKERS, victim="mixed") as bench:
        rounds = [bench.run() for _ in range(ROUNDS)]
    print("\n".join(table(rounds)))
    print([(one.victim, f"ready {one.ready:.2f} s") for one in rounds])
    for one in rounds:
        assert not one.problems, (one.number, one.victim, one.killed_at, one.problems[:10])
        assert one.verify == "clean"
        assert one.once == one.terminal
        assert one.victim != "keeper" or not one.broken, "streams outlive their keeper"
