"""The settings a relay runs with, told to the commands beside it.

Rules: flags of `serve` are in no file, so who is to say where the console is, or whether anybody
may register, asks the relay that runs. A relay that does not run, or is too old to tell, is no
error: the command's own file counts then. Paths are told whole, for a command may stand elsewhere;
no secret is told, because settings name files and hold none. This module must not know any command.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from proxy.app.addresses import Bound
from proxy.app.control import CommandError, NotRunningError, ask
from proxy.app.directory import DataDirectory
from proxy.app.settings import Settings, table

COMMAND = "relay settings"


@dataclass(frozen=True, slots=True)
class Told:
    """What a running relay said: its settings, and where its console is (empty: there is none)."""

    settings: Settings
    console_url: str


@dataclass(slots=True)
class InForce:
    """The relay's own end: `settings` changes with every reload that is not refused."""

    settings: Settings
    bound: Bound

    def told(self) -> dict[str, object]:
        """What the command line is told, as `ask_running` reads it."""
        values = asdict(self.settings)
        for row in table():
            if row.about.unit == "path" and values[row.name]:
                values[row.name] = str(Path(values[row.name]).absolute())
        # Without a console there is nowhere to lead anybody, whatever `console_url` says.
        url = self.bound.completing(self.settings).console_url if self.bound.console else ""
        return {"settings": values, "console_url": url}


def ask_running(directory: DataDirectory) -> Told | None:
    """Ask the relay that runs on this directory; None if none does, or it cannot tell."""
    try:
        found = ask(directory.control, COMMAND, {})
    except (NotRunningError, CommandError):
        return None
    return _read(found, directory) if isinstance(found, dict) else None


def _read(found: Mapping[str, Any], directory: DataDirectory) -> Told:
    known = {row.name for row in table()}  # another release may have more of them, or fewer
    values = {name: value for name, value in found["settings"].items() if name in known}
    settings = replace(Settings.read(values), data_dir=str(directory.root))
    return Told(settings, found["console_url"])
