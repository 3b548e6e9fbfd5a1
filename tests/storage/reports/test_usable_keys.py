from pathlib import Path

from proxy.storage.reader import Reader
from proxy.storage.reports.usable_keys import usable_keys
from tests.storage.reports.test_usage_log import ledger, reading
from tests.storage.world import NOW


def test_only_keys_that_can_call_now_are_offered(tmp_path: Path) -> None:
    connection = ledger(tmp_path)
    connection.execute(
        "INSERT INTO key (user_id, digest, name, group_name, prefix, last4, expires_at, models, "
        "created_at, enabled, removed_at) VALUES (2, x'0a', 'old', 'default', 'sk', 'x', ?, NULL, 0, "
        "1, NULL), (2, x'0b', 'off', 'default', 'sk', 'x', NULL, NULL, 0, 0, NULL), (2, x'0c', 'gone', "
        "'default', 'sk', 'x', NULL, NULL, 0, 1, 5), (2, x'0d', 'narrow', 'double', 'sk', 'x', ?, "
        "'[\"m\"]', 0, 1, NULL)",
        (NOW - 1, NOW + 1),
    )

    async def scene(reader: Reader) -> None:
        found = await usable_keys(reader, 2, None, NOW)
        assert [key.name for key in found] == ["narrow", "key 3", "key 2"]
        assert (found[0].group, found[0].models, found[1].models) == ("double", ("m",), None)
        assert [key.name for key in await usable_keys(reader, 1, None, NOW)] == ["key 1"]
        assert await usable_keys(reader, 2, 9, NOW) == []

    reading(tmp_path, scene)
    connection.close()
