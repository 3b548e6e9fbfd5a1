"""Secrets that are looked for everywhere they must not be, in every form they could have.

A canary is a text or bytes; it is found raw, in hexadecimal of either case, in base64 (both
alphabets) at each of the three offsets it may have in a longer encoded text, percent-encoded, and
as the halves of itself.
"""

import base64
import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

HALF_BYTES_MIN = 16
"""Half of a secret longer than twice this is looked for too: a cut must not save a leak."""


def forms(secret: bytes) -> frozenset[bytes]:
    """Every way `secret` may be written down."""
    found = {secret, quote(secret).encode()}
    if len(secret) >= 2 * HALF_BYTES_MIN:
        found |= {secret[: len(secret) // 2], secret[len(secret) // 2 :]}
    for part in tuple(found):
        found |= {part.hex().encode(), part.hex().upper().encode()}
    for offset in range(3):
        # Only the characters that no neighbour of the secret has a share in.
        encoded = base64.b64encode(bytes(offset) + secret).rstrip(b"=")
        core = encoded[(offset * 8 + 5) // 6 : (offset + len(secret)) * 8 // 6]
        found |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return frozenset(found)


@dataclass(slots=True)
class Canaries:
    """Named secrets and where they were found."""

    secrets: dict[str, frozenset[bytes]] = field(default_factory=dict)

    def add(self, name: str, secret: str | bytes) -> None:
        """Look for `secret` from now on; hexadecimal text also as the bytes it stands for."""
        raw = secret.encode() if isinstance(secret, str) else secret
        found = set(forms(raw))
        with contextlib.suppress(ValueError):
            found |= forms(bytes.fromhex(raw.decode()))
        self.secrets[name] = frozenset(found)

    def within(self, place: str, content: bytes) -> list[str]:
        """`NAME in PLACE` for each secret that is in `content`."""
        return [
            f"{name} in {place}"
            for name, needles in self.secrets.items()
            if any(needle in content for needle in needles)
        ]

    def within_all(self, places: Mapping[str, bytes]) -> list[str]:
        """The same for many places."""
        return [line for place, content in places.items() for line in self.within(place, content)]


def files_below(folder: Path) -> dict[str, bytes]:
    """Every regular file's content, by its path; and the names themselves."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in paths} | {
        "names of files": "\n".join(map(str, folder.rglob("*"))).encode()
    }


def process_tree(process_id: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it ended meanwhile
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [process_id]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def process_texts(processes: Iterable[int]) -> dict[str, bytes]:
    """What anybody with an account may learn of processes: command line and environment."""
    return {
        f"/proc/{process_id}/{name}": Path(f"/proc/{process_id}/{name}").read_bytes()
        for process_id in processes
        for name in ("cmdline", "environ")
    }


def random_text(prefix: str) -> str:
    """A secret nobody else has."""
    return prefix + os.urandom(20).hex()
