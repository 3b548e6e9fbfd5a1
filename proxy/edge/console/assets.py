"""The console's static files: read once, and named by what is in them.

Rules: a file's address holds the hash of its bytes, so it may be kept by browsers for ever and is
never stale; a file that is not in the folder has no address, and naming one in a template is an
error at the first rendering, not a broken page later. No path from a request reaches the disk.
This module must not know which pages use a file.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

FOLDER: Final = Path(__file__).parent.parent / "web" / "static"
PREFIX: Final = "/static/"
TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".png": "image/png",
        ".txt": "text/plain; charset=utf-8",
    }
)
FILE_BYTES_MAX: Final = 1 << 20
"""A static file is read into memory whole."""
CACHE_CONTROL: Final = "public, max-age=31536000, immutable"
_HASH_CHARS: Final = 16


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file: where it is found, what it is, and its bytes."""

    path: str
    content_type: str
    body: bytes


class Assets:
    """Every static file of the console, by name and by address."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._by_name: dict[str, Asset] = {}
        self._by_path: dict[str, Asset] = {}
        for file in sorted(folder.iterdir()):
            if file.suffix not in TYPES:
                raise AssertionError(f"{file.name}: what is served has a type in TYPES")
            body = file.read_bytes()
            if len(body) > FILE_BYTES_MAX:
                raise AssertionError(f"{file.name} has more than {FILE_BYTES_MAX} bytes")
            digest = hashlib.sha256(body).hexdigest()[:_HASH_CHARS]
            asset = Asset(f"{PREFIX}{digest}/{file.name}", TYPES[file.suffix], body)
            self._by_name[file.name] = asset
            self._by_path[asset.path] = asset

    def url(self, name: str) -> str:
        """The address of a file, for a template. Raises KeyError: there is no such file."""
        return self._by_name[name].path

    def at(self, path: str) -> Asset | None:
        """What is served at an address, or None: no file, or not this version of it."""
        return self._by_path.get(path)
