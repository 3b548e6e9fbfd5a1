"""System programs and libraries a test may need: all optional, a test without one is skipped aloud."""

import ctypes
import os
import shutil

import pytest

REMEDIES = {
    "nginx": "apt-get install nginx",
    "promtool": "apt-get install prometheus",
    "chromium": "apt-get install chromium",
    "systemd-analyze": "apt-get install systemd",
    "curl": "apt-get install curl",
    "git": "apt-get install git",
    "make": "apt-get install make",
    "libgomp.so.1": "apt-get install libgomp1",
}

# nginx is installed where an ordinary user's PATH does not look.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))


def need(name: str) -> str:
    """The absolute path of program `name`; skips the calling test where it is not installed."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed ({REMEDIES[name]})")
    return found


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
