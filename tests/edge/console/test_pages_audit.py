from pathlib import Path

from proxy.edge.console.pages_audit import LIST
from tests.edge.console.consoles import World, in_console


def test_every_change_is_in_the_log_without_its_secrets(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        browser = await world.signed_in("op@example.com", "operator")
        await browser.post(
            "/operator/channels/keys/add", name="main", secret="sk-canary-of-the-upstream"
        )
        await browser.post("/operator/groups/remove", name="<b>nobody")
        page = await browser.get(LIST)
        assert page.status == 200
        assert "channel key add" in page.text
        assert "secret=***" in page.text
        assert "sk-canary" not in page.text
        assert "op@example.com" in page.text
        assert "there is no group" in page.text
        assert "&lt;b&gt;nobody" in page.text
        assert "<b>nobody" not in page.text
        only = await browser.get(f"{LIST}?outcome=refused&actor=OP@&action=group+remove")
        assert "secret=***" not in only.text
        assert "name=&lt;b&gt;nobody" in only.text
        for query in ("since=2031-01-01", "until=2001-01-01", "actor=%25", "outcome=unfinished"):
            assert "No such entries" in (await browser.get(f"{LIST}?{query}")).text
        for query in ("since=soon", "outcome=x", "before=x"):
            assert "secret=***" in (await browser.get(f"{LIST}?{query}")).text

    in_console(tmp_path, test)


def test_the_log_is_paged_and_for_operators(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for number in range(60):
            await world.do("user add", name=f"user-{number:02}")
        browser = await world.signed_in("op@example.com", "operator")
        page = await browser.get(f"{LIST}?action=user+add")
        assert "user-59" in page.text
        assert "user-09" not in page.text
        older = page.text.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
        page = await browser.get(older)
        assert "user-09" in page.text
        assert "user-59" not in page.text
        user = await world.signed_in("user@example.com", "user")
        assert (await user.get(LIST)).status == 404

    in_console(tmp_path, test)
