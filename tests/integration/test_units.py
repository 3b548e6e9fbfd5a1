"""The units of systemd/: accepted by systemd itself, hardened, and each line that matters there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from proxy.app import serve, supervisor
from proxy.app.notify import watchdog_seconds
from proxy.app.settings import Settings, parse
from proxy.storage.sqlite import BUSY_SECONDS_MAX
from tests import programs, tree

UNITS = (
    "sluice.service",
    "sluice.socket",
    "sluice-operations.socket",
    "sluice-console.socket",
)
EXPOSURE_MAX = 2.0
SUPERVISED = supervisor.STOP_SECONDS_MAX
SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0}


def directives(name: str) -> dict[str, list[str]]:
    """Every `Key=value` of a unit, values of a repeated key in order."""
    found: dict[str, list[str]] = {}
    for line in tree.text(Path("systemd", name)).splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


SERVICE = directives("sluice.service")


def seconds(value: str) -> float:
    match = re.fullmatch(r"(\d+)(ms|s|min)", value)
    assert match, value
    return int(match[1]) * SECONDS[match[2]]


def only(key: str) -> str:
    (value,) = SERVICE[key]
    return value


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with an interpreter that exists: that of /opt/sluice is not installed here."""
    for name in UNITS:
        text = tree.text(Path("systemd", name))
        (tmp_path / name).write_text(text.replace("/opt/sluice/bin/python", sys.executable))
    return tmp_path


def analyze(units: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    program = programs.need("systemd-analyze")
    return subprocess.run(
        [program, *arguments], cwd=units, capture_output=True, text=True, timeout=50, check=False
    )


def test_systemd_accepts_them(units: Path) -> None:
    done = analyze(units, "verify", *(f"./{name}" for name in UNITS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_not_accept_a_mistake(units: Path) -> None:
    service = units / "sluice.service"
    service.write_text(service.read_text().replace("PrivateTmp=", "PrivatTmp="))
    assert "PrivatTmp" in analyze(units, "verify", "./sluice.service").stderr


def test_the_service_is_exposed_little(units: Path) -> None:
    limit = str(round(EXPOSURE_MAX * 10))
    ask = ("security", "--offline=true", f"--threshold={limit}", "./sluice.service")
    done = analyze(units, *ask)
    overall = re.search(r"Overall exposure level for sluice.service: ([\d.]+)", done.stdout)
    assert overall, done.stderr
    print(overall[0])
    assert float(overall[1]) <= EXPOSURE_MAX
    assert done.returncode == 0, "below the threshold also for systemd-analyze itself"
    bare = units / "sluice.service"
    bare.write_text("[Service]\nExecStart=/bin/true\n")
    assert analyze(units, *ask).returncode != 0, "and a bare service would not be"


def test_it_starts_again_whatever_ended_it() -> None:
    assert only("Type") == "notify"
    assert only("NotifyAccess") == "all"
    assert only("Restart") == "always"
    assert only("StartLimitIntervalSec") == "0"
    assert seconds(only("RestartSec")) <= 1.0, "ready again within 5 s of a kill"
    assert only("OOMPolicy") == "continue"
    assert only("ExecReload") == "/bin/kill -HUP $MAINPID"


def test_the_watchdog_is_patient_with_a_busy_ledger_and_with_nothing_else() -> None:
    period = seconds(only("WatchdogSec"))
    assert watchdog_seconds({"WATCHDOG_USEC": str(int(period * 1e6))}) == period
    assert BUSY_SECONDS_MAX * 2 <= period <= 60


def test_stopping_outlasts_the_drain() -> None:
    """Of the defaults and of the example; a longer drain asks for more time by itself."""
    example = parse(tree.text(Path("config/settings.toml")), {})
    for settings in (Settings(), example):
        one = settings.drain_seconds + serve.STOP_SECONDS_MAX
        # Workers, then the keeper, then the console; and one of them may have to be killed.
        many = settings.drain_seconds + supervisor.SETTLE_SECONDS_MAX + 3 * SUPERVISED
        assert seconds(only("TimeoutStopSec")) > max(one, many)
    assert only("KillMode") == "mixed", "children are the relay's to drain"


def test_secrets_come_as_credentials_and_leave_in_no_core() -> None:
    named = dict(value.split(":") for value in SERVICE["LoadCredential"])
    assert set(named) == {"pepper", "master"}
    assert only("LimitCORE") == "0"
    assert only("UMask") == "0077"
    assert only("StateDirectoryMode") == "0700"
    assert not re.search(r"[0-9a-f]{32}", tree.text(Path("systemd/sluice.service")))


def test_malloc_is_told_in_bytes() -> None:
    environment = dict(value.split("=") for value in SERVICE["Environment"])
    assert environment == {
        "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
        "MALLOC_ARENA_MAX": "2",
    }


def test_files_are_enough_for_every_connection() -> None:
    assert int(only("LimitNOFILE")) >= 3 * Settings().connections_max


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("CapabilityBoundingSet", ""),
        ("NoNewPrivileges", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("PrivateDevices", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateUsers", "yes"),
        ("ProcSubset", "pid"),
        ("ProtectHome", "yes"),
        ("ProtectProc", "invisible"),
        ("ProtectSystem", "strict"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestrictNamespaces", "yes"),
        ("SystemCallArchitectures", "native"),
        ("User", "sluice"),
        ("IPAddressDeny", "link-local multicast"),
    ],
)
def test_it_cannot_have_what_it_does_not_need(key: str, value: str) -> None:
    assert SERVICE[key] == [value]


def test_sockets_are_named_as_the_relay_knows_them_and_match_the_example() -> None:
    settings = tomllib.loads(tree.text(Path("config/settings.toml")))
    clients, operations, console = (directives(name) for name in UNITS[1:])
    assert clients["ListenStream"] == [settings["listen"]]
    assert operations["ListenStream"] == [settings["operations_listen"]]
    assert console["ListenStream"] == [settings["console_listen"]]
    assert clients["FileDescriptorName"] == ["clients"]
    assert console["FileDescriptorName"] == ["console"]
    assert operations["FileDescriptorName"] == ["operations"]
    for unit in (clients, operations, console):
        assert unit["Service"] == ["sluice.service"]
    assert set(only("Sockets").split()) == set(UNITS[1:]) == set(only("Also").split())
    needed = set(only("Requires").split())
    assert needed == {"sluice.socket", "sluice-operations.socket"}
    assert "sluice-console.socket" in SERVICE["Wants"], "it may be masked"
    assert set(UNITS[1:]) <= set(SERVICE["After"][-1].split())
    assert clients["ReusePort"] == ["yes"], "one queue for each worker"


def test_data_and_settings_are_where_the_example_says() -> None:
    settings = tomllib.loads(tree.text(Path("config/settings.toml")))
    assert settings["data_dir"] == f"/var/lib/{only('StateDirectory')}" == only("WorkingDirectory")
    assert only("ExecStart").endswith("--config /etc/sluice/settings.toml")
    user = tree.text(Path("systemd/sysusers.conf")).splitlines()[-1].split()
    assert user[:2] == ["u", only("User")]
    assert settings["data_dir"] in user
