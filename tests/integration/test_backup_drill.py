"""The drill an operator should do once a month: back up under load, restore elsewhere, compare."""

import json
import shutil
import sqlite3
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from proxy.core.money import format_usd, parse_usd
from tests.integration.relay_process import (
    OPENAI_MODEL,
    ROOT,
    SLUICE,
    Account,
    RelayProcess,
    UpstreamAt,
)
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script

pytestmark = pytest.mark.timeout(180)
ANSWER = json.dumps(
    {
        "id": "c-1",
        "object": "chat.completion",
        "model": OPENAI_MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
).encode()
CALLERS = 4
CREDIT = "100.00"


def call(relay: RelayProcess, account: Account) -> str:
    """Make one plain call; returns its request id."""
    body = {"model": OPENAI_MODEL, "messages": [{"role": "user", "content": "hi"}]}
    request = urllib.request.Request(
        f"{relay.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {account.key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["usage"]["total_tokens"] == 15
        return str(response.headers["x-request-id"])


def sluice(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*SLUICE, *map(str, arguments)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


def traffic(
    relay: RelayProcess, account: Account, while_running: Callable[[], None]
) -> tuple[set[str], set[str]]:
    """Calls from several threads around `while_running`; ids that ended before it, and all."""
    ended: list[str] = []
    warm, stop = threading.Event(), threading.Event()

    def caller() -> None:
        while not stop.is_set():
            ended.append(call(relay, account))
            if len(ended) >= 20:
                warm.set()

    threads = [threading.Thread(target=caller) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        assert warm.wait(30)
        before = set(ended)
        while_running()
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    return before, set(ended)


def test_a_backup_under_load_restored_elsewhere_is_that_moment(tmp_path: Path) -> None:
    copy = tmp_path / "backup.db"
    with ScriptedUpstream(plain_script(ANSWER)) as upstream:
        at = UpstreamAt("o", "openai", upstream.base_url, {OPENAI_MODEL: "m"})
        with RelayProcess(tmp_path / "old", [at]) as relay:
            account = relay.account(credit=CREDIT)

            def back_up() -> None:
                made = sluice("backup", copy, "--data", relay.data, "--json")
                assert made.returncode == 0, made.stderr
                assert json.loads(made.stdout)["clean"] is True

            before, everything = traffic(relay, account, back_up)
            refused = sluice("restore", copy, "--data", relay.data, "--yes")
            assert refused.returncode == 1
            assert "in use by process" in refused.stderr
            assert relay.verify()["clean"] is True

        fresh = RelayProcess(tmp_path / "new", [at])
        done = sluice("restore", copy, "--data", fresh.data, "--json")
        assert done.returncode == 1, "without its secrets it is in place, but of no use"
        assert "pepper is missing" in done.stderr.replace("\n", " ")
        shutil.copytree(relay.data / "secrets", fresh.data / "secrets", dirs_exist_ok=True)
        done = sluice("restore", copy, "--data", fresh.data, "--yes", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["replaced"]

        with fresh:
            rows = fresh.usage(account)
            found = {row["request_id"] for row in rows}
            assert before <= found <= everything, "what had ended before is in it, whole"
            spent = sum(parse_usd(row["charge_usd"]) for row in rows)
            assert fresh.balance(account) == format_usd(parse_usd(CREDIT) - spent)
            assert fresh.balance(account) == balance_in(copy)
            call(fresh, account)
            assert fresh.verify()["clean"] is True
            assert parse_usd(fresh.balance(account)) < parse_usd(CREDIT) - spent
        assert upstream.errors == []


def balance_in(copy: Path) -> str:
    """The one user's wallet as the backup file has it."""
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True)) as connection:
        (balance,) = connection.execute("SELECT balance FROM account WHERE id & 7 = 1").fetchone()
    return format_usd(balance)
