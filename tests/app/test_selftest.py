import asyncio
from typing import Any

import pytest

from proxy.app import selftest
from proxy.app.probe import Probe, Reply
from proxy.app.probe_failures import ProbeError
from proxy.app.selftest import Check, Outcome, Selftest
from proxy.core.entities import Dialect


class Scripted(Probe):
    """A probe whose answers are given: stands for relays that are wrong in one way each."""

    def __init__(self, **answers: Any) -> None:
        super().__init__("http://relay", "sk-key")
        self.answers = answers

    async def models(self) -> list[str]:
        found: list[str] = self._give("models", ["m"])
        return found

    async def plain(
        self, dialect: Dialect, model: str, prompt: str, tokens: int, *, key: str | None = None
    ) -> Reply:
        if key is not None:
            name, usual = "wrong_key", Reply(401, error={"message": "no"})
        elif model == selftest.WRONG_MODEL:
            name, usual = "wrong_model", Reply(404, error={"message": "no"})
        else:
            name, usual = f"plain_{dialect.value}", good()
        found: Reply = self._give(name, usual)
        return found

    async def stream(
        self, dialect: Dialect, model: str, prompt: str, tokens: int, *, stop_after: int = 0
    ) -> Reply:
        name = "left" if stop_after else f"stream_{dialect.value}"
        if len(prompt) > 1000:
            name = "long"
        found: Reply = self._give(name, good(input_tokens=len(prompt)))
        return found

    def _give(self, name: str, usual: object) -> Any:
        found = self.answers.get(name, usual)
        if isinstance(found, Exception):
            raise found
        return found


def good(**changes: Any) -> Reply:
    values: dict[str, Any] = {
        "status": 200,
        "text": "an answer",
        "finish": "stop",
        "input_tokens": 9,
        "output_tokens": 30,
        "ended": True,
        "first_at": 0.1,
        "total": 1.0,
        "arrivals": 20,
    }
    return Reply(**{**values, **changes})


def lines(model: str | None = None, **answers: Any) -> dict[str, Check]:
    async def run() -> list[Check]:
        return [line async for line in Selftest(Scripted(**answers), model, 3).run()]

    return {line.check: line for line in asyncio.run(run())}


def test_a_good_relay_passes_everything() -> None:
    found = lines()
    assert {line.outcome for line in found.values()} == {Outcome.OK}
    assert len(found) == 10


def test_nothing_more_is_tried_without_a_model() -> None:
    assert [line.outcome for line in lines(models=[]).values()] == [Outcome.FAILURE]
    unreachable = lines(models=ProbeError("connection refused"))
    assert [line.outcome for line in unreachable.values()] == [Outcome.FAILURE]


def test_a_model_that_is_not_listed_is_tried_all_the_same() -> None:
    found = lines(model="other")
    assert found["connection and model list"].outcome is Outcome.WARNING
    assert found["openai: plain call"].outcome is Outcome.OK


def test_a_dialect_that_is_not_served_is_skipped_with_the_reason() -> None:
    found = lines(plain_anthropic=Reply(404, text="no such endpoint"))
    assert found["anthropic: plain call"].outcome is Outcome.SKIPPED
    assert "no such endpoint" in found["anthropic: plain call"].seen
    assert "anthropic: streaming" not in found
    assert found["long text"].outcome is Outcome.OK


@pytest.mark.parametrize(
    ("answers", "check", "outcome"),
    [
        ({"plain_openai": Reply(402, text="empty")}, "openai: plain call", Outcome.FAILURE),
        ({"plain_openai": good(text="")}, "openai: plain call", Outcome.WARNING),
        ({"plain_openai": good(output_tokens=None)}, "openai: plain call", Outcome.WARNING),
        ({"stream_openai": good(arrivals=1)}, "openai: streaming", Outcome.WARNING),
        ({"stream_openai": good(text="")}, "openai: streaming", Outcome.WARNING),
        ({"stream_openai": good(output_tokens=None)}, "openai: streaming", Outcome.WARNING),
        ({"stream_openai": ProbeError("broke off")}, "openai: streaming", Outcome.FAILURE),
        ({"stream_openai": ProbeError("broke off")}, "3 at once", Outcome.FAILURE),
        ({"long": good(text="\ufffd")}, "long text", Outcome.FAILURE),
        ({"long": good(input_tokens=5)}, "long text", Outcome.WARNING),
        ({"left": ProbeError("refused")}, "leaving early", Outcome.FAILURE),
        ({"wrong_key": good()}, "a wrong key", Outcome.FAILURE),
        ({"wrong_key": Reply(401, text="<html>")}, "a wrong key", Outcome.WARNING),
        (
            {"wrong_model": Reply(400, error={"message": "what?"})},
            "a wrong model name",
            Outcome.WARNING,
        ),
    ],
)
def test_each_fault_is_found_by_its_check(
    answers: dict[str, Any], check: str, outcome: Outcome
) -> None:
    assert lines(**answers)[check].outcome is outcome


def test_concurrency_is_bounded() -> None:
    with pytest.raises(ValueError, match="1 to 100"):
        Selftest(Scripted(), None, 101)


def test_run_tells_each_line_as_it_ends() -> None:
    told: list[Check] = []
    found = asyncio.run(selftest.run("http://127.0.0.1:9", "sk-key", told=told.append))
    assert told == found
    assert found[0].outcome is Outcome.FAILURE


def test_what_a_run_asks_at_most_is_known_before() -> None:
    made: list[tuple[int, int]] = []

    class Recording(Scripted):
        async def plain(
            self, dialect: Dialect, model: str, prompt: str, tokens: int, *, key: str | None = None
        ) -> Reply:
            if key is None and model != selftest.WRONG_MODEL:  # those are refused, and cost nothing
                made.append((len(prompt.encode()), tokens))
            return await super().plain(dialect, model, prompt, tokens, key=key)

        async def stream(
            self, dialect: Dialect, model: str, prompt: str, tokens: int, *, stop_after: int = 0
        ) -> Reply:
            made.append((len(prompt.encode()), tokens))
            return await super().stream(dialect, model, prompt, tokens, stop_after=stop_after)

    async def run() -> None:
        async for _ in Selftest(Recording(), "m", 7).run():
            pass

    asyncio.run(run())
    assert sorted(made) == sorted(selftest.asked(7))
