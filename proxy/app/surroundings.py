"""The machine around a relay, as `sluice doctor` sees it: limits, addresses, upstreams, nginx.

Rules: nothing is changed; what connects is bounded in time and number and sends an upstream nothing
but a TLS greeting. What this process may not look at is skipped, with the reason. This module must
not know the data directory.
"""

import asyncio
import ctypes
import os
import resource
import socket
import sqlite3
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import aiohttp

from proxy.app.selftest import Finding, Outcome
from proxy.app.settings import Settings, host_and_port
from proxy.core.catalog import Catalog
from proxy.core.entities import Channel
from proxy.core.money import format_usd, parse_usd
from proxy.edge.console.account_options import CLOSED, OPEN
from proxy.edge.upstream import ConnectError, UpstreamPool, origin_of
from proxy.storage.renewals import USUAL_PLAN

CONNECT_SECONDS_MAX = 5.0
CONNECTS_MAX = 8
ANSWER_SECONDS_MAX = 5.0
ANSWER_BYTES_MAX = 65_536
CONFIG_FILES_MAX = 200
CONFIG_BYTES_MAX = 1 << 20
FILES_PER_CLIENT = 2
"""A client's connection and its upstream's."""
FILES_BESIDE = 200
SQLITE_SAFE = (3, 51, 3)
NGINX_FOLDER = Path("/etc/nginx")
SYSTEMD_RUNNING = Path("/run/systemd/system")
SYSTEMD_FOLDERS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))
_ADJTIMEX_BYTES = 512
_TIME_ERROR = 5
_MALLOC = "MALLOC_MMAP_THRESHOLD_"


async def sqlite() -> Finding:
    """Which SQLite runs, and whether its known fault matters here."""
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= SQLITE_SAFE:
        return Finding(Outcome.OK, version)
    return Finding(
        Outcome.OK,
        f"{version}; before 3.51.3 two writers can damage a WAL database, so let no other program "
        "write to the file: the relay itself has one writing connection",
    )


def clock_synchronised() -> Finding:
    """Ask the kernel whether something keeps the clock right (adjtimex(2), read only)."""
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_ADJTIMEX_BYTES))
    if state == _TIME_ERROR:
        return Finding(
            Outcome.WARNING,
            "the kernel says that the clock is not synchronised",
            "run systemd-timesyncd or chrony",
        )
    if state < 0:
        return Finding(Outcome.SKIPPED, "the kernel does not say whether it is synchronised")
    return Finding(Outcome.OK, "synchronised, and not behind the ledger")


async def open_files(settings: Settings, running: int | None) -> Finding:
    """Compare the limit of the relay (of this process, if none runs) with what it may need."""
    whose = "of this process" if running is None else f"of process {running}"
    try:
        soft, _hard = resource.prlimit(running or 0, resource.RLIMIT_NOFILE)
    except (PermissionError, ProcessLookupError):
        return Finding(Outcome.SKIPPED, f"the limit {whose} is not for this user to see")
    needed = FILES_PER_CLIENT * settings.connections_max + FILES_BESIDE
    if soft < needed:
        return Finding(
            Outcome.WARNING,
            f"{soft:,} {whose}, connections_max = {settings.connections_max:,} may need {needed:,}",
            "LimitNOFILE= in the unit, ulimit -n in a shell, or lower connections_max",
        )
    return Finding(Outcome.OK, f"{soft:,} {whose}")


async def addresses(settings: Settings, *, offline: bool) -> Finding:
    """See whether the addresses are free, or answered by a relay."""
    seen: list[str] = []
    paths = {"listen": "/v1/models", "operations_listen": "/healthz", "console_listen": "/login"}
    for name, path in paths.items():
        if not getattr(settings, name):
            continue
        host, port = host_and_port(getattr(settings, name))
        if _free(host, port):
            seen.append(f"{name} is free")
            continue
        if offline:
            seen.append(f"{name} is in use")
            continue
        if not await _ours(host, port, path):
            return Finding(
                Outcome.FAILURE,
                f"{name} {getattr(settings, name)} is in use by something that is no relay",
                f"stop it (ss -ltnp names it), or set {name} to another port",
            )
        seen.append(f"{name} is answered by a relay")
    return Finding(Outcome.OK, ", ".join(seen))


