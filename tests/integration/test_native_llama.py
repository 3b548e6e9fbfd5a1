"""Native Responses and text completions: OpenAI's SDK, the relay, a real llama.cpp server.

What is billed as output must be what llama.cpp's own counter says it sampled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from tests.edge.harness import ANN, INPUT_NANO, OUTPUT_NANO, Relay, channel
from tests.integration.llama import MODEL_NAME, LlamaServer

QUESTION = "Which way to the harbour?"


@dataclass(frozen=True, slots=True)
class Served:
    """The SDK before the relay before llama.cpp."""

    client: openai.OpenAI
    relay: Relay
    llama: LlamaServer

    def check_billed(self, calls: int = 1) -> int:
        """The last `calls` calls are complete, and billed what was reported; their output."""
        rows = self.relay.calls()[-calls:]
        for row in rows:
            assert (row["verdict"], row["source"]) == ("complete", "reported")
            read = row["input_uncached"] * INPUT_NANO + row["cache_read"] * INPUT_NANO
            assert row["charge"] <= read + row["output"] * OUTPUT_NANO
            assert row["charge"] >= row["output"] * OUTPUT_NANO
        return sum(row["output"] for row in rows)


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    with LlamaServer() as server:
        yield server


@pytest.fixture
def served(llama: LlamaServer, tmp_path: Path) -> Iterator[Served]:
    table = channel(
        f"{llama.base_url}/v1",
        endpoints=["chat", "responses", "completions"],
        models={"m": MODEL_NAME},
    )
    with (
        Relay(tmp_path, table, credit=10**12) as relay,
        openai.OpenAI(
            base_url=f"http://127.0.0.1:{relay.port}/v1", api_key=ANN, max_retries=0
        ) as client,
    ):
        yield Served(client, relay, llama)


def test_a_plain_response(served: Served) -> None:
    before = served.llama.tokens_predicted()
    answer = served.client.responses.create(model="m", input=QUESTION, max_output_tokens=60)
    assert answer.usage is not None
    assert answer.output_text
    sampled = served.llama.tokens_predicted() - before
    assert served.check_billed() == answer.usage.output_tokens == sampled > 0


def test_a_streamed_response(served: Served) -> None:
    before = served.llama.tokens_predicted()
    stream = served.client.responses.create(
        model="m", input=QUESTION, max_output_tokens=300, stream=True
    )
    said, last = "", None
    for event in stream:
        last = event
        if event.type == "response.output_text.delta":
            said += event.delta
    assert last is not None
    assert last.type in {"response.completed", "response.incomplete"}
    assert said
    assert last.response.usage is not None
    sampled = served.llama.tokens_predicted() - before
    assert served.check_billed() == last.response.usage.output_tokens == sampled > 0


def test_what_such_a_stream_showed_is_what_is_counted(served: Served) -> None:
    """The count of what passed agrees with the report but for its tokenizer, which is no table."""
    stream = served.client.responses.create(
        model="m", input=QUESTION, max_output_tokens=200, stream=True
    )
    shown = sum(event.type == "response.output_text.delta" for event in stream)
    served.check_billed()
    (row,) = served.relay.calls()[-1:]
    assert row["delivered_events"] > shown > 0


def test_a_plain_completion(served: Served) -> None:
    before = served.llama.tokens_predicted()
    answer = served.client.completions.create(model="m", prompt=QUESTION, max_tokens=60)
    assert answer.usage is not None
    assert answer.choices[0].text
    sampled = served.llama.tokens_predicted() - before
    assert served.check_billed() == answer.usage.completion_tokens == sampled > 0


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not-asked"])
def test_a_streamed_completion(served: Served, asked: bool) -> None:
    before = served.llama.tokens_predicted()
    chunks = list(
        served.client.completions.create(
            model="m",
            prompt=QUESTION,
            max_tokens=300,
            stream=True,
            stream_options={"include_usage": asked},
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    # This server reports with its last choice, which is the caller's in any case.
    assert chunks[-1].usage is not None
    sampled = served.llama.tokens_predicted() - before
    assert served.check_billed() == sampled > 0


def test_several_prompts_at_once(served: Served) -> None:
    before = served.llama.tokens_predicted()
    answer = served.client.completions.create(
        model="m", prompt=[QUESTION, "One two three", "So it"], max_tokens=20
    )
    assert len(answer.choices) == 3
    sampled = served.llama.tokens_predicted() - before
    assert answer.usage is not None
    assert served.check_billed() == answer.usage.completion_tokens
    assert sampled >= answer.usage.completion_tokens > 0
