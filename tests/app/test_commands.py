import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.app import commands
from proxy.app.commands import COMMANDS, iso, parse_time, split_remedy
from proxy.app.control import CommandError
from proxy.app.demo import start_demo
from proxy.app.directory import DataDirectory
from proxy.app.office import Office, open_office
from proxy.core.entities import Dialect, Usage, UsageSource, Verdict
from proxy.core.ids import format_id
from proxy.storage.ports import Admission, Closing, KeeperUnavailableError, Opening
from proxy.storage.secrets import key_digest, key_well_formed

DOCUMENT: dict[str, Any] = {
    "plan": [{"name": "paygo"}],
    "group": [{"name": "default"}],
    "model": [
        {
            "name": "m",
            "context_window": 1000,
            "output_tokens_max": 100,
            "price": {"input": "1.00", "output": "2.00"},
        }
    ],
    "channel": [
        {
            "name": "main",
            "dialect": "openai",
            "base_url": "http://127.0.0.1:9/v1",
            "keys": ["upstream-secret-canary"],
            "groups": ["default"],
            "models": {"m": "m-upstream"},
            "allow_private": True,
        }
    ],
}

Do = Callable[..., Awaitable[Any]]


def in_office(path: Path, test: Callable[[Do, Office], Awaitable[Any]]) -> Any:
    """Run `test` with a filled office; `do("user add", name=...)` does one command."""

    async def run() -> Any:
        directory = DataDirectory(path)
        directory.create()
        async with open_office(directory) as office:

            async def do(command: str, **arguments: object) -> Any:
                return await commands.run(office, command, arguments)

            await do("catalog apply", document=DOCUMENT)
            return await test(do, office)

    return asyncio.run(asyncio.wait_for(run(), 30))


def refusal(path: Path, command: str, **arguments: object) -> tuple[str, str]:
    async def test(do: Do, _office: Office) -> None:
        await do("user add", name="ann", credit="5")
        await do("user add", name="bob")
        await do("key add", user="ann", name="k")
        await do("key add", user="bob", name="k")
        await do(command, **arguments)

    with pytest.raises(CommandError) as caught:
        in_office(path, test)
    return caught.value.message, caught.value.remedy


