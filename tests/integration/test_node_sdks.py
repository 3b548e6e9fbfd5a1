"""The unmodified SDKs for Node through the relay: to a real llama.cpp, whose meter is compared with
the bill, and to aimock, whose answers call tools.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.aimock import Aimock
from tests.integration.llama import MODEL_NAME, LlamaServer
from tests.integration.node_driver import NodeError, NodeSdks
from tests.integration.relay_process import (
    ANTHROPIC_MODEL,
    OPENAI_MODEL,
    Account,
    RelayProcess,
    UpstreamAt,
)

CALLERS = ("chat", "messages", "responses")
RESPONSES_MODEL = "model-r"
GEMINI_MODEL = "model-g"
MODELS = (OPENAI_MODEL, ANTHROPIC_MODEL, RESPONSES_MODEL)
NATIVE_RESPONSES = {"endpoints": ["responses"]}
QUESTION = {"role": "user", "content": "Which way to the harbour?"}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
LIMIT = {"chat": "max_tokens", "messages": "max_tokens", "responses": "max_output_tokens"}

callers = pytest.mark.parametrize("caller", CALLERS)
models = pytest.mark.parametrize("model", MODELS)


@dataclass(frozen=True, slots=True)
class Bench:
    """An account, and how each SDK is told of the relay."""

    relay: RelayProcess
    node: NodeSdks
    account: Account

    def ask(self, caller: str, way: str, **given: Any) -> Any:
        """Let the caller's SDK call in that way."""
        url = self.relay.url if caller == "messages" else f"{self.relay.url}/v1"
        return self.node.ask(f"{caller}_{way}", **{"url": url, "key": self.account.key, **given})

    def rows(self) -> list[dict[str, Any]]:
        """The bill, once there is one: an abort is settled in the next few moments."""
        for _ in range(50):
            rows = self.relay.usage(self.account)
            if rows:
                return rows
        raise AssertionError("the call is not on the bill")


@pytest.fixture(scope="module")
def node() -> Iterator[NodeSdks]:
    with NodeSdks() as found:
        yield found


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    with LlamaServer() as server:
        yield server


