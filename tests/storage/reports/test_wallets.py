from pathlib import Path

from proxy.storage.reader import Reader
from proxy.storage.reports.wallets import Member, Spent, members, spent, wallet, wallets
from tests.storage.reports.ledgers import call, ledger
from tests.storage.reports.test_usage_log import reading
from tests.storage.world import NOW


def test_wallets_are_listed_by_name_with_their_people_keys_and_calls(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    connection.execute("INSERT INTO person (email, created_at) VALUES ('a@b.c', 1)")
    connection.execute("INSERT INTO membership VALUES (1, 2, 'owner', 1)")
    connection.execute("UPDATE key SET enabled = 0 WHERE id = 3")
    call(connection, NOW - 5, user_id=2, charge=7)
    call(connection, NOW, user_id=2, charge=0, error_code="x")
    call(connection, NOW - 40 * 86_400, user_id=2, charge=99)
    call(connection, NOW, user_id=1, charge=99)
    connection.close()

    async def scene(reader: Reader) -> None:
        found, count = await wallets(reader, "", "")
        assert ([each.name for each in found], count) == (["ann", "bob"], 2)
        bob = found[1]
        assert (bob.plan, bob.enabled, bob.balance, bob.keys, bob.people) == (
            "small",
            True,
            0,
            1,
            1,
        )
        assert await wallet(reader, "bob") == bob
        assert await wallet(reader, "nobody") is None
        assert [each.name for each in (await wallets(reader, "", "ann"))[0]] == ["bob"]
        assert await wallets(reader, "B%", "") == ([], 0)
        assert (await wallets(reader, "OB", ""))[1] == 1
        assert (await wallets(reader, "", "", 1))[0] == found[:1]
        assert await members(reader, 2) == [Member("a@b.c", "owner", "user", enabled=True)]
        assert await members(reader, 1) == []
        assert await spent(reader, 2, NOW) == Spent(2, 1, 7, NOW)
        assert await spent(reader, 9, NOW) == Spent(0, 0, 0, None)

    reading(tmp_path, scene)
