"""Every setting of the relay: one frozen record whose fields are the table.

Rules: a setting is one annotated line of `Settings` or of the part of it in `settings_console.py`
(name, type, unit, help, reloadable, default) and exists nowhere else; README's tables are checked
against it. Values come from a
TOML file, then flags; an unknown or bad one is a `SettingsError` with line, reason and remedy,
and nothing is half applied. This module must not know who uses a setting.
"""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

from proxy.app import settings_payments
from proxy.app.setting import About, amount, millis, seconds, size
from proxy.app.settings_accounts import faults_of
from proxy.app.settings_console import ConsoleSettings
from proxy.core.emails import read_email

SETTINGS_FILE_BYTES_MAX = 1 << 20

TYPE_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input file: where, why, and what to do about it."""

    line: int | None
    reason: str
    remedy: str

    def __str__(self) -> str:
        where = "" if self.line is None else f"line {self.line}: "
        return f"{where}{self.reason}; {self.remedy}"


class SettingsError(ValueError):
    """The settings cannot be used; `problems` lists every reason, not only the first."""

    def __init__(self, problems: Iterable[Problem], source: str = "settings") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ConsoleSettings):
    """All settings with their defaults. Seconds are floats, `_ms` and `_bytes` are ints."""

    listen: Annotated[str, About("Where clients call.", "host:port", check="address")] = (
        "127.0.0.1:8080"
    )
    operations_listen: Annotated[
        str, About("Where /healthz, /readyz and /metrics answer.", "host:port", check="address")
    ] = "127.0.0.1:8081"
    data_dir: Annotated[str, About("Database, lock, control socket and secrets.", "path")] = (
        ".sluice"
    )
    catalog_file: Annotated[
        str, About("Catalog TOML applied at start and reload; empty: the database alone.", "path")
    ] = ""
    pepper_file: Annotated[
        str,
        About(
            "File of the pepper, where no systemd credential holds it; "
            "empty: in the data directory.",
            "path",
        ),
    ] = ""
    master_file: Annotated[str, About("File of the master key, likewise.", "path")] = ""
    workers: Annotated[
        int,
        amount(
            "Worker processes; above 1 the ledger and the metrics page have a process each.",
            1,
            32,
            "",
            reloadable=False,
        ),
    ] = 1
    durability: Annotated[
        Literal["process", "power"],
        About("What a commit survives: kill -9, or also a power cut."),
    ] = "process"

    detail_days: Annotated[
        int,
        amount(
            "Calls older than this many days are rolled up to daily sums; 0 keeps them for ever.",
            0,
            36_500,
            "days",
            reloadable=False,
        ),
    ] = 0
    disk_free_bytes_min: Annotated[
        int, size("Below this much free space nothing new is admitted.", 0, 1 << 50)
    ] = 128 << 20

    body_bytes_max: Annotated[
        int, size("Largest request body; above it 413.", 1024, 1 << 30, reloadable=True)
    ] = 32 << 20
    upload_bytes_max: Annotated[
        int,
        size(
            "Largest multipart body (audio, images); above it 413.", 1024, 1 << 32, reloadable=True
        ),
    ] = 32 << 20
    spool_memory_bytes_max: Annotated[
        int,
        size(
            "A larger body of a call that is no conversation waits in a file.",
            4096,
            1 << 26,
            reloadable=True,
        ),
    ] = 262_144
    spool_bytes_max: Annotated[
        int,
        size(
            "What such files take together, for each worker; above it 503.",
            0,
            1 << 44,
            reloadable=True,
        ),
    ] = 1 << 30
    spool_dir: Annotated[
        str,
        About(
            "Where such files are; they have no names. Empty: the data directory.",
            "path",
            reloadable=True,
        ),
    ] = ""
    body_seconds_max: Annotated[float, seconds("A request body must be in by then.", 1, 3600)] = (
        60.0
    )
    header_seconds_max: Annotated[float, seconds("A request head must be in by then.", 1, 300)] = (
        10.0
    )
    connections_max: Annotated[
        int,
        amount(
            "Client connections at once; each worker has its share.",
            1,
            1_000_000,
            "",
            reloadable=False,
        ),
    ] = 10_000
    send_buffer_bytes: Annotated[
        int,
        size("SO_SNDBUF of client sockets; bounds what counts as delivered.", 4096, 1 << 24),
    ] = 65_536
    write_stall_seconds_max: Annotated[
        float, seconds("A client that takes no byte for this long is gone.", 1, 3600)
    ] = 60.0
    trusted_proxies: Annotated[
        tuple[str, ...],
        About(
            "CIDRs whose X-Forwarded-For is believed.", "CIDR", reloadable=True, check="networks"
        ),
    ] = ("127.0.0.0/8", "::1/128")
    cors_allow_origins: Annotated[
        str, About("Origins browsers may call from, comma-separated, or *.", reloadable=True)
    ] = "*"

    event_bytes_max: Annotated[
        int,
        size(
            "Largest event held whole, save of Responses and Gemini; larger ones pass in parts.",
            4096,
            1 << 27,
            reloadable=True,
        ),
    ] = 1 << 20
    heartbeat_first_ms: Annotated[
        int, millis("Silence on a stream before the 200 and first heartbeat.", 100, 600_000)
    ] = 10_000
    heartbeat_ms: Annotated[int, millis("Time between heartbeats.", 100, 600_000)] = 10_000
    usage_wait_ms: Annotated[int, millis("Wait for usage after the finish reason.", 0, 60_000)] = (
        2_000
    )
    commit_wait_ms_max: Annotated[
        int,
        millis("First byte and terminal frame wait this long for their commits.", 100, 600_000),
    ] = 15_000
    drain_seconds: Annotated[
        float, seconds("SIGTERM lets open calls finish for this long.", 0, 3600)
    ] = 30.0

    upstream_idle_seconds_max: Annotated[
        float, seconds("Idle upstream connections close after.", 1, 600, reloadable=False)
    ] = 10.0
    retry_attempts_max: Annotated[
        int, amount("More channels tried after a failure before content.", 0, 10, "")
    ] = 2

    slice_tokens: Annotated[
        int, amount("Output tokens a stream holds at a time.", 16, 1_000_000, "tokens")
    ] = 4096
    cache_bytes_max: Annotated[
        int,
        size(
            "Answers kept to be given again, in memory; shared among the workers. 0: none.",
            0,
            1 << 40,
            reloadable=True,
        ),
    ] = 64 << 20
    cache_entry_bytes_max: Annotated[
        int, size("Largest answer that is kept.", 1024, 1 << 30, reloadable=True)
    ] = 1 << 20
    cache_entries_max: Annotated[
        int, amount("Answers kept at once by each worker.", 1, 10_000_000, "")
    ] = 10_000
    cache_seconds: Annotated[
        int, amount("How long an answer is kept, unless key or call say so.", 1, 604_800, "s")
    ] = 300
    insufficient_quota_status: Annotated[
        int, About("Status of an empty wallet: 402 or 429.", reloadable=True, low=402, high=429)
    ] = 402
    operator_expense_day_max: Annotated[
        str,
        About(
            "Overrun and forgiven cost per key and day; above it the key holds ceilings.",
            "USD",
            check="amount",
        ),
    ] = "1.00"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        About("Least severe line written.", reloadable=True),
    ] = "info"
    log_format: Annotated[
        Literal["json", "text"], About("JSON lines, or key=value for people.", reloadable=True)
    ] = "json"

    @property
    def data_path(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)

    @classmethod
    def read(cls, values: Mapping[str, object]) -> "Settings":
        """Settings from `asdict` of them that went through JSON."""
        lists = {n: tuple(v) for n, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **lists})  # type: ignore[arg-type]  # made by asdict

    def rejoin(self, other: "Settings") -> tuple["Settings", tuple[str, ...]]:
        """Take `other`'s reloadable values; also name those that need a restart to change."""
        names = {row.name: row for row in table()}
        changed = [n for n in names if getattr(self, n) != getattr(other, n)]
        kept = tuple(n for n in changed if not names[n].about.reloadable)
        values = {
            n: getattr(other if row.about.reloadable else self, n) for n, row in names.items()
        }
        return Settings(**values), kept


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as the table shows it. `kind` is its plain type or a tuple of choices."""

    name: str
    kind: type | tuple[str, ...]
    default: object
    about: About

    @property
    def type_text(self) -> str:
        """The type in words."""
        if isinstance(self.kind, tuple):
            return " or ".join(f'"{choice}"' for choice in self.kind)
        return "list of texts" if self.kind is tuple else TYPE_NAMES[self.kind]


def table() -> tuple[Row, ...]:
    """All settings in file order."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = []
    for item in fields(Settings):
        plain, about = get_args(hints[item.name])
        if not isinstance(about, About):
            raise AssertionError(f"{item.name} has no About")
        rows.append(Row(item.name, _kind(plain), item.default, about))
    return tuple(rows)


