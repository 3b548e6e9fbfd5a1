"""Topping up by card, against a stand-in of Stripe over real HTTP."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.edge.console import pages_cards
from proxy.edge.console.keeper_line import KeeperGoneError
from proxy.storage.verify import verify
from tests.edge.console.consoles import Browser, Page, World, console
from tests.edge.console.stripe_stand_in import StandIn, header, stand_in

Test = Callable[[World, StandIn], Awaitable[Any]]
USD = 10**9
START = 10 * USD
"""What a wallet of these tests begins with."""


def with_stripe(path: Path, test: Test, **options: Any) -> None:
    async def main() -> None:
        async with stand_in() as stripe, console(path, stripe.options(path, **options)) as world:
            await test(world, stripe)
            assert verify(world.office.database).problems == ()

    asyncio.run(asyncio.wait_for(main(), 60))


async def ann(world: World) -> Browser:
    return await world.signed_in("ann@example.com", wallet="ann")


async def send(world: World, body: bytes, signature: str | None = None) -> Page:
    """Post a message as Stripe does: without cookie or origin."""
    at = int(world.office.clock())
    said = header(body, at) if signature is None else signature
    stranger = world.stranger()
    return await stranger.ask("POST", "/webhooks/stripe", body, {"stripe-signature": said})


async def begin(world: World, browser: Browser, amount: str = "12.50", code: str = "usd") -> Page:
    del world
    return await browser.post("/wallet/card", amount=amount, currency=code)


def balance(world: World) -> int:
    return world.office.keeper.balance(1)


def test_a_card_tops_up_what_was_agreed(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        browser = await ann(world)
        assert "Top up by card" in (await browser.get("/wallet")).text
        assert "USD" in (await browser.get("/wallet/card")).text
        page = await begin(world, browser, "12.50", "eur")
        assert "12.50 EUR" in page.text
        assert "$13.50" in page.text
        assert "https://checkout.example/cs_test_1" in page.text
        session = stripe.sessions["cs_test_1"]
        assert (session["amount_total"], session["currency"]) == (1250, "eur")
        waiting = await browser.get("/wallet/card/1")
        assert "not confirmed" in waiting.text
        session["payment_status"] = "paid"
        told = await send(world, stripe.message("cs_test_1"))
        assert (told.status, told.text) == (200, "credited")
        assert balance(world) == START + 13_500_000_000
        assert "is credited" in (await browser.get("/wallet/card/1")).text
        assert "Payment" in (await browser.get("/wallet")).text
        listed = await world.do("payment list", user="ann")
        assert [row["status"] for row in listed] == ["paid"]
        assert "checkout.session.completed: credited" in listed[0]["messages"]

    with_stripe(tmp_path, test, top_up_rates="usd=1, eur=1.08")


def test_one_payment_is_one_credit_however_often_it_is_told(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        browser = await ann(world)
        await begin(world, browser)
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        body = stripe.message("cs_test_1")
        other = stripe.message("cs_test_1", "checkout.session.async_payment_succeeded")
        told = await asyncio.gather(
            *(send(world, each) for each in [body, other] * 20),
            *(browser.get("/wallet/card/1") for _ in range(5)),
        )
        assert {page.status for page in told} == {200}
        assert balance(world) == START + 12_500_000_000
        assert (await send(world, body)).text == "repeated"
        late = await send(world, stripe.message("cs_test_1", "checkout.session.expired"))
        assert late.text == "expired"
        assert balance(world) == START + 12_500_000_000
        assert (await world.do("payment list"))[0]["status"] == "paid"

    with_stripe(tmp_path, test)


def test_a_payment_that_comes_after_its_end_is_credited(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        browser = await ann(world)
        await begin(world, browser)
        await send(world, stripe.message("cs_test_1", "checkout.session.expired"))
        assert "not made in time" in (await browser.get("/wallet/card/1")).text
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        assert (await send(world, stripe.message("cs_test_1"))).text == "credited"
        assert balance(world) == START + 12_500_000_000

    with_stripe(tmp_path, test)


def test_who_comes_back_is_credited_by_what_stripe_says_and_not_by_coming_back(
    tmp_path: Path,
) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        browser = await ann(world)
        await begin(world, browser)
        for _ in range(2):
            assert "not confirmed" in (await browser.get("/wallet/card/1")).text
        assert balance(world) == START
        stripe.broken = True
        assert "not confirmed" in (await browser.get("/wallet/card/1")).text
        stripe.broken = False
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        bob = await world.signed_in("bob@example.com", wallet="bob")
        for path in (
            "/wallet/card/1",
            "/wallet/card/2",
            "/wallet/card/x",
            f"/wallet/card/{'9' * 30}",
        ):
            assert (await bob.get(path)).status == 404
        assert balance(world) == START, "somebody else's visit asks nothing"
        assert "is credited" in (await browser.get("/wallet/card/1")).text
        assert balance(world) == START + 12_500_000_000
        asked = len(stripe.asked)
        await browser.get("/wallet/card/1")
        assert len(stripe.asked) == asked, "nothing is asked of what is known"
        assert (await send(world, stripe.message("cs_test_1"))).text == "repeated"

    with_stripe(tmp_path, test)


def test_a_crash_between_two_steps_loses_no_payment(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        browser = await ann(world)
        await begin(world, browser)

        def forget(connection: Any) -> None:
            """As if the console had died before it said where they pay."""
            connection.execute("UPDATE payment SET session = NULL, status = 'begun'")

        await world.office.keeper.note(forget)
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        assert "not confirmed" in (await browser.get("/wallet/card/1")).text
        assert (await send(world, stripe.message("cs_test_1"))).text == "credited"
        assert balance(world) == START + 12_500_000_000

    with_stripe(tmp_path, test)


def test_while_the_keeper_is_away_stripe_is_told_to_come_again(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        await begin(world, await ann(world))
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        body, keeper = stripe.message("cs_test_1"), world.surroundings.keeper

        class Gone:
            async def do(self, *_: object) -> object:
                raise KeeperGoneError("gone", "again", perhaps_done=True)

        world.surroundings.keeper = Gone()
        away = await send(world, body)
        assert (away.status, away.headers["retry-after"]) == (503, "30")
        world.surroundings.keeper = keeper
        assert (await send(world, body)).text == "credited"

    with_stripe(tmp_path, test)


@pytest.mark.parametrize(
    ("amount", "code", "said"),
    [
        ("4.99", "usd", "5 to 50 USD"), ("50.01", "usd", "5 to 50 USD"), ("0", "usd", "5 to 50"),
        ("-5", "usd", "negative"), ("1e1", "usd", "plain decimal"), ("10.001", "usd", "two decimals"),
        ("10", "eur", "not taken"), ("10", "", "not taken"), ("10", "USD", "not taken"),
        ("999999999999", "usd", "between 0"), ("1000.5", "jpy", "no decimals"),
    ],
)  # fmt: skip
def test_an_amount_that_is_not_taken_says_why(
    tmp_path: Path, amount: str, code: str, said: str
) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        page = await begin(world, await ann(world), amount, code)
        assert page.status == 422
        assert said in page.text
        assert stripe.asked == []

    with_stripe(tmp_path, test, top_up_rates="usd=1,jpy=0.0067", top_up_max="50")


def test_a_provider_that_fails_is_told_and_nothing_is_credited(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        stripe.broken = True
        page = await begin(world, await ann(world))
        assert page.status == 422
        assert "Cards cannot be taken" in page.text
        assert "sk_test" not in page.text
        assert (await world.do("payment list"))[0]["status"] == "begun"

    with_stripe(tmp_path, test)


def test_payments_that_nobody_finishes_are_bounded(tmp_path: Path) -> None:
    async def test(world: World, _stripe: StandIn) -> None:
        browser = await ann(world)
        pages = [await begin(world, browser) for _ in range(21)]
        assert [page.status for page in pages] == [200] * 20 + [422]
        assert "payments of this wallet are open" in pages[-1].text

    with_stripe(tmp_path, test)


def test_without_a_key_there_are_no_cards(tmp_path: Path) -> None:
    async def test(world: World, _stripe: StandIn) -> None:
        browser = await ann(world)
        assert "Top up by card" not in (await browser.get("/wallet")).text
        assert (await browser.get("/wallet/card")).status == 404
        assert (await begin(world, browser)).status == 404
        assert (await send(world, b"{}")).status == 404
        assert (await browser.get("/webhooks/stripe")).status in {404, 405}

    with_stripe(tmp_path, test, stripe_key_file="")


def test_a_refund_at_stripe_is_noted_for_the_operator(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        await begin(world, await ann(world))
        for kind in ("charge.refunded", "charge.dispute.created"):
            assert (await send(world, stripe.message("cs_test_1", kind))).text == "noted"
        notes = await world.office.read(
            lambda c: c.execute("SELECT kind, outcome FROM payment_message").fetchall()
        )
        assert len(notes) == 2
        assert balance(world) == START

    with_stripe(tmp_path, test)


def test_the_page_to_pay_on_is_a_link_and_no_redirect(tmp_path: Path) -> None:
    """Browsers hold redirects of a form to `form-action`, which names no other site."""

    async def test(world: World, _stripe: StandIn) -> None:
        page = await begin(world, await ann(world))
        assert page.path == "/wallet/card"
        assert re.search(r'<a [^>]*href="https://checkout\.example/cs_test_1"', page.text)
        assert "form-action 'self'" in page.headers["content-security-policy"]

    with_stripe(tmp_path, test)


def test_only_stripe_comes_without_a_session() -> None:
    foreign = [route.path for route in pages_cards.ROUTES if route.foreign]
    assert foreign == ["/webhooks/stripe"]


def test_a_message_that_does_not_arrive_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_cards, "BODY_SECONDS_MAX", 0.05)

    async def test(world: World, _stripe: StandIn) -> None:
        host, port = world.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /webhooks/stripe HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()

    with_stripe(tmp_path, test)


PAID = "paid"
REFUNDS: list[tuple[str, list[Any], str]] = [
    ("all of it", [PAID, 1_000], "10.00"),
    ("a part", [PAID, 400], "4.00"),
    ("an odd part", [PAID, 333], "3.33"),
    ("a part, then the rest", [PAID, 400, 1_000], "10.00"),
    ("three parts", [PAID, 1, 2, 3], "0.03"),
    ("the rest before the part", [PAID, 1_000, 400], "10.00"),
    ("the same message twice", [PAID, (400, "r"), (400, "r")], "4.00"),
    ("the same message with another sum", [PAID, (400, "r"), (900, "r")], "4.00"),
    ("the same sum twice", [PAID, 400, 400, 400], "4.00"),
    ("before the payment", [400, PAID], "4.00"),
    ("all of it before the payment", [1_000, PAID], "10.00"),
    ("before the payment, in another order", [700, 300, PAID], "7.00"),
    ("before and after the payment", [400, PAID, 700], "7.00"),
    ("around a payment told twice", [400, PAID, PAID, 400], "4.00"),
    ("before, more than was paid", [5_000, PAID], "10.00"),
    ("more than was paid", [PAID, 1_001], "0.00"),
    ("more than was paid, then a part", [PAID, 1_001, 500], "5.00"),
    ("nothing", [PAID, 0], "0.00"),
    ("never paid", [400], "0.00"),
]
"""Sums that have gone back in all, as they are told, of a payment of 10 USD; what is taken."""
NO_REFUNDS: list[tuple[str, dict[str, Any], int, str]] = [
    ("other currency", {"currency": "eur"}, 200, "another amount"),
    ("currency in capitals", {"currency": "USD"}, 200, "another amount"),
    ("no currency", {"currency": None}, 200, "noted"),
    ("currency of a number", {"currency": 840}, 400, ""),
    ("of another payment", {"payment_intent": "pi_other"}, 200, "no payment"),
    ("of no payment", {"payment_intent": None}, 200, "noted"),
    ("of an empty payment", {"payment_intent": ""}, 200, "noted"),
    ("payment of a number", {"payment_intent": 1}, 400, ""),
    ("payment of SQL", {"payment_intent": "' OR 1=1"}, 200, "no payment"),
    ("below zero", {"amount_refunded": -400}, 400, ""),
    ("a text", {"amount_refunded": "400"}, 400, ""),
    ("with decimals", {"amount_refunded": 400.5}, 400, ""),
    ("true", {"amount_refunded": True}, 400, ""),
    ("none", {"amount_refunded": None}, 200, "noted"),
    ("beyond any integer", {"amount_refunded": 10**30}, 400, ""),
]


@pytest.mark.parametrize(("name", "steps", "taken"), REFUNDS, ids=[one[0] for one in REFUNDS])
def test_what_stripe_gave_back_is_taken_once(
    tmp_path: Path, name: str, steps: list[Any], taken: str
) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        await begin(world, await ann(world), "10")
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        for number, step in enumerate(steps):
            minor, message = step if isinstance(step, tuple) else (step, f"r{number}")
            body = (
                stripe.message("cs_test_1")
                if step == PAID
                else stripe.refund("cs_test_1", minor, message)
            )
            assert (await send(world, body)).status == 200, name
        (row,) = await world.do("payment list")
        assert row["taken_usd"] == taken
        credited = 10 * USD if PAID in steps else 0
        assert balance(world) == START + credited - row["taken_nano"]
        early = [one for one in await world.do("payment notes") if "known yet" in one["outcome"]]
        assert bool(early) == (PAID not in steps)

    with_stripe(tmp_path, test)


@pytest.mark.parametrize(
    ("name", "charge", "status", "said"), NO_REFUNDS, ids=[one[0] for one in NO_REFUNDS]
)
def test_a_refund_that_does_not_fit_takes_nothing(
    tmp_path: Path, name: str, charge: dict[str, Any], status: int, said: str
) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        await begin(world, await ann(world), "10")
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        await send(world, stripe.message("cs_test_1"))
        page = await send(world, stripe.refund("cs_test_1", 400, **charge))
        assert (page.status, said in page.text) == (status, True), name
        assert balance(world) == START + 10 * USD
        assert bool(await world.do("payment notes")) == (status == 200)

    with_stripe(tmp_path, test)


def test_a_refund_that_stripe_did_not_sign_takes_nothing(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        await begin(world, await ann(world), "10")
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        await send(world, stripe.message("cs_test_1"))
        body, at = stripe.refund("cs_test_1", 400), int(world.office.clock())
        for signature in (
            "", header(body, at, ""), header(body, at, "whsec_of_others"), header(body, at - 3_600),
            header(stripe.refund("cs_test_1", 399), at),
        ):  # fmt: skip
            assert (await send(world, body, signature)).status == 400
        assert balance(world) == START + 10 * USD

    with_stripe(tmp_path, test)


def test_a_refund_told_many_times_at_once_is_taken_once(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        browser = await ann(world)
        await begin(world, browser, "10")
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        bodies = [stripe.message("cs_test_1")] * 5
        bodies += [stripe.refund("cs_test_1", minor, f"r{minor}") for minor in (250, 500, 750)] * 5
        told = await asyncio.gather(*(send(world, body) for body in bodies))
        assert {page.status for page in told} == {200}
        assert balance(world) == START + 10 * USD - 7_500_000_000
        boss = await world.signed_in("boss@example.com", "operator")
        assert "$7.50 taken back" in (await boss.get("/operator/payments")).text
        assert "given back by stripe" in (await browser.get("/wallet")).text

    with_stripe(tmp_path, test)


def test_a_dispute_is_for_the_operator_to_judge(tmp_path: Path) -> None:
    async def test(world: World, stripe: StandIn) -> None:
        await begin(world, await ann(world), "10")
        stripe.sessions["cs_test_1"]["payment_status"] = "paid"
        await send(world, stripe.message("cs_test_1"))
        for kind in ("charge.dispute.created", "charge.dispute.closed", "refund.failed"):
            body = stripe.refund("cs_test_1", 1_000, kind).replace(
                b"charge.refunded", kind.encode()
            )
            assert (await send(world, body)).text == "noted"
        assert balance(world) == START + 10 * USD
        notes = await world.do("payment notes")
        assert [one["payment"] for one in notes] == [1, 1, 1]

    with_stripe(tmp_path, test)
