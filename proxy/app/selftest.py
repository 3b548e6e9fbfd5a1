"""`sluice selftest`: whether a relay, ours or any other, does what an SDK needs, from outside.

Rules: it sees only what a client sees, and needs only a base URL and a key; each check has an
outcome, what was seen, and a remedy when it is not well. A check that cannot be made says why. A
whole run costs a few thousand tokens of the key's money. This module must not know the wire.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from statistics import median
from time import perf_counter
from typing import Final

from proxy.app.probe import Probe, Reply
from proxy.app.probe_failures import LOOK_INTO_LOGS, REMEDIES, ProbeError
from proxy.core.entities import Dialect
from proxy.core.sentences import Sentence, text_of

QUESTION = "Say in three sentences what a relay for LLM APIs does."
SHORT_TOKENS = 64
LONG_TOKENS = 512
LONG_PARAGRAPHS = 120
PARAGRAPH = (
    "Ein längerer Absatz mit Umlauten, 中文字符, кириллица, עברית and an emoji 🚰, "
    "so that a relay which cuts text in the middle of a character is found out. "
)
LONG_TASK = "\nRepeat the first sentence, then continue it."
PLAUSIBLE_SHARE = 0.1
"""Tokens reported for the long prompt ÷ its characters, below which the count cannot be true."""
ABORTED_AFTER = 2
"""Pieces of text read before leaving a stream."""
CONCURRENCY_MAX = 100
WRONG_KEY = "sk-selftest-this-key-does-not-exist"
WRONG_MODEL = "selftest-no-such-model"


class Outcome(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    check: str
    outcome: Outcome
    seen: str
    remedy: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; the runner adds its name and time."""

    outcome: Outcome
    seen: str
    remedy: str = ""


Step = Callable[[], Awaitable[Finding]]


DIALECTS: Final = (Dialect.OPENAI, Dialect.ANTHROPIC)
"""What the probe can speak."""


