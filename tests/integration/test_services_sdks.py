"""Unmodified SDKs of OpenAI and Anthropic at every service endpoint, through a relay process.

The provider is a stand-in (services_stand_in.py), but for embeddings, which a real llama.cpp makes:
its own meter of prompt tokens is what is billed (I15).
"""

import hashlib
import io
import json
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.integration.llama import MODEL_NAME, LlamaServer
from tests.integration.relay_process import Account, RelayProcess, UpstreamAt
from tests.integration.services_stand_in import PICTURE, SOUND, StandIn

NAMES = ("embedder", "judge", "ranker", "gpt-painter", "dall-e-3", "speaker", "listener", "clerk")
PRICES: dict[str, dict[str, object]] = {
    "embedder": {"price": {"input": "1.00", "output": "0"}},
    "judge": {"price": {"input": "0", "output": "0"}},
    "ranker": {"price": {"input": "0", "output": "0", "search": "0.002"}},
    "gpt-painter": {"price": {"input": "5.00", "output": "0", "image_output": "40.00"}},
    "dall-e-3": {"price": {"input": "0", "output": "0",
                           "image_variants": {"1024x1024": "0.04", "1024x1024:hd": "0.08"}}},
    "speaker": {"price": {"input": "0", "output": "0", "character": "15.00"}},
    "listener": {"price": {"input": "0", "output": "0", "audio_minute": "0.006"}},
    "clerk": {"price": {"input": "1.00", "output": "4.00"}},
    "llama": {"price": {"input": "1.00", "output": "4.00"}},
    "model-o": {},
}  # fmt: skip


CALLS: dict[str, int] = {}
"""How many calls an account has made, as tests see them."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The parts of a test; `before`: how many calls the account had made before it."""

    provider: StandIn
    relay: RelayProcess
    account: Account
    openai: openai.OpenAI
    anthropic: anthropic.Anthropic
    before: int

    def rows(self) -> list[dict[str, Any]]:
        """The calls of this test as their user sees them, all of them complete."""
        rows = self.relay.usage(self.account)
        made = rows[: len(rows) - self.before]
        CALLS[self.account.user] = len(rows)
        assert {row["verdict"] for row in made} == {"complete"}
        return made

    def billed(self) -> dict[str, Any]:
        """The one call of this test."""
        (row,) = self.rows()
        return row

    def sent(self) -> dict[str, Any]:
        """The fields the provider got last."""
        return self.provider.asked[-1][1]


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    with LlamaServer(embeds=True) as server:
        yield server


@pytest.fixture(scope="module")
def provider() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture(scope="module")
def relay(
    llama: LlamaServer, provider: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RelayProcess]:
    models = {name: f"up-{name}" for name in NAMES} | {"dall-e-3": "dall-e-3"}
    upstreams = [
        UpstreamAt("stand-in", "openai", provider.base_url, models),
        UpstreamAt("llama", "openai", f"{llama.base_url}/v1", {"llama": MODEL_NAME}),
        UpstreamAt("claude", "anthropic", provider.base_url, {"clerk": "up-clerk"}),
        UpstreamAt("o", "openai", provider.base_url, {"model-o": "up-o"}),
    ]
    directory = tmp_path_factory.mktemp("services")
    with RelayProcess(directory, upstreams, models=PRICES) as process:
        yield process
        assert process.verify()["clean"], "every charge recomputes"


@pytest.fixture(scope="module")
def account(relay: RelayProcess) -> Account:
    return relay.account()


@pytest.fixture
def bench(provider: StandIn, relay: RelayProcess, account: Account) -> Iterator[Bench]:
    with (
        openai.OpenAI(base_url=f"{relay.url}/v1", api_key=account.key) as ours,
        anthropic.Anthropic(base_url=relay.url, api_key=account.key) as theirs,
    ):
        yield Bench(provider, relay, account, ours, theirs, CALLS.get(account.user, 0))


def recording(seconds: float, rate: int = 8_000) -> bytes:
    """A WAV file of silence."""
    kept = io.BytesIO()
    with wave.open(kept, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"\0\0" * int(seconds * rate))
    return kept.getvalue()


def heard(name: str, kind: str, content: bytes) -> str:
    """What the stand-in says it got."""
    return f"{name} {kind} {len(content)} {hashlib.sha256(content).hexdigest()[:16]}"


