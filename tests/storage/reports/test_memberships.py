from pathlib import Path

from proxy.storage.reader import Reader
from proxy.storage.reports import memberships
from tests.edge.console.consoles import World, in_console


def test_wallets_of_a_person_with_what_is_in_them(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.person("ann@example.com", wallet="ann")
        bob = await world.person("bob@example.com", wallet="ann", rank="member")
        nobody = await world.person("nobody@example.com")
        reader = await Reader.open(world.office.database)
        try:
            (mine,) = await memberships.of_person(reader, ann)
            assert mine == memberships.Wallet(1, "ann", "paygo", "owner", 10 * 10**9, 0)
            assert await memberships.of_person(reader, bob) == [mine._replace(role="member")]
            assert await memberships.of_person(reader, nobody) == []
            ranks = [await memberships.rank(reader, one, "ann") for one in (ann, bob, nobody)]
            assert ranks == ["owner", "member", None]
            assert await memberships.rank(reader, ann, "nothing") is None
        finally:
            await reader.close()

    in_console(tmp_path, test)
