"""System programs and libraries a test may need: all optional, a test without one is skipped aloud."""

import ctypes
import os
import re
import shutil

import pytest

from tests import tree

REMEDIES = {
    "nginx": "apt-get install nginx",
    "prometheus": "apt-get install prometheus",
    "promtool": "apt-get install prometheus",
    "chromium": "apt-get install chromium",
    "systemd-analyze": "apt-get install systemd",
    "curl": "apt-get install curl",
    "git": "apt-get install git",
    "make": "apt-get install make",
    "libgomp.so.1": "apt-get install libgomp1",
    "go": "apt-get install golang-go",
    "java": "apt-get install default-jdk-headless",
    "mcs": "apt-get install mono-mcs libmono-system-net-http4.0-cil",
    "mono": "apt-get install mono-runtime",
    "php": "apt-get install php-cli php-curl",
    "ruby": "apt-get install ruby",
}

# nginx is installed where an ordinary user's PATH does not look.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))


def need(name: str) -> str:
    """The absolute path of program `name`; skips the calling test where it is not installed."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed ({REMEDIES[name]})")
    return found


def make_environment() -> dict[str, str]:
    """The environment for a make that a test starts, as it would be in a fresh shell.

    Under `make test ARGS=-q` this process is a make's child: that make hands its flags and every
    variable of its command line down, and another make would take them for its own.
    """
    makefile = (tree.ROOT / "Makefile").read_text()
    read = {
        *re.findall(r"\$\((\w+)\)", makefile),
        *re.findall(r"^(\w+) *[:?]?=", makefile, re.MULTILINE),
    }
    return {
        name: value
        for name, value in os.environ.items()
        if name not in read
        and not name.startswith("MAKE")
        and name not in {"MFLAGS", "GNUMAKEFLAGS"}
    }


def need_library(name: str) -> None:
    """Skip the calling test where the shared library `name` cannot be loaded."""
    try:
        ctypes.CDLL(name)
    except OSError:
        pytest.skip(f"{name} is not installed ({REMEDIES[name]})")


def remedy(reason: str) -> str:
    """A reason to skip, with what to install where it names one of the programs and does not say."""
    if "install " in reason:
        return reason
    return next((f"{reason} ({REMEDIES[name]})" for name in REMEDIES if name in reason), reason)
