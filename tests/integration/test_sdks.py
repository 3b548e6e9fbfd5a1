"""Unmodified SDKs through the relay to a real llama.cpp, and its meter against the ledger (I15).

For completed calls the sum of output tokens billed equals, exactly, the growth of the server's
own `tokens_predicted_total`. One call at a time per check where the figure of one call matters;
many threads where only the sum does.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import anthropic
import openai
import pytest

from proxy.core.entities import Tokenizer
from proxy.core.tokenizers import exact_count
from tests.integration.llama import MODEL_NAME, LlamaServer
from tests.integration.raw_client import RawClient, parse_response, request_bytes
from tests.integration.relay_process import (
    ANTHROPIC_MODEL,
    OPENAI_MODEL,
    Account,
    RelayProcess,
    UpstreamAt,
)

CALLS = 240
THREADS = 8
QUESTIONS = ("Which way to the harbour?", "日本語で?", "Count the boats 🚤.", "x " * 200, "?")


@dataclass(frozen=True, slots=True)
class Bench:
    """The parts of this test; `account` is fresh for each test."""

    llama: LlamaServer
    relay: RelayProcess
    account: Account
    openai: openai.OpenAI
    """A client as a user makes it: base URL and key changed, nothing else."""
    anthropic: anthropic.Anthropic
    """The same for the other dialect."""


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    with LlamaServer() as server:
        yield server


@pytest.fixture(scope="module")
def relay(llama: LlamaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    upstreams = [
        UpstreamAt("llama-o", "openai", f"{llama.base_url}/v1", {OPENAI_MODEL: MODEL_NAME}),
        UpstreamAt("llama-a", "anthropic", f"{llama.base_url}/v1", {ANTHROPIC_MODEL: MODEL_NAME}),
    ]
    with RelayProcess(tmp_path_factory.mktemp("sdks"), upstreams) as process:
        yield process


@pytest.fixture
def bench(llama: LlamaServer, relay: RelayProcess) -> Iterator[Bench]:
    account = relay.account()
    # Closed here: a socket left to the collector is a warning, in whatever test it comes by then.
    with (
        openai.OpenAI(base_url=f"{relay.url}/v1", api_key=account.key) as ours,
        anthropic.Anthropic(base_url=relay.url, api_key=account.key) as theirs,
    ):
        yield Bench(llama, relay, account, ours, theirs)


def billed_output(rows: list[dict[str, object]]) -> int:
    """Sum of output tokens on the bill; every row must be a completed call.

    This llama.cpp leaves out `message_start`, and with it the input figure, when the first token
    of a messages stream makes no text (half an emoji): such a row is honestly marked `counted`,
    though its output is the reported one.
    """
    for row in rows:
        assert row["verdict"] == "complete", row
        sources = {"reported"} if row["model"] == OPENAI_MODEL else {"reported", "counted"}
        assert row["source"] in sources, row
    return sum(int(str(row["output"])) for row in rows)


def openai_plain(client: openai.OpenAI, number: int) -> int:
    answer = client.chat.completions.create(
        model=OPENAI_MODEL,
        messages=[{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
        max_tokens=1 + number % 60,
        seed=number,
    )
    assert answer.usage is not None
    assert answer.choices[0].finish_reason in {"stop", "length"}
    return answer.usage.completion_tokens


def openai_stream(client: openai.OpenAI, number: int) -> int | None:
    """Stream; asks for usage every other time, and otherwise must not be shown any."""
    asked = number % 2 == 0
    chunks = list(
        client.chat.completions.create(
            model=OPENAI_MODEL,
            messages=[{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
            max_tokens=1 + number % 60,
            stream=True,
            stream_options={"include_usage": True} if asked else openai.omit,
        )
    )
    assert any(c.choices and c.choices[0].finish_reason for c in chunks)
    if not asked:
        assert all(chunk.choices for chunk in chunks), "a chunk without choices nobody asked for"
        return None
    usage = chunks[-1].usage
    assert usage is not None
    return usage.completion_tokens


def anthropic_plain(client: anthropic.Anthropic, number: int) -> int:
    answer = client.messages.create(
        model=ANTHROPIC_MODEL,
        messages=[{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
        max_tokens=1 + number % 60,
    )
    assert answer.stop_reason in {"end_turn", "max_tokens"}
    return answer.usage.output_tokens


def anthropic_stream(client: anthropic.Anthropic, number: int) -> int:
    """Stream by events: llama.cpp sends no message_start for an answer without any text."""
    events = list(
        client.messages.create(
            model=ANTHROPIC_MODEL,
            system="Be brief.",
            messages=[{"role": "user", "content": QUESTIONS[number % len(QUESTIONS)]}],
            max_tokens=1 + number % 60,
            stream=True,
        )
    )
    assert events[-1].type == "message_stop"
    (output,) = [event.usage.output_tokens for event in events if event.type == "message_delta"]
    return output


def anthropic_accumulated(client: anthropic.Anthropic) -> int:
    """Stream by the SDK's accumulator; without chance, so that the first token makes text."""
    with client.messages.stream(
        model=ANTHROPIC_MODEL,
        messages=[{"role": "user", "content": "Go on."}],
        max_tokens=60,
        extra_body={"temperature": 0},
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(block.text for block in final.content if block.type == "text") == text
    return final.usage.output_tokens


def test_one_call_of_each_kind_is_billed_what_the_meter_counted(bench: Bench) -> None:
    kinds: tuple[Callable[[], int | None], ...] = (
        lambda: openai_plain(bench.openai, 33),
        lambda: openai_stream(bench.openai, 32),
        lambda: openai_stream(bench.openai, 33),
        lambda: anthropic_plain(bench.anthropic, 33),
        lambda: anthropic_stream(bench.anthropic, 33),
        lambda: anthropic_accumulated(bench.anthropic),
    )
    for number, call in enumerate(kinds, start=1):
        before = bench.llama.tokens_predicted()
        told = call()
        grown = bench.llama.tokens_predicted() - before
        rows = bench.relay.usage(bench.account)
        assert len(rows) == number
        assert rows[0]["output"] == grown > 0
        assert told in {None, grown}


@pytest.mark.client(name="openai for Python", package="development/openai", upstream="llama.cpp",
                    shows="chat and responses, whole, streamed, by their helpers, async; models; abort; errors")  # fmt: skip
@pytest.mark.client(name="anthropic for Python", package="development/anthropic",
                    upstream="llama.cpp",
                    shows="messages, whole, streamed, by their helper, async; models; errors")  # fmt: skip
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_mixed_calls_of_many_threads_are_billed_what_the_meter_counted(bench: Bench) -> None:
    ours, theirs = bench.openai, bench.anthropic
    kinds: tuple[Callable[[int], int | None], ...] = (
        lambda number: openai_plain(ours, number),
        lambda number: openai_stream(ours, number),
        lambda number: anthropic_plain(theirs, number),
        lambda number: anthropic_stream(theirs, number),
    )
    before = bench.llama.tokens_predicted()

    def call(number: int) -> int | None:
        return kinds[number // 2 % len(kinds)](number)

    with ThreadPoolExecutor(THREADS) as threads:
        told = list(threads.map(call, range(CALLS)))
    grown = bench.llama.tokens_predicted() - before
    rows = bench.relay.usage(bench.account)
    assert len(rows) == CALLS
    assert billed_output(rows) == grown
    assert sum(figure for figure in told if figure is not None) <= grown
    assert bench.relay.verify()["clean"]


def test_responses_are_answered_by_a_channel_that_speaks_chat(bench: Bench) -> None:
    """The stream helper checks each event against those before it, and adds them up itself."""
    before = bench.llama.tokens_predicted()
    made = bench.openai.responses.create(
        model=OPENAI_MODEL, instructions="Be brief.", input=QUESTIONS[0], max_output_tokens=20
    )
    assert made.usage is not None
    grown = bench.llama.tokens_predicted() - before
    (row,) = bench.relay.usage(bench.account)
    assert (row["verdict"], row["source"]) == ("complete", "reported")
    assert row["output"] == made.usage.output_tokens == grown > 0
    before = bench.llama.tokens_predicted()
    with bench.openai.responses.stream(
        model=OPENAI_MODEL,
        input=[{"role": "user", "content": QUESTIONS[2]}],
        max_output_tokens=30,
    ) as stream:
        told = list(stream)
    assert told[-1].type in {"response.completed", "response.incomplete"}
    text = "".join(event.delta for event in told if event.type == "response.output_text.delta")
    final = told[-1].response
    assert final.output_text == text != ""
    assert final.usage is not None
    grown = bench.llama.tokens_predicted() - before
    row = bench.relay.usage(bench.account)[0]
    assert (row["verdict"], row["source"]) == ("complete", "reported")
    assert row["output"] == final.usage.output_tokens == grown > 0
    assert float(row["charge_usd"]) > 0
    assert bench.relay.verify()["clean"]


def test_responses_are_answered_by_a_channel_that_speaks_messages(bench: Bench) -> None:
    events = list(
        bench.openai.responses.create(
            model=ANTHROPIC_MODEL, input="Go on.", max_output_tokens=30, temperature=0, stream=True
        )
    )
    final = events[-1]
    assert final.type in {"response.completed", "response.incomplete"}
    (row,) = bench.relay.usage(bench.account)
    assert (row["verdict"], row["model"]) == ("complete", ANTHROPIC_MODEL)
    assert final.response.usage is not None
    assert row["output"] == final.response.usage.output_tokens


def test_async_clients_and_concurrent_streams(bench: Bench) -> None:
    async def run() -> None:
        before = bench.llama.tokens_predicted()
        async with (
            openai.AsyncOpenAI(base_url=bench.relay.url, api_key=bench.account.key) as client,
            anthropic.AsyncAnthropic(
                base_url=bench.relay.url, auth_token=bench.account.key
            ) as other,
        ):

            async def one() -> None:
                stream = await client.chat.completions.create(
                    model=OPENAI_MODEL,
                    messages=[{"role": "user", "content": "hi"}],
                    max_tokens=40,
                    stream=True,
                )
                assert [chunk async for chunk in stream]

            async def two() -> None:
                async with other.messages.stream(
                    model=ANTHROPIC_MODEL,
                    messages=[{"role": "user", "content": "hi"}],
                    max_tokens=40,
                ) as stream:
                    assert len([event async for event in stream]) > 3

            await asyncio.gather(*(call() for call in (one, two) for _ in range(8)))
        grown = bench.llama.tokens_predicted() - before
        assert billed_output(bench.relay.usage(bench.account)) == grown

    asyncio.run(run())


def test_models_are_listed_by_both_sdks(bench: Bench) -> None:
    assert OPENAI_MODEL in {model.id for model in bench.openai.models.list()}
    assert ANTHROPIC_MODEL in {model.id for model in bench.anthropic.models.list()}
    assert bench.openai.models.retrieve(OPENAI_MODEL).id == OPENAI_MODEL


def test_errors_raise_the_classes_the_sdks_have_for_them(bench: Bench) -> None:
    with (
        openai.OpenAI(base_url=bench.relay.url, api_key="sk-nobody", max_retries=0) as wrong,
        pytest.raises(openai.AuthenticationError),
    ):
        openai_plain(wrong, 1)
    with pytest.raises(openai.NotFoundError) as missing:
        bench.openai.chat.completions.create(
            model="model-oo", messages=[{"role": "user", "content": "x"}]
        )
    assert missing.value.code == "model_not_found"
    with (
        anthropic.Anthropic(base_url=bench.relay.url, api_key="sk-nobody", max_retries=0) as other,
        pytest.raises(anthropic.AuthenticationError),
    ):
        anthropic_plain(other, 1)
    assert bench.relay.usage(bench.account) == []


def test_an_empty_wallet_is_refused_without_a_call_upstream(bench: Bench) -> None:
    poor = bench.relay.account(credit="0.000001")
    before = bench.llama.tokens_predicted()
    with (
        openai.OpenAI(base_url=f"{bench.relay.url}/v1", api_key=poor.key) as client,
        pytest.raises(openai.APIStatusError) as refused,
    ):
        openai_plain(client, 50)
    assert refused.value.status_code == 402
    assert bench.llama.tokens_predicted() == before
    assert bench.relay.balance(poor) == "0.000001"


@pytest.mark.parametrize("seed", range(5))
def test_a_call_its_client_leaves_is_billed_what_the_client_got(bench: Bench, seed: int) -> None:
    """I15 for aborted calls: the tokenizer's count of the client's own log, marked `counted`.

    The client says goodbye by a half-close and then reads whatever had been sent to it, so that
    its log is all that was delivered.
    """
    body = {
        "model": OPENAI_MODEL,
        "messages": [{"role": "user", "content": "Go on for long."}],
        "max_tokens": 3000,
        "seed": seed,
        "ignore_eos": True,
        "stream": True,
    }
    before = bench.llama.tokens_predicted()
    request = request_bytes(
        "/v1/chat/completions", json.dumps(body).encode(), key=bench.account.key
    )
    with RawClient(bench.relay.port) as client:
        client.send(request).read_bytes(4_000 + 3_000 * seed)
        client.half_close()
        client.read_all()
        answer = parse_response(bytes(client.received), ended=True)
    assert answer is not None
    text = ""
    for event in answer.body.split(b"\n\n")[:-1]:
        assert event != b"data: [DONE]"
        for choice in json.loads(event.removeprefix(b"data: "))["choices"]:
            text += choice["delta"].get("content") or ""
    (row,) = settled(bench)
    assert (row["verdict"], row["source"]) == ("client_gone", "counted")
    assert row["output"] == exact_count(Tokenizer.O200K)(text)
    print("billed", row["output"], "predicted", bench.llama.tokens_predicted() - before)


def settled(bench: Bench) -> list[dict[str, object]]:
    """The account's rows, once there are any: an abort is settled in the next few moments."""
    for _ in range(50):
        rows = bench.relay.usage(bench.account)
        if rows:
            return rows
    raise AssertionError("the call is not on the bill")
