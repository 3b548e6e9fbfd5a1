import asyncio
from dataclasses import replace
from pathlib import Path

from proxy.app.commands import keys, runner
from proxy.app.office import Office
from proxy.core.actions import keys as actions
from proxy.storage.secrets import key_digest, key_well_formed
from tests.app.commands.office import DOCUMENT, Do, in_office


def test_a_key_is_shown_once_and_only_its_digest_is_kept(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> str:
        await do("user add", name="ann")
        made = await do(
            "key add",
            user="ann",
            name="k",
            budget="3",
            expires="2030-01-31",
            models=["m"],
            networks=["10.0.0.0/8"],
            cache_seconds=60,
        )
        secret: str = made["key"]
        assert key_well_formed(secret)
        key = office.keeper.catalog.key(key_digest(office.secrets.pepper, secret))
        assert key is not None
        assert (key.budget, key.models) == (3_000_000_000, frozenset({"m"}))
        assert key.cache_seconds == 60
        (row,) = await do("key list", user="ann")
        assert row["expires"] == "2030-01-31T00:00:00Z"
        assert row["key"] == f"{secret[:8]}…{secret[-4:]}"
        disabled = await do("key disable", key="k")
        assert disabled["enabled"] is False
        assert not office.keeper.catalog.keys_by_id[made["id"]].enabled
        return secret

    secret = in_office(tmp_path, test)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert secret.encode() not in content, file
            assert b"upstream-secret-canary" not in content, file


def test_a_change_is_answered_when_it_has_spread(tmp_path: Path) -> None:
    async def test(_do: Do, office: Office) -> None:
        spread: list[int] = []
        told: list[str] = []

        async def everywhere(version: int) -> None:
            assert version == office.keeper.catalog.version
            await asyncio.sleep(0)
            spread.append(version)

        wide = replace(office, spread=everywhere)
        for command, arguments in (
            ("user add", {"name": "ann"}),
            ("key add", {"user": "ann", "name": "k"}),
            ("channel add", {"table": {**DOCUMENT["channel"][0], "name": "spare"}}),
            ("catalog apply", {"document": DOCUMENT, "force": True}),
            ("key disable", {"key": "k"}),
        ):
            await runner.run(wide, command, arguments)
            told.append(command)
            assert len(spread) == len(told), command
        assert spread == sorted({*spread})
        await runner.run(wide, "key list", {})
        assert len(spread) == len(told)

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert keys.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