@pytest.fixture(scope="module")
def relay(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    upstreams = [
        UpstreamAt("llama-o", "openai", f"{llama.base_url}/v1", {OPENAI_MODEL: MODEL_NAME}),
        UpstreamAt("llama-a", "anthropic", f"{llama.base_url}/v1", {ANTHROPIC_MODEL: MODEL_NAME}),
        UpstreamAt("llama-r", "openai", f"{llama.base_url}/v1", {RESPONSES_MODEL: MODEL_NAME},
                   settings=NATIVE_RESPONSES),
    ]  # fmt: skip
    with RelayProcess(tmp_path_factory.mktemp("node"), upstreams) as process:
        yield process


@pytest.fixture
def bench(node: NodeSdks, relay: RelayProcess) -> Bench:
    return Bench(relay, node, relay.account())


def body(caller: str, model: str, tokens: int = 40) -> dict[str, Any]:
    """Without chance, because llama.cpp leaves `message_start` out where a first token is silent."""
    given: dict[str, Any] = {"model": model, LIMIT[caller]: tokens, "temperature": 0}
    return given | {"input" if caller == "responses" else "messages": [QUESTION]}


@pytest.mark.client(name="openai for Node", package="sdks/openai", upstream="llama.cpp",
                    shows="chat and responses, whole, streamed, by their helpers (not for its own Responses events, which lack places); models; abort; errors")  # fmt: skip
@pytest.mark.client(name="@anthropic-ai/sdk for Node", package="sdks/@anthropic-ai/sdk",
                    upstream="llama.cpp",
                    shows="messages, whole, streamed, by their helper; models; abort; errors")  # fmt: skip
@callers
@models
def test_what_the_sdk_holds_is_what_was_billed_and_what_the_meter_counted(
    bench: Bench, llama: LlamaServer, caller: str, model: str
) -> None:
    texts, wanted = set(), []
    # Natively llama.cpp's events pass as they are: without the numbers and places of OpenAI's, on
    # which the helper insists.
    native = (caller, model) == ("responses", RESPONSES_MODEL)
    ways = ("plain", "stream") if native else ("plain", "stream", "helper")
    for way in ways:
        before = llama.tokens_predicted()
        found = bench.ask(caller, way, body=body(caller, model), unnumbered=native)
        grown = llama.tokens_predicted() - before
        texts.add(found["text"])
        given, _, output = found["tokens"]
        assert output == grown > 0
        assert given > 0
        wanted.append(("complete", "reported", model, given, output))
    figures = ("verdict", "source", "model", "input", "output")
    assert [tuple(row[name] for name in figures) for row in reversed(bench.rows())] == wanted
    assert len(texts) == 1, "the same words in each way"
    assert texts != {""}


@callers
@models
def test_an_aborted_call_is_billed_what_had_been_sent(
    bench: Bench, caller: str, model: str
) -> None:
    asked = body(caller, model, tokens=3000)
    if caller == "chat":
        asked["ignore_eos"] = model == OPENAI_MODEL  # a field of llama.cpp's own
    found = bench.ask(caller, "abort", body=asked, pieces=3)
    (row,) = bench.rows()
    if row["verdict"] == "complete":  # the model came to its end before the abort came here
        assert row["output"] < 3000
        return
    assert found["aborted"]
    assert row["verdict"] == "client_gone"
    assert row["source"] in {"counted", "reported"}
    assert 0 < row["output"] < 3000


@pytest.mark.parametrize("caller", ["chat", "messages"])
def test_models_are_listed(bench: Bench, caller: str) -> None:
    found = bench.ask(caller, "models", model=OPENAI_MODEL)
    assert set(found["listed"]) >= set(MODELS)
    assert found["one"] == OPENAI_MODEL


@callers
def test_errors_raise_the_classes_the_sdks_have_for_them(bench: Bench, caller: str) -> None:
    for changed, name, status in (
        ({"key": "sk-nobody"}, "AuthenticationError", 401),
        ({"body": body(caller, "model-oo")}, "NotFoundError", 404),
        ({"body": body(caller, OPENAI_MODEL, tokens=0)}, "BadRequestError", 400),
    ):
        for way in ("plain", "stream"):
            with pytest.raises(NodeError) as raised:
                bench.ask(caller, way, **{"body": body(caller, OPENAI_MODEL), **changed})
            assert (raised.value.name, raised.value.status) == (name, status)
            assert raised.value.request_id
    assert bench.relay.usage(bench.account) == []


TOOLS_USAGE = {"prompt_tokens": 30, "completion_tokens": 9, "input_tokens": 30, "output_tokens": 9}
SLOWLY = {"role": "user", "content": "Go slowly."}
FIXTURES: list[dict[str, Any]] = [
    {
        "match": {"userMessage": "slowly"},
        "response": {"content": "North, at last.", "usage": TOOLS_USAGE},
        "latency": 600,
    },
    {
        "match": {"userMessage": "harbour", "hasToolResult": False},
        "response": {
            "content": "Let me look.",
            "toolCalls": [
                {"id": "call_1", "name": "weather", "arguments": {"city": "Kiel"}},
                {"id": "call_2", "name": "clock", "arguments": {}},
            ],
            "usage": TOOLS_USAGE,
        },
    },
    {
        "match": {"userMessage": "harbour", "hasToolResult": True},
        "response": {"content": "North, at 7.", "usage": TOOLS_USAGE},
    },
]


@pytest.fixture(scope="module")
def tools(node: NodeSdks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("node-tools")
    with Aimock(directory, FIXTURES) as mock:
        upstreams = [
            UpstreamAt("chat", "openai", f"{mock.origin}/v1", {OPENAI_MODEL: "up-o"}),
            UpstreamAt("messages", "anthropic", f"{mock.origin}/v1", {ANTHROPIC_MODEL: "up-a"}),
            UpstreamAt("responses", "openai", f"{mock.origin}/v1", {RESPONSES_MODEL: "up-r"},
                       settings=NATIVE_RESPONSES),
            UpstreamAt("gemini", "gemini", f"{mock.origin}/v1beta", {GEMINI_MODEL: "up-g"}),
        ]  # fmt: skip
        beats = {"heartbeat_first_ms": 100, "heartbeat_ms": 100}
        with RelayProcess(directory / "relay", upstreams, settings=beats) as process:
            yield Bench(process, node, process.account())


@pytest.mark.client(name="openai for Node", package="sdks/openai", upstream="aimock",
                    shows="loops of tools by `runTools` and by hand on chat, messages, Responses and Gemini channels; heartbeats")  # fmt: skip
@pytest.mark.client(name="@anthropic-ai/sdk for Node", package="sdks/@anthropic-ai/sdk",
                    upstream="aimock",
                    shows="loops of tools by `toolRunner` on chat, messages, Responses and Gemini channels; heartbeats")  # fmt: skip
@callers
@pytest.mark.parametrize("model", [*MODELS, GEMINI_MODEL])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_loop_of_tools_ends_with_an_answer(
    tools: Bench, caller: str, model: str, stream: bool
) -> None:
    bench = tools
    asked = body(caller, model)
    if caller == "responses":
        asked["tools"] = [
            {"type": "function", "name": name, "parameters": PARAMETERS, "strict": False}
            for name in ("weather", "clock")
        ]
    functions = [{"name": name, "parameters": PARAMETERS} for name in ("weather", "clock")]
    found = bench.ask(caller, "loop", body=asked, tools=functions, stream=stream, rounds=2)
    said = str(found["messages"])
    assert "weather says 7" in said
    assert "clock says 7" in said
    assert "North, at 7." in said
    rows = bench.rows()[:2]
    assert {row["model"] for row in rows} == {model}
    assert [(row["verdict"], row["input"], row["output"]) for row in rows] == [
        ("complete", TOOLS_USAGE["prompt_tokens"], TOOLS_USAGE["completion_tokens"])
    ] * 2


@pytest.mark.parametrize(
    ("caller", "model"),
    [("chat", ANTHROPIC_MODEL), ("messages", ANTHROPIC_MODEL), ("responses", OPENAI_MODEL)],
)
def test_heartbeats_between_events_are_read_past(tools: Bench, caller: str, model: str) -> None:
    bench = tools
    asked = body(caller, model)
    asked["input" if caller == "responses" else "messages"] = [SLOWLY]
    path = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}.get(caller, "/v1/responses")
    raw = bench.node.ask(
        "streamed", url=bench.relay.url, key=bench.account.key, path=path, body=asked
    )["text"]
    assert raw.count("event: ping" if caller == "messages" else ": keep-alive") > 1
    found = bench.ask(caller, "helper", body=asked)
    assert found["text"] == FIXTURES[0]["response"]["content"]
    assert {row["verdict"] for row in bench.rows()[:2]} == {"complete"}
