"""langchain-openai and `llm`, in an environment of their own, through the relay.

To the real llama.cpp, whose meter is compared with the bill, and to aimock, whose answers call a
tool.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import clients, tree
from tests.integration.aimock import Aimock
from tests.integration.llama import MODEL_NAME, LlamaServer
from tests.integration.relay_process import (
    ANTHROPIC_MODEL,
    OPENAI_MODEL,
    Account,
    RelayProcess,
    UpstreamAt,
)

RUN_SECONDS_MAX = 50.0
USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "input_tokens": 12, "output_tokens": 7}
CALL = {"id": "call_1", "name": "weather", "arguments": {"city": "Kiel"}}
FIXTURES: list[dict[str, Any]] = [
    {
        "match": {"toolResultContains": "weather of Kiel says 7"},
        "response": {"content": "It is 7 in Kiel.", "usage": USAGE},
    },
    {
        "match": {"toolName": "weather", "hasToolResult": False},
        "response": {"toolCalls": [CALL], "usage": USAGE},
    },
    {"match": {}, "response": {"content": "North.", "usage": USAGE}},
]
WITHOUT_CHANCE = ("-o", "temperature", "0")
"""One answer in seven begins with half an emoji, and for a first token that makes no text this
llama.cpp sends no message_start: its input is then counted, not reported."""
models = pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
forms = pytest.mark.parametrize("form", ["chat", "responses"])


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the clients' environment; its status must be 0."""
    program = clients.need("python") / "bin" / command[0]
    done = subprocess.run(
        [program, *command[1:]],
        cwd=tree.ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    clients.need("python")
    with LlamaServer() as server:
        yield server


@pytest.fixture(scope="module")
def relay(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    upstreams = [
        UpstreamAt("llama-o", "openai", f"{llama.base_url}/v1", {OPENAI_MODEL: MODEL_NAME}),
        UpstreamAt("llama-a", "anthropic", f"{llama.base_url}/v1", {ANTHROPIC_MODEL: MODEL_NAME}),
    ]
    with RelayProcess(tmp_path_factory.mktemp("python"), upstreams) as process:
        yield process


@pytest.fixture(scope="module")
def mocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    directory = tmp_path_factory.mktemp("python-mocked")
    with Aimock(directory, FIXTURES) as mock:
        upstreams = [
            UpstreamAt("chat", "openai", f"{mock.origin}/v1", {OPENAI_MODEL: "up-o"}),
            UpstreamAt("messages", "anthropic", f"{mock.origin}/v1", {ANTHROPIC_MODEL: "up-a"}),
        ]
        with RelayProcess(directory / "relay", upstreams) as process:
            yield process


def langchain(relay: RelayProcess, account: Account, model: str, form: str) -> Any:
    """What the program of langchain saw."""
    program = "tests/integration/langchain_program.py"
    url = f"{relay.url}/v1"
    return json.loads(run("python", program, url, account.key, model, form).stdout)


@pytest.mark.client(name="langchain-openai", package="python/langchain-openai", upstream="llama.cpp",
                    shows="chat and responses, whole and streamed, with usage")  # fmt: skip
@models
@forms
def test_langchain_is_billed_what_the_meter_counted(
    relay: RelayProcess, llama: LlamaServer, model: str, form: str
) -> None:
    account = relay.account()
    before = llama.tokens_predicted()
    found = langchain(relay, account, model, form)
    grown = llama.tokens_predicted() - before
    rows = relay.usage(account)
    assert {row["verdict"] for row in rows} == {"complete"}
    assert sum(row["output"] for row in rows) == grown
    assert found["whole"]["text"] == found["streamed"]["text"] != ""
    told = [found[name]["usage"]["output_tokens"] for name in ("whole", "streamed", "called")]
    assert told == [row["output"] for row in reversed(rows)][:3]


@pytest.mark.client(name="langchain-openai", package="python/langchain-openai", upstream="aimock",
                    shows="a loop of tools, over chat and over responses")  # fmt: skip
@models
@forms
def test_langchain_goes_round_a_loop_of_tools(mocked: RelayProcess, model: str, form: str) -> None:
    account = mocked.account()
    found = langchain(mocked, account, model, form)
    assert found["whole"]["text"] == found["streamed"]["text"] == "North."
    assert found["called"]["calls"] == ["weather"]
    assert found["last"]["text"] == "It is 7 in Kiel."
    rows = mocked.usage(account)
    assert [(row["verdict"], row["input"], row["output"]) for row in rows] == [
        ("complete", 12, 7)
    ] * 4


@pytest.mark.client(name="langchain-openai", package="python/langchain-openai",
                    upstream="llama.cpp, services", shows="embeddings")  # fmt: skip
def test_langchain_makes_embeddings(tmp_path: Path) -> None:
    clients.need("python")
    with LlamaServer(embeds=True) as server:
        upstream = UpstreamAt("e", "openai", f"{server.base_url}/v1", {"embedder": MODEL_NAME})
        with RelayProcess(tmp_path, [upstream]) as relay:
            account = relay.account()
            assert langchain(relay, account, "embedder", "embeddings") == [64, 64]
            (row,) = relay.usage(account)
            assert (row["verdict"], row["source"]) == ("complete", "reported")
            assert row["input"] == server.prompt_tokens()


def llm(relay: RelayProcess, account: Account, home: Path, model: str, *options: str) -> Any:
    """Ask by `llm` of its own data directory, which knows the relay as its documentation says."""
    home.joinpath("extra-openai-models.yaml").write_text(
        f'- model_id: relayed\n  model_name: {model}\n  api_base: "{relay.url}/v1"\n'
        "  api_key_name: relayed\n  supports_tools: true\n"
    )
    home.joinpath("keys.json").write_text(json.dumps({"relayed": account.key}))
    question = "Which way to the harbour?"
    command = ("llm", "prompt", "--model", "relayed", "--usage", *options)
    return run(*command, question, LLM_USER_PATH=str(home), HOME=str(home))


@pytest.mark.client(name="llm", package="python/llm", upstream="llama.cpp",
                    shows="chat, whole and streamed, with usage")  # fmt: skip
@models
@pytest.mark.parametrize("form", [("--no-stream",), ()], ids=["plain", "stream"])
def test_llm_is_billed_what_the_meter_counted(
    relay: RelayProcess, llama: LlamaServer, tmp_path: Path, model: str, form: tuple[str, ...]
) -> None:
    account = relay.account()
    before = llama.tokens_predicted()
    done = llm(relay, account, tmp_path, model, *form, *WITHOUT_CHANCE, "-o", "max_tokens", "30")
    grown = llama.tokens_predicted() - before
    (row,) = relay.usage(account)
    assert (row["verdict"], row["source"]) == ("complete", "reported")
    assert row["output"] == grown
    assert f"{row['input']} input, {row['output']} output" in done.stderr
    assert done.stdout.strip()


@pytest.mark.client(name="llm", package="python/llm", upstream="aimock", shows="a loop of tools")
@models
def test_llm_goes_round_a_loop_of_tools(mocked: RelayProcess, tmp_path: Path, model: str) -> None:
    account = mocked.account()
    function = 'def weather(city: str) -> str:\n    return f"weather of {city} says 7"\n'
    done = llm(mocked, account, tmp_path, model, "--functions", function)
    assert done.stdout.strip().endswith("It is 7 in Kiel.")
    rows = mocked.usage(account)
    assert [(row["verdict"], row["output"]) for row in rows] == [("complete", 7)] * 2
