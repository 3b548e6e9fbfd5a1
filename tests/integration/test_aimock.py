"""Faults of an upstream nobody here wrote: each gives the caller a true error and a right bill.

Every case has a channel of its own, so that no breaker sees the failures of another. What a fault
costs: the provider's figure where it answered, what was delivered where a stream broke, and else
nothing.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import anthropic
import openai
import pytest

from proxy.core.entities import Tokenizer
from proxy.core.tokenizers import exact_count
from tests.integration.aimock import Aimock
from tests.integration.relay_process import RelayProcess, UpstreamAt

SENTENCE = "The harbour is north of the old town, behind the two towers."
USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "input_tokens": 12, "output_tokens": 7}
ANSWER = {"response": {"content": SENTENCE, "usage": USAGE}}
TOO_LONG = {"message": "That is too long.", "type": "invalid_request_error"}
BUSY = {"message": "Busy.", "type": "overloaded_error"}
FAULTS: dict[str, dict[str, Any]] = {
    "none": ANSWER,
    "slow": {**ANSWER, "chaos": {"latencyMs": 300}},
    "drop": {**ANSWER, "chaos": {"dropRate": 1}},
    "malformed": {**ANSWER, "chaos": {"malformedRate": 1}},
    "disconnect": {**ANSWER, "chaos": {"disconnectRate": 1}},
    "ratelimit": {**ANSWER, "chaos": {"rateLimitRate": 1}},
    "late": {**ANSWER, "chaos": {"latencyMs": 5000}},
    "truncated": {**ANSWER, "latency": 30},
    "refused": {"response": {"error": TOO_LONG, "status": 400}},
    "overloaded": {"response": {"error": BUSY, "status": 529}},
}
SLOW_CHANNEL = {"late": {"first_byte_seconds_max": 1.0}}
CALLERS = ("chat", "messages", "responses")
UPSTREAMS = {
    "chat": ("openai", 3),
    "messages": ("anthropic", 4),
    "responses": ("openai", 6),
    "gemini": ("gemini", 2),
}
"""The dialect, and after how many events of it a second piece of text is cut off."""
ENDPOINTS = {"responses": {"endpoints": ["responses"]}}
"""Of channels that do not serve what their dialect usually has."""
VERSIONS = {"gemini": "v1beta"}
THREADS = 8


@dataclass(frozen=True, slots=True)
class Case:
    caller: str
    upstream: str
    streamed: bool
    fault: str

    @property
    def model(self) -> str:
        """Of this case alone, as is its channel."""
        form = "stream" if self.streamed else "plain"
        return f"{self.fault}-{self.caller}-{self.upstream}-{form}"

    @property
    def breaks_off(self) -> bool:
        """Whether the answer ends before its end; a plain one cannot here."""
        return self.fault == "truncated" and self.streamed


@dataclass(frozen=True, slots=True)
class Told:
    """What the caller had in the end: words, or an error by its status and code."""

    text: str = ""
    status: int | None = 200
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    told: Told
    row: dict[str, Any]


CASES = [
    Case(caller, upstream, streamed, fault)
    for caller, upstream, streamed, fault in product(CALLERS, UPSTREAMS, (False, True), FAULTS)
]


def fixture(case: Case) -> dict[str, Any]:
    """What aimock does when it is asked for the case's model."""
    rules = {"match": {"model": case.model}, **FAULTS[case.fault]}
    if case.breaks_off:
        rules["truncateAfterChunks"] = UPSTREAMS[case.upstream][1]
    return rules


@dataclass(frozen=True, slots=True)
class Caller:
    """The SDKs, as a user makes them."""

    openai: openai.OpenAI
    anthropic: anthropic.Anthropic

    def ask(self, case: Case) -> Told:
        """Call, and say what came of it."""
        text: list[str] = []
        try:
            for piece in getattr(self, case.caller)(case):
                text.append(piece)
        except openai.APIStatusError as error:
            return Told("".join(text), error.status_code, error.code)
        except openai.APIError as error:
            return Told("".join(text), None, error.code)
        except FailedResponseError as error:
            return Told("".join(text), None, error.args[0])
        except anthropic.APIStatusError as error:
            body: Any = error.body
            return Told("".join(text), error.status_code, body["error"]["code"])
        return Told("".join(text))

    def chat(self, case: Case) -> Iterator[str]:
        found: Any = self.openai.chat.completions.create(
            model=case.model, messages=[TURN], stream=case.streamed
        )
        if not case.streamed:
            yield found.choices[0].message.content
            return
        for chunk in found:
            yield chunk.choices[0].delta.content or ""

    def messages(self, case: Case) -> Iterator[str]:
        found: Any = self.anthropic.messages.create(
            model=case.model, messages=[TURN], max_tokens=60, stream=case.streamed
        )
        if not case.streamed:
            yield found.content[0].text
            return
        for event in found:
            if event.type == "content_block_delta":
                yield event.delta.text

    def responses(self, case: Case) -> Iterator[str]:
        found: Any = self.openai.responses.create(
            model=case.model, input=[TURN], stream=case.streamed
        )
        if not case.streamed:
            yield found.output_text
            return
        for event in found:
            if event.type == "response.output_text.delta":
                yield event.delta
            elif event.type == "response.failed":
                raise FailedResponseError(event.response.error.code)


