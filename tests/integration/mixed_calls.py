"""Calls of every kind against an upstream of every dialect that breaks in every way, from a seed.

A `Plan` is one call: what the caller sends, what the upstream does, how the caller behaves. The
number of the plan travels in the prompt, so that the upstream, which serves all dialects on one
port, finds what to do. `judge` says what is wrong with what the caller received; what is wrong
with the books, checker and script say. This module must not know how the relay is run.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.core.entities import Wire
from tests.integration.provider_answers import MODEL, PROVIDERS, SCENARIOS, Told
from tests.integration.raw_client import RawResponse, parse_response
from tests.integration.scripted import ReceivedRequest
from tests.integration.scripts import (
    AwaitGone,
    Close,
    Reset,
    Script,
    Send,
    Verb,
    chunk,
    response_head,
)

SECRET = "sk-upstream-very-secret-0001"
MODELS = {Wire.CHAT: "m", Wire.RESPONSES: "r", Wire.MESSAGES: "a", Wire.GEMINI: "g"}
"""A model of each dialect; `m` has text completions, too."""
SERVICE_MODEL = "s"
CALLERS = {
    "chat": "/v1/chat/completions",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
}
SERVICES = {
    "embeddings": "/v1/embeddings",
    "images": "/v1/images/generations",
    "speech": "/v1/audio/speech",
    "moderations": "/v1/moderations",
    "rerank": "/v1/rerank",
}
FAULTS = (
    *("none",) * 16, "status", "cut", "reset", "short", "clean-cut", "stall",
    "garbage", "lies", "error-inside", "kind", "gzip", "drip", "more-after", "empty", "no-usage",
)  # fmt: skip
WAYS = ("stay", "stay", "stay", "stay", "leave", "reset", "keep")
_NUMBER = re.compile(rb"plan-(\d+)-")
_OWNER = re.compile(rb"for-(\d+)-it")
_LIES: tuple[dict[str, Any], ...] = (
    {"prompt_tokens": 10**9, "completion_tokens": 10**9, "total_tokens": 2 * 10**9},
    {"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6},
    {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    {"prompt_tokens": "7", "completion_tokens": None},
    {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8,
     "prompt_tokens_details": {"cached_tokens": 900, "audio_tokens": 900, "image_tokens": 900},
     "completion_tokens_details": {"audio_tokens": 99, "reasoning_tokens": 99}},
    {"prompt_tokens": 1e300, "completion_tokens": True},
)  # fmt: skip


@dataclass(slots=True)
class Plan:
    """One call; see the module docstring."""

    number: int
    endpoint: str
    model: str
    wire: Wire
    """What its provider speaks."""
    stream: bool
    fault: str
    way: str
    body: bytes = b""
    target: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    sent: bytes = b""
    """The body the upstream would have sent, before it broke."""
    whole: bool = False
    """Whether the upstream sent all of it in a way that says so."""
    cut_at: float = 1.0
    dry: bool = False
    asked: bool = False
    """Whether the caller wants the cost in the usage, which changes bytes."""

    @property
    def native(self) -> bool:
        """Whether upstream and caller speak the same form."""
        spoken = {"chat": Wire.CHAT, "messages": Wire.MESSAGES, "responses": Wire.RESPONSES}
        return spoken.get(self.endpoint, self.wire) is self.wire


def plans(seed: int, count: int) -> list[Plan]:
    """Return `count` calls made of `seed`."""
    dice = random.Random(seed)
    return [_plan(dice, number) for number in range(count)]


def _plan(dice: random.Random, number: int) -> Plan:
    kinds = [*CALLERS, *CALLERS, *CALLERS, "completions", *SERVICES]
    endpoint = dice.choice(kinds)
    wire = dice.choice(list(MODELS)) if endpoint in CALLERS else Wire.CHAT
    model = SERVICE_MODEL if endpoint in SERVICES else MODELS[wire]
    stream = dice.random() < 0.6 and endpoint in {*CALLERS, "completions"}
    plan = Plan(number, endpoint, model, wire, stream, dice.choice(FAULTS), dice.choice(WAYS))
    plan.cut_at = dice.random()
    plan.status = dice.choice((400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529))
    word = f"plan-{number}- say something"
    fields: dict[str, Any] = {"model": plan.model}
    if endpoint in {"chat", "messages"}:
        fields |= {"messages": [{"role": "user", "content": word}], "max_tokens": 400}
    elif endpoint == "responses":
        fields |= {"input": word, "max_output_tokens": 400, "store": False}
    elif endpoint == "completions":
        fields |= {"prompt": word, "max_tokens": 400, "n": dice.choice((1, 2))}
    elif endpoint == "images":
        fields |= {"prompt": word, "n": dice.choice((1, 2)), "size": "1024x1024"}
    elif endpoint == "speech":
        fields |= {"input": word, "voice": "alloy"}
    elif endpoint == "rerank":
        fields |= {"query": word, "documents": ["one", "two"]}
    else:
        fields |= {"input": word}
    if stream:
        fields["stream"] = True
        if endpoint in {"chat", "completions"} and dice.random() < 0.5:
            fields["stream_options"] = {"include_usage": True}
    more = dice.random()
    if more < 0.1:
        plan.headers["x-max-cost"] = f"{dice.choice((1, 10_000, 100_000, 900_000))} nano"
    elif more < 0.15:
        plan.headers["x-dry-run"], plan.dry = "true", True
    elif more < 0.3:
        plan.headers["x-sluice-usage"], plan.asked = "include", True
    plan.target = {**CALLERS, **SERVICES, "completions": "/v1/completions"}[endpoint]
    plan.body = json.dumps(fields).encode()
    return plan


class Upstream:
    """Answers requests by their plan; `heard` counts what came for each."""

    def __init__(self, made: Sequence[Plan]) -> None:
        self.plans = {plan.number: plan for plan in made}
        self.heard: dict[int, int] = {}

    def __call__(self, request: ReceivedRequest) -> Script:
        """Play what the plan named in a request says."""
        found = _NUMBER.search(request.body)
        if found is None:
            raise AssertionError(f"an unplanned request: {request.raw[:300]!r}")
        plan = self.plans[int(found[1])]
        self.heard[plan.number] = self.heard.get(plan.number, 0) + 1
        return list(_play(plan, request))


def _answer(plan: Plan, request: ReceivedRequest) -> tuple[str, bytes]:
    """A sound answer: its content type and its body."""
    if plan.endpoint in SERVICES:
        return _served(plan)
    if plan.endpoint == "completions":
        return _completed(plan)
    sound = [one for one in SCENARIOS if one.error is None]
    told: Told = PROVIDERS[plan.wire](sound[plan.number % len(sound)])
    if b"streamGenerate" in request.target.encode() or b'"stream":true' in request.body.replace(
        b" ", b""
    ):
        return "text/event-stream", _marked(plan, told.events + told.terminal)
    return "application/json", _marked(plan, told.plain)


def _marked(plan: Plan, body: bytes) -> bytes:
    """Write into an answer whose it is."""
    return body.replace(MODEL.encode(), b"for-%d-it" % plan.number)


def _completed(plan: Plan) -> tuple[str, bytes]:
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    head = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": f"for-{plan.number}-it",
    }
    choice: dict[str, Any] = {
        "index": 0,
        "text": "Hello there, you.",
        "logprobs": None,
        "finish_reason": None,
    }
    last = choice | {"text": "", "finish_reason": "stop"}
    if not plan.stream:
        whole = choice | {"finish_reason": "stop"}
        return "application/json", json.dumps(head | {"choices": [whole], "usage": usage}).encode()
    rows: list[dict[str, Any]] = [
        {"choices": [choice]},
        {"choices": [last]},
        {"choices": [], "usage": usage},
    ]
    if b"include_usage" not in plan.body:
        rows = rows[:2]
    events = [f"data: {json.dumps(head | row)}\n\n" for row in rows]
    return "text/event-stream", ("".join(events) + "data: [DONE]\n\n").encode()


def _served(plan: Plan) -> tuple[str, bytes]:
    usage = {"prompt_tokens": 6, "total_tokens": 6}
    value: dict[str, Any]
    if plan.endpoint == "speech":
        return "audio/mpeg", bytes(range(256)) * 40
    if plan.endpoint == "embeddings":
        data = [{"object": "embedding", "index": 0, "embedding": [0.5] * (plan.number % 7000)}]
        value = {"object": "list", "data": data, "model": f"for-{plan.number}-it", "usage": usage}
    elif plan.endpoint == "images":
        count = json.loads(plan.body)["n"]
        value = {"created": plan.number, "data": [{"b64_json": "A" * 40_000}] * count}
    elif plan.endpoint == "moderations":
        value = {"id": "modr-1", "model": f"for-{plan.number}-it", "results": [{"flagged": False}]}
    else:
        results = [{"index": 0, "relevance_score": 0.5}]
        value = {"results": results, "meta": {"billed_units": {"search_units": 1}}}
    return "application/json", json.dumps(value).encode()


def _play(plan: Plan, request: ReceivedRequest) -> Iterator[Verb]:
    kind, body = _answer(plan, request)
    fault = plan.fault
    if fault == "status":
        said = {"message": f"Wrong: key {SECRET} is bad", "type": "x", "code": None}
        text = json.dumps({"error": said}).encode() if plan.number % 2 else b"<html>No</html>"
        yield Send(_framed(plan.status, "application/json", text))
        return
    if fault == "lies":
        body = _lied(plan, body)
    elif fault == "no-usage":
        body = re.sub(rb'"usage(Metadata)?":', rb'"unused":', body)
    elif fault == "empty":
        body = b""
    elif fault == "kind":
        kind = "text/html" if plan.number % 2 else "application/json"
    cut = int(len(body) * plan.cut_at)
    if fault == "garbage":
        body = body[:cut] + b"\n\ndata: {]\n\n\x00\xff" + body[cut:]
    elif fault == "error-inside":
        body = body[:cut] + b'\n\ndata: {"error":{"message":"' + SECRET.encode() + b'"}}\n\n'
        cut = len(body)
    if fault == "clean-cut":
        body = body[:cut]
    plan.sent = body
    rows = [("content-type", kind)]
    if fault == "gzip":
        rows.append(("content-encoding", "gzip"))
    if fault in {"short", "cut", "reset", "stall"}:
        yield from _broken(plan, rows, body, cut)
        return
    plan.whole = fault in {"none", "lies", "drip", "no-usage", "more-after"}
    if kind == "text/event-stream" or plan.number % 3 == 0:
        rows.append(("transfer-encoding", "chunked"))
        yield Send(response_head(200, rows))
        if body:
            step = max(1, len(body) // 200) if fault == "drip" else 4096
            for start in range(0, len(body), step):
                yield Send(chunk(body[start : start + step]), 100 if fault == "drip" else None)
        yield Send(b"0\r\n\r\n")
    else:
        rows.append(("content-length", str(len(body))))
        yield Send(response_head(200, rows) + body)
    if fault == "more-after":
        yield Send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nFOREIGN"[:-1])
    if plan.number % 5 == 0:
        yield Close()


def _broken(plan: Plan, rows: list[tuple[str, str]], body: bytes, cut: int) -> Iterator[Verb]:
    plan.whole = False
    if plan.fault == "short":
        yield Send(response_head(200, [*rows, ("content-length", str(len(body) + 9))]) + body)
        yield Close()
        return
    rows = [*rows, ("transfer-encoding", "chunked")]
    yield Send(response_head(200, rows))
    if cut:
        yield Send(chunk(body[:cut]))
    yield {"cut": Close(), "reset": Reset(), "stall": AwaitGone()}[plan.fault]


def _lied(plan: Plan, body: bytes) -> bytes:
    lie = _LIES[plan.number % len(_LIES)]
    told = dict(lie)
    for one, other in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        if one in lie and plan.wire in {Wire.MESSAGES, Wire.RESPONSES}:
            told[other] = told.pop(one)
    written = json.dumps(told).encode()
    return re.sub(rb'"usage": ?\{(?:[^{}]|\{[^{}]*\})*\}', b'"usage":' + written, body)


def _framed(status: int, kind: str, body: bytes) -> bytes:
    rows = [("content-type", kind), ("content-length", str(len(body))), ("x-echo", SECRET)]
    return response_head(status, rows) + body


def judge(plan: Plan, received: bytes) -> list[str]:
    """Say what is wrong with what a caller received who stayed to the end."""
    problems: list[str] = []
    if SECRET.encode() in received:
        problems.append("the upstream's key is in the answer")
    if any(int(one) != plan.number for one in _OWNER.findall(received)):
        problems.append(f"an answer to another call: {received[-500:]!r}")
    response = parse_response(received, ended=True)
    if response is None:
        return [*problems, f"no answer: {received[:200]!r}"]
    if response.rest:
        problems.append(f"bytes behind the answer: {response.rest[:200]!r}")
    if response.status == 500:
        problems.append("500")
    if response.status != 200:
        return problems + _wrong_error(plan, response)
    if plan.dry:
        return problems
    if response.whole and not _ends_in_error(plan, response):
        ended = plan.fault == "short" and plan.stream
        doubtful = plan.fault in {"garbage", "clean-cut", "kind", "error-inside"}
        if not (plan.whole or ended or doubtful):
            problems.append("whole, though the upstream broke off")
        stripped = plan.stream and plan.endpoint in {"chat", "completions"}
        same = plan.whole and plan.native and not (plan.asked or stripped)
        if same and response.body != plan.sent:
            problems.append(f"other bytes: {response.body[-300:]!r} for {plan.sent[-300:]!r}")
    elif plan.endpoint in SERVICES and not plan.sent.startswith(response.body):
        problems.append("no prefix of what was sent")
    return problems


def _ends_in_error(plan: Plan, response: RawResponse) -> bool:
    del plan
    kind = response.header("content-type") or ""
    if not kind.startswith("text/event-stream"):
        return False
    last = response.body.removesuffix(b"\n\n").rsplit(b"\n\n", 1)[-1]
    return b'"error"' in last or b"response.failed" in last


def _wrong_error(plan: Plan, response: RawResponse) -> list[str]:
    try:
        value = json.loads(response.body)
    except ValueError:
        return [f"an error that is no JSON: {response.body[:200]!r}"]
    error = value.get("error")
    if not isinstance(error, dict) or not error.get("message"):
        return [f"an error without a message: {value}"]
    if plan.endpoint == "messages":
        if value.get("type") != "error" or "type" not in error:
            return [f"no Anthropic error: {value}"]
    elif {"message", "type", "param", "code"} - error.keys():
        return [f"no OpenAI error: {value}"]
    return []
