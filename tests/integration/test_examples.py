"""Every example program is run against a relay before the demo upstream, in its own language.

The model's name is one that tries to break out of every language's quotes, and the ledger must know
the call under just that name.
"""

import base64
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.core.entities import DIALECT_ENDPOINTS, Dialect
from proxy.core.examples.programs import LANGUAGES, render
from proxy.core.examples.sample import ENDPOINTS, IMAGE_IN, SPEECH, STREAMED
from tests.integration.example_runners import environment, start
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt, free_ports

RUN_SECONDS_MAX = 120
"""Go compiles its whole library the first time."""
MODEL = "org/a'b\"c\\é`${x}#{y}%20<z>@:free"
CLAUDE = f"claude/{MODEL}"
GEMINI = f"gemini/{MODEL}"
PRICE = {"input": "1.00", "output": "4.00", "image": "0.01", "character": "15.00",
         "audio_hour": "0.36", "call": "0.0001"}  # fmt: skip
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SILENCE = b"\xff\xfb\x90\xc4" + bytes(413)
"""One frame of MP3: 128 kbit/s, 44.1 kHz."""
CASES = [
    *((language, name, False) for language in LANGUAGES for name in ENDPOINTS),
    *((language, name, True) for language in LANGUAGES for name in STREAMED),
]


@dataclass
class Bench:
    relay: RelayProcess
    account: Account
    told: str = ""

    def call(self) -> dict[str, Any] | None:
        """The newest call in the ledger, if it was not there when this was asked before."""
        rows = self.relay.command("usage", "--user", self.account.user, "--rows", "1")
        if not rows or rows[0]["request_id"] == self.told:
            return None
        self.told = rows[0]["request_id"]
        return dict(rows[0])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("examples")
    (port,) = free_ports(1)
    demo = subprocess.Popen(
        [sys.executable, "-m", "proxy.app.demo", "--listen", f"127.0.0.1:{port}", "--rate", "0"],
        stdout=subprocess.PIPE,
    )
    try:
        assert demo.stdout is not None
        assert demo.stdout.readline()
        url = f"http://127.0.0.1:{port}"
        of_openai = sorted(DIALECT_ENDPOINTS[Dialect.OPENAI] | {"responses"})
        upstreams = [
            UpstreamAt(
                "gpt", "openai", f"{url}/v1", {MODEL: "demo-gpt"}, settings={"endpoints": of_openai}
            ),
            UpstreamAt("claude", "anthropic", f"{url}/v1", {CLAUDE: "demo-claude"}),
            UpstreamAt("gemini", "gemini", f"{url}/v1beta", {GEMINI: "demo-gemini"}),
        ]
        models = {MODEL: {"endpoints": of_openai, "price": PRICE}}
        with RelayProcess(folder / "relay", upstreams, models=models) as relay:
            yield Bench(relay, relay.account())
    finally:
        demo.kill()
        demo.communicate()


@pytest.mark.slow
@pytest.mark.timeout(RUN_SECONDS_MAX + 30)
@pytest.mark.parametrize(("language", "endpoint", "stream"), CASES)
def test_the_program_runs(
    bench: Bench, tmp_path: Path, language: str, endpoint: str, stream: bool
) -> None:
    model = {"messages": CLAUDE, "gemini_generate": GEMINI}.get(endpoint, MODEL)
    program = render(endpoint, language, base_url=bench.relay.url, model=model, stream=stream)
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / LANGUAGES[language].file_name).write_text(program)
    (folder / IMAGE_IN).write_bytes(PIXEL)
    (folder / SPEECH).write_bytes(SILENCE)
    done = subprocess.run(
        start(language, folder),
        cwd=folder,
        env={**environment(), "SLUICE_API_KEY": bench.account.key},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, program + done.stdout + done.stderr
    row = bench.call()
    if endpoint == "models":
        assert row is None
        assert "org/a" in done.stdout
        return
    assert row is not None
    assert (row["model"], row["verdict"]) == (model, "complete")
    if endpoint in {"chat", "messages", "responses"}:
        assert "relay" in done.stdout


def test_a_refused_program_says_why_and_fails(bench: Bench, tmp_path: Path) -> None:
    program = render("chat", "requests", base_url=bench.relay.url, model="no such model")
    (tmp_path / LANGUAGES["requests"].file_name).write_text(program)
    done = subprocess.run(
        start("requests", tmp_path),
        cwd=tmp_path,
        env={**environment(), "SLUICE_API_KEY": bench.account.key},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 1
    assert "model_not_found" in done.stderr
