"""Models get prices by forms and from the published lists, each a version that stays."""

from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from proxy.app.published_prices import PublishedPrices
from proxy.edge.console.pages_prices import LIST, ROUTES, ROWS_SHOWN_MAX
from tests.edge.console.consoles import Browser, World, in_console

MODEL: dict[str, Any] = {
    "name": "maker/new:free", "create": "1", "context_window": "1000", "output_tokens_max": "100",
    "tokenizer": "o200k",
}  # fmt: skip
SHOW = f"{LIST}/show?name=maker/new:free"


async def operator(world: World) -> Browser:
    return await world.signed_in("op@example.com", "operator")


def test_pages_are_for_operators_alone(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.surroundings.price_lists = PublishedPrices()
        user = await world.signed_in("user@example.com", "user")
        for route in ROUTES:
            answer = await (user.get if route.method == "GET" else user.post)(route.path)
            assert answer.status == 404

    in_console(tmp_path, test)


def test_a_model_is_made_priced_withdrawn_and_removed(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        page = await browser.post(f"{LIST}/save", **MODEL)
        assert page.path == SHOW
        assert "The model was made. Give it a price." in page.text
        assert "It has no price: it is listed, and calls are refused." in page.text
        price = f"{LIST}/price?name=maker%2Fnew%3Afree"
        basis = (await browser.get(price)).field("basis")
        tiers = '[{"over": 500, "input": "2", "output": "4"}]'
        sent = {"name": MODEL["name"], "basis": basis, "input": "1", "output": "2", "tiers": tiers}
        page = await browser.post(f"{LIST}/price", **sent)
        assert "The price is in force for calls that begin from now on." in page.text
        model = world.office.keeper.catalog.models[MODEL["name"]]
        assert model.price is not None
        assert (model.price.output, model.price.tiers[0].over) == (2 * 10**9, 500)
        page = await browser.get(price)
        assert page.field("input") == "1.00"
        assert "&#34;over&#34;: 500" in page.text
        page = await browser.post(f"{LIST}/price", **(sent | {"basis": page.field("basis")}))
        assert "Nothing changed." in page.text
        basis = (await browser.get(SHOW)).field("basis")
        page = await browser.post(f"{LIST}/withdraw", name=MODEL["name"], basis=basis)
        assert "taken back" in page.text
        page = await browser.post(f"{LIST}/remove", name=MODEL["name"])
        assert page.path == LIST
        page = await browser.post(f"{LIST}/remove", name="m")
        assert "still served by channel main" in page.text

    in_console(tmp_path, test)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("input", "much", "Is not a price"),
        ("input", "", "Write at least one price"),
        ("output", "-1", "Is not a price"),
        ("tiers", "[1", "is no JSON"),
        ("tiers", '[{"over": 5, "output": "1"}]', "is left out"),
        ("image_variants", '{"a b": "1"}', "is not a size"),
    ],
)
def test_a_wrong_price_stands_next_to_its_field(
    tmp_path: Path, field: str, value: str, message: str
) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        basis = (await browser.get(f"{LIST}/price?name=m")).field("basis")
        sent: dict[str, Any] = {"name": "m", "basis": basis} | (
            {"input": "1"} if field != "input" else {}
        )
        page = await browser.post(f"{LIST}/price", **(sent | {field: value}))
        assert page.status == 422
        assert message in page.text
        assert f'id="{field}-error"' in page.text
        assert world.office.keeper.catalog.models["m"].price.version == 1  # type: ignore[union-attr]

    in_console(tmp_path, test)