class FailedResponseError(Exception):
    """The end of a stream of Responses that the SDK hands out, and does not raise; its code."""


TURN: Any = {"role": "user", "content": "Which way to the harbour?"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Case, Outcome]]:
    """Every case once, a few at a time, and its row on the bill."""
    directory = tmp_path_factory.mktemp("aimock")
    with Aimock(directory, [fixture(case) for case in CASES]) as mock:
        channels = [
            UpstreamAt(
                f"at-{case.model}",
                UPSTREAMS[case.upstream][0],
                f"{mock.origin}/{VERSIONS.get(case.upstream, 'v1')}",
                {case.model: case.model},
                settings={**SLOW_CHANNEL.get(case.fault, {}), **ENDPOINTS.get(case.upstream, {})},
            )
            for case in CASES
        ]
        with RelayProcess(directory / "relay", channels) as relay:
            account = relay.account()
            with (
                openai.OpenAI(
                    base_url=f"{relay.url}/v1", api_key=account.key, max_retries=0
                ) as one,
                anthropic.Anthropic(base_url=relay.url, api_key=account.key, max_retries=0) as two,
                ThreadPoolExecutor(THREADS) as threads,
            ):
                told = list(threads.map(Caller(one, two).ask, CASES))
            rows = {row["model"]: row for row in relay.usage(account)}
            assert len(rows) == len(CASES)
            assert relay.verify()["clean"]
            yield {
                case: Outcome(one_told, rows[case.model])
                for case, one_told in zip(CASES, told, strict=True)
            }


def wanted(case: Case) -> tuple[Told, str, str]:
    """What the caller must be told, the verdict, and where the billed usage comes from."""
    if case.breaks_off:
        first = SENTENCE[:20]
        # After the 200 an error has no status of its own; Anthropic's SDK repeats that one.
        status = 200 if case.caller == "messages" else None
        return Told(first, status, "upstream_truncated"), "upstream_truncated", "counted"
    overloaded = (503, "upstream_unavailable")
    if case.upstream == "messages":
        overloaded = (529, "upstream_overloaded")  # a status that Anthropic alone has
    failures: dict[str, tuple[int, str, str]] = {
        "drop": (502, "upstream_error", "upstream_error"),
        "malformed": (502, "upstream_error", "upstream_error"),
        "disconnect": (502, "upstream_truncated", "upstream_truncated"),
        "ratelimit": (429, "upstream_rate_limited", "upstream_error"),
        "late": (504, "upstream_timeout", "timeout"),
        "refused": (400, "invalid_request", "upstream_error"),
        "overloaded": (*overloaded, "upstream_error"),
    }
    if case.fault in failures:
        status, code, verdict = failures[case.fault]
        return Told("", status, code), verdict, "none"
    return Told(SENTENCE), "complete", "reported"


@pytest.mark.client(name="openai for Python", package="development/openai", upstream="aimock",
                    shows="chat and responses under its faults: errors, rate limits, cuts, garbage, delays")  # fmt: skip
@pytest.mark.client(name="anthropic for Python", package="development/anthropic", upstream="aimock",
                    shows="messages under its faults: errors, rate limits, cuts, garbage, delays")  # fmt: skip
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.model)
def test_every_fault_is_told_and_billed_as_what_it_was(
    outcomes: dict[Case, Outcome], case: Case
) -> None:
    told, verdict, source = wanted(case)
    found = outcomes[case]
    assert found.told == told
    row = found.row
    assert (row["verdict"], row["source"]) == (verdict, source)
    assert (
        row["output"]
        == {
            "reported": USAGE["completion_tokens"],
            "counted": exact_count(Tokenizer.O200K)(told.text),
            "none": 0,
        }[source]
    )
    assert (float(row["charge_usd"]) > 0) is (source != "none")
