from pathlib import Path

from proxy.edge.console.overview import ROWS
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import World, in_console


def test_a_new_reader_is_told_the_steps_to_a_first_call(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        page = await ann.get("/")
        assert "Three steps to your first call" in page.text
        assert page.text.count('class="step done"') == 1, "there is money, but no key"
        await Calls(world).key("ann")
        assert (await ann.get("/")).text.count('class="step done"') == 2

    in_console(tmp_path, test)


def test_who_has_no_wallet_is_told_what_to_do(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com")
        assert "You belong to no wallet yet" in (await ann.get("/")).text

    in_console(tmp_path, test)


def test_the_latest_calls_and_their_sums_are_shown(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann", "laptop")
        for _ in range(ROWS + 2):
            await calls.made(1, key)
        page = await ann.get("/")
        assert page.text.count("laptop") == 2 * ROWS // 2
        assert f"Calls: {ROWS + 2}" in page.text
        assert "steps to your first call" not in page.text

    in_console(tmp_path, test)


def test_a_member_sees_calls_of_own_keys_alone(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.signed_in("ann@example.com", wallet="ann")
        bob = await world.signed_in("bob@example.com", wallet="ann", rank="member")
        calls = Calls(world)
        await calls.made(1, await calls.key("ann", "of ann", person=1))
        assert "of ann" not in (await bob.get("/")).text
        await calls.made(1, await calls.key("ann", "of bob", person=2))
        page = await bob.get("/")
        assert "of bob" in page.text
        assert "Calls: 1<" in page.text

    in_console(tmp_path, test)
