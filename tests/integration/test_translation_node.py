"""The SDKs for Node read what the translation makes of every provider's answers.

The same scenarios, server and expectations as for the SDKs for Python
(`test_translation_sdks.py`), in each of the SDKs' ways: whole, added up by hand from the stream,
by the streaming helpers, and round a loop of tools by the SDKs' own runners.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from proxy.core.translation.conversation import (
    Part,
    Text,
    ToolCall,
    ToolResult,
    Wire,
)
from proxy.core.translation.translator import SIDES
from tests.integration.node_driver import NodeError, NodeSdks
from tests.integration.provider_answers import SCENARIOS, Scenario
from tests.integration.translation_seen import (
    ARROWS,
    ERROR,
    FROM_GEMINI,
    NAMED,
    expected,
    reason_of,
)
from tests.integration.translation_server import Bench, Handler, served

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
NAMES = ("weather", "clock")
TURN = {"role": "user", "content": "hi"}
ASK: dict[Wire, dict[str, Any]] = {
    Wire.CHAT: {
        "model": "alias",
        "messages": [TURN],
        "tools": [
            {"type": "function", "function": {"name": name, "parameters": PARAMETERS}}
            for name in NAMES
        ],
    },
    Wire.MESSAGES: {
        "model": "alias",
        "max_tokens": 100,
        "messages": [TURN],
        "tools": [{"name": name, "input_schema": PARAMETERS} for name in NAMES],
    },
    Wire.RESPONSES: {
        "model": "alias",
        "input": "hi",
        "tools": [
            {"type": "function", "name": name, "parameters": PARAMETERS, "strict": False}
            for name in NAMES
        ],
        "include": ["reasoning.encrypted_content"],
        "store": False,
    },
}


GEMINI_ASK = {
    "model": "alias",
    "contents": "hi",
    "config": {
        "tools": [
            {
                "functionDeclarations": [
                    {"name": name, "parametersJsonSchema": PARAMETERS} for name in NAMES
                ]
            }
        ]
    },
}
ASK[Wire.GEMINI] = GEMINI_ASK


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def node() -> Iterator[NodeSdks]:
    with NodeSdks() as found:
        yield found


def address(bench: Bench, caller: Wire, upstream: Wire, name: str) -> str:
    """The base URL as the caller's SDK wants it."""
    url = f"{bench.url}/{name}/{upstream.value}"
    return url if caller in (Wire.MESSAGES, Wire.GEMINI) else f"{url}/v1"


arrows = pytest.mark.parametrize(
    ("caller", "upstream"),
    [*ARROWS, *FROM_GEMINI],
    ids=lambda wire: wire.value if isinstance(wire, Wire) else None,
)


@pytest.mark.client(name="openai for Node", package="sdks/openai", upstream="golden transcripts",
                    shows="every translation, whole, streamed, by the helpers; loops of tools by `runTools`; errors inside streams")  # fmt: skip
@pytest.mark.client(name="@anthropic-ai/sdk for Node", package="sdks/@anthropic-ai/sdk",
                    upstream="golden transcripts",
                    shows="every translation, whole, streamed, by the helper; loops of tools by `toolRunner`; errors inside streams")  # fmt: skip
@pytest.mark.client(name="@google/genai for Node", package="sdks/@google/genai",
                    upstream="golden transcripts",
                    shows="every translation, whole, streamed, by its chat; loops of tools; errors inside streams")  # fmt: skip
@arrows
@pytest.mark.parametrize("scenario", NAMED, ids=lambda scenario: scenario.name)
def test_sdks_hold_what_the_provider_said(
    bench: Bench, node: NodeSdks, caller: Wire, upstream: Wire, scenario: Scenario
) -> None:
    wanted = json.loads(json.dumps(asdict(expected(scenario, caller, upstream))))
    url = address(bench, caller, upstream, scenario.name)
    for way in ("plain", "stream", "helper"):
        assert node.ask(f"{caller.value}_{way}", url=url, body=ASK[caller]) == wanted, way


def tools_of(caller: Wire) -> dict[str, Any]:
    """The body without its tools, and the tools as the driver makes functions of them."""
    body = {name: value for name, value in ASK[caller].items() if name != "tools"}
    if caller in (Wire.RESPONSES, Wire.GEMINI):
        body = ASK[caller]  # no runner here: the loop is the test's own
    return {"body": body, "tools": [{"name": name, "parameters": PARAMETERS} for name in NAMES]}


@arrows
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("name", ["thinking-text-and-calls", "parallel-calls", "one-call"])
def test_loops_of_tools_go_round(
    bench: Bench, node: NodeSdks, caller: Wire, upstream: Wire, name: str, stream: bool
) -> None:
    """The provider is told its own calls with what they gave, in one turn each, in order."""
    url = address(bench, caller, upstream, name)
    node.ask(f"{caller.value}_loop", url=url, rounds=2, stream=stream, **tools_of(caller))
    if upstream is not Wire.GEMINI:  # whose path says so
        assert json.loads(Handler.sent[-1]).get("stream", False) is stream
    request = SIDES[upstream].read_request(Handler.sent[-1])
    (scenario,) = (one for one in SCENARIOS if one.name == name)
    calls = scenario.of("call")
    wanted: list[Part] = [Text(said.text) for said in scenario.of("text")]
    wanted += [
        ToolCall(said.call_id, said.name, json.dumps(json.loads(said.text))) for said in calls
    ]
    wanted += [ToolResult(said.call_id, (Text(f"{said.name} says 7"),)) for said in calls]
    parts = [part for message in request.messages[1:] for part in message.parts]
    plain = [
        ToolCall(part.id, part.name, json.dumps(json.loads(part.arguments)))
        if isinstance(part, ToolCall)
        else part
        for part in parts
        if isinstance(part, Text | ToolCall | ToolResult)
    ]
    assert plain == wanted
    turn = request.messages[1].parts
    assert sum(isinstance(part, ToolCall) for part in turn) == len(calls)


@pytest.mark.parametrize(
    ("caller", "upstream"),
    [arrow for arrow in (*ARROWS, *FROM_GEMINI) if arrow[0] is not Wire.RESPONSES],
    ids=str,
)
def test_the_sdk_raises_on_an_error_inside_a_stream(
    bench: Bench, node: NodeSdks, caller: Wire, upstream: Wire
) -> None:
    url = address(bench, caller, upstream, ERROR.name)
    for way in ("stream", "helper"):
        with pytest.raises(NodeError, match=reason_of(ERROR)) as raised:
            node.ask(f"{caller.value}_{way}", url=url, body=ASK[caller])
        assert raised.value.name == ("ApiError" if caller is Wire.GEMINI else "APIError")


@pytest.mark.parametrize("upstream", [Wire.CHAT, Wire.MESSAGES, Wire.GEMINI])
def test_the_sdk_shows_an_error_inside_a_response(
    bench: Bench, node: NodeSdks, upstream: Wire
) -> None:
    url = address(bench, Wire.RESPONSES, upstream, ERROR.name)
    for way in ("stream", "helper"):
        told = node.ask(f"responses_{way}", url=url, body=ASK[Wire.RESPONSES])
        assert told["failed"]["message"] == reason_of(ERROR)
