"""Every message by name, to one console; each about a payment of its own."""

import asyncio
import json
from typing import NamedTuple

import pytest

from proxy.storage.verify import verify
from tests.edge.console.consoles import Page, World, console
from tests.edge.console.stripe_stand_in import StandIn, stand_in
from tests.edge.console.webhook_cases import CASES, Case, Payment

TEN_USD = 10 * 10**9


class Answer(NamedTuple):
    page: Page
    credited: int


async def begun(world: World, wallet: str, name: str) -> tuple[str, str]:
    """The reference and the session of a new payment of 10 USD."""
    terms = {"provider": "stripe", "currency": "usd", "minor": 1_000, "rate": "1"}
    made = await world.do("payment begin", user=wallet, **terms)
    session = f"cs_test_{name}"
    await world.do("payment open", payment=made["payment"], session=session)
    return made["reference"], session


async def play(world: World, case: Case, number: int) -> Answer:
    """Send a case's message, of a wallet of its own."""
    wallet, other = f"w{number}", f"other{number}"
    for name in (wallet, other):
        await world.do("user add", name=name)
    reference, session = await begun(world, wallet, str(number))
    other_reference, other_session = await begun(world, other, f"{number}-other")
    at = int(world.office.clock())
    given = Payment(str(number), reference, session, at, other_reference, other_session)
    text, signature = case.make(given)
    headers = {} if signature is None else {"stripe-signature": signature}
    page = await world.stranger().ask("POST", "/webhooks/stripe", text, headers)
    ids = {user.name: user.id for user in world.office.keeper.catalog.users.values()}
    assert world.office.keeper.balance(ids[other]) == 0
    return Answer(page, world.office.keeper.balance(ids[wallet]))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    path = tmp_path_factory.mktemp("webhooks")

    async def main() -> dict[str, Answer]:
        found: dict[str, Answer] = {}
        stripe: StandIn
        async with stand_in() as stripe, console(path, stripe.options(path)) as world:
            for number, case in enumerate(CASES):
                found[case.name] = await play(world, case, number)
                await world.browsers.pop().__aexit__(None, None, None)
            assert verify(world.office.database).problems == ()
        return found

    return asyncio.run(asyncio.wait_for(main(), 120))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_message_is_believed_only_as_far_as_it_is_signed(
    case: Case, answers: dict[str, Answer]
) -> None:
    page, credited = answers[case.name]
    assert page.status == case.status, page.text
    assert credited == (TEN_USD if case.credited else 0)
    assert case.said in page.text


def test_there_are_many_cases_and_most_credit_nothing() -> None:
    names = [case.name for case in CASES]
    assert len({*names}) == len(names) >= 100
    assert sum(case.credited for case in CASES) == 10
    assert json.dumps(names)
