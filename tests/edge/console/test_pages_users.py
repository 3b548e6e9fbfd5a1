from pathlib import Path

from proxy.edge.console.pages_users import LIST, ROUTES
from tests.edge.console.consoles import World, in_console


def test_wallets_are_listed_made_moved_and_shut_out(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await world.signed_in("op@example.com", "operator", "team")
        page = await browser.get(LIST)
        assert "1 in all" in page.text
        page = await browser.post(f"{LIST}/new", name="<i>ann", plan="paygo", credit="2.50")
        assert "was made" in page.text
        assert "$2.50" in page.text
        assert "<i>ann" not in page.text
        document = await world.do("catalog export")
        plans = [*document["plan"], {"name": "big"}]
        await world.do("catalog apply", document={**document, "plan": plans}, force=True)
        page = await browser.post(f"{LIST}/save", name="team", plan="big")
        assert "Saved." in page.text
        page = await browser.post(f"{LIST}/save", name="team", plan="none")
        assert "there is no plan" in page.text
        page = await browser.post(f"{LIST}/save", name="team", enabled="")
        assert "Let in again" in page.text
        assert "op@example.com" in page.text
        by_name = {user.name: user for user in world.office.keeper.catalog.users.values()}
        assert (by_name["team"].plan, by_name["team"].enabled) == ("big", False)
        await browser.post(f"{LIST}/save", name="team", enabled="1")
        await world.do("key add", user="team", name="laptop", budget="5")
        page = await browser.get(f"{LIST}/show?name=team")
        for text in ("laptop", "$5.00", "Shut out", "/operator/adjust?user=team"):
            assert text in page.text
        page = await browser.post(f"{LIST}/new", name="team", plan="", credit="much")
        assert page.status == 422
        assert 'value="much"' in page.text

    in_console(tmp_path, test)


def test_wallets_are_paged_and_searched(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for number in range(60):
            await world.do("user add", name=f"user-{number:02}")
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get(LIST)
        assert "user-49" in page.text
        assert "user-50" not in page.text
        assert "user-50" in (await browser.get(f"{LIST}?after=user-49")).text
        assert "10 in all" in (await browser.get(f"{LIST}?search=USER-5")).text
        assert "No wallets" in (await browser.get(f"{LIST}?search=%25")).text
        assert (await browser.get(f"{LIST}/show?name=nobody")).status == 404

    in_console(tmp_path, test)


def test_pages_are_for_operators_alone(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        user = await world.signed_in("user@example.com", "user", "ann")
        for route in ROUTES:
            answer = await (user.get if route.method == "GET" else user.post)(route.path)
            assert answer.status == 404

    in_console(tmp_path, test)
