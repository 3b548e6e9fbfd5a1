"""What is installed is what was reviewed: pins, hashes, floors, and the fast paths that matter."""

import re
import tomllib
from importlib.metadata import packages_distributions
from importlib.metadata import version as installed_version
from pathlib import Path

import pytest
from aiohttp import http_parser, http_writer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests import tree

CONFIG = tree.ROOT / "config"
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")

FLOORS = {"aiohttp": "3.14.1", "pyjwt": "2.13.0"}
"""FAULTS.md, security baseline; PyJWT binds from the day something imports it."""

PIN = re.compile(
    r"^([a-zA-Z0-9_.-]+)==([^ ;\\]+)([^\\\n]*)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$"
)


def entries(lock: str) -> list[str]:
    """The lock's logical lines: a requirement with its hashes, or an option."""
    text = (CONFIG / lock).read_text()
    return [entry for entry in re.split(r"(?<!\\)\n", text) if entry.strip()]


def pins(lock: str) -> dict[str, set[str]]:
    """Pinned versions by canonical name (more than one where a marker chooses)."""
    found: dict[str, set[str]] = {}
    for entry in entries(lock):
        match = PIN.match(entry)
        if match:
            found.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_of_a_lock_is_pinned_and_hashed_and_a_wheel(lock: str) -> None:
    options, requirements = entries(lock)[:1], entries(lock)[1:]
    assert options == ["--only-binary :all:"]
    assert requirements
    assert [entry for entry in requirements if not PIN.match(entry)] == []


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("name", FLOORS)
def test_no_lock_is_below_a_security_floor(lock: str, name: str) -> None:
    for version in pins(lock).get(name, set()):
        assert Version(version) >= Version(FLOORS[name])


def test_the_development_lock_holds_the_runtime_versions() -> None:
    development = pins("requirements-dev.lock")
    for lock in ("requirements.lock", "requirements-build.lock"):
        for name, versions in pins(lock).items():
            assert development.get(name) == versions, name


def test_the_lock_satisfies_what_the_package_declares() -> None:
    declared = tomllib.loads((tree.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    locked = pins("requirements.lock")
    for requirement in map(Requirement, declared):
        versions = locked[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement
        least = FLOORS.get(canonicalize_name(requirement.name))
        if least is not None:
            floors = [Version(part.version) for part in requirement.specifier if ">=" in str(part)]
            assert floors, f"{requirement} states no floor"
            assert min(floors) >= Version(least), requirement


def test_every_declared_package_is_imported_somewhere() -> None:
    declared = tomllib.loads((tree.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    imported = {
        name.split(".")[0] for path in tree.python_files("proxy") for _, name in tree.imports(path)
    }
    provided: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for name in distributions:
            provided.setdefault(canonicalize_name(name), set()).add(module)
    wanted = {canonicalize_name(Requirement(line).name) for line in declared}
    unused = sorted(name for name in wanted if not provided.get(name, {name}) & imported)
    assert not unused, f"declared but never imported: {unused}"


def test_what_runs_is_what_is_locked() -> None:
    locked = pins("requirements-dev.lock")
    for name in ("aiohttp", "orjson", "msgspec", "uvloop", "cryptography"):
        assert installed_version(name) in locked[name], name


def test_aiohttp_runs_its_compiled_parser_and_writer() -> None:
    assert http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
    assert http_parser.HttpRequestParser.__module__.endswith("_http_parser")
    assert http_writer._serialize_headers is not http_writer._py_serialize_headers


def test_pyjwt_is_declared_once_something_imports_it() -> None:
    imports = any(
        name.split(".")[0] == "jwt"
        for path in tree.python_files("proxy")
        for _, name in tree.imports(path)
    )
    declared = "pyjwt" in Path(tree.ROOT / "pyproject.toml").read_text().lower()
    assert imports <= declared
