import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from proxy.app.cli import main, read_key, read_upstreams
from proxy.app.commands import runner
from proxy.app.control import CommandError, ControlServer
from proxy.app.demo import start_demo
from proxy.app.directory import DataDirectory
from proxy.app.office import open_office
from proxy.core.entities import Dialect

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "catalog.toml"


def sluice(data: Path, *arguments: str, **kinds: Any) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(data)], **kinds)


def done(data: Path, *arguments: str) -> Any:
    result = sluice(data, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return orjson.loads(result.stdout)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    done(tmp_path, "catalog", "apply", str(EXAMPLE), "--yes")
    done(tmp_path, "user", "add", "ann", "--plan", "free", "--credit", "5")
    return tmp_path


@contextmanager
def running(data: Path) -> Iterator[None]:
    """Something that answers on the control socket and holds the lock, as the relay does."""
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        directory = DataDirectory(data)
        with directory.locked():
            async with open_office(directory) as office:
                server = ControlServer(directory.control, partial(runner.run, office))
                await server.start()
                ready.set()
                await asyncio.to_thread(stop.wait, 30)
                await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        stop.set()
        thread.join(10)


def test_commands_work_on_a_stopped_relay(data: Path) -> None:
    made = done(data, "key", "add", "laptop", "--user", "ann", "--model", "gpt-4o")
    assert made["key"].startswith("sk-")
    assert [row["name"] for row in done(data, "key", "list")] == ["laptop"]
    assert done(data, "key", "disable", "laptop", "--user", "ann")["enabled"] is False
    assert done(data, "wallet", "credit", "ann", "2.5")["balance_usd"] == "7.50"
    assert done(data, "wallet", "show", "ann")["balance_usd"] == "7.50"
    assert [row["name"] for row in done(data, "user", "list")] == ["ann"]
    assert done(data, "usage") == []
    report = done(data, "ledger", "verify")
    assert (report["clean"], report["wallets_usd"], report["problems"]) == (True, "7.50", [])


def test_commands_talk_to_a_running_relay(data: Path) -> None:
    with running(data):
        assert done(data, "wallet", "credit", "ann", "1", "--reference", "r")["repeated"] is False
        assert done(data, "wallet", "credit", "ann", "1", "--reference", "r")["repeated"] is True
        assert done(data, "ledger", "verify")["clean"] is True
        result = sluice(data, "wallet", "show", "bob")
        assert result.exit_code == 1
        assert "there is no user 'bob'" in result.stderr
        assert "try: see `sluice user list`" in result.stderr
        (data / "control.sock").unlink()
        locked = sluice(data, "user", "list")
        assert (locked.exit_code, "in use by process" in locked.stderr) == (1, True)
    assert done(data, "wallet", "show", "ann")["balance_usd"] == "6.00"


def test_channels_are_added_listed_and_tried(data: Path) -> None:
    secret = data / "secret"
    secret.write_text("upstream-canary\n")
    ready, stop, found = threading.Event(), threading.Event(), []

    async def serve() -> None:
        demo = await start_demo(rate=0)
        found.append(demo.base_url)
        ready.set()
        await asyncio.to_thread(stop.wait, 30)
        await demo.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(10)
        add = ("channel", "add", "mine", "--base-url", found[0], "--key", f"@{secret}")
        changes = done(data, *add, "--model", "gpt-4o=demo-gpt", "--allow-private")
        assert [change["action"] for change in changes] == ["add"]
        tried = done(data, "channel", "test", "mine")
        assert (tried["ok"], tried["upstream_model"]) == (True, "demo-gpt")
    finally:
        stop.set()
        thread.join(10)
    broken = sluice(data, "channel", "test", "mine")
    assert broken.exit_code == 1
    assert "no connection" in broken.stdout
    assert "mine" in [row["name"] for row in done(data, "channel", "list")]
    at = "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"
    (plain,) = (row for row in done(data, "channel", "list") if row["name"] == "mine")
    assert plain["endpoints"] is None, "those of its dialect"
    only = ("--endpoint", "chat", "--endpoint", "responses")
    again = ("channel", "add", "mine", "--base-url", at, "--key", "k", "--model", "gpt-4o=d")
    done(data, *again, *only)
    (mine,) = (row for row in done(data, "channel", "list") if row["name"] == "mine")
    assert mine["endpoints"] == ["chat", "responses"]
    refused = sluice(data, *again, "--endpoint", "chats")
    assert "endpoints must be some of chat, " in refused.stderr
    (mine,) = (row for row in done(data, "catalog", "export")["channel"] if row["name"] == "mine")
    assert mine["base_url"] == "https://r.openai.azure.com"
    assert mine["api_version"] == "2024-10-21"
    assert b"upstream-canary" not in (data / "sluice.db").read_bytes()


def test_a_pasted_address_of_azures_names_its_deployment(data: Path) -> None:
    at = "https://r.openai.azure.com/openai/deployments/my-4o/chat/completions"
    add = ("channel", "add", "azure", "--key", "k", "--base-url")
    dated = (*add, f"{at}?api-version=2024-10-21")

    def served() -> dict[str, str]:
        (row,) = (
            one for one in done(data, "catalog", "export")["channel"] if one["name"] == "azure"
        )
        assert (row["base_url"], row["api_version"]) == ("https://r.openai.azure.com", "2024-10-21")
        models: dict[str, str] = row["models"]
        return models

    done(data, *dated, "--model", "gpt-4o")
    assert served() == {"gpt-4o": "my-4o"}
    done(data, *add, at, "--model", "gpt-4o=other", "--api-version", "2024-10-21")
    assert served() == {"gpt-4o": "other"}, "what is said counts, not what was pasted"
    both = ("--model", "gpt-4o", "--model", "claude-sonnet-4-5")
    refused = sluice(data, *dated, *both)
    assert refused.exit_code == 1
    assert "'my-4o', which cannot be gpt-4o and claude-sonnet-4-5 at once" in refused.stderr
    assert "--model NAME=DEPLOYMENT" in refused.stderr
    undated = sluice(data, *add, at, "--model", "gpt-4o")
    assert (undated.exit_code, "--api-version" in undated.stderr) == (1, True)


def test_a_catalog_is_shown_asked_about_and_applied(data: Path) -> None:
    file = data / "out.toml"
    assert sluice(data, "catalog", "export", str(file)).exit_code == 0
    assert "sealed:" in file.read_text()
    assert "it is so already" in sluice(data, "catalog", "apply", str(file)).stdout
    file.write_text(file.read_text().replace("concurrency = 2", "concurrency = 3"))
    shown = sluice(data, "catalog", "apply", str(file), "--dry-run")
    assert "concurrency: 2 -> 3" in shown.stdout
    alone = sluice(data, "catalog", "apply", str(file))
    assert (alone.exit_code, "--yes" in alone.stderr) == (1, True)
    applied = sluice(data, "catalog", "apply", str(file), "--yes")
    assert (applied.exit_code, "concurrency: 2 -> 3" in applied.stdout) == (0, True)
    moved = sluice(data, "catalog", "apply", str(file), "--yes")
    assert (moved.exit_code, "export again" in moved.stderr) == (1, True)
    assert sluice(data, "catalog", "apply", str(file), "--yes", "--force").exit_code == 0
    assert "concurrency = 3" in sluice(data, "catalog", "export").stdout
    assert done(data, "catalog", "export")["plan"][0]["concurrency"] == 3


def test_a_mistyped_directory_makes_no_database(tmp_path: Path) -> None:
    for command in (("user", "list"), ("usage",), ("ledger", "verify")):
        result = sluice(tmp_path / "none", *command)
        assert result.exit_code == 1
        assert "there is no database" in result.stderr
    assert not (tmp_path / "none").exists()


def test_files_are_checked_with_line_reason_and_remedy(tmp_path: Path) -> None:
    good = CliRunner().invoke(main, ["check", "--catalog", str(EXAMPLE)])
    assert (good.exit_code, good.stdout.endswith(": good\n")) == (0, True)
    bad = tmp_path / "s.toml"
    bad.write_text("\nlistn = 1\n")
    result = CliRunner().invoke(main, ["check", "--config", str(bad), "--catalog", str(EXAMPLE)])
    assert result.exit_code == 1
    assert f"error: {bad}:2: unknown setting 'listn'" in result.stderr.replace("\n", "")
    assert "try: did you mean listen?" in result.stderr
    assert CliRunner().invoke(main, ["check"]).exit_code == 2


def test_bad_settings_stop_every_command(tmp_path: Path) -> None:
    bad = tmp_path / "s.toml"
    bad.write_text("workers = 99\n")
    result = sluice(tmp_path, "user", "list", "--config", str(bad))
    assert result.exit_code == 1
    assert "line 1: workers: 99 is not between 1 and 32" in result.stderr


def test_the_database_named_by_a_settings_file_is_used(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f'data_dir = "{data}"\ndurability = "power"\n')
    result = CliRunner().invoke(main, ["user", "list", "--json"], env={"SLUICE_CONFIG": str(file)})
    assert [row["name"] for row in orjson.loads(result.stdout)] == ["ann"]


def test_upstreams_are_read_from_the_command_line(tmp_path: Path) -> None:
    secret = tmp_path / "k"
    secret.write_text("two\n")
    texts = ("openai=http://a/v1", "openai=http://b/v1", "anthropic=https://c")
    google = read_upstreams(("gemini=https://g",), (), ())[0]
    assert (google.name, google.base_url) == ("upstream-gemini", "https://g/v1beta")
    found = read_upstreams(texts, ("one", f"@{secret}", "three"), ("m",))
    assert [each.name for each in found] == [
        "upstream-openai",
        "upstream-openai-2",
        "upstream-anthropic",
    ]
    assert [each.key for each in found] == ["one", "two", "three"]
    assert found[2].dialect is Dialect.ANTHROPIC
    assert found[2].base_url == "https://c/v1"
    assert found[0].models == ("m",)
    assert "one" not in repr(found)
    assert {each.key for each in read_upstreams(texts, ("k",), ())} == {"k"}
    assert read_upstreams(texts[:1], (), ())[0].key == "none"


@pytest.mark.parametrize(
    ("texts", "keys"),
    [
        (("http://a",), ()),
        (("cohere=http://a",), ()),
        (("openai=a",), ()),
        (("openai=http://a",), ("1", "2")),
    ],
)
def test_upstreams_that_are_not_understood_are_a_usage_error(
    texts: tuple[str, ...], keys: tuple[str, ...]
) -> None:
    with pytest.raises(click.UsageError):
        read_upstreams(texts, keys, ())


def test_key_files(tmp_path: Path) -> None:
    assert read_key("plain") == "plain"
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(CommandError, match="is empty"):
        read_key(f"@{tmp_path / 'empty'}")
    with pytest.raises(CommandError, match="cannot be read: No such file") as raised:
        read_key(f"@{tmp_path / 'none'}")
    assert raised.value.remedy
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(CommandError, match="cannot be read: it is not plain text"):
        read_key(f"@{tmp_path / 'binary'}")


def test_wrong_usage_is_status_two(tmp_path: Path) -> None:
    assert sluice(tmp_path, "nonsense").exit_code == 2
    assert sluice(tmp_path, "user", "add").exit_code == 2
    assert sluice(tmp_path, "serve", "--set", "nothing").exit_code == 2


def test_every_command_has_help_and_every_listing_json() -> None:
    def walk(command: click.Command) -> Iterator[click.Command]:
        if isinstance(command, click.Group):
            for inner in command.commands.values():
                yield from walk(inner)
        else:
            yield command

    for command in walk(main):
        assert command.help, command.name
        names = {name for parameter in command.params for name in parameter.opts}
        needed = {"--json"} if command.name == "selftest" else {"--json", "--data"}
        assert command.name in {"serve", "check", "examples"} or needed <= names, command.name


def test_selftest_says_what_failed_and_ends_with_status_one() -> None:
    nobody = ["selftest", "--base-url", "http://127.0.0.1:9", "--key", "sk-x"]
    shown = CliRunner().invoke(main, nobody)
    assert shown.exit_code == 1
    assert shown.output.startswith("failure  connection and model list: ")
    found = CliRunner().invoke(main, [*nobody, "--json"])
    assert found.exit_code == 1
    assert [line["outcome"] for line in orjson.loads(found.output)] == ["failure"]


def test_the_demo_is_open_to_anybody_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.app import serve

    seen: list[serve.Options] = []

    def run(options: serve.Options) -> int:
        seen.append(options)
        return 0

    monkeypatch.setattr(serve, "run", run)
    config = tmp_path / "settings.toml"
    config.touch()
    for more in (("--demo",), ("--demo", "--set", "registration=closed"), ()):
        sluice(tmp_path, "serve", *more)
    sluice(tmp_path, "serve", "--demo", "--config", str(config))
    assert [options.flags.get("registration") for options in seen] == ["open", "closed", None, None]
