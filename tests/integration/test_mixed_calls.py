"""Every endpoint at once against upstreams that lie, break and leak: the books stay true.

SLUICE_MIXED_SEED makes other calls; the seed is printed.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import Wire
from tests.edge.harness import ANN, BOB, Relay, channel
from tests.integration.mixed_calls import MODELS, SECRET, SERVICE_MODEL, Upstream, plans
from tests.integration.mixed_rounds import Answer, MixedRound, audit, rows_of
from tests.integration.relay_process import POLL_SECONDS, RelayProcess, UpstreamAt
from tests.integration.scripted import ScriptedUpstream
from tests.integration.test_recompute import recomputed

CALLS = 160
PRICE = {"input": "1", "output": "2", "character": "15", "image": "0.04", "search": "0.002"}
PATIENCE: dict[str, Any] = {"idle_seconds_max": 0.5, "first_byte_seconds_max": 0.5}
NAMES = (*MODELS.values(), SERVICE_MODEL)
SEED = int(os.environ.get("SLUICE_MIXED_SEED", "41"))
OPEN_SECONDS_MAX = 20.0


def dialects(origin: str) -> list[dict[str, Any]]:
    """One channel for each form of a provider, all of them on one port."""
    openai, both = f"{origin}/v1", {MODELS[Wire.CHAT]: "up-m", SERVICE_MODEL: "up-s"}
    return [
        {"name": "c", "dialect": "openai", "base_url": openai, "models": both},
        {"name": "r", "dialect": "openai", "base_url": openai, "models": {"r": "up-r"},
         "endpoints": ["responses"]},
        {"name": "a", "dialect": "anthropic", "base_url": origin, "models": {"a": "up-a"}},
        {"name": "g", "dialect": "gemini", "base_url": origin, "models": {"g": "up-g"}},
    ]  # fmt: skip


def test_what_callers_get_is_what_the_ledger_says(tmp_path: Path) -> None:
    print("seed", SEED)
    made = plans(SEED, CALLS)
    upstream = Upstream(made)
    models = tuple({"name": name, "price": PRICE} for name in NAMES if name != "m")
    told: list[str] = []
    with ScriptedUpstream(upstream) as server:
        channels = [
            channel("", **(PATIENCE | {"keys": [SECRET]} | each))
            for each in dialects(server.origin)
        ]
        with Relay(
            tmp_path, *channels, models=models, credit=10**13, plan="free", usage_wait_ms=200
        ) as relay:

            def ask(answer: Answer, key: str) -> None:
                """The receipt is there as soon as the answer is, and says what its head said."""
                cost = answer.response.header("x-sluice-cost")
                found = relay.get(f"/v1/generation?id={answer.request_id}", key=key)
                if found.status == 200:
                    value = json.loads(found.body)
                    if cost not in {None, str(value["data"]["charge_nano_usd"])}:
                        told.append(f"{answer.plan.number}: {cost} and {value}")
                elif answer.response.status == 200 and not answer.plan.dry:
                    told.append(f"{answer.plan.number}: {found.body!r}")

            this = MixedRound(relay.port, (ANN, BOB), made, ask=ask)
            this.run()
            relay.quiet()
            rows = rows_of(relay.path)
            assert relay.world.spool.used_bytes == 0
            assert not relay.calls_open()
        lines = recomputed(relay.path)
    problems = told + this.lost + audit(this.answers, rows, killed=False)
    assert not problems, "\n".join(problems)
    assert [line for line in lines if "recomputed" not in line] == []
    assert sum(row["charge"] for row in rows.values()) > 0
    assert {row["verdict"] for row in rows.values()} >= {"complete", "upstream_truncated"}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("workers", "victim"), [(1, "all"), (2, "keeper"), (2, "worker")])
def test_the_books_are_true_after_kill_9_among_calls_of_every_kind(
    tmp_path: Path, workers: int, victim: str
) -> None:
    print("seed", SEED)
    made = [plan for plan in plans(SEED + 1, CALLS) if not plan.dry]
    with ScriptedUpstream(Upstream(made)) as server:
        ats = [
            UpstreamAt(
                each["name"], each["dialect"], each["base_url"], each["models"], (SECRET,),
                PATIENCE | ({"endpoints": each["endpoints"]} if "endpoints" in each else {}),
            )
            for each in dialects(server.origin)
        ]  # fmt: skip
        settings = {"workers": workers, "usage_wait_ms": 200}
        models = {name: {"price": PRICE} for name in NAMES}
        with RelayProcess(tmp_path, ats, models=models, settings=settings) as relay:
            keys = [relay.account("1000").key, relay.account("0.30").key]
            keys.append(relay.account("100", budget="0.05").key)

            def kill() -> None:
                if victim == "all":
                    relay.kill()
                    relay.start()
                else:
                    os.kill(relay.children()[victim][0], signal.SIGKILL)

            this = MixedRound(relay.port, keys, made, at_half=kill)
            this.run()
            rows = _settled(relay)
            assert relay.verify()["problems"] == []
            problems = audit(this.answers, rows, killed=True)
            assert not problems, "\n".join(problems)
            assert all("recomputed" in line for line in recomputed(relay.database))
            log = relay.log()
            assert SECRET not in log
            assert "Traceback" not in log
            assert sum(row["verdict"] == "complete" for row in rows.values()) > CALLS // 8


def _settled(relay: RelayProcess) -> dict[str, dict[str, Any]]:
    """Every call, once none is open: what a dead worker left is settled soon after."""
    deadline = time.monotonic() + OPEN_SECONDS_MAX
    while True:
        relay.command("usage", "--rows", "1")  # a command waits until the file has all of it
        try:
            return rows_of(relay.database)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)  # pace: the file has no push
