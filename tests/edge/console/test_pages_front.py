import re
from pathlib import Path

from proxy.edge.console import pages_front, visit
from proxy.edge.console.surroundings import Options
from tests.edge.console.consoles import World, in_console


def test_the_first_page_is_for_everybody(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        anybody = world.stranger()
        assert "/login" in (await anybody.get("/")).text
        ann = await world.signed_in("ann@example.com", wallet="ann")
        assert "10.00" in (await ann.get("/")).text

    in_console(tmp_path, test)
    assert pages_front.ROUTES


def test_language_and_theme_are_remembered_and_nonsense_is_not(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        anybody = world.stranger()
        await anybody.get("/")
        page = await anybody.post("/preferences", language="zh", theme="dark", next="/")
        assert 'lang="zh-Hans"' in page.text
        assert 'data-theme="dark"' in page.text
        page = await anybody.post("/preferences", language="xx", theme="pink", next="//evil")
        assert page.path == "/"
        assert 'lang="zh-Hans"' in page.text

    in_console(tmp_path, test)


def test_only_an_own_wallet_can_be_chosen(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        await world.signed_in("bob@example.com", wallet="bob")
        await ann.post("/wallet/choose", wallet=2)
        assert visit.WALLET not in ann.cookies
        await ann.post("/wallet/choose", wallet=1)
        assert ann.cookies[visit.WALLET] == "1"

    in_console(tmp_path, test)


def test_the_first_page_tells_prices_and_how_to_join_as_far_as_is_meant(tmp_path: Path) -> None:
    async def tells(world: World) -> None:
        text = (await world.stranger().get("/")).text
        assert 'href="/models/m"' in text
        assert 'href="/register"' in text

    async def tells_nothing(world: World) -> None:
        text = (await world.stranger().get("/")).text
        assert "/models" not in text
        assert "/register" not in text

    in_console(tmp_path / "open", tells, Options(registration="open"))
    closed = Options(registration="closed", public_marketplace=False)
    in_console(tmp_path / "closed", tells_nothing, closed)


def test_where_the_menus_lead_there_is_a_page(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        boss = await world.signed_in("boss@example.com", "admin", wallet="boss")
        page = await boss.get("/")
        assert "/operator/channels" in page.text
        for address in sorted(set(re.findall(r'<a [^>]*href="(/[^"]*)"', page.text))):
            assert (await boss.get(address)).status == 200, address

    in_console(tmp_path, test)
