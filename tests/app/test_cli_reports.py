import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from proxy.app import cli_reports
from proxy.core.actions.table import ACTIONS
from proxy.core.ids import format_id
from tests.app.commands.test_calls import small_world
from tests.app.test_cli import data, done, running, sluice
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import World, in_console

__all__ = ["data"]


def test_changes_are_listed_while_the_relay_runs_and_while_it_does_not(data: Path) -> None:
    assert sluice(data, "user", "add", "ann").exit_code == 1
    stopped = done(data, "audit", "list", "--outcome", "refused")
    assert [(row["action"], row["outcome"]) for row in stopped] == [("user add", "refused")]
    with running(data):
        assert done(data, "audit", "list", "--outcome", "refused") == stopped
        sluice(data, "wallet", "credit", "ann", "1")
        assert done(data, "audit", "list", "--rows", "1")[0]["action"] == "wallet credit"
    table = sluice(data, "audit", "list")
    assert "wallet credit" in table.stdout
    assert "refused" in table.stdout


def test_margins_are_tables_for_people_and_json_for_programs(data: Path) -> None:
    found = done(data, "report", "margin", "--days", "2", "--by", "model")
    assert (found["total"]["charged_nano"], found["names"]) == (0, [])
    assert len(found["days"]) == 2
    shown = sluice(data, "report", "margin", "--days", "2").stdout
    assert f"total, {found['since']} to {found['until']}" in shown
    assert "nothing to show" in shown
    assert "nano" not in shown
    assert shown.count(found["until"]) == 2


def test_the_relays_state_is_told_while_it_runs_and_while_it_does_not(data: Path) -> None:
    stopped = done(data, "report", "overview")
    assert stopped["relay"] is None
    shown = sluice(data, "report", "overview").stdout
    assert "nobody can be asked" in shown
    with running(data):
        found = done(data, "report", "overview")
        assert found["relay"]["keeper"] is False, "this one has no gauges and no port"
        assert "The keeper does not answer" in found["alerts"][0]["text"]


def test_channels_traffic_and_errors_are_tables(data: Path) -> None:
    (row, *_) = done(data, "report", "channels")["channels"]
    shown = sluice(data, "report", "channels").stdout
    assert row["name"] in shown
    assert "margin today $" in shown
    assert "nano" not in shown
    assert done(data, "report", "traffic", "--minutes", "5")["parts"] == []
    assert "running now" in sluice(data, "report", "traffic").stdout
    assert done(data, "report", "errors", "--hours", "1")["looked_at"] == 0
    assert "attempts that failed" in sluice(data, "report", "errors").stdout


def test_an_export_is_compared(data: Path, tmp_path: Path) -> None:
    channel = done(data, "report", "channels")["channels"][0]["name"]
    export = tmp_path / "export.csv"
    export.write_bytes(
        "\ufeffid,time,input_tokens,output_tokens,cost\na,2026-01-31,1,1,1\n".encode("utf-16")
    )
    said = ("report", "reconcile", channel, str(export), "--column", "request_id=id")
    (row,) = done(data, *said)["rows"]
    assert (row["state"], row["reason"], row["their_cost_usd"]) == (
        "only_theirs", "not_ours", "1.00",
    )  # fmt: skip
    shown = sluice(data, *said).stdout
    assert "by day and model" in shown, "no attempt has one of its ids"
    assert "only_theirs" in shown
    export.write_bytes(b"\xff\x00")
    broken = sluice(data, *said)
    assert (broken.exit_code, "is not text in UTF-8" in broken.stderr) == (1, True)
    export.write_text("time,output_tokens\n2026-01-31,1\n2026-01-31,-1\n")
    assert "not understood" in sluice(data, *said[:4]).stdout


def test_calls_are_listed_summed_and_shown(tmp_path: Path) -> None:
    async def test(world: World) -> tuple[int, str]:
        ids = await small_world(world)
        await Calls(world).end(ids["open"])
        return ids["key"], format_id(ids["cut"])

    key, cut = in_console(tmp_path, test)
    (row,) = done(tmp_path, "call", "list", "--verdict", "failed", "--key", str(key))["calls"]
    assert (row["request_id"], row["verdict"]) == (cut, "client_gone")
    page = sluice(tmp_path, "call", "list", "--rows", "1")
    assert "There are more: --before req_" in page.stderr
    assert "balance" not in page.stdout
    found = done(tmp_path, "call", "sums", "ann", "--days", "2")
    assert (found["total"]["calls"], len(found["days"])) == (4, 2)
    assert "of-mia" in sluice(tmp_path, "call", "sums", "ann").stdout
    assert done(tmp_path, "call", "show", cut)["refunded_nano"] == 0
    shown = sluice(tmp_path, "call", "show", cut, "--user", "ann").stdout
    assert "client_gone" in shown
    assert "attempts" in shown
    alien = sluice(tmp_path, "call", "show", cut, "--user", "bob")
    assert (alien.exit_code, "no ended call has the id" in alien.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("report", "margin", "--days", "0"), 2, "not in the range"),
        (("report", "margin", "--until", "soon"), 1, "is no day such as 2026-01-31"),
        (("audit", "list", "--since", "soon"), 1, "neither a span such as 7d"),
        (("audit", "list", "--outcome", "x"), 2, "'x' is not one of"),
    ],
)
def test_bad_arguments_are_told(
    data: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    result = sluice(data, *arguments)
    assert (result.exit_code, words in result.stderr) == (status, True), result.stderr


def test_a_mistyped_path_is_told(tmp_path: Path) -> None:
    result = sluice(tmp_path / "none", "report", "margin")
    assert (result.exit_code, "there is no database" in result.stderr) == (1, True)
    assert not (tmp_path / "none").exists()


def test_a_file_that_cannot_be_read_is_told(data: Path) -> None:
    with closing(sqlite3.connect(data / "sluice.db")) as connection, connection:
        connection.execute("DELETE FROM schema_version WHERE number > 18")
    result = sluice(data, "audit", "list")
    assert (result.exit_code, "by an older release" in result.stderr) == (1, True)
    (data / "sluice.db").write_bytes(b"no database at all" * 1_000)
    result = sluice(data, "audit", "list")
    assert (result.exit_code, "the database cannot be read" in result.stderr) == (1, True)


def test_every_report_has_its_command() -> None:
    commands = {f"report {name}" for name in cli_reports.report.commands}
    commands |= {f"audit {name}" for name in cli_reports.audit.commands}
    commands |= {f"call {name}" for name in cli_reports.call.commands}
    commands |= {"usage daily"}  # `sluice usage --daily`
    assert commands == {name for name, action in ACTIONS.items() if action.report}