async def console(settings: Settings) -> Finding:
    """See whether passwords and sessions could be read on their way to the console."""
    if not settings.console_listen:
        return Finding(Outcome.SKIPPED, "there is none: console_listen is empty")
    host, _ = host_and_port(settings.console_listen)
    if host != "localhost" and not _is_loopback(host) and not settings.console_url:
        return Finding(
            Outcome.WARNING,
            f"it answers on {host} without TLS: passwords cross the network in the clear",
            "put config/nginx/console.conf in front, let console_listen be on 127.0.0.1, and set "
            "console_url to the https address",
        )
    if settings.console_url and not settings.console_url.startswith("https:"):
        return Finding(
            Outcome.WARNING,
            f"browsers reach it at {settings.console_url}, so its cookies are not secure",
            "put config/nginx/console.conf in front and set console_url to the https address",
        )
    where = settings.console_url or f"this machine alone, {settings.console_listen}"
    return Finding(Outcome.OK, f"reached at {where}")


async def accounts(settings: Settings, catalog: Catalog | None) -> Finding:
    """See whether strangers could have money for nothing, as often as they like."""
    if not settings.console_listen:
        return Finding(Outcome.SKIPPED, "nobody registers: there is no console")
    if settings.registration == CLOSED:
        return Finding(Outcome.OK, f"registration: {settings.registration}")
    monthly = _given_monthly(settings, catalog)
    parts = [f"${format_usd(monthly)} a month by a plan without a fee"] if monthly else []
    who, remedy = "anybody may register", "registration to invitation, or no starting_credit"
    if settings.registration == OPEN:
        credit = parse_usd(settings.starting_credit)
        parts = ([f"${format_usd(credit)}"] if credit else []) + parts
        if monthly:
            remedy = "registration to closed, or no credit without a fee"
    elif monthly:
        # Whoever is in makes a team and invites to it; its guests bring no starting credit.
        who, remedy = "any guest of a team may register", "no credit for a plan without a fee"
    else:
        return Finding(Outcome.OK, f"registration: {settings.registration}")
    given = " and ".join(parts)
    if given and not settings.email_verification:
        return Finding(
            Outcome.WARNING,
            f"{who} and gets {given} with each address they make up",
            f"set email_verification, or {remedy}",
        )
    told = f"{given} with a confirmed address" if given else "no credit"
    return Finding(Outcome.OK, f"{who}, and gets {told}")


def _given_monthly(settings: Settings, catalog: Catalog | None) -> int:
    """The most that a plan without a fee gives whoever is new, or may choose it. Nano-USD."""
    plans = {} if catalog is None else catalog.plans
    first = {settings.default_plan or USUAL_PLAN} if len(plans) > 1 else plans.keys()
    return max(
        (
            plan.monthly_credit
            for plan in plans.values()
            if not plan.monthly_fee and (plan.offered or plan.name in first)
        ),
        default=0,
    )


async def upstreams(catalog: Catalog | None, *, offline: bool) -> Finding:
    """Open one connection, with TLS where it has it, to every enabled channel."""
    if catalog is None:
        return Finding(Outcome.SKIPPED, "no catalog could be read")
    if offline:
        return Finding(Outcome.SKIPPED, "not asked for: --offline")
    channels = [channel for channel in catalog.channels.values() if channel.enabled]
    if not channels:
        return Finding(Outcome.SKIPPED, "there is no enabled channel")
    gate = asyncio.Semaphore(CONNECTS_MAX)
    reached = await asyncio.gather(*(_reach(channel, gate) for channel in channels))
    failed = [
        f"{channel.name}: {why}"
        for channel, why in zip(channels, reached, strict=True)
        if why is not None
    ]
    if failed:
        return Finding(
            Outcome.FAILURE if len(failed) == len(channels) else Outcome.WARNING,
            f"{len(failed)} of {len(channels)} not reached; {'; '.join(failed[:3])}",
            "check base_url, DNS and firewall; `sluice channel test NAME` makes a real call",
        )
    return Finding(Outcome.OK, f"{len(channels)} channels reached")


async def allocator(catalog: Catalog | None, running: int | None) -> Finding:
    """TLS buffers cost less with two settings of malloc: see whether the relay has them."""
    channels = () if catalog is None else catalog.channels.values()
    if not any(each.enabled and each.base_url.startswith("https:") for each in channels):
        return Finding(Outcome.SKIPPED, "no upstream with TLS")
    environ = dict(os.environ)
    if running is not None:
        try:
            raw = await asyncio.to_thread(Path(f"/proc/{running}/environ").read_bytes)
        except OSError:
            return Finding(Outcome.SKIPPED, f"process {running} is not for this user to look at")
        pairs = (part.partition(b"=") for part in raw.split(b"\0"))
        environ = {name.decode("latin-1"): value.decode("latin-1") for name, _, value in pairs}
    if _MALLOC not in environ:
        return Finding(
            Outcome.WARNING,
            f"{_MALLOC} is not set: TLS upstreams cost more CPU",
            f"set {_MALLOC}=8388608 and MALLOC_TRIM_THRESHOLD_=33554432 for the relay",
        )
    return Finding(Outcome.OK, f"{_MALLOC}={environ[_MALLOC]}")


