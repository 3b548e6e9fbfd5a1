"""Claude Code, Codex and opencode, unmodified, through the relay.

To aimock they go round a loop: the model asks for a file, the agent reads it, the model answers by
what it says. To the real llama.cpp they are billed what its meter counted. Each runs on channels of
every dialect, so that its calls are native on one and translated on the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests import clients
from tests.integration.agents import AGENTS, Ended, Task
from tests.integration.aimock import Aimock
from tests.integration.llama import MODEL_NAME, LlamaServer
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt

DIALECTS = {"chat": "openai", "messages": "anthropic", "responses": "openai", "gemini": "gemini"}
BASES = {"chat": "/v1", "messages": "/v1", "responses": "/v1", "gemini": "/v1beta"}
ENDPOINTS = {"responses": {"endpoints": ["responses"]}}
NOTE = "The harbour is north of the old town.\n"
QUESTION = "What does note.txt say about the harbour?"
ANSWER = "It says: north."
USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "input_tokens": 12, "output_tokens": 7}
CONTEXT_TOKENS = 60_000
"""Of a slot of llama.cpp: what the agents say before the user does is up to 30,000 tokens."""

agents = pytest.mark.parametrize("agent", AGENTS)


def tool_of(agent: str, note: Path) -> dict[str, Any]:
    """The call by which the agent would read the file."""
    name, arguments = {
        "claude": ("Read", {"file_path": str(note)}),
        "codex": ("exec_command", {"cmd": f"cat {note}"}),
        "opencode": ("read", {"filePath": str(note)}),
    }[agent]
    return {"id": "call_1", "name": name, "arguments": arguments}


@dataclass(frozen=True, slots=True)
class Rig:
    """A relay to aimock, and a directory with a note in it."""

    relay: RelayProcess
    note: Path

    def run(self, agent: str, model: str, account: Account) -> Ended:
        """Let the agent answer the question about the note."""
        task = Task(self.note.parent, self.relay.url, account.key, model, QUESTION)
        return AGENTS[agent](task)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Models by agent, upstream and whether their first call fails."""
    directory = tmp_path_factory.mktemp("agents")
    note = directory / "project" / "note.txt"
    note.parent.mkdir()
    note.write_text(NOTE)
    fixtures: list[dict[str, Any]] = []
    models: dict[str, dict[str, str]] = {upstream: {} for upstream in DIALECTS}
    for agent in AGENTS:
        for upstream in DIALECTS:
            for name in (f"{agent}-{upstream}", f"{agent}-{upstream}-faulty"):
                models[upstream][name] = name
                call = {"toolCalls": [tool_of(agent, note)], "usage": USAGE}
                broken = {"error": {"message": "It broke.", "type": "server_error"}, "status": 500}
                if name.endswith("faulty"):
                    first = {"model": name, "sequenceIndex": 0}
                    fixtures.append({"match": first, "response": broken})
                fixtures += [
                    {
                        "match": {"model": name, "toolResultContains": "north"},
                        "response": {"content": ANSWER, "usage": USAGE},
                    },
                    {"match": {"model": name, "hasToolResult": False}, "response": call},
                ]
    with Aimock(directory, fixtures) as mock:
        channels = [
            UpstreamAt(
                upstream,
                dialect,
                mock.origin + BASES[upstream],
                models[upstream],
                settings=ENDPOINTS.get(upstream, {}),
            )
            for upstream, dialect in DIALECTS.items()
        ]
        with RelayProcess(directory / "relay", channels) as relay:
            yield Rig(relay, note)


@pytest.mark.client(name="Claude Code", package="agents/@anthropic-ai/claude-code-linux-x64",
                    upstream="aimock",
                    shows="a loop of tools over messages, native and translated to chat, Responses and Gemini; goes on after a failure")  # fmt: skip
@pytest.mark.client(name="Codex", package="agents/@openai/codex-linux-x64", upstream="aimock",
                    shows="a loop of tools over Responses, native and translated to chat, messages and Gemini; goes on after a failure")  # fmt: skip
