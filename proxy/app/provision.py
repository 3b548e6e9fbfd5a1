"""What a database must contain before anybody may call: the catalog file, and the seeds.

Rules: the catalog file is the truth and goes first; seeds of `--demo` and `--upstream` only add.
This module must not know processes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from proxy.app import seed
from proxy.app.check import read_catalog
from proxy.app.commands import runner
from proxy.app.office import Office
from proxy.app.seed import Seeded, Upstream
from proxy.app.settings import Settings


async def provision(
    office: Office, settings: Settings, upstreams: Sequence[Upstream], models: tuple[str, ...]
) -> Seeded | None:
    """Apply the catalog file and the seeds; None if there was nothing to seed.

    `models` are for upstreams that do not list theirs. Raises SettingsError, CommandError.
    """
    if settings.catalog_file:
        await apply_file(office, Path(settings.catalog_file))
    if not upstreams:
        return None
    named = [
        replace(each, models=each.models or models or await seed.list_models(each))
        for each in upstreams
    ]
    return await seed.seed(office, named, console=bool(settings.console_listen))


async def apply_file(office: Office, path: Path) -> None:
    """Make the catalog equal to a file, which is the truth. Raises SettingsError, CommandError."""
    _, document = read_catalog(path)
    await runner.run(office, "catalog apply", {"document": document, "force": True})
