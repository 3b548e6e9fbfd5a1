"""Calls that are no conversation, by the SDKs for Node through the relay.

Embeddings, text completions and counts of tokens by a real llama.cpp, whose meters are compared with
the bill; pictures, sound and moderations by aimock.
"""

import base64
import io
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.aimock import Aimock
from tests.integration.llama import MODEL_NAME, LlamaServer
from tests.integration.node_driver import NodeSdks
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt

PICTURE = "iVBORw0KGgo="
SOUND = "SUQzBAAAAAAAAA=="
FIXTURES: list[dict[str, Any]] = [
    {"match": {"endpoint": "image"}, "response": {"image": {"b64Json": PICTURE}}},
    {"match": {"endpoint": "speech"}, "response": {"audio": SOUND}},
    {"match": {"endpoint": "transcription"}, "response": {"transcription": {"text": "heard"}}},
]
FREE = {"input": "0", "output": "0"}
MODELS: dict[str, dict[str, object]] = {
    "painter": {"price": {**FREE, "image": "0.04"}},
    "speaker": {"price": {**FREE, "character": "15.00"}},
    "listener": {"price": {**FREE, "audio_minute": "0.006"}},
    "judge": {"price": FREE},
}


@dataclass(frozen=True, slots=True)
class Bench:
    """A relay with an account; `billed` are the rows of its calls, latest first."""

    node: NodeSdks
    relay: RelayProcess
    account: Account

    def ask(self, way: str, **given: Any) -> Any:
        """Let an SDK call in that way."""
        url = self.relay.url + ("" if way == "count_tokens" else "/v1")
        return self.node.ask(way, url=url, key=self.account.key, **given)

    def row(self) -> dict[str, Any]:
        """The latest call on the bill."""
        found: dict[str, Any] = self.relay.usage(self.account)[0]
        return found


@pytest.fixture(scope="module")
def node() -> Iterator[NodeSdks]:
    with NodeSdks() as found:
        yield found


@pytest.fixture(scope="module")
def llama(node: NodeSdks) -> Iterator[LlamaServer]:
    with LlamaServer() as server:
        yield server


@pytest.fixture(scope="module")
def bench(
    node: NodeSdks, llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    directory = tmp_path_factory.mktemp("node-services")
    with LlamaServer(embeds=True) as embedder, Aimock(directory, FIXTURES) as mock:
        channels = [
            UpstreamAt("texts", "openai", f"{llama.base_url}/v1", {"writer": MODEL_NAME}),
            UpstreamAt("counts", "anthropic", f"{llama.base_url}/v1", {"counter": MODEL_NAME}),
            UpstreamAt("vectors", "openai", f"{embedder.base_url}/v1", {"embedder": MODEL_NAME}),
            UpstreamAt("mock", "openai", f"{mock.origin}/v1", {name: name for name in MODELS}),
        ]
        with RelayProcess(directory / "relay", channels, models=MODELS) as relay:
            yield Bench(node, relay, relay.account())
            assert relay.verify()["clean"]


@pytest.mark.client(name="openai for Node", package="sdks/openai", upstream="llama.cpp, services",
                    shows="embeddings, packed and plain; text completions, whole and streamed")  # fmt: skip
@pytest.mark.parametrize("form", [None, "float", "base64"])
def test_embeddings(bench: Bench, form: str | None) -> None:
    body: dict[str, Any] = {"model": "embedder", "input": ["Which way?", "North."]}
    if form is not None:
        body["encoding_format"] = form
    found = bench.ask("embeddings", body=body)
    # 64 numbers: unpacked by the SDK, but where its user asked for them packed.
    size = 4 * -(-64 * 4 // 3) if form == "base64" else 64
    assert [len(vector) for vector in found["vectors"]] == [size, size]
    row = bench.row()
    assert (row["verdict"], row["source"]) == ("complete", "reported")
    assert row["input"] == found["usage"]["prompt_tokens"] > 0


@pytest.mark.parametrize("way", ["completion", "completion_stream"])
def test_text_completions(bench: Bench, llama: LlamaServer, way: str) -> None:
    before = llama.tokens_predicted()
    asked = {"model": "writer", "prompt": "Once", "max_tokens": 20, "temperature": 0}
    found = bench.ask(way, body=asked)
    row = bench.row()
    assert found["text"]
    assert (row["verdict"], row["source"]) == ("complete", "reported")
    assert row["output"] == llama.tokens_predicted() - before
    assert row["output"] == found["usage"]["completion_tokens"]


@pytest.mark.client(name="@anthropic-ai/sdk for Node", package="sdks/@anthropic-ai/sdk",
                    upstream="llama.cpp, services", shows="counts of tokens")  # fmt: skip
def test_counts_of_tokens(bench: Bench) -> None:
    turn = {"role": "user", "content": "Which way to the harbour?"}
    found = bench.ask("count_tokens", body={"model": "counter", "messages": [turn]})
    assert found["input_tokens"] > 5


def recording() -> bytes:
    """A second of silence."""
    kept = io.BytesIO()
    with wave.open(kept, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(16_000))
    return kept.getvalue()


@pytest.mark.client(name="openai for Node", package="sdks/openai", upstream="aimock, services",
                    shows="pictures, speech, transcriptions, moderations")  # fmt: skip
def test_pictures_sound_and_moderations(bench: Bench) -> None:
    asked: dict[str, Any] = {"model": "painter", "prompt": "a harbour"}
    assert bench.ask("images", body=asked)["images"] == [PICTURE]
    assert bench.row()["charge_usd"] == "0.04"
    asked = {"model": "speaker", "voice": "alloy", "input": "north"}
    assert bench.ask("speech", body=asked)["sound"] == SOUND
    assert bench.row()["charge_usd"] == "0.000075"
    sound = base64.b64encode(recording()).decode()
    found = bench.ask("transcription", body={"model": "listener"}, sound=sound)
    assert found["text"] == "heard"
    assert bench.row()["charge_usd"] == "0.0001"
    assert bench.ask("moderation", body={"model": "judge", "input": "hi"})["flagged"] == [False]
    assert bench.row()["charge_usd"] == "0.00"
