"""A response is priced before it begins, held for as it grows, and settled once."""

from pathlib import Path

import pytest

from proxy.core.catalog import Catalog
from proxy.core.entities import Usage, UsageSource
from proxy.core.exchange import UNLIMITED
from proxy.core.realtime import TurnBill
from proxy.edge import settlement
from proxy.edge.realtime_turn import RealtimeOffer, Turn, make_realtime_offer, opening_of
from proxy.storage.ports import Admission, Progress
from tests.edge.harness import Relay, channel
from tests.integration.realtime_stand_in import RealtimeStandIn

LINE = TurnBill(Usage(output=3), UsageSource.ESTIMATED)


def offer_of(
    catalog: Catalog, tokens: int = 1_000, slice_tokens: int = 100, model: str = "m"
) -> RealtimeOffer:
    key = next(iter(catalog.keys_by_id.values()))
    return make_realtime_offer(catalog, key, catalog.models[model], tokens, slice_tokens)


async def turn_of(relay: Relay) -> Turn:
    world = relay.world
    offer = offer_of(world.catalog)
    opening = opening_of(world, offer, world.ids.next(world.now()), "ref")
    admission = await world.billing.admit(opening)
    assert isinstance(admission, Admission)
    return Turn(world, offer, opening, admission)


def test_what_is_held_is_the_input_and_a_slice(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, channel(upstream.base_url, endpoints=["realtime"])) as relay,
    ):
        offer = relay.do(lambda: offer_of(relay.world.catalog))
        assert offer.hold == 1_000 * 1_000 + 100 * 2_000
        assert offer.ceiling == 100_000 * 1_000 + 2_000 * 2_000
        assert offer.tokens == 1_100
        assert offer.remedy(5) is None
        most = relay.do(lambda: offer_of(relay.world.catalog, 10**9, 10**9))
        assert most.hold == most.ceiling == offer.ceiling
        unseen = relay.do(lambda: offer_of(relay.world.catalog, model="thinker"))
        assert unseen.hold == 1_000 * 1_000 + 2_000 * 2_000


def test_a_hold_grows_and_is_given_back(tmp_path: Path) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, channel(upstream.base_url, endpoints=["realtime"])) as relay,
    ):
        turn = relay.run(turn_of(relay))
        answered: list[bool] = []

        def grow() -> None:
            assert turn.tokens_allowed(1_000) == 100
            turn.extend(1_000, 90, lambda: answered.append(turn.extending))
            turn.extend(1_000, 90, lambda: answered.append(turn.extending))

        relay.do(grow)
        relay.until(lambda: bool(answered))
        assert answered == [False]
        assert relay.do(lambda: turn.tokens_allowed(1_000)) == UNLIMITED
        relay.do(lambda: turn.extend(10, 0, lambda: answered.append(True)))
        assert answered == [False]
        relay.do(lambda: turn.settle(settlement.CLIENT_GONE, LINE, None))
        relay.do(lambda: turn.extend(1_000, 5_000, lambda: answered.append(True)))
        (call,) = relay.calls()
        assert (call["charge"], call["forgiven"]) == (0, 6_000)


def test_it_is_settled_once_and_marked_while_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        RealtimeStandIn() as upstream,
        Relay(tmp_path, channel(upstream.base_url, endpoints=["realtime"])) as relay,
    ):
        turn = relay.run(turn_of(relay))
        marks: list[Progress] = []
        monkeypatch.setattr(relay.world.billing, "mark", marks.append)

        def live() -> None:
            later = turn.started + 10
            turn.mark(LINE, None, later)
            turn.delivered(5)
            turn.mark(LINE, None, turn.started)
            turn.mark(LINE, None, later)
            turn.mark(LINE, None, later)
            first = turn.settle(settlement.COMPLETE, LINE, None, "completed")
            assert turn.settle(settlement.CLIENT_GONE, LINE, None) is first
            turn.mark(LINE, None, later + 10)

        relay.do(live)
        assert [mark.charge for mark in marks] == [6_000]
        (call,) = relay.calls()
        assert (call["charge"], call["verdict"]) == (6_000, "complete")
        assert (call["delivered_bytes"], call["finish_reason"]) == (5, "completed")
        assert call["client_reference"] == "ref"
