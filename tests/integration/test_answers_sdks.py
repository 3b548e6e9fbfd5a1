"""Answers that tell, as the SDKs see them: unmodified openai and anthropic against llama.cpp.

Two workers serve, so that what one of them answered is told by the other as often as not. Kept
answers are the worker's that made them, and an SDK may close its connection at a stream's end
and call the other one next: those are asked of a relay with one worker.
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.integration.llama import MODEL_NAME, LlamaServer
from tests.integration.relay_process import (
    ANTHROPIC_MODEL,
    OPENAI_MODEL,
    Account,
    RelayProcess,
    UpstreamAt,
)

NANO = 10**9
TOKENS = 12
INCLUDE = {"x-sluice-usage": "include"}
KEEP = {"x-sluice-cache": "use"}
WITHOUT_CHANCE = {"temperature": 0}
"""Where the SDK puts a message together: see test_llama.py, one answer in seven has no start."""
SAID: list[Any] = [{"role": "user", "content": "Which way to the harbour?"}]


def served(llama: LlamaServer, directory: Path, workers: int) -> RelayProcess:
    """A relay not yet started, whose kept answers cost half."""
    base = f"{llama.base_url}/v1"
    upstreams = [
        UpstreamAt("llama-o", "openai", base, {OPENAI_MODEL: MODEL_NAME}),
        UpstreamAt("llama-a", "anthropic", base, {ANTHROPIC_MODEL: MODEL_NAME}),
    ]
    group = {"cache_multiplier": "0.5"}
    return RelayProcess(directory, upstreams, settings={"workers": workers}, group=group)


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    with LlamaServer() as server:
        yield server


@pytest.fixture(scope="module")
def relay(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    with served(llama, tmp_path_factory.mktemp("answers"), 2) as process:
        yield process


@pytest.fixture(scope="module")
def keeper(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    """The relay with one worker, and so one cache."""
    with served(llama, tmp_path_factory.mktemp("kept"), 1) as process:
        yield process


@pytest.fixture
def account(relay: RelayProcess) -> Account:
    return relay.account()


@pytest.fixture
def chat(relay: RelayProcess, account: Account) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{relay.url}/v1", api_key=account.key) as client:
        yield client


@pytest.fixture
def claude(relay: RelayProcess, account: Account) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=relay.url, api_key=account.key) as client:
        yield client


def receipt(client: openai.OpenAI, name: str) -> dict[str, Any]:
    """The receipt of a call, asked for with the SDK's own means."""
    found: Any = client.get("/generation", cast_to=object, options={"params": {"id": name}})
    data = found["data"]
    assert data["id"] == name
    assert isinstance(data, dict)
    return data


def assert_told(usage: Any, told: dict[str, Any]) -> None:
    """Usage as an SDK gives it, against the receipt."""
    assert usage.cost_nano_usd == told["charge_nano_usd"] > 0
    assert usage.balance_nano_usd == told["balance_after_nano_usd"]
    assert Decimal(str(usage.cost)) == Decimal(told["charge_nano_usd"]) / NANO


def test_the_openai_sdk_reads_headers_usage_and_receipt_of_a_plain_answer(
    chat: openai.OpenAI,
) -> None:
    raw = chat.chat.completions.with_raw_response.create(
        model=OPENAI_MODEL,
        messages=SAID,
        max_tokens=TOKENS,
        extra_body={"usage": {"include": True}},
    )
    completion = raw.parse()
    name = raw.headers["x-request-id"]
    assert name == raw.request_id
    told = receipt(chat, name)
    assert raw.headers["x-sluice-verdict"] == told["verdict"] == "complete"
    assert raw.headers["x-sluice-cost"] == str(told["charge_nano_usd"])
    assert Decimal(raw.headers["x-sluice-cost-usd"]) == Decimal(told["charge_nano_usd"]) / NANO
    assert raw.headers["x-sluice-balance"] == str(told["balance_after_nano_usd"])
    assert raw.headers["x-sluice-channel"] == told["channel"] == "llama-o"
    assert raw.headers["x-sluice-model"] == told["upstream_model"] == MODEL_NAME
    assert completion.usage is not None
    assert_told(completion.usage, told)
    assert told["tokens_completion"] == completion.usage.completion_tokens


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
@pytest.mark.parametrize("how", ["header", "body"])
def test_the_openai_sdk_reads_the_cost_of_a_stream(
    chat: openai.OpenAI, model: str, how: str
) -> None:
    with chat.chat.completions.with_streaming_response.create(
        model=model,
        messages=SAID,
        max_tokens=TOKENS,
        stream=True,
        extra_headers=INCLUDE if how == "header" else {},
        extra_body={"usage": {"include": True}} if how == "body" else {},
    ) as response:
        chunks = list(response.parse())
        name = response.headers["x-request-id"]
    assert chunks[-1].choices == []
    assert [chunk for chunk in chunks if chunk.usage is not None] == chunks[-1:]
    assert_told(chunks[-1].usage, receipt(chat, name))


def test_the_openai_sdk_reads_the_cost_of_a_response(chat: openai.OpenAI) -> None:
    events: list[Any] = list(
        chat.responses.create(
            model=OPENAI_MODEL,
            input="Which way?",
            max_output_tokens=TOKENS,
            stream=True,
            extra_headers=INCLUDE,
        )
    )
    assert events[-1].type in {"response.completed", "response.incomplete"}
    assert events[-1].response.usage.cost_nano_usd > 0
    plain = chat.responses.with_raw_response.create(
        model=OPENAI_MODEL,
        input="Which way?",
        max_output_tokens=TOKENS,
        extra_headers=INCLUDE,
    )
    assert_told(plain.parse().usage, receipt(chat, plain.headers["x-request-id"]))


