"""The project's own files, as the house-rule tests see them: what is in git or about to be."""

import ast
import functools
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = ("core", "storage", "edge", "app")
"""From the bottom up: a module may import from its own layer and from those before it."""

_BUILT = frozenset({"build", "dist", "__pycache__"})


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file of the project, relative to ROOT; outside git, everything that is not built."""
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        found = {Path(name) for name in listed.stdout.split("\0") if name}
    else:
        found = {path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()}
        found = {
            path
            for path in found
            if not _BUILT & set(path.parts) and not path.parts[0].startswith(".")
        }
    return tuple(sorted(path for path in found if (ROOT / path).is_file()))


def python_files(*tops: str) -> tuple[Path, ...]:
    """The .py files below the given top-level directories."""
    return tuple(path for path in files() if path.suffix == ".py" and path.parts[0] in tops)


@functools.cache
def text(path: Path) -> str:
    """A file's text; empty for a file that is not text."""
    raw = (ROOT / path).read_bytes()
    return "" if b"\0" in raw else raw.decode("utf-8", "replace")


@functools.cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(text(path), filename=str(path))


def module_name(path: Path) -> str:
    """`proxy/core/sse.py` as `proxy.core.sse`, a package as itself."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str | None:
    """The layer a dotted module name belongs to; None outside of the layers."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "proxy" and parts[1] in LAYERS else None


def imports(path: Path) -> list[tuple[int, str]]:
    """Every imported module, with its line, wherever in the file the import stands.

    `from a.b import c` yields `a.b` and `a.b.c`, since c may be a module.
    """
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found.append((node.lineno, base))
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def called_name(node: ast.Call) -> str:
    """The dotted name that is called, as far as it is one: `self.file.execute`, or its last part."""
    parts: list[str] = []
    target: ast.expr = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    if isinstance(target, ast.Name):
        parts.append(target.id)
    return ".".join(reversed(parts))


def make_targets() -> frozenset[str]:
    """The targets the Makefile offers by name."""
    return frozenset(re.findall(r"^([a-z][a-z-]*):", text(Path("Makefile")), re.MULTILINE))
