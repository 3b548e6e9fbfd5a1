import re
import tomllib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from proxy.app.settings import (
    SETTINGS_FILE_BYTES_MAX,
    Settings,
    SettingsError,
    host_and_port,
    line_of,
    load,
    parse,
    table,
    toml_problem,
)
from proxy.app.settings_console import ConsoleSettings
from proxy.edge.world import Bounds
from tests import tree


def problems(text: str, **flags: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(text, flags, "file.toml")
    return [str(problem) for problem in caught.value.problems]


def test_every_default_is_accepted_as_a_value() -> None:
    lines = []
    for row in table():
        default = list(row.default) if isinstance(row.default, tuple) else row.default
        text = str(default).lower() if isinstance(default, bool) else repr(default)
        lines.append(f"{row.name} = {text}")
    assert parse("\n".join(lines), {}) == Settings()


def test_every_setting_says_what_it_is() -> None:
    for row in table():
        assert row.about.help.endswith("."), row.name
        assert row.type_text
        if row.kind in {int, float}:
            assert row.about.low is not None, f"{row.name} is unbounded"
            assert row.about.high is not None, f"{row.name} is unbounded"
    assert [row.name for row in table()] == [item.name for item in fields(Settings)]


def test_every_number_is_refused_outside_its_bounds_and_taken_at_them() -> None:
    for row in table():
        low, high = row.about.low, row.about.high
        if low is None or high is None:
            continue
        kind = int if row.kind is int else float
        if row.name != "insufficient_quota_status":
            assert getattr(parse(f"{row.name} = {kind(low)}", {}), row.name) == low
            assert getattr(parse(f"{row.name} = {kind(high)}", {}), row.name) == high
        for bad in (low - 1, high + 1):
            (problem,) = problems(f"{row.name} = {kind(bad)}")
            assert problem.startswith(f"line 1: {row.name}: ")
            assert "the default is" in problem


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().listen = "x:1"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "line", "reason", "remedy"),
    [
        ('\nlistn = "127.0.0.1:1"', 2, "unknown setting 'listn'", "did you mean listen?"),
        ("zzzz = 1", 1, "unknown setting 'zzzz'", "README.md"),
        ("[server]\nport = 1", 1, "unknown setting 'server'", "README.md"),
        ("body_bytes_max = 3", 1, "3 is not between 1024 and 1073741824", "is 33554432"),
        ("workers = true", 1, "True is not a whole number", "the default is 1"),
        ('connections_max = "7"', 1, "'7' is not a whole number", "the default is 10000"),
        ("connections_max = 7.0", 1, "7.0 is not a whole number", "10000"),
        ("body_seconds_max = nan", 1, "nan is not between", "60.0"),
        ("body_seconds_max = inf", 1, "inf is not between", "60.0"),
        ("listen = 8080", 1, "8080 is not a text", "127.0.0.1:8080"),
        ('listen = "8080"', 1, "is not host:port", "127.0.0.1:8080"),
        ('listen = "::1:80"', 1, "brackets", "127.0.0.1:8080"),
        ('durability = "fast"', 1, '"process" or "power"', "process"),
        ("trusted_proxies = 1", 1, "list of texts", "127.0.0.0/8"),
        ('trusted_proxies = ["nonsense"]', 1, "nonsense", "127.0.0.0/8"),
        ("trusted_proxies = [1]", 1, "list of texts", "127.0.0.0/8"),
        ('operator_expense_day_max = "-1"', 1, "amount in USD", "1.00"),
        ("insufficient_quota_status = 410", 1, "neither 402 nor 429", "402"),
        ("listen = ", 1, "not valid TOML", "correct the syntax"),
    ],
)
def test_a_bad_file_is_refused_with_line_reason_and_remedy(
    text: str, line: int, reason: str, remedy: str
) -> None:
    found = problems(text)
    assert found[0].startswith(f"line {line}: ")
    assert reason in found[0]
    assert remedy in found[0]


def test_all_problems_of_a_file_are_listed_at_once() -> None:
    assert len(problems("nope = 1\nworkers = 0\nlog_level = 3")) == 3


