from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import channels, runner
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import channels as actions
from proxy.core.actions.action import Actor, Role, Via
from proxy.core.actions.refusals import MOVED
from proxy.core.entities import Channel
from tests.app.commands.office import Do, in_office, refusal


def audited(office: Office) -> list[str]:
    import sqlite3

    connection = sqlite3.connect(office.database)
    try:
        rows = connection.execute("SELECT arguments FROM audit ORDER BY id").fetchall()
    finally:
        connection.close()
    return [text for (text,) in rows]


def test_a_channel_is_made_changed_switched_and_removed_without_the_rest(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        values = {"dialect": "anthropic", "base_url": "https://example.com", "groups": ["default"]}
        (change,) = await do("channel set", name="spare", set=values, create=True)
        assert (change["action"], change["what"]) == ("add", "channel 'spare'")
        shown = await do("channel show", name="spare")
        assert shown["channel"]["dialect"] == "anthropic"
        assert (shown["keys"], shown["read_only"]) == ([], None)
        (change,) = await do(
            "channel set", name="spare", set={"weight": 5, "groups": []}, basis=shown["basis"]
        )
        assert change["detail"] == "groups: default -> none, weight: 1 -> 5"
        assert await do("channel set", name="spare", set={"weight": 5}) == []
        await do("channel set", name="spare", set={"weight": None})
        await do("channel switch", name="spare", enabled=False)
        by_name = {each.name: each for each in office.keeper.catalog.channels.values()}
        assert (by_name["spare"].weight, by_name["spare"].enabled) == (1, False)
        assert [key.secret for key in by_name["main"].keys] == ["upstream-secret-canary"]
        await do("channel remove", name="spare")
        assert [row["name"] for row in await do("channel list")] == ["main"]

    in_office(tmp_path, test)


def test_an_edit_of_what_has_changed_is_refused(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        basis = (await do("channel show", name="main"))["basis"]
        await do("channel key add", name="main", secret="sk-another-upstream-key")
        await do("user add", name="ann")
        await do("channel set", name="main", set={"weight": 2}, basis=basis)  # neither minds
        with pytest.raises(CommandError, match=MOVED) as caught:
            await do("channel set", name="main", set={"weight": 3}, basis=basis)
        assert caught.value.remedy == "check what it is now, then repeat the edit"

    in_office(tmp_path, test)


def test_keys_go_in_and_out_and_are_never_shown(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        added = await do("channel key add", name="main", secret=" sk-another-upstream-key9 ")
        assert added["keys"] == 2
        shown = await do("channel show", name="main")
        assert [key["last4"] for key in shown["keys"]] == ["nary", "key9"]
        assert shown["keys"][1]["id"] == added["key"]
        assert "upstream-key" not in repr(shown)
        assert not any("upstream-key" in text for text in audited(office))
        (change,) = await do("channel key remove", name="main", key=shown["keys"][0]["id"])
        assert change["detail"] == "keys: 2 before, 1 now"
        (channel,) = office.keeper.catalog.channels.values()
        assert [key.secret for key in channel.keys] == ["sk-another-upstream-key9"]

    in_office(tmp_path, test)


def test_a_proxy_with_its_password_is_in_no_log(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("channel set", name="main", set={}, proxy="http://me:canary-word@127.0.0.1:1")
        (channel,) = office.keeper.catalog.channels.values()
        assert channel.proxy == "http://me:canary-word@127.0.0.1:1"
        assert not any("canary-word" in text for text in audited(office))
        await do("channel set", name="main", set={}, proxy="")
        (channel,) = office.keeper.catalog.channels.values()
        assert channel.proxy is None

    in_office(tmp_path, test)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("channel set", {"name": "x", "set": {}}, "there is no channel 'x'"),
    ("channel set", {"name": "main", "set": {}, "create": True}, "a channel 'main' already"),
    ("channel set", {"name": "main", "set": {"keys": ["k"]}}, "does not set its keys"),
    ("channel set", {"name": "main", "set": {"name": "b"}}, "does not set its name"),
    ("channel set", {"name": "main", "set": {"base_url": "ftp://a"}}, "base_url must be an http"),
    ("channel set", {"name": "main", "set": {"colour": 1}}, "unknown key 'colour'"),
    ("channel set", {"name": "main", "set": {"groups": ["x"]}}, "names group 'x'"),
    ("channel show", {"name": "x"}, "there is no channel 'x'"),
    ("channel switch", {"name": "x", "enabled": True}, "there is no channel 'x'"),
    ("channel remove", {"name": "x"}, "there is no channel 'x'"),
    ("channel key add", {"name": "x", "secret": "k"}, "there is no channel 'x'"),
    ("channel key add", {"name": "main", "secret": " "}, "this is not an upstream key"),
    ("channel key add", {"name": "main", "secret": "sealed:1"}, "this is not an upstream key"),
    ("channel key add", {"name": "main", "secret": "a\nb"}, "printable ASCII"),
    ("channel key add", {"name": "main", "secret": "upstream-secret-canary"}, "has this key"),
    ("channel key remove", {"name": "main", "key": 99}, "has no key 99"),
    ("channel key remove", {"name": "x", "key": 1}, "there is no channel 'x'"),
]


@pytest.mark.parametrize(("command", "arguments", "message"), REFUSED)
def test_what_is_wrong_is_said_and_changes_nothing(
    tmp_path: Path, command: str, arguments: dict[str, Any], message: str
) -> None:
    said = refusal(tmp_path, command, **arguments)[0]
    assert message in said
    assert "upstream-secret" not in said


def test_a_switch_makes_no_channel_and_offers_none(tmp_path: Path) -> None:
    arguments = {"name": "x", "enabled": False}
    assert refusal(tmp_path, "channel switch", **arguments)[1] == "see the list of them"


def test_a_model_has_to_be_there_first(tmp_path: Path) -> None:
    asked = {"name": "main", "set": {"models": {"new": "new"}}}
    message, remedy = refusal(tmp_path, "channel set", **asked)
    assert message == "channel 'main' names model 'new', which the catalog does not have"
    assert "`sluice models`" in remedy


ELSEWHERE = "https://collects-keys.example/v1"


@pytest.mark.parametrize("via", [Via.API, Via.CONSOLE])
def test_no_upstream_key_is_read_by_naming_another_address(tmp_path: Path, via: Via) -> None:
    actor = Actor(Role.OPERATOR, "mallory", via, person=7)

    async def test(do: Do, office: Office) -> None:
        async def ask(command: str, **arguments: object) -> Any:
            return await runner.run(office, command, arguments, actor)

        def main() -> Channel:
            (found,) = office.keeper.catalog.channels.values()
            return found

        document = await ask("catalog export")
        (table,) = document["channel"]
        moved = table | {"base_url": ELSEWHERE}
        tries: list[tuple[str, dict[str, Any]]] = [
            ("channel set", {"name": "main", "set": {"base_url": ELSEWHERE}}),
            ("channel set", {"name": "main", "set": {"base_url": "http://127.0.0.1:10/v1"}}),
            ("channel set", {"name": "main", "set": {"base_url": "https://127.0.0.1:9/v1"}}),
            ("channel set", {"name": "main", "set": {}, "proxy": "http://10.0.0.1:3128"}),
            ("channel add", {"table": moved}),
            ("channel add", {"table": moved | {"keys": ["sk-another", *table["keys"]]}}),
            ("catalog apply", {"document": document | {"channel": [moved]}}),
            ("catalog apply", {"document": document | {"channel": [moved]}, "dry_run": True}),
        ]
        for command, given in tries:
            with pytest.raises(
                CommandError, match="would send its keys to another place"
            ) as caught:
                await ask(command, **given)
            assert caught.value.remedy.startswith("remove the keys first")
        # A channel of another name has no part in these keys.
        with pytest.raises(CommandError, match="no key of it"):
            await ask("channel add", table=moved | {"name": "other"})
        assert (main().base_url, main().proxy) == ("http://127.0.0.1:9/v1", None)
        # At the same place they stay, and with keys of its own a channel goes anywhere.
        await ask("channel set", name="main", set={"base_url": "http://127.0.0.1:9/v2"})
        await ask("channel add", table=moved | {"keys": ["sk-another"]})
        assert [key.secret for key in main().keys] == ["sk-another"]
        # Who has the relay's files has its keys.
        await do("channel set", name="main", set={"base_url": "https://b.example"})
        assert [key.secret for key in main().keys] == ["sk-another"]

    in_office(tmp_path, test)


def test_a_pool_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "KEYS_MAX", 1)
    assert "has 1 keys" in refusal(tmp_path, "channel key add", name="main", secret="k")[0]


def test_a_catalog_from_a_file_is_not_edited(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        object.__setattr__(office, "catalog_file", "/etc/catalog.toml")
        assert (await do("channel show", name="main"))["read_only"] == "/etc/catalog.toml"
        for command, arguments in (
            ("channel switch", {"enabled": False}),
            ("channel key add", {"secret": "sk-other"}),
            ("channel remove", {}),
        ):
            with pytest.raises(CommandError, match=r"comes from a file, /etc/catalog.toml"):
                await do(command, name="main", **arguments)

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert channels.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