def test_stale_edits_are_told_and_kept(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        price = (await browser.get(f"{LIST}/price?name=m")).field("basis")
        model = (await browser.get(f"{LIST}/edit?name=m")).field("basis")
        await world.do("price set", model="m", price={"input": "5", "output": "5"})
        await world.do("model set", name="m", set={"context_window": 77})
        page = await browser.post(f"{LIST}/price", name="m", basis=price, input="7", output="7")
        assert page.status == 422
        assert "Somebody changed this while you edited it" in page.text
        assert page.field("input") == "7"
        again: dict[str, Any] = {
            "name": "m",
            "basis": page.field("basis"),
            "input": "7",
            "output": "7",
        }
        assert (await browser.post(f"{LIST}/price", **again)).status == 200
        sent = MODEL | {"name": "m", "create": "", "basis": model, "context_window": "88"}
        page = await browser.post(f"{LIST}/save", **sent)
        assert "Somebody changed this while you edited it" in page.text
        page = await browser.post(f"{LIST}/save", **(sent | {"basis": page.field("basis")}))
        assert world.office.keeper.catalog.models["m"].context_window == 88
        page = await browser.post(f"{LIST}/save", **(sent | {"context_window": "wide"}))
        assert (page.status, "Must be a number" in page.text) == (422, True)

    in_console(tmp_path, test)


def test_as_many_as_are_shown_can_be_taken_over_at_once(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        world.surroundings.price_lists = PublishedPrices()
        await browser.get(f"{LIST}/import")
        chosen = [("take", f"x m{number}") for number in range(ROWS_SHOWN_MAX)]
        providers = [("provider", f"p{number}") for number in range(100)]
        fields = [("csrf", browser.token), ("asked", ""), ("models", ""), *providers, *chosen]
        body = BytesIO(urlencode(fields).encode())
        kind = {"origin": browser.url, "content-type": "application/x-www-form-urlencoded"}
        page = await browser.ask("POST", f"{LIST}/import", body, kind, follow=False)
        assert page.status == 303

    in_console(tmp_path, test)


def test_models_are_found_and_paged(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        sizes = {"context_window": 1, "output_tokens_max": 1}
        tables = [{"name": f"n{number:03}", **sizes} for number in range(120)]
        await world.do("price import", models=tables)
        page = await browser.get(LIST)
        assert "121 models" in page.text
        assert "120 models have no price" in page.text
        assert "n100" not in page.text
        page = await browser.get(f"{LIST}?search=&after=n098")
        assert "n100" in page.text
        page = await browser.get(f"{LIST}?search=n11&unpriced=1")
        assert "10 models" in page.text
        assert "Nothing" not in page.text
        assert "No models" in (await browser.get(f"{LIST}?search=zzz")).text

    in_console(tmp_path, test)


def test_published_prices_are_compared_and_taken_over(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await operator(world)
        assert (await browser.get(f"{LIST}/import")).status == 404
        assert (await browser.post(f"{LIST}/import")).status == 404
        world.surroundings.price_lists = PublishedPrices()
        page = await browser.get(f"{LIST}/import?provider=openai&models=gpt-4o-mini+gpt-4o")
        assert page.status == 200
        assert 'value="none gpt-4o-mini"' in page.text
        page = await browser.post(
            f"{LIST}/import", provider="openai", models="gpt-4o-mini gpt-4o",
            take="none gpt-4o-mini", asked="provider=openai",
        )  # fmt: skip
        assert "1 models were taken over as one change." in page.text
        models = world.office.keeper.catalog.models
        assert models["gpt-4o-mini"].price is not None
        assert "gpt-4o" not in models
        # What was looked at is there by now: it is not overwritten.
        await world.do("price set", model="gpt-4o-mini", price={"input": "9", "output": "9"})
        page = await browser.post(
            f"{LIST}/import", provider="openai", models="gpt-4o-mini", take="none gpt-4o-mini",
            asked="provider=openai&models=gpt-4o-mini",
        )  # fmt: skip
        assert "was changed since it was read" in page.text
        page = await browser.post(f"{LIST}/import", asked="")
        assert "Choose what to take over first." in page.text
        page = await browser.post(f"{LIST}/import", asked="", models="gpt-4o", take="none zzz")
        assert "None of these differ any more." in page.text
        page = await browser.get(f"{LIST}/import?provider=nobody")
        assert "there is no provider" in page.text

    in_console(tmp_path, test)