def test_flags_win_over_the_file_and_may_be_texts() -> None:
    text = "heartbeat_ms = 200\nslice_tokens = 100"
    flags = {"heartbeat_ms": "300", "trusted_proxies": "10.0.0.0/8, ::1", "drain_seconds": "1.5"}
    found = parse(text, flags)
    assert (found.heartbeat_ms, found.slice_tokens, found.drain_seconds) == (300, 100, 1.5)
    assert found.trusted_proxies == ("10.0.0.0/8", "::1")
    assert problems("", heartbeat_ms="soon") == [
        "heartbeat_ms: 'soon' is not a whole number; the default is 10000"
    ]
    assert "unknown setting" in problems("", nope="1")[0]


def test_an_unreadable_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot be read: No such file.*check path"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"listen = '\xff'")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load(tmp_path / "latin.toml")
    (tmp_path / "huge.toml").write_bytes(b"#" * (SETTINGS_FILE_BYTES_MAX + 1))
    with pytest.raises(SettingsError, match="above 1 MiB"):
        load(tmp_path / "huge.toml")


def test_a_file_is_loaded_and_none_means_defaults(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("heartbeat_ms = 700\n")
    assert load(path).heartbeat_ms == 700
    assert load(None) == Settings()


def test_reload_takes_what_may_change_and_names_what_may_not() -> None:
    running = parse("heartbeat_ms = 200\nlisten = ':1'", {})
    wanted = parse("heartbeat_ms = 300\nlisten = ':2'", {})
    joined, kept = running.rejoin(wanted)
    assert (joined.heartbeat_ms, joined.listen, kept) == (300, ":1", ("listen",))


def test_one_address_is_not_for_two() -> None:
    (problem,) = problems('log_level = "info"\nconsole_listen = ":8080"\nlisten = "0.0.0.0:8080"')
    assert problem.startswith("line 2: console_listen: listen has the address :8080 too")
    (default,) = problems('listen = "127.0.0.1:8082"')
    assert "console_listen: listen has" in default
    same = "127.0.0.1:0"
    parse("", {"listen": same, "operations_listen": same, "console_listen": same})


def test_what_is_called_reloadable_is_what_a_reload_puts_in_force() -> None:
    in_force = {item.name for item in fields(Bounds)} | {"drain_seconds", "log_level", "log_format"}
    in_force |= {row.name for row in table() if row.about.reloadable} & {
        item.name for item in fields(ConsoleSettings)
    }  # the console takes all of them anew
    assert {row.name for row in table() if row.about.reloadable} == in_force


def test_the_readme_says_the_same_of_every_setting() -> None:
    readme = tree.text(Path("README.md"))
    for row in table():
        (cells,) = re.findall(rf"^\| `{row.name}` \|(.*)\|$", readme, re.MULTILINE)
        _, unit, reload, meaning = (cell.strip() for cell in cells.split("|"))
        assert unit == row.about.unit, row.name
        assert reload == ("yes" if row.about.reloadable else "restart"), row.name
        assert meaning.startswith(row.about.help), row.name


def test_addresses() -> None:
    assert host_and_port("127.0.0.1:80") == ("127.0.0.1", 80)
    assert host_and_port("[::1]:80") == ("::1", 80)
    assert host_and_port(":80") == ("0.0.0.0", 80)
    for bad in ("", "80", "host", "host:", "host:99999", "host:-1", "host:٣"):
        with pytest.raises(ValueError):
            host_and_port(bad)


def test_line_of_finds_keys_and_tables() -> None:
    text = "# a = 1\nb = 2\n[a]\n"
    assert (line_of(text, "b"), line_of(text, "a"), line_of(text, "c")) == (2, 3, None)


def test_a_syntax_error_at_the_end_names_the_last_line() -> None:
    assert problems("a = 1\nb = [1,\n")[0].startswith("line 2: not valid TOML")
    problem = toml_problem(tomllib.TOMLDecodeError("odd"), "")
    assert (problem.line, problem.reason) == (1, "not valid TOML: odd")
