"""How large the ledger's files are and how much room is left beside them, for the metrics page.

Rules: three questions to the kernel, no file is opened. This module must not know what is in them.
"""

import os
from pathlib import Path

from proxy.edge.state import StorageFigures


def storage_figures(database: Path) -> StorageFigures | None:
    """Measure the database, its WAL (0 if there is none) and the room left; None without a file."""
    try:
        size = database.stat().st_size
        disk = os.statvfs(database)
    except OSError:
        return None
    try:
        wal = database.with_name(f"{database.name}-wal").stat().st_size
    except OSError:
        wal = 0
    return StorageFigures(size, wal, disk.f_bavail * disk.f_frsize)