def load(path: Path | None, flags: Mapping[str, object] | None = None) -> Settings:
    """Read the file (if any), lay `flags` over it, check all of it. Raises SettingsError."""
    text = "" if path is None else _read(path)
    source = "settings" if path is None else str(path)
    return parse(text, flags or {}, source)


def parse(text: str, flags: Mapping[str, object], source: str = "settings") -> Settings:
    """Settings from TOML `text` and `flags`, which win and may be texts (`"10"`, `"a,b"`)."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([toml_problem(error, text)], source) from None
    rows = {row.name: row for row in table()}
    problems: list[Problem] = []
    values: dict[str, object] = {}
    for name, value in found.items():
        _take(rows, name, value, line_of(text, name), values, problems)
    for name, value in flags.items():
        row = rows.get(name)
        _take(rows, name, value if row is None else _from_flag(row, value), None, values, problems)
    if problems:
        raise SettingsError(problems, source)
    settings = Settings(**values)  # type: ignore[arg-type]  # checked against the table above
    # What fits by itself and not together.
    problems += [
        Problem(line_of(text, name), f"{name}: {reason}", remedy)
        for name, reason, remedy in (
            *faults_of(settings),
            *settings_payments.faults_of(settings),
            *_address_faults(settings),
        )
    ]
    if problems:
        raise SettingsError(problems, source)
    return settings


def _address_faults(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Addresses that are asked for twice; port 0 is another one each time."""
    taken: dict[tuple[str, int], str] = {}
    for name in ("listen", "operations_listen", "console_listen"):
        address = getattr(settings, name)
        if not address or not (where := host_and_port(address))[1]:
            continue
        first = taken.setdefault(where, name)
        if first != name:
            yield name, f"{first} has the address {address} too", "give each a port of its own"


