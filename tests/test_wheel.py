"""The built wheel holds proxy/ byte for byte and nothing else, so testing the tree tests the wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import tree


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from exactly the project's files, without network."""
    source = tmp_path_factory.mktemp("source")
    for path in tree.files():
        if path.parts[0] in {"proxy", "tests", "README.md", "pyproject.toml"}:
            target = source / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((tree.ROOT / path).read_bytes())
    out = tmp_path_factory.mktemp("dist")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-index", "--no-build-isolation", "--no-deps", "--wheel-dir", str(out)),
            str(source),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    (built,) = out.iterdir()
    return built


def test_the_wheel_is_the_package_and_only_the_package(wheel: Path) -> None:
    assert wheel.name.startswith("sluice-")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        wanted = {path.as_posix() for path in tree.files() if path.parts[0] == "proxy"}
        assert names == wanted
        for name in sorted(names):
            assert archive.read(name) == (tree.ROOT / name).read_bytes(), name


def test_the_schema_travels_with_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        schema = [name for name in archive.namelist() if name.endswith(".sql")]
        scripts = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert schema
        assert all(name.startswith("proxy/storage/schema/") for name in schema)
        assert b"sluice = proxy.app.cli:main" in archive.read(scripts[0])


def test_the_command_runs_from_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import proxy.app.cli as cli;"
        "sys.stderr.write(cli.__file__); sys.argv[1:] = ['--version']; cli.main()"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path / "site")],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    assert str(tmp_path / "site") in run.stderr
    version = wheel.name.split("-")[1]
    assert version in run.stdout
