from pathlib import Path
from typing import Any

from proxy.app.commands import calls, usage
from proxy.app.office import Office
from proxy.core.actions import usage as actions
from proxy.core.actions.action import Actor, Role, Via
from proxy.core.entities import Dialect, Usage, UsageSource, Verdict
from proxy.core.ids import format_id
from proxy.storage.ports import Admission, Closing, Opening
from tests.app.commands.office import Do, asked, in_office
from tests.storage.world import closing, opening


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


def test_a_member_is_told_of_their_own_keys_and_nobody_of_what_the_operator_pays(
    tmp_path: Path,
) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="team", credit="5")
        now = office.clock()

        def people(connection: Any) -> None:
            for number, rank in ((1, "owner"), (2, "member")):
                connection.execute(
                    "INSERT INTO person (id, email, created_at) VALUES (?, ?, ?)",
                    (number, f"{rank}@example.com", now),
                )
                connection.execute(
                    "INSERT INTO membership VALUES (?, 1, ?, ?)", (number, rank, now)
                )

        await office.keeper.note(people)
        mine = "UPDATE key SET person_id = ? WHERE id = ?"
        for number, name in ((1, "of-owner"), (2, "of-member")):
            made = await do("key add", user="team", name=name)
            row = (number, made["id"])
            await office.keeper.note(lambda c, row=row: c.execute(mine, row))  # type: ignore[misc]
            call = opening(number, key_id=made["id"], user_id=1, started_at=now)
            assert isinstance(await office.keeper.admit(call), Admission)
            office.keeper.settle(closing(number, charge=7))
        await office.keeper.catch_up()

        async def told(person: int, command: str, **arguments: object) -> Any:
            actor = Actor(Role.USER, "somebody", Via.API, person)
            return await asked(office, command, {"user": "team", **arguments}, actor)

        assert [row["key"] for row in await told(1, "usage")] == ["of-member", "of-owner"]
        assert [row["key"] for row in await told(2, "usage")] == ["of-member"]
        for person, number in ((1, 2), (2, 1)):
            (day,) = await told(person, "usage daily", days=3_660)
            assert day["calls"] == number
            assert not {"cost_usd", "expense_usd"} & day.keys()
        (day,) = await do("usage daily", days=3_660)
        assert {"cost_usd", "expense_usd"} <= day.keys()

    in_office(tmp_path, test)


def test_every_action_of_the_domain_has_its_handler() -> None:
    made = usage.HANDLERS.keys() | usage.REPORTS.keys() | calls.REPORTS.keys()
    assert made == {action.name for action in actions.ACTIONS}