async def nginx(settings: Settings, folder: Path = NGINX_FOLDER) -> Finding:
    """Read nginx's configuration for what breaks streams."""
    port = host_and_port(settings.listen)[1]
    beside = f":{host_and_port(settings.console_listen)[1]}" if settings.console_listen else None
    text = await asyncio.to_thread(_configuration, folder, f":{port}", beside)
    if text is None:
        return Finding(Outcome.SKIPPED, f"there is no {folder}, or not for this user to read")
    if f":{port}" not in text:
        return Finding(Outcome.SKIPPED, f"nothing in {folder} leads to port {port}")
    wanted = {
        "proxy_buffering off": "streams are held back",
        "proxy_next_upstream off": "a call may be made, and charged, twice",
        "client_max_body_size": "bodies above 1 MB are refused",
        "proxy_read_timeout": "answers that take a minute are cut",
    }
    missing = {name: effect for name, effect in wanted.items() if name not in text}
    if missing:
        name, effect = next(iter(missing.items()))
        return Finding(
            Outcome.WARNING,
            f"{', '.join(missing)} not set ({name}: {effect})",
            "take them from config/nginx/sluice.conf",
        )
    return Finding(Outcome.OK, f"leads to port {port}, without what breaks streams")


async def systemd(
    running: Path = SYSTEMD_RUNNING, folders: tuple[Path, ...] = SYSTEMD_FOLDERS
) -> Finding:
    """Say whether the service is installed."""
    if not _exists(running):
        return Finding(Outcome.SKIPPED, "this machine is not run by systemd")
    for folder in folders:
        if _exists(folder / "sluice.service"):
            return Finding(Outcome.OK, f"{folder / 'sluice.service'} is installed")
    return Finding(
        Outcome.WARNING,
        "sluice.service is not installed, so nothing starts the relay after a reboot",
        "install the units in systemd/",
    )


def _exists(path: Path) -> bool:
    return path.exists()


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name: who resolves it where is not known here
        return False


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


async def _ours(host: str, port: int, path: str) -> bool:
    """Whether a relay answers there: health, its own kind of 401, or the console."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked, not bound
    url = f"http://[{name}]:{port}{path}" if ":" in name else f"http://{name}:{port}{path}"
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS_MAX)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            body = await response.content.read(ANSWER_BYTES_MAX)
    except (TimeoutError, aiohttp.ClientError, OSError):
        return False
    if response.headers.get("server") == "sluice":
        return True
    return b'"invalid_api_key"' in body or body.strip() == b'{"status":"ok"}'


async def _reach(channel: Channel, gate: asyncio.Semaphore) -> str | None:
    """Connect once; why it failed, or None."""
    async with gate:
        loop = asyncio.get_running_loop()
        pool = UpstreamPool(loop, idle_seconds_max=1.0, tls=ssl.create_default_context())
        try:
            origin, _ = origin_of(
                channel.base_url, channel.proxy, allow_private=channel.allow_private
            )
            transport = await pool.connect(
                origin, min(channel.connect_seconds_max, CONNECT_SECONDS_MAX)
            )
        except (ConnectError, ValueError) as error:
            return str(error)
        finally:
            pool.close()
        transport.abort()
        return None


def _configuration(folder: Path, relay: str, console: str | None) -> str | None:
    """All of nginx's files as one text, comments left out; None if they cannot be read.

    Without those that lead to the console alone: what they set says nothing of the relay's site.
    """

    def texts() -> Iterator[str]:
        for file in sorted(folder.rglob("*"))[:CONFIG_FILES_MAX]:
            if file.is_file() and file.stat().st_size <= CONFIG_BYTES_MAX:
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
                yield "\n".join(" ".join(line.partition("#")[0].split()) for line in lines)

    def ours(text: str) -> bool:
        return console is None or console not in text or relay in text

    try:
        return "\n".join(filter(ours, texts())) if folder.is_dir() else None
    except OSError:
        return None
