"""A relay with a bad secret does not start, says which file, why and what to do, and leaks nothing."""

import secrets
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.app.cli import main
from tests.integration.relay_process import ROOT, SLUICE

EXAMPLE = ROOT / "config" / "catalog.toml"
START_SECONDS_MAX = 40


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A database with upstream keys and a client key, and the secrets they were made with."""
    path = tmp_path / "data"
    for arguments in (
        ("catalog", "apply", str(EXAMPLE), "--yes"),
        ("user", "add", "ann", "--plan", "free"),
        ("key", "add", "laptop", "--user", "ann"),
    ):
        done = CliRunner().invoke(main, [*arguments, "--data", str(path)])
        assert done.exit_code == 0, done.output
    return path


def serve(data: Path, workers: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*SLUICE, "serve", "--data", str(data), "--set", f"workers={workers}",
         "--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0",
         "--console", ""],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


def open_to_all(folder: Path) -> None:
    (folder / "master").chmod(0o644)


def lose(folder: Path) -> None:
    (folder / "pepper").unlink()


def the_same(folder: Path) -> None:
    (folder / "pepper").write_bytes((folder / "master").read_bytes())


OTHER = secrets.token_hex(32)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        pytest.param(write("pepper", ""), "pepper is empty", "openssl rand -hex 32", id="empty"),
        pytest.param(
            write("master", "changeme"), "master holds a placeholder", "restore", id="placeholder"
        ),
        pytest.param(write("master", "ab" * 32), "master is weak", "restore", id="weak"),
        pytest.param(open_to_all, "others may read", "chmod 600", id="readable"),
        pytest.param(lose, "pepper is missing", "restore it from the backup", id="missing"),
        pytest.param(the_same, "the same secret", "restore", id="same"),
        pytest.param(write("pepper", OTHER), "the pepper is not the one", "restore", id="pepper"),
        pytest.param(
            write("master", OTHER), "does not open with this master key", "restore", id="master"
        ),
    ],
)
def test_a_bad_secret_refuses_the_start(
    data: Path, change: Callable[[Path], None], reason: str, remedy: str, workers: int
) -> None:
    folder = data / "secrets"
    known = [path.read_text().strip() for path in folder.iterdir()]
    change(folder)
    process = serve(data, workers)
    try:
        printed, errors = process.communicate(timeout=START_SECONDS_MAX)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, errors
    assert reason in errors
    assert remedy in errors
    assert "Traceback" not in errors
    assert not any(secret in printed + errors for secret in (*known, OTHER))


@pytest.mark.parametrize("workers", [1, 2])
def test_with_good_ones_it_starts(data: Path, workers: int) -> None:
    process = serve(data, workers)
    try:
        assert process.stdout is not None
        assert "http://" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=START_SECONDS_MAX)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
