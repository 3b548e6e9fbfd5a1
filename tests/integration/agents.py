"""Command-line agents, each told of the relay as its own documentation says, in a home of its own.

They reach nothing but loopback: everything else goes to a proxy that is not there.
"""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests import clients

RUN_SECONDS_MAX = 100.0
NO_NETWORK = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: exit status, what it printed, what it logged."""

    status: int
    output: str
    log: str

    def lines(self) -> list[dict[str, object]]:
        """The JSON documents it printed, one a line."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]


@dataclass(frozen=True, slots=True)
class Task:
    """What an agent is to do, in `directory`, by the relay at `url` with `key`."""

    directory: Path
    url: str
    key: str
    model: str
    prompt: str
    brief: bool = False
    """Leave out what the agent would say before the user: a real model reads it slowly."""


def claude(task: Task) -> Ended:
    """Claude Code: print mode. ANTHROPIC_BASE_URL is without `/v1`."""
    brief = ("--system-prompt", "Be brief.", "--tools", "Read") if task.brief else ()
    return _run(
        [
            clients.need_agent("claude"), "-p", task.prompt, "--model", task.model,
            "--output-format", "json", "--no-session-persistence", *brief,
        ],
        task,
        {
            "ANTHROPIC_BASE_URL": task.url,
            "ANTHROPIC_AUTH_TOKEN": task.key,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "3000",
        },
    )  # fmt: skip


def codex(task: Task) -> Ended:
    """Codex: `exec`, over the Responses protocol, the only one it speaks."""
    home = task.directory / "codex"
    home.mkdir(exist_ok=True)
    brief = home / "brief.md"
    brief.write_text("Be brief.")
    home.joinpath("config.toml").write_text(
        f'model = "{task.model}"\nmodel_provider = "relay"\nweb_search = "disabled"\n'
        + (f'model_instructions_file = "{brief}"\n' if task.brief else "")
        + "[model_providers.relay]\n"
        f'name = "relay"\nbase_url = "{task.url}/v1"\nenv_key = "RELAY_KEY"\n'
        'wire_api = "responses"\n'
    )
    return _run(
        [clients.need_agent("codex"), "exec", "--skip-git-repo-check", "--json",
         "--dangerously-bypass-approvals-and-sandbox", task.prompt],
        task,
        {"CODEX_HOME": str(home), "RELAY_KEY": task.key},
    )  # fmt: skip


def opencode(task: Task) -> Ended:
    """opencode: `run`, over chat completions."""
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "relay",
        "options": {"baseURL": f"{task.url}/v1", "apiKey": task.key},
        "models": {task.model: {"name": "relayed", "limit": {"context": 100_000, "output": 200}}},
    }
    task.directory.joinpath("opencode.json").write_text(
        json.dumps(
            {
                "provider": {"relay": provider},
                "model": f"relay/{task.model}",
                "autoupdate": False,
                "share": "disabled",
                **({"agent": {"build": {"prompt": "Be brief."}}} if task.brief else {}),
            }
        )
    )
    return _run(
        [clients.need_agent("opencode"), "run", "--format", "json", "--title", "test",
         "--model", f"relay/{task.model}", task.prompt],
        task,
        {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
         "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1"},
    )  # fmt: skip


AGENTS: Mapping[str, Callable[[Task], Ended]] = {
    "claude": claude,
    "codex": codex,
    "opencode": opencode,
}


def _run(command: list[str | Path], task: Task, environment: Mapping[str, str]) -> Ended:
    home = task.directory / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        command,
        cwd=task.directory,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **NO_NETWORK, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
