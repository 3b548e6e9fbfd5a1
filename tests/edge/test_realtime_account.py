"""A session's account: who ends a response waits for the ledger, and opens the next."""

import asyncio
from pathlib import Path

import pytest

from proxy.core.errors import RelayError
from proxy.edge.realtime_account import RealtimeAccount
from tests.edge.harness import Relay
from tests.edge.test_realtime import event, open_session, serving
from tests.edge.test_realtime_session import the_session
from tests.integration.realtime_stand_in import RealtimeStandIn


def test_a_commit_is_waited_for_and_not_for_ever(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, serving(upstream), commit_wait_ms_max=1) as relay,
        open_session(relay) as session,
    ):
        event(session)
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