@pytest.mark.client(name="opencode", package="agents/opencode-linux-x64-baseline", upstream="aimock",
                    shows="a loop of tools over chat, native and translated to messages, Responses and Gemini; goes on after a failure")  # fmt: skip
@pytest.mark.timeout(150)
@agents
@pytest.mark.parametrize(
    ("upstream", "fault"), [*((upstream, "") for upstream in DIALECTS), ("chat", "-faulty")]
)
def test_an_agent_reads_a_file_and_answers_by_it(
    rig: Rig, agent: str, upstream: str, fault: str
) -> None:
    account = rig.relay.account()
    ended = rig.run(agent, f"{agent}-{upstream}{fault}", account)
    assert ended.status == 0, ended
    assert ANSWER in ended.output
    rows = rig.relay.usage(account)
    done = [row for row in rows if row["verdict"] == "complete"]
    assert [(row["source"], row["input"], row["output"]) for row in done] == [
        ("reported", USAGE["prompt_tokens"], USAGE["completion_tokens"])
    ] * 2
    failed = [row for row in rows if row["verdict"] != "complete"]
    assert [(row["verdict"], row["charge_usd"]) for row in failed] == (
        [("upstream_error", "0.00")] if fault else []
    )


@agents
@pytest.mark.parametrize(
    ("trouble", "told"),
    [("key", "not a key of this service"), ("wallet", "Add credit"), ("model", "model-x")],
)
def test_an_agent_shows_at_once_why_it_was_refused(
    rig: Rig, agent: str, trouble: str, told: str
) -> None:
    account = rig.relay.account(credit="0.000001" if trouble == "wallet" else "1.00")
    if trouble == "key":
        account = replace(account, key="sk-nobody")
    model = "model-x" if trouble == "model" else f"{agent}-chat"
    ended = rig.run(agent, model, account)
    if (agent, trouble) == ("claude", "key"):
        told = "Please run /login"  # in words of its own, but at once
    assert ended.status != 0
    assert told in ended.output
    assert rig.relay.usage(account) == []


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    clients.need("agents")
    with LlamaServer(CONTEXT_TOKENS) as server:
        yield server


@pytest.fixture(scope="module")
def relay(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    channels = [
        UpstreamAt(
            upstream,
            dialect,
            f"{llama.base_url}/v1",
            {f"by-{upstream}": MODEL_NAME},
            settings=ENDPOINTS.get(upstream, {}),
        )
        for upstream, dialect in DIALECTS.items()
        if upstream != "gemini"
    ]
    with RelayProcess(tmp_path_factory.mktemp("agents-llama"), channels) as process:
        yield process


@pytest.mark.client(name="Claude Code", package="agents/@anthropic-ai/claude-code-linux-x64",
                    upstream="llama.cpp", shows="messages, native and translated to chat and Responses")  # fmt: skip
@pytest.mark.client(name="Codex", package="agents/@openai/codex-linux-x64", upstream="llama.cpp",
                    shows="Responses, native and translated to chat and messages")  # fmt: skip
@pytest.mark.client(name="opencode", package="agents/opencode-linux-x64-baseline", upstream="llama.cpp",
                    shows="chat, native and translated to messages and Responses")  # fmt: skip
@pytest.mark.slow
@pytest.mark.timeout(150)
@agents
@pytest.mark.parametrize("upstream", ["chat", "messages", "responses"])
def test_an_agent_is_billed_what_the_meter_counted(
    relay: RelayProcess, llama: LlamaServer, tmp_path: Path, agent: str, upstream: str
) -> None:
    """It may ask again where an answer is too poor for it: the sums agree all the same."""
    account = relay.account()
    before = llama.tokens_predicted()
    question = "Which way to the harbour?"
    task = Task(tmp_path, relay.url, account.key, f"by-{upstream}", question, brief=True)
    ended = AGENTS[agent](task)
    assert ended.status == 0, ended
    rows = relay.usage(account)
    grown = llama.tokens_predicted() - before
    assert {row["verdict"] for row in rows} == {"complete"}
    assert sum(row["output"] for row in rows) == grown > 0
