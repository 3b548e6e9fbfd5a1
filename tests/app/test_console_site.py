import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import aiohttp
import uvloop

from proxy.app.console_site import NICENESS, ConsoleSite, options_of
from proxy.app.directory import DataDirectory
from proxy.app.office import open_office
from proxy.app.settings import Settings
from proxy.app.sockets import Listeners, bind
from tests import tree

ROOT = Path(__file__).parents[2]


def test_the_site_answers_on_every_listener_and_takes_new_settings(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=str(tmp_path / "data"),
        console_url="http://a.example",
        public_url="http://b.example",
    )
    directory = DataDirectory(settings.data_path)
    listeners = Listeners(console=[*bind("127.0.0.1:0", 1), *bind("127.0.0.1:0", 1)])

    async def run() -> None:
        with directory.locked():
            async with open_office(directory, settings):
                pass
        site = ConsoleSite(settings)
        await site.start(listeners.console)
        async with aiohttp.ClientSession() as session:

            async def policy(port: int) -> str:
                async with session.get(f"http://127.0.0.1:{port}/") as page:
                    assert page.status == 200
                    return page.headers["content-security-policy"]

            for each in listeners.console:
                assert "http://b.example" in await policy(each.getsockname()[1])
            site.reload(replace(settings, public_url="https://c.example"))
            assert "https://c.example" in await policy(listeners.console[0].getsockname()[1])
        await site.stop()
        await site.stop()

    try:
        uvloop.run(asyncio.wait_for(run(), 30))
    finally:
        listeners.close()
    assert (directory.secrets / "console").stat().st_mode & 0o777 == 0o600


def test_every_option_of_the_console_is_a_setting() -> None:
    settings = Settings(console_url="https://a.example", public_url="https://b.example")
    options = options_of(settings)
    assert (options.console_url, options.public_url) == (settings.console_url, settings.public_url)
    assert options.secure
    assert not options_of(replace(settings, console_url="http://a.example")).secure


def test_it_gives_way_to_everybody_else() -> None:
    code = (
        "import os; from proxy.app.console_site import give_way; give_way(); "
        "print(os.nice(0), *os.sched_getaffinity(0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=30
    )
    nice, *processors = map(int, done.stdout.split())
    assert nice == min(19, os.nice(0) + NICENESS)
    assert processors == [max(os.sched_getaffinity(0))]


def test_what_serves_calls_does_not_load_what_pages_are_made_of() -> None:
    code = (
        "import sys, proxy.app.cli, proxy.app.serve, proxy.app.processes\n"
        "pages = ('jinja2', 'argon2', 'jwt', 'stripe', 'aiosmtplib', 'genai_prices',\n"
        " 'proxy.edge.console.site')\n"
        "print([name for name in pages if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=30
    )
    assert done.stdout == b"[]\n"


def test_the_site_knows_no_secret_but_its_own() -> None:
    """Neither pepper nor master key: nothing of it imports what reads or uses them."""
    secret = ("proxy.storage.snapshots", "proxy.edge.auth", "proxy.storage.secrets.open_sealed")
    for path in tree.python_files("proxy"):
        if path.parts[1:3] == ("edge", "console") or path.name == "console_program.py":
            names = [name for _, name in tree.imports(path)]
            assert not [name for name in names if name.startswith(secret)], path
            assert "proxy.app.office.load_secrets" not in names, path
    names = [name for _, name in tree.imports(Path("proxy/app/console_site.py"))]
    assert "proxy.app.office.load_secrets" not in names