class Selftest:
    """The checks against one relay, in order; `run` yields each line as it is known."""

    def __init__(self, probe: Probe, model: str | None, concurrency: int) -> None:
        if not 1 <= concurrency <= CONCURRENCY_MAX:
            raise ValueError(
                Sentence(
                    "concurrency is 1 to {most}, not {concurrency}",
                    most=CONCURRENCY_MAX,
                    concurrency=concurrency,
                )
            )
        self._probe = probe
        self._model = model or ""
        self._concurrency = concurrency

    async def run(self) -> AsyncIterator[Check]:
        """Make every check; one that fails does not stop those after it."""
        first = await _checked("connection and model list", self._models)
        yield first
        if not self._model:
            return
        served = []
        for dialect in DIALECTS:
            line = await _checked(f"{dialect.value}: plain call", partial(self._plain, dialect))
            yield line
            if line.outcome in (Outcome.OK, Outcome.WARNING):
                served.append(dialect)
                streaming = partial(self._streaming, dialect)
                yield await _checked(f"{dialect.value}: streaming", streaming)
        for name, step in self._others(served):
            yield await _checked(name, step)

    def _others(self, served: Sequence[Dialect]) -> list[tuple[str, Step]]:
        if not served:
            return []
        dialect = served[0]
        return [
            ("long text", partial(self._long, dialect)),
            (f"{self._concurrency} at once", partial(self._at_once, dialect)),
            ("leaving early", partial(self._abort, dialect)),
            ("a wrong key", partial(self._wrong_key, dialect)),
            ("a wrong model name", partial(self._wrong_model, dialect)),
        ]

    async def _models(self) -> Finding:
        names = await self._probe.models()
        if not self._model:
            if not names:
                return Finding(
                    Outcome.FAILURE,
                    "the key may use no model",
                    "name one with --model, or use another key",
                )
            self._model = names[0]
        elif self._model not in names:
            return Finding(
                Outcome.WARNING,
                Sentence("{n} models, {model!r} not among them", n=len(names), model=self._model),
                "look at the list for the exact name",
            )
        return Finding(
            Outcome.OK,
            Sentence("{n} models; testing with {model!r}", n=len(names), model=self._model),
        )

    async def _plain(self, dialect: Dialect) -> Finding:
        reply = await self._probe.plain(dialect, self._model, QUESTION, SHORT_TOKENS)
        if reply.status == 404:
            return Finding(
                Outcome.SKIPPED, Sentence("not served in this dialect: {text}", text=reply.text)
            )
        if reply.status != 200:
            return _refused(reply)
        if not reply.text:
            return Finding(
                Outcome.WARNING,
                Sentence("an empty answer, finish reason {finish!r}", finish=str(reply.finish)),
                "try another model; a reasoning model may have used all tokens for thinking",
            )
        if reply.output_tokens is None:
            return Finding(
                Outcome.WARNING, "the answer reports no usage", "its bill cannot be checked"
            )
        return Finding(
            Outcome.OK,
            Sentence(
                "{read} + {written} tokens in {total:.2f} s",
                read=str(reply.input_tokens),
                written=reply.output_tokens,
                total=reply.total,
            ),
        )

    async def _streaming(self, dialect: Dialect) -> Finding:
        reply = await self._probe.stream(dialect, self._model, QUESTION, SHORT_TOKENS)
        if not reply.text:
            return Finding(
                Outcome.WARNING,
                Sentence("no text, finish reason {finish!r}", finish=str(reply.finish)),
            )
        if reply.arrivals < 3 and (reply.output_tokens or 0) > 16:
            return Finding(
                Outcome.WARNING,
                Sentence(
                    "{n} tokens arrived in {arrivals} piece(s)",
                    n=str(reply.output_tokens),
                    arrivals=reply.arrivals,
                ),
                "something on the way collects the stream; nginx needs `proxy_buffering off`",
            )
        if reply.output_tokens is None:
            return Finding(
                Outcome.WARNING,
                Sentence("{speed}; no usage reported though asked for", speed=_speed(reply)),
                "its bill cannot be checked",
            )
        return Finding(Outcome.OK, _speed(reply))

    async def _long(self, dialect: Dialect) -> Finding:
        prompt = PARAGRAPH * LONG_PARAGRAPHS + LONG_TASK
        reply = await self._probe.stream(dialect, self._model, prompt, LONG_TOKENS)
        if "\N{REPLACEMENT CHARACTER}" in reply.text:
            return Finding(
                Outcome.FAILURE,
                "characters arrived broken",
                "the relay cuts text between the bytes of a character",
            )
        tokens = reply.input_tokens
        if tokens is not None and tokens < PLAUSIBLE_SHARE * len(prompt):
            return Finding(
                Outcome.WARNING,
                Sentence(
                    "{tokens} input tokens reported for {n} characters",
                    tokens=tokens,
                    n=len(prompt),
                ),
                "the prompt may not have reached the model whole",
            )
        shown = Sentence("unreported") if tokens is None else str(tokens)
        return Finding(
            Outcome.OK,
            Sentence(
                "{n} characters in ({tokens} tokens); {speed}",
                n=len(prompt),
                tokens=shown,
                speed=_speed(reply),
            ),
        )

    async def _at_once(self, dialect: Dialect) -> Finding:
        calls = [
            self._probe.stream(dialect, self._model, QUESTION, SHORT_TOKENS)
            for _ in range(self._concurrency)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        replies = [one for one in results if isinstance(one, Reply)]
        errors = [text_of(one) for one in results if isinstance(one, ProbeError)]
        for one in results:
            if isinstance(one, BaseException) and not isinstance(one, ProbeError):
                raise one
        if errors:
            return Finding(
                Outcome.FAILURE,
                Sentence(
                    "{n} of {all} failed, first: {error}",
                    n=len(errors),
                    all=len(results),
                    error=errors[0],
                ),
                "look at the key's limits, then at the upstream's",
            )
        firsts = [one.first_at for one in replies if one.first_at is not None]
        shown = Sentence("no text")
        if firsts:
            shown = Sentence(
                "first text after {median:.2f} s, slowest {slowest:.2f} s",
                median=median(firsts),
                slowest=max(firsts),
            )
        return Finding(
            Outcome.OK, Sentence("all {n} complete; {speed}", n=len(replies), speed=shown)
        )

    async def _abort(self, dialect: Dialect) -> Finding:
        await self._probe.stream(
            dialect, self._model, QUESTION, LONG_TOKENS, stop_after=ABORTED_AFTER
        )
        after = await self._probe.plain(dialect, self._model, QUESTION, SHORT_TOKENS)
        if after.status != 200:
            return _refused(after)
        return Finding(
            Outcome.OK,
            Sentence(
                "left after {n} pieces; the next call is served. "
                "The usage log should show the first one billed only for what arrived",
                n=ABORTED_AFTER,
            ),
        )

    async def _wrong_key(self, dialect: Dialect) -> Finding:
        reply = await self._probe.plain(dialect, self._model, QUESTION, 1, key=WRONG_KEY)
        return _expected(reply, 401)

    async def _wrong_model(self, dialect: Dialect) -> Finding:
        reply = await self._probe.plain(dialect, WRONG_MODEL, QUESTION, 1)
        return _expected(reply, 404)


def asked(concurrency: int) -> list[tuple[int, int]]:
    """What a whole run asks at most, call by call: bytes of prompt, and tokens of answer."""
    short, long = len(QUESTION.encode()), len(PARAGRAPH.encode()) * LONG_PARAGRAPHS + len(LONG_TASK)
    calls = [(short, SHORT_TOKENS)] * (2 * len(DIALECTS) + concurrency + 1)
    return [*calls, (long, LONG_TOKENS), (short, LONG_TOKENS)]


async def _checked(name: str, step: Step) -> Check:
    began = perf_counter()
    try:
        found = await step()
    except ProbeError as error:
        found = Finding(Outcome.FAILURE, text_of(error), error.remedy)
    seconds = round(perf_counter() - began, 3)
    return Check(name, found.outcome, found.seen, found.remedy, seconds)


def _speed(reply: Reply) -> Sentence:
    first = reply.first_at
    if first is None:
        return Sentence("no text")
    tokens, rest = reply.output_tokens, reply.total - first
    if tokens and tokens > 1 and rest > 0:
        return Sentence(
            "first text after {first:.2f} s, then {speed:.0f} tokens/s",
            first=first,
            speed=(tokens - 1) / rest,
        )
    return Sentence("first text after {first:.2f} s", first=first)


def _refused(reply: Reply) -> Finding:
    remedy = REMEDIES.get(reply.status, LOOK_INTO_LOGS)
    return Finding(
        Outcome.FAILURE,
        Sentence("status {status}: {text}", status=reply.status, text=reply.text),
        remedy,
    )


def _expected(reply: Reply, status: int) -> Finding:
    if reply.status == 200:
        return Finding(Outcome.FAILURE, "it was served", "the relay lets anything pass")
    message = (reply.error or {}).get("message")
    if not isinstance(message, str):
        return Finding(
            Outcome.WARNING,
            Sentence(
                "status {status}, but the error is not the dialect's: {text}",
                status=reply.status,
                text=reply.text,
            ),
            "SDKs show such an error without its message",
        )
    if reply.status != status:
        return Finding(
            Outcome.WARNING,
            Sentence(
                "status {status} where {usual} is usual: {message}",
                status=reply.status,
                usual=status,
                message=message,
            ),
        )
    return Finding(Outcome.OK, Sentence("status {status}: {text}", status=status, text=message))


async def run(
    base_url: str,
    key: str,
    *,
    model: str | None = None,
    concurrency: int = 5,
    told: Callable[[Check], object] | None = None,
) -> list[Check]:
    """Make every check against `base_url`; `told` hears of each as it ends.

    Raises ValueError for a concurrency out of range.
    """
    found: list[Check] = []
    async with Probe(base_url, key) as probe:
        async for line in Selftest(probe, model, concurrency).run():
            found.append(line)
            if told is not None:
                told(line)
    return found