@pytest.mark.parametrize("model", [ANTHROPIC_MODEL, OPENAI_MODEL])
def test_the_anthropic_sdk_reads_the_cost_too(
    claude: anthropic.Anthropic, chat: openai.OpenAI, model: str
) -> None:
    raw = claude.messages.with_raw_response.create(
        model=model, messages=SAID, max_tokens=TOKENS, extra_headers=INCLUDE
    )
    told = receipt(chat, raw.headers["request-id"])
    assert_told(raw.parse().usage, told)
    assert raw.headers["x-sluice-cost"] == str(told["charge_nano_usd"])
    with claude.messages.stream(
        model=model,
        messages=SAID,
        max_tokens=TOKENS,
        extra_headers=INCLUDE,
        extra_body=WITHOUT_CHANCE,
    ) as stream:
        deltas = [event for event in stream if event.type == "message_delta"]
        final = stream.get_final_message()
        name = stream.response.headers["request-id"]
    assert_told(deltas[-1].usage, receipt(chat, name))
    assert final.stop_reason == deltas[-1].delta.stop_reason is not None


def test_a_limit_of_cost_is_an_error_the_sdks_know(
    chat: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat.chat.completions.create(
            model=OPENAI_MODEL, messages=SAID, extra_headers={"x-max-cost": "0.0000001"}
        )
    assert refused.value.code == "max_cost_exceeded"
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        claude.messages.create(
            model=ANTHROPIC_MODEL,
            messages=SAID,
            max_tokens=1_000,
            extra_headers={"x-max-cost": "0.001"},
        )
    with pytest.raises(openai.APIError) as cut:
        for _ in chat.chat.completions.create(
            model=OPENAI_MODEL,
            messages=SAID,
            max_tokens=16_000,
            stream=True,
            extra_headers={"x-max-cost": "0.0005"},
            extra_body={"ignore_eos": True},  # talking at random, it may end before it costs that
        ):
            pass
    assert cut.value.code == "max_cost_exceeded"


def test_a_dry_run_is_read_as_any_answer(
    relay: RelayProcess, account: Account, chat: openai.OpenAI
) -> None:
    raw = chat.chat.completions.with_raw_response.create(
        model=OPENAI_MODEL,
        messages=SAID,
        max_tokens=TOKENS,
        extra_headers={"x-dry-run": "true"},
    )
    told: Any = raw.http_response.json()
    assert told["admitted"] is True
    assert told["hold_nano_usd"] == told["ceiling_nano_usd"] > 0
    assert [one["name"] for one in told["channels"]] == ["llama-o"]
    assert relay.usage(account) == []


def test_a_kept_stream_is_the_same_objects_again(keeper: RelayProcess) -> None:
    key = keeper.account().key

    def ask(client: openai.OpenAI) -> tuple[str | None, list[Any]]:
        with client.chat.completions.with_streaming_response.create(
            model=OPENAI_MODEL,
            messages=SAID,
            max_tokens=TOKENS,
            stream=True,
            extra_headers=KEEP | INCLUDE,
        ) as response:
            chunks = list(response.parse())
        return response.headers.get("x-sluice-cache"), chunks

    with openai.OpenAI(base_url=f"{keeper.url}/v1", api_key=key) as client:
        (first, chunks), (again, same) = ask(client), ask(client)
    assert (first, again) == ("miss", "hit")
    assert same[:-1] == chunks[:-1]
    assert same[-1].usage.cost_nano_usd == -(-chunks[-1].usage.cost_nano_usd // 2)


def test_the_helpers_of_the_anthropic_sdk_take_a_kept_message(keeper: RelayProcess) -> None:
    key = keeper.account().key

    def ask(client: anthropic.Anthropic) -> tuple[str | None, str]:
        with client.messages.stream(
            model=ANTHROPIC_MODEL,
            messages=SAID,
            max_tokens=TOKENS,
            extra_headers=KEEP,
            extra_body=WITHOUT_CHANCE,
        ) as stream:
            text = "".join(stream.text_stream)
            return stream.response.headers.get("x-sluice-cache"), text

    with anthropic.Anthropic(base_url=keeper.url, api_key=key) as client:
        (first, text), (again, same) = ask(client), ask(client)
    assert (first, again) == ("miss", "hit")
    assert same == text


def test_a_near_miss_is_an_error_that_says_what_was_meant(
    chat: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    wrong = f"Vendor/{OPENAI_MODEL.upper()}-20250101"
    with pytest.raises(openai.NotFoundError, match=f"Did you mean `{OPENAI_MODEL}`"):
        chat.chat.completions.create(model=wrong, messages=SAID)
    with pytest.raises(anthropic.NotFoundError, match=f"Did you mean `{OPENAI_MODEL}`"):
        claude.messages.create(model=wrong, messages=SAID, max_tokens=5)


def test_the_books_are_sound_after_all_that(relay: RelayProcess, keeper: RelayProcess) -> None:
    assert relay.verify()["clean"]
    assert keeper.verify()["clean"]