def toml_problem(error: tomllib.TOMLDecodeError, text: str) -> Problem:
    """A syntax error of tomllib as a Problem; it puts the line only into its text (< 3.14)."""
    match = re.search(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$", str(error))
    reason = str(error)[: match.start()] if match else str(error)
    line = int(match[1]) if match and match[1] else max(1, len(text.splitlines()))
    return Problem(line, f"not valid TOML: {reason}", "correct the syntax there")


def line_of(text: str, name: str) -> int | None:
    """The 1-based line on which key `name` is first set, or None."""
    pattern = re.compile(rf"""^\s*(?:\[+\s*)?["']?{re.escape(name)}["']?\s*[=.\]]""")
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.match(line):
            return number
    return None


def host_and_port(address: str) -> tuple[str, int]:
    """Split `host:port`, `[v6]:port` or `:port`. Raises ValueError."""
    host, separator, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"{address!r} is not host:port")
    if ":" in bare and not host.startswith("["):
        raise ValueError(f"{address!r} needs brackets around its IPv6 address")
    return bare or "0.0.0.0", int(port)  # noqa: S104 - `:8080` asks for every interface


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > SETTINGS_FILE_BYTES_MAX:
            raise SettingsError([Problem(None, "file above 1 MiB", "check the path")], str(path))
        return path.read_text(encoding="utf-8")
    except OSError as error:
        problem = Problem(None, f"cannot be read: {error.strerror}", "check path and permissions")
        raise SettingsError([problem], str(path)) from None
    except UnicodeDecodeError:
        raise SettingsError([Problem(None, "not UTF-8", "save it as UTF-8")], str(path)) from None