def test_a_user_is_added_with_credit_and_listed(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        added = await do("user add", name="ann", credit="12.50")
        assert added == {"id": 1, "name": "ann", "plan": "paygo", "balance_usd": "12.50"}
        (row,) = await do("user list")
        assert (row["name"], row["balance_usd"], row["enabled"]) == ("ann", "12.50", True)
        wallet = await do("wallet show", user="ann")
        assert wallet["topped_up_usd"] == "12.50"

    in_office(tmp_path, test)


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
            await commands.run(wide, command, arguments)
            told.append(command)
            assert len(spread) == len(told), command
        assert spread == sorted({*spread})
        await commands.run(wide, "key list", {})
        assert len(spread) == len(told)

    in_office(tmp_path, test)


def test_a_reference_credits_once(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        await do("user add", name="ann")
        first = await do("wallet credit", user="ann", amount="5", reference="invoice-1")
        assert (first["credited_usd"], first["repeated"]) == ("5.00", False)
        again = await do("wallet credit", user="ann", amount="5", reference="invoice-1")
        assert (again["credited_usd"], again["balance_usd"]) == ("0.00", "5.00")
        other = await do("wallet credit", user="ann", amount="0.000000001")
        assert other["balance_usd"] == "5.000000001"
        assert other["reference"] != first["reference"]

    in_office(tmp_path, test)


def test_channels_are_listed_without_keys_and_added_one_by_one(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        table = {**DOCUMENT["channel"][0], "name": "spare"}
        (change,) = await do("channel add", table=table)
        assert (change["action"], change["what"]) == ("add", "channel 'spare'")
        rows = await do("channel list")
        assert [row["name"] for row in rows] == ["main", "spare"]
        assert rows[0]["keys"] == 1
        assert "canary" not in repr(rows)

    in_office(tmp_path, test)


def test_a_channel_is_tried_for_real(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        demo = await start_demo(rate=0)
        try:
            table = {**DOCUMENT["channel"][0], "base_url": demo.base_url}
            await do("channel add", table=table)
            found = await do("channel test", name="main")
        finally:
            await demo.stop()
        assert (found["ok"], found["status"], found["upstream_model"]) == (True, 200, "m-upstream")

    in_office(tmp_path, test)


def test_a_catalog_comes_back_as_it_went_in(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        exported = await do("catalog export")
        assert exported["channel"][0]["keys"][0].startswith("sealed:")
        review = await do("catalog apply", document=exported, dry_run=True)
        assert review["changes"] == []
        exported["plan"][0]["concurrency"] = 3
        review = await do("catalog apply", document=exported, dry_run=True)
        assert [change["action"] for change in review["changes"]] == ["change"]
        assert office.keeper.catalog.plans["paygo"].concurrency is None
        done = await do("catalog apply", document=exported)
        assert done == review
        assert office.keeper.catalog.plans["paygo"].concurrency == 3
        with pytest.raises(CommandError, match="exported at"):
            await do("catalog apply", document={**exported, "plan": [{"name": "paygo"}]})
        await do("catalog apply", document={**exported, "plan": [{"name": "paygo"}]}, force=True)
        assert office.keeper.catalog.plans["paygo"].concurrency is None

    in_office(tmp_path, test)


def test_usage_lists_what_each_call_cost(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann", credit="5")
        await do("key add", user="ann", name="k")
        opening = Opening(
            call_id=7_000_000,
            key_id=1,
            user_id=1,
            endpoint="chat",
            dialect=Dialect.OPENAI,
            model="m",
            group="default",
            stream=True,
            price_version=1,
            multiplier=1_000_000,
            hold=1000,
            ceiling=1000,
            tokens=1,
            input_estimate=1,
            started_at=office.clock(),
        )
        assert isinstance(await office.keeper.admit(opening), Admission)
        closing = Closing(
            call_id=7_000_000,
            verdict=Verdict.COMPLETE,
            usage=Usage(
                input_uncached=60,
                cache_read_audio=40,
                output=150,
                image_output=50,
                images=2,
                variant="1024x1024:hd",
                searches=3,
                audio_ms=1_500,
            ),
            source=UsageSource.REPORTED,
            charge=500,
            forgiven=0,
            delivered_bytes=10,
            delivered_events=2,
            status=200,
            error_code=None,
            finish_reason="stop",
            channel_id=1,
            upstream_model="m-upstream",
            attempts=(),
            ended_at=office.clock(),
            ttft_ms=1.0,
        )
        await office.keeper.settle(closing).committed
        (row,) = await do("usage", user="ann")
        assert (row["request_id"], row["charge_usd"]) == (format_id(7_000_000), "0.0000005")
        assert (row["input"], row["output"], row["verdict"]) == (100, 200, "complete")
        other = {"images": 2, "audio_seconds": 1.5, "searches": 3}
        assert row["other"] == {**other, "variant": "1024x1024:hd"}
        assert await do("usage", before=row["request_id"]) == []
        assert await do("usage daily") == []
        (day,) = await do("usage daily", user="ann", days=3_660)
        assert day == {
            "day": "2020-01-01", "user": "ann", "model": "m", "calls": 1, "errors": 0, "input": 100,
            "output": 200, "other": other, "charge_usd": "0.0000005", "expense_usd": "0.00", "cost_usd": "0.00",
        }  # fmt: skip
        # Its price disagrees with its usage, so it is evidence.
        done = await do("ledger rollup", days=1)
        assert done == {"rolled_up": 0, "kept": [format_id(7_000_000)], "done": True}
        assert await do("ledger flush") == {"flushed": True}

    in_office(tmp_path, test)


@pytest.mark.parametrize(
    ("command", "arguments", "message", "remedy"),
    [
        ("nonsense", {}, "unknown command 'nonsense'", "sluice --help"),
        ("user add", {}, "missing required field `name`", "sluice user add --help"),
        ("user add", {"name": 1}, "Expected `str`", "sluice user add --help"),
        ("user list", {"x": 1}, "unknown field `x`", "sluice user list --help"),
        ("user add", {"name": "ann"}, "there is a user 'ann' already", ""),
        ("user add", {"name": "x", "plan": "no"}, "there is no plan 'no'", "add it with"),
        ("user add", {"name": "x", "credit": "-1"}, "-1", ""),
        ("key add", {"user": "no", "name": "k"}, "there is no user 'no'", "see `sluice user list`"),
        ("key add", {"user": "ann", "name": "z", "expires": "soon"}, "'soon' is neither", ""),
        ("key disable", {"key": "no"}, "there is no key 'no'", "sluice key list"),
        ("key disable", {"key": "k"}, "several keys are named 'k': 1 of ann, 2 of bob", "id"),
        ("wallet credit", {"user": "ann", "amount": "0"}, "above 0", ""),
        ("wallet credit", {"user": "ann", "amount": "NaN"}, "NaN", ""),
        ("wallet show", {"user": "no"}, "there is no user 'no'", "see `sluice user list`"),
        ("channel test", {"name": "no"}, "there is no channel 'no'", "sluice channel list"),
        ("channel test", {"name": "main", "model": "x"}, "does not serve 'x'", ""),
        ("usage", {"before": "x"}, "'x' is not a request id", "sluice usage"),
        ("usage", {"rows_max": 0}, "between 1 and", ""),
        ("usage daily", {"days": 0}, "between 1 and 3,660 days", ""),
        ("ledger rollup", {"days": 0}, "at least one day", ""),
        ("catalog apply", {"document": {"plans": []}}, "unknown key 'plans'", "remove or correct"),
    ],
)
def test_refusals_say_what_and_what_to_do(
    tmp_path: Path, command: str, arguments: dict[str, Any], message: str, remedy: str
) -> None:
    said, advice = refusal(tmp_path, command, **arguments)
    assert message in said
    assert remedy in advice


def test_a_plan_is_asked_for_only_when_there_is_a_choice(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        plans = [{"name": "paygo"}, {"name": "free"}]
        await do("catalog apply", document={**DOCUMENT, "plan": plans})
        with pytest.raises(CommandError, match="which plan"):
            await do("user add", name="x")
        await do("catalog apply", document={})
        with pytest.raises(CommandError, match="no plan yet"):
            await do("user add", name="x")

    in_office(tmp_path, test)


def test_a_closing_keeper_is_not_a_refusal(tmp_path: Path) -> None:
    async def test(_do: Do, office: Office) -> None:
        office.keeper._writer.failed = KeeperUnavailableError("disk full")
        with pytest.raises(CommandError, match="disk full") as caught:
            await commands.run(office, "user add", {"name": "x"})
        office.keeper._writer.failed = None
        assert caught.value.remedy == "try again"

    in_office(tmp_path, test)


def test_moments() -> None:
    assert parse_time("2d", 100.0) == 100 + 2 * 86_400
    assert parse_time("3h", 0) == 10_800
    assert parse_time("4m", 0) == 240
    assert iso(parse_time("2030-01-31T12:00:00+02:00", 0)) == "2030-01-31T10:00:00Z"
    assert iso(None) is None
    for bad in ("", "d", "-1d", "9999999999d", "tomorrow"):
        with pytest.raises(ValueError, match="neither a span"):
            parse_time(bad, 0)


def test_remedies_are_told_from_colons_in_messages() -> None:
    assert split_remedy("no x: see `y`") == ("no x", "see `y`")
    assert split_remedy("a: b; remove it") == ("a: b", "remove it")
    assert split_remedy("price: not a number") == ("price: not a number", "")
    assert split_remedy("see this") == ("see this", "")


def test_every_command_has_its_own_arguments_and_a_sentence() -> None:
    for _kind, handler in COMMANDS.values():
        assert (handler.__doc__ or "").endswith(".")
