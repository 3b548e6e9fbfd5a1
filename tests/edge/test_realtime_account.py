"""A session's account: who ends a response waits for the ledger, and opens the next."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.edge import realtime_account
from proxy.edge.realtime_account import RealtimeAccount
from proxy.edge.realtime_turn import RealtimeOffer, Turn
from tests.edge.harness import Relay
from tests.edge.test_realtime import event, open_session, serving
from tests.edge.test_realtime_session import PRICE, ask, closing, the_session
from tests.integration.realtime_stand_in import USAGE, RealtimeStandIn, Session


def test_a_commit_is_waited_for_and_not_for_ever(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
        open_session(relay) as session,
    ):
        event(session)
        relay.bound(commit_wait_ms_max=1)
        account = the_session(relay).account
        assert isinstance(account, RealtimeAccount)
        never: asyncio.Future[None] = relay.do(relay.world.loop.create_future)
        with pytest.raises(RelayError) as caught:
            relay.run(account.durable(never))
        assert caught.value.code.code == "settlement_unavailable"

        async def soon() -> None:
            waited = relay.world.loop.create_future()
            relay.world.loop.call_soon(waited.set_result, None)
            relay.bound(commit_wait_ms_max=10_000)
            await account.durable(waited)

        relay.run(soon())


def limited(monkeypatch: pytest.MonkeyPatch, refusals: int) -> None:
    """Let the keeper refuse a number of transcriptions, as with one call at a time."""
    admitted, left = RealtimeAccount._admitted, [refusals]

    async def refuse(account: RealtimeAccount, offer: RealtimeOffer) -> Turn:
        if not offer.channels and left[0]:
            left[0] -= 1
            raise RelayError(ErrorCode.CONCURRENCY_LIMIT_EXCEEDED, "one at a time")
        return await admitted(account, offer)

    monkeypatch.setattr(RealtimeAccount, "_admitted", refuse)


async def talk(session: Session) -> None:
    audio = {"input": {"transcription": {"model": "guess"}}}
    await session.say("session.updated", session={"audio": audio})
    kind = "conversation.item.input_audio_transcription.completed"
    await session.say(kind, transcript="hello", usage={"type": "tokens", **USAGE})
    async for _ in session.connection:
        await session.respond()


def test_what_cannot_be_billed_beside_a_response_is_billed_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, 1)
    with RealtimeStandIn(talk) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            assert event(session)["type"] == "session.updated"
            assert event(session)["transcript"] == "hello"
            assert [call["charge"] for call in ended(relay)] == []
            ask(session)
        assert [call["charge"] for call in relay.calls()] == [PRICE, PRICE, 0]
        assert sorted(call["model"] for call in relay.calls()) == ["guess", "m", "m"]


def test_or_when_the_session_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 1)
    with RealtimeStandIn(talk) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            event(session)
            event(session)
        assert sorted(call["charge"] for call in relay.calls()) == [0, PRICE]


def test_what_is_owed_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, 100)
    monkeypatch.setattr(realtime_account, "OWED_MAX", 0)
    with RealtimeStandIn(talk) as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            code, events = closing(session)
        assert (code, events[-1]["error"]["code"]) == (1013, "concurrency_limit_exceeded")
        assert [call["charge"] for call in relay.calls()] == [0]


def ended(relay: Relay) -> list[dict[str, Any]]:
    """What is on the bill while the session is open."""
    relay.run(relay.keeper.catch_up())
    return relay.rows("SELECT * FROM call")


@pytest.mark.parametrize(
    ("code", "closed"), [(ErrorCode.KEY_EXPIRED, 1008), (ErrorCode.SERVICE_UNAVAILABLE, 1012)]
)
def test_every_response_asks_anew_whether_the_key_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: ErrorCode, closed: int
) -> None:
    def refuse(*_: object) -> None:
        raise RelayError(code, "no more")

    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        with open_session(relay) as session:
            event(session)
            monkeypatch.setattr(realtime_account, "recognise", refuse)
            assert ask(session)[-1]["type"] == "response.done"
            found, events = closing(session)
        assert (found, events[-1]["error"]["code"]) == (closed, code.code)
        assert [call["charge"] for call in relay.calls()] == [PRICE]


def test_nothing_is_unpriced_where_nothing_is_at_work(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
        open_session(relay) as session,
    ):
        event(session)
        account = the_session(relay).account

        def look() -> list[str]:
            found = []
            for name in ("", "guess", "whisper-1"):
                account.meter.transcriber = name
                error = account.unpriced()
                found.append("" if error is None else error.code.code)
            return found

        assert relay.do(look) == ["", "", "model_not_priced"]
