"""System programs a test may need. All are optional: a test without its program is skipped aloud."""

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
}

# nginx is installed where an ordinary user's PATH does not look.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))


def need(name: str) -> str:
    """The absolute path of program `name`; skips the calling test where it is not installed."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        pytest.skip(f"{name} is not installed ({REMEDIES[name]})")
    return found
