import sqlite3
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from proxy.app.commands import runner
from proxy.app.commands.runner import HANDLERS
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Role, Via
from proxy.core.actions.table import ACTIONS
from proxy.storage import accounts
from proxy.storage.ports import KeeperUnavailableError
from tests.app.commands.office import Do, in_office, refusal


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
        ("wallet credit", {"user": "ann", "amount": "-5"}, "-5 USD would take", "wallet adjust"),
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


def test_a_closing_keeper_is_not_a_refusal(tmp_path: Path) -> None:
    async def test(_do: Do, office: Office) -> None:
        office.keeper._writer.failed = KeeperUnavailableError("disk full")
        with pytest.raises(CommandError, match="disk full") as caught:
            await runner.run(office, "user add", {"name": "x"})
        office.keeper._writer.failed = None
        assert caught.value.remedy == "try again"

    in_office(tmp_path, test)


def test_every_action_has_its_handler_and_a_sentence() -> None:
    assert HANDLERS.keys() == {name for name, action in ACTIONS.items() if not action.report}
    for handler in HANDLERS.values():
        assert (handler.__doc__ or "").endswith(".")


def people(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO person (email, created_at) VALUES ('ann@example.com', 0)")
    connection.execute(
        "INSERT INTO membership SELECT 1, id, 'owner', 0 FROM user WHERE name = 'ann'"
    )


ANN = Actor(Role.USER, "ann@example.com", Via.CONSOLE, person=1)


def test_people_act_for_their_own_wallets_alone(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("user add", name="ann")
        await do("user add", name="bob")
        await office.keeper.note(people)
        made = await runner.run(office, "key add", {"user": "ann", "name": "k"}, ANN)
        assert isinstance(made, dict)
        assert made["key"]
        told = []
        for wallet in ("bob", "nobody"):
            with pytest.raises(CommandError, match="no wallet") as refused:
                await runner.run(office, "key add", {"user": wallet, "name": "k"}, ANN)
            told.append(refused.value.message.replace(wallet, "*"))
        assert told[0] == told[1]
        for nobody in (ANN, structs.replace(ANN, person=None)):
            with pytest.raises(CommandError, match="no wallet"):
                await runner.run(office, "key list", {}, nobody)
        with pytest.raises(CommandError, match="this is for the role operator"):
            await runner.run(office, "user list", {}, ANN)
        boss = structs.replace(ANN, role=Role.OPERATOR)
        with pytest.raises(CommandError, match="this is for the role admin"):
            await runner.run(office, "ledger rollup", {"days": 1}, boss)

    in_office(tmp_path, test)


def test_what_changes_something_is_in_the_audit_log(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> list[tuple[object, ...]]:
        await do("user add", name="ann")
        with pytest.raises(CommandError):
            await do("user add", name="ann")
        await do("user list")

        def log(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
            query = "SELECT actor, action, arguments, outcome, reason FROM audit ORDER BY id"
            return connection.execute(query).fetchall()

        return await office.read(log)

    first, *rest = in_office(tmp_path, test)
    assert first == ("command line", "catalog apply", first[2], "done", None)
    assert "canary" not in first[2]
    who = ("command line", "user add", '{"name":"ann"}')
    assert rest == [(*who, "done", None), (*who, "refused", "there is a user 'ann' already")]


def test_a_fault_of_ours_changes_nothing_and_is_for_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(connection: sqlite3.Connection, *_: object) -> int:
        connection.execute("UPDATE plan SET concurrency = 7")
        return {"a": 1}["b"]

    async def test(do: Do, office: Office) -> None:
        monkeypatch.setattr(accounts, "add_user", faulty)
        with pytest.raises(CommandError, match="met a fault of the relay") as refused:
            await do("user add", name="ann")
        assert "log" in refused.value.remedy
        monkeypatch.undo()
        await do("user add", name="ann")
        assert office.keeper.catalog.plans["paygo"].concurrency is None
        query = "SELECT outcome, reason FROM audit WHERE action = 'user add' ORDER BY id"
        rows = await office.read(lambda c: c.execute(query).fetchall())
        assert rows == [("refused", "KeyError: 'b'"), ("done", None)]

    with capture_logs() as said:  # wherever the log goes that another test may have set up
        in_office(tmp_path, test)
    assert any("test_runner.py" in str(line.get("where")) for line in said)


def test_a_number_that_no_column_holds_is_refused(tmp_path: Path) -> None:
    said, remedy = refusal(
        tmp_path, "key add", user="ann", name="x", cache_seconds=10**11, concurrency=10**30
    )
    assert "concurrency must be" in said or "too large" in said
    assert isinstance(remedy, str)
    for command, arguments in (
        ("usage", {"rows_max": 10**30}),
        ("token revoke", {"number": 1 << 70}),
    ):
        said, _ = refusal(tmp_path / command.replace(" ", "-"), command, **arguments)
        assert "too large" in said or "rows can be listed" in said


def test_nobody_keeps_the_relay_busy_with_their_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.app.office.CHANGES_MAX", 3)

    async def test(do: Do, office: Office) -> None:
        await do("person add", email="ann@example.com")
        await do("person add", email="bob@example.com")
        bob = Actor(Role.USER, "bob@example.com", Via.API, person=2)
        for number in range(3):
            given = {"user": "ann@example.com", "name": f"k{number}"}
            await runner.run(office, "key add", given, ANN)
        for command, given in (
            ("key disable", {"user": "ann@example.com", "key": "1"}),
            ("key lend", {"user": "ann@example.com", "key": "1"}),
            ("team create", {"name": "many"}),
        ):
            with pytest.raises(CommandError, match="too much within a minute") as caught:
                await runner.run(office, command, given, ANN)
            assert caught.value.remedy.startswith("wait ")
        # What makes no catalog anew, others, and the operator go on.
        given = {"user": "ann@example.com", "below": "1"}
        await runner.run(office, "wallet threshold", given, ANN)
        assert len(await do("key list", user="ann@example.com")) == 3
        await runner.run(office, "key add", {"user": "bob@example.com", "name": "k"}, bob)
        for _ in range(5):
            await do("key disable", key="1")

    in_office(tmp_path, test)
