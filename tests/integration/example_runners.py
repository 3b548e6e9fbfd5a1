"""The runtimes that run the example programs: what each needs installed, and how it is started.

`start(language, folder)` gives the command for a program that was saved in `folder`, or skips the
calling test aloud where its runtime is absent. This module must not know any program.
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.examples.programs import LANGUAGES
from tests import clients, programs

COMPILE_SECONDS_MAX = 60


def start(language: str, folder: Path) -> list[str]:
    """The command that runs the program in `folder`, with that as its current directory."""
    name = LANGUAGES[language].file_name
    if language == "curl":
        programs.need("curl")
        return ["sh", name]
    if language == "requests":
        pytest.importorskip("requests", reason="requests is absent (pip install requests)")
    if language in {"python", "requests"}:
        return [sys.executable, name]
    if language == "node":
        (folder / "node_modules").symlink_to(clients.need("sdks") / "node_modules")
    if language in {"node", "fetch"}:
        return [str(clients.need_node()), name]
    if language == "csharp":
        return _csharp(folder / name)
    if language == "php":
        return [*_php(), name]
    if language == "go":
        return [programs.need("go"), "run", name]
    if language == "java":
        # Compiled once and run once: what a longer run would gain by optimizing is lost here.
        return [programs.need("java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", name]
    return [programs.need(language), name]


def environment() -> dict[str, str]:
    """What every program runs with: nothing of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "GOTOOLCHAIN": "local", "LANG": "C.UTF-8"}


@functools.cache
def _php() -> list[str]:
    php = programs.need("php")
    modules = subprocess.run([php, "-m"], capture_output=True, text=True, check=True).stdout
    if "curl" not in modules.split():
        pytest.skip("php has no curl extension (apt-get install php-curl)")
    return [php]


def _csharp(program: Path) -> list[str]:
    """Run a program by Mono: statements of a file stand in a method for its older compiler.

    What they have done is the program's; how Mono 6.8 ends is not: with a connection kept alive it
    waits for its own sleeping threads, one time in forty for up to a minute. So it is left by `_exit`.
    """
    compiler, runtime = programs.need("mcs"), programs.need("mono")
    head, _, statements = program.read_text().partition("\n\n")
    main = "static void Main() { Run().GetAwaiter().GetResult(); Console.Out.Flush(); _exit(0); }"
    leave = '[System.Runtime.InteropServices.DllImport("libc")] static extern void _exit(int code);'
    inside = f"class Program {{ {leave}\n{main}\nstatic async System.Threading.Tasks.Task Run() {{"
    wrapped = program.with_name("Wrapped.cs")
    wrapped.write_text(f"{head}\n\n{inside}\n{statements}\n}} }}\n")
    done = subprocess.run(
        [compiler, "-nologo", "-r:System.Net.Http.dll", wrapped.name, "-out:Program.exe"],
        cwd=program.parent,
        capture_output=True,
        text=True,
        timeout=COMPILE_SECONDS_MAX,
        check=False,
    )
    assert not done.returncode, done.stdout + done.stderr
    assert not re.findall(r": error ", done.stdout)
    return [runtime, "Program.exe"]
