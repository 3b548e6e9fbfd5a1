import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.edge.console import stripe_line
from proxy.edge.console.stripe_line import ForgedError, Order, StripeError
from proxy.edge.console.surroundings import Options
from proxy.storage.secrets import SecretError
from tests.edge.console.stripe_stand_in import KEY, StandIn, header, stand_in

ORDER = Order("1-5", "usd", 1_000, "Sluice", "a@example.com", "http://c/1", "http://c/2")


def at_stripe(path: Path, test: Any) -> None:
    async def main() -> None:
        async with stand_in() as stripe:
            await asyncio.to_thread(test, stripe, stripe.options(path))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_one_order_is_one_session_also_when_it_is_asked_for_again(tmp_path: Path) -> None:
    def test(stripe: StandIn, options: Options) -> None:
        first = stripe_line.open_session(options, ORDER)
        assert stripe_line.open_session(options, ORDER) == first
        assert stripe_line.open_session(options, replace(ORDER, reference="2-5")) != first
        assert stripe_line.read_session(options, first.id).payment_status == "unpaid"
        assert len(stripe.sessions) == 2

    at_stripe(tmp_path, test)


def test_what_goes_wrong_is_told_without_the_key(tmp_path: Path) -> None:
    def test(stripe: StandIn, options: Options) -> None:
        with pytest.raises(StripeError, match="could not be asked") as refused:
            stripe_line.read_session(options, "cs_none")
        assert KEY not in str(refused.value)
        made = stripe_line.open_session(options, ORDER)
        stripe.sessions[made.id]["url"] = "javascript:alert(1)"
        with pytest.raises(StripeError, match="no page to pay on"):
            stripe_line.open_session(options, ORDER)
        stripe.sessions[made.id]["amount_total"] = "many"
        with pytest.raises(StripeError, match="no session"):
            stripe_line.read_session(options, made.id)
        nowhere = replace(options, stripe_api_base="http://127.0.0.1:9")
        with pytest.raises(StripeError):
            stripe_line.read_session(nowhere, made.id)

    at_stripe(tmp_path, test)


@pytest.mark.parametrize("which", ["key", "secret"])
@pytest.mark.parametrize("text", ["", "\n", " ", " \t\n", "two\nlines"])
def test_an_empty_secret_is_told_at_start(tmp_path: Path, which: str, text: str) -> None:
    options = StandIn().options(tmp_path)
    stripe_line.check(options)
    (tmp_path / f"stripe-{which}").write_text(text)
    with pytest.raises(SecretError):
        stripe_line.check(options)
    (tmp_path / f"stripe-{which}").unlink()
    with pytest.raises(SecretError, match="does not exist"):
        stripe_line.check(options)
    stripe_line.check(Options())


def test_a_secret_emptied_later_believes_nobody(tmp_path: Path) -> None:
    options = StandIn().options(tmp_path)
    body = b'{"id": "e", "type": "ping", "data": {"object": {}}}'
    moment = int(time.time())
    assert stripe_line.verify(options, body, header(body, moment)).type == "ping"
    (tmp_path / "stripe-secret").write_text(" ")
    with pytest.raises(SecretError):
        stripe_line.verify(options, body, header(body, moment, ""))


@pytest.mark.parametrize("signature", ["é", "t=1,v1=é", "x" * 5_000])
def test_a_signature_of_no_ascii_is_forged(tmp_path: Path, signature: str) -> None:
    with pytest.raises(ForgedError, match="no signature"):
        stripe_line.verify(StandIn().options(tmp_path), b"{}", signature)