def test_embeddings_by_a_real_server_are_billed_by_its_own_meter(
    llama: LlamaServer, bench: Bench
) -> None:
    before = llama.prompt_tokens()
    texts = ["Which way to the harbour?", "日本語で?", "x " * 100]
    made = bench.openai.embeddings.create(model="llama", input=texts)  # base64 inside
    assert [len(one.embedding) for one in made.data] == [64, 64, 64]
    plain = bench.openai.embeddings.create(model="llama", input=texts, encoding_format="float")
    for one, other in zip(made.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    rows = bench.rows()
    used = [row["input"] for row in rows]
    assert sum(used) == llama.prompt_tokens() - before
    assert used == [made.usage.prompt_tokens] * 2
    assert {row["source"] for row in rows} == {"reported"}
    assert {row["charge_usd"] for row in rows} == {f"{used[0] / 10**6:f}"}


@pytest.mark.parametrize("packed", [True, False])
def test_embeddings(bench: Bench, packed: bool) -> None:
    more: Any = {} if packed else {"encoding_format": "float"}
    made = bench.openai.embeddings.create(model="embedder", input=["one", "three"], **more)
    assert [one.embedding for one in made.data] == [[3.0, 0.5, -0.25], [5.0, 0.5, -0.25]]
    assert bench.sent() == {"model": "up-embedder", "input": ["one", "three"],
                            "encoding_format": "base64" if packed else "float"}  # fmt: skip
    assert bench.billed()["input"] == 10


def test_a_megabyte_of_texts_and_a_large_answer(bench: Bench) -> None:
    texts = [f"text {number} " + "x" * 200 for number in range(4_096)]
    made = bench.openai.embeddings.create(model="embedder", input=texts)
    assert len(made.data) == 4_096
    assert made.data[0].embedding[0] == len(texts[0])
    assert bench.billed()["input"] == 5 * 4_096


def test_moderations(bench: Bench) -> None:
    made = bench.openai.moderations.create(model="judge", input="hello")
    assert made.results[0].flagged is False
    assert bench.billed()["charge_usd"] == "0.00"


def test_rerank(bench: Bench) -> None:
    documents = ["a", "b", "c"]
    asked = {"model": "ranker", "query": "which?", "documents": documents, "top_n": 3}
    made = bench.openai.post("/rerank", cast_to=object, body=asked)
    assert isinstance(made, dict)
    assert [row["index"] for row in made["results"]] == [0, 1, 2]
    assert bench.billed()["charge_usd"] == "0.002"


def test_pictures(bench: Bench) -> None:
    made = bench.openai.images.generate(model="gpt-painter", prompt="a cat", n=2, quality="low")
    assert made.data is not None
    assert [one.b64_json for one in made.data] == [PICTURE, PICTURE]
    row = bench.billed()
    assert row["charge_usd"] == f"{(11 * 5 + 544 * 40) / 10**6:f}"


def test_pictures_by_the_piece(bench: Bench) -> None:
    bench.openai.images.generate(model="dall-e-3", prompt="a cat", size="1024x1024", quality="hd")
    assert bench.billed()["charge_usd"] == "0.08"


def test_pictures_as_a_stream(bench: Bench) -> None:
    with bench.openai.images.generate(
        model="gpt-painter", prompt="a cat", stream=True, partial_images=1
    ) as stream:
        kinds = [event.type for event in stream]
    assert kinds == ["image_generation.partial_image", "image_generation.completed"]
    assert bench.billed()["charge_usd"] == f"{(11 * 5 + 272 * 40) / 10**6:f}"


@pytest.mark.parametrize("stream", [True, False])
def test_edits(bench: Bench, stream: bool) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 2_000
    file = ("cat.png", picture, "image/png")
    if stream:
        with bench.openai.images.edit(
            model="gpt-painter", image=file, prompt="a hat", stream=True
        ) as events:
            assert [event.type for event in events][-1] == "image_edit.completed"
    else:
        made = bench.openai.images.edit(model="gpt-painter", image=[file], prompt="a hat")
        assert made.data is not None
        assert made.data[0].b64_json == PICTURE
    sent = bench.sent()
    assert (sent["model"], sent["prompt"]) == ("up-gpt-painter", "a hat")
    assert sent["image"] == heard("cat.png", "image/png", picture)
    assert bench.billed()["charge_usd"] == f"{(11 * 5 + 272 * 40) / 10**6:f}"


@pytest.mark.filterwarnings("ignore:deprecated")
def test_variations(bench: Bench) -> None:
    picture = b"\x89PNG" + b"\0" * 1_000
    made = bench.openai.images.create_variation(
        model="dall-e-3", image=("a.png", picture), n=2, size="1024x1024"
    )
    assert made.data is not None
    assert len(made.data) == 2
    assert bench.billed()["charge_usd"] == "0.08"


def test_speech(bench: Bench) -> None:
    made = bench.openai.audio.speech.create(model="speaker", voice="alloy", input="Grüezi!")
    assert made.content == SOUND
    assert made.response.headers["content-type"] == "audio/mpeg"
    assert bench.billed()["charge_usd"] == f"{7 * 15 / 10**6:f}"


def test_speech_as_it_comes(bench: Bench, tmp_path: Path) -> None:
    with bench.openai.audio.speech.with_streaming_response.create(
        model="speaker", voice="alloy", input="hello"
    ) as made:
        made.stream_to_file(tmp_path / "hello.mp3")
    assert (tmp_path / "hello.mp3").read_bytes() == SOUND
    assert bench.billed()["charge_usd"] == f"{5 * 15 / 10**6:f}"


def test_speech_as_events(bench: Bench) -> None:
    with bench.openai.audio.speech.with_streaming_response.create(
        model="speaker", voice="alloy", input="hello", stream_format="sse"
    ) as made:
        lines = [line for line in made.iter_lines() if line.startswith("data: ")]
    assert json.loads(lines[-1][6:])["type"] == "speech.audio.done"
    bench.billed()


@pytest.mark.parametrize("kind", ["json", "text", "verbose_json", "srt"])
def test_transcriptions(bench: Bench, kind: Any) -> None:
    sound = recording(90.0)
    made = bench.openai.audio.transcriptions.create(
        model="listener", file=("talk.wav", sound, "audio/wav"), language="en", prompt="A talk.",
        temperature=0.2, response_format=kind,
    )  # fmt: skip
    text = made if isinstance(made, str) else made.text
    assert text.strip() == heard("talk.wav", "audio/wav", sound)
    sent = bench.sent()
    assert (sent["model"], sent["language"], sent["prompt"], sent["temperature"]) == (
        "up-listener", "en", "A talk.", "0.2",
    )  # fmt: skip
    # 90 s are known from the file; a provider that says otherwise is believed.
    seconds = {"json": 3, "verbose_json": 2.5}.get(kind, 90)
    assert bench.billed()["charge_usd"] == f"{seconds * 0.006 / 60:.9f}".rstrip("0")


def test_a_transcription_as_a_stream(bench: Bench) -> None:
    with bench.openai.audio.transcriptions.create(
        model="listener", file=("talk.wav", recording(1), "audio/wav"), stream=True
    ) as events:
        assert [event.type for event in events] == [
            "transcript.text.delta", "transcript.text.done",
        ]  # fmt: skip
    bench.billed()


@pytest.mark.filterwarnings("ignore:deprecated")
def test_translations(bench: Bench) -> None:
    sound = recording(30.0)
    made = bench.openai.audio.translations.create(
        model="listener", file=("talk.wav", sound, "audio/wav")
    )
    assert made.text == heard("talk.wav", "audio/wav", sound)
    bench.billed()


def test_twenty_megabytes_of_sound(bench: Bench) -> None:
    sound = recording(20 << 20 >> 14, 8_192)
    assert len(sound) > 20 << 20
    made = bench.openai.audio.transcriptions.create(
        model="listener", file=("talk.wav", sound, "audio/wav"), response_format="text"
    )
    assert str(made).strip() == heard("talk.wav", "audio/wav", sound)
    assert float(bench.billed()["charge_usd"]) == (20 << 20 >> 14) * 0.006 / 60


def test_a_count_of_tokens_by_the_provider(bench: Bench) -> None:
    made = bench.anthropic.messages.count_tokens(
        model="clerk", messages=[{"role": "user", "content": "hello"}]
    )
    assert made.input_tokens == 7
    assert bench.sent()["model"] == "up-clerk"
    assert bench.billed()["charge_usd"] == "0.00"


def test_a_count_of_tokens_here_says_that_it_is_an_estimate(bench: Bench) -> None:
    asked: Any = {"model": "model-o", "messages": [{"role": "user", "content": "hello " * 100}]}
    made = bench.anthropic.messages.with_raw_response.count_tokens(**asked)
    assert made.headers["x-sluice-estimate"] == "true"
    assert 100 <= made.parse().input_tokens < 120
    assert bench.billed()["charge_usd"] == "0.00"


def test_azures_client(bench: Bench) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=bench.relay.url, api_version="2024-10-21", api_key=bench.account.key
    ) as azure:
        made = azure.embeddings.create(model="embedder", input="hello")
        assert made.data[0].embedding[0] == 5.0
        text = azure.audio.transcriptions.create(
            model="listener", file=("talk.wav", recording(1), "audio/wav")
        )
        assert text.text.startswith("talk.wav")
    assert len(bench.rows()) == 2