def _kind(plain: object) -> type | tuple[str, ...]:
    if get_origin(plain) is Literal:
        return get_args(plain)
    origin = get_origin(plain) or plain
    if not isinstance(origin, type) or origin in {NoneType, UnionType}:
        raise AssertionError(f"no setting may have type {plain}")
    return origin


def _take(
    rows: Mapping[str, Row],
    name: str,
    value: object,
    line: int | None,
    values: dict[str, object],
    problems: list[Problem],
) -> None:
    row = rows.get(name)
    if row is None:
        near = difflib.get_close_matches(name, rows, 1)
        remedy = f"did you mean {near[0]}?" if near else "remove it; README.md lists all settings"
        problems.append(Problem(line, f"unknown setting {name!r}", remedy))
        return
    try:
        values[name] = _checked(row, value)
    except ValueError as error:
        default = list(row.default) if isinstance(row.default, tuple) else row.default
        problems.append(Problem(line, f"{name}: {error}", f"the default is {default!r}"))


def _checked(row: Row, value: object) -> object:
    kind, about = row.kind, row.about
    if isinstance(kind, tuple):
        if value not in kind:
            raise ValueError(f"{value!r} is not {row.type_text}")
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if kind is tuple and isinstance(value, list) and all(isinstance(v, str) for v in value):
        value = tuple(value)
    if type(value) is not kind:
        raise ValueError(f"{value!r} is not a {row.type_text}")
    if isinstance(value, int | float):
        _in_bounds(row, value)
    elif about.check == "address" or (about.check == "address or none" and value):
        host_and_port(str(value))
    elif about.check in {"url", "origin"} and value:
        return _url(str(value), origin=about.check == "origin")
    elif about.check == "amount" and not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", str(value)):
        raise ValueError(f'{value!r} is not an amount in USD such as "1.50"')
    elif about.check == "email" and value:
        return read_email(str(value))
    elif about.check == "networks" and isinstance(value, tuple):
        for network in value:
            ipaddress.ip_network(network, strict=False)
    return value


def _url(text: str, *, origin: bool) -> str:
    """`text` without the slash at its end. `origin`: no path may be in it."""
    try:
        found = urlsplit(text)
        found.port  # noqa: B018 - reading it checks it
    except ValueError as error:
        raise ValueError(f"{text!r} is no URL: {error}") from None
    if found.scheme not in {"http", "https"} or not found.hostname:
        raise ValueError(f"{text!r} is not https://host or http://host")
    if found.username is not None or found.query or found.fragment or not text.isascii():
        raise ValueError(f"{text!r} has more than host, port and path")
    if origin and found.path.strip("/"):
        raise ValueError(f"{text!r} has a path; the console is at the root of its host")
    return text.rstrip("/")


def _in_bounds(row: Row, value: float) -> None:
    low, high = row.about.low, row.about.high
    if row.name == "insufficient_quota_status" and value not in {402, 429}:
        raise ValueError(f"{value} is neither 402 nor 429")
    # Written so that NaN fails too: TOML has one.
    if not ((low is None or value >= low) and (high is None or value <= high)):
        raise ValueError(f"{value} is not between {low} and {high}")


def _from_flag(row: Row, value: object) -> object:
    """A flag's text as the TOML value it stands for; text that does not fit stays text."""
    if not isinstance(value, str) or isinstance(row.kind, tuple) or row.kind is str:
        return value
    if row.kind is tuple:
        return [part.strip() for part in value.split(",") if part.strip()]
    if row.kind is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    try:
        return int(value) if row.kind is int else float(value)
    except ValueError:
        return value
