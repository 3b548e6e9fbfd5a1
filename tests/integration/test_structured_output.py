"""Structured output by the SDKs' own `parse`, whatever protocol the channel speaks.

The provider is asked for the very schema the SDK made of a class, in its own protocol, and the SDK
makes an object of the class of what comes back.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pydantic
import pytest

from proxy.core.translation.conversation import Wire
from tests.edge.harness import ANN, Relay, channel
from tests.integration.provider_answers import PROVIDERS, Scenario, text
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script, stream_script


class Weather(pydantic.BaseModel):
    """What is asked for."""

    city: str
    degrees: int


SAID = Scenario("json", (text('{"city":"Kiel",', '"degrees":7}'),))
TURN: Any = {"role": "user", "content": "The weather in Kiel?"}
DIALECTS = {Wire.CHAT: "openai", Wire.MESSAGES: "anthropic"}


def schema_of(body: dict[str, Any], upstream: Wire) -> dict[str, Any]:
    """The schema in a provider's request."""
    if upstream is Wire.CHAT:
        found: dict[str, Any] = body["response_format"]["json_schema"]["schema"]
        return found
    form: dict[str, Any] = body["output_config"]["format"]
    assert form["type"] == "json_schema"
    return dict(form["schema"])


@contextmanager
def sdks(relay: Relay) -> Iterator[tuple[openai.OpenAI, anthropic.Anthropic]]:
    url = f"http://127.0.0.1:{relay.port}"
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key=ANN, max_retries=0) as ours,
        anthropic.Anthropic(base_url=url, api_key=ANN, max_retries=0) as theirs,
    ):
        yield ours, theirs


def parsed(relay: Relay, caller: Wire, *, stream: bool) -> object:
    """The object the SDK makes."""
    with sdks(relay) as (ours, theirs):
        if caller is Wire.CHAT:
            chat = ours.chat.completions
            if stream:
                with chat.stream(model="m", messages=[TURN], response_format=Weather) as events:
                    return events.get_final_completion().choices[0].message.parsed
            made = chat.parse(model="m", messages=[TURN], response_format=Weather)
            return made.choices[0].message.parsed
        if caller is Wire.RESPONSES:
            if stream:
                with ours.responses.stream(model="m", input=[TURN], text_format=Weather) as events:
                    return events.get_final_response().output_parsed
            return ours.responses.parse(model="m", input=[TURN], text_format=Weather).output_parsed
        messages: Any = theirs.messages
        if stream:
            with messages.stream(
                model="m", max_tokens=60, messages=[TURN], output_format=Weather
            ) as events:
                return events.get_final_message().parsed_output
        found = messages.parse(model="m", max_tokens=60, messages=[TURN], output_format=Weather)
        return found.parsed_output


@pytest.mark.parametrize("caller", [Wire.CHAT, Wire.MESSAGES, Wire.RESPONSES], ids=str)
@pytest.mark.parametrize("upstream", DIALECTS, ids=str)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_sdk_makes_an_object_of_its_class(
    tmp_path: Path, caller: Wire, upstream: Wire, stream: bool
) -> None:
    told = PROVIDERS[upstream](SAID)
    script = stream_script([told.events, told.terminal]) if stream else plain_script(told.plain)
    with (
        ScriptedUpstream(script) as provider,
        Relay(tmp_path, channel(provider.base_url, dialect=DIALECTS[upstream])) as relay,
    ):
        assert parsed(relay, caller, stream=stream) == Weather(city="Kiel", degrees=7)
        (call,) = relay.calls()
        assert call["verdict"] == "complete"
        schema = schema_of(json.loads(provider.requests[0].body), upstream)
    assert schema["properties"].keys() == {"city", "degrees"}
    assert schema["properties"]["degrees"]["type"] == "integer"
    assert schema["required"] == ["city", "degrees"]
    assert schema["additionalProperties"] is False
