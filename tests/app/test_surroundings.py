import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.app import surroundings
from proxy.app.selftest import Outcome
from proxy.app.settings import Settings
from proxy.core.catalog import Catalog, build_catalog
from proxy.core.entities import Channel, ChannelKey, Dialect, Plan
from tests.integration.relay_process import RelayProcess, free_ports

FREE = Plan("free", monthly_credit=5 * 10**9)
PAID = Plan("paid", monthly_fee=1, monthly_credit=5 * 10**9, offered=True)


def catalog(*urls: str) -> Catalog:
    channels = [
        Channel(
            number, f"c{number}", Dialect.OPENAI, url, (ChannelKey(1, "k"),), {"m": "m"},
            frozenset(("g",)), allow_private=True, connect_seconds_max=2.0,
        )
        for number, url in enumerate(urls, 1)
    ]  # fmt: skip
    return build_catalog(1, users=[], plans=[], groups=[], models=[], channels=channels, keys=[])


@contextmanager
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_upstreams_are_connected_to_once_each() -> None:
    (closed,) = free_ports(1)
    with listening() as port:
        good, bad = f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{closed}/v1"
        reached = asyncio.run(surroundings.upstreams(catalog(good), offline=False))
        some = asyncio.run(surroundings.upstreams(catalog(good, bad), offline=False))
        none = asyncio.run(surroundings.upstreams(catalog(bad), offline=False))
    assert (reached.outcome, reached.seen) == (Outcome.OK, "1 channels reached")
    assert (some.outcome, "1 of 2 not reached; c2: " in some.seen) == (Outcome.WARNING, True)
    assert none.outcome is Outcome.FAILURE
    assert "channel test" in none.remedy
    for empty, offline in ((None, False), (catalog(good), True), (catalog(), False)):
        finding = asyncio.run(surroundings.upstreams(empty, offline=offline))
        assert finding.outcome is Outcome.SKIPPED


def test_addresses_are_free_or_ours_or_a_strangers(tmp_path: Path) -> None:
    free = free_ports(3)
    listen, operations_listen, console_listen = (f"127.0.0.1:{port}" for port in free)
    settings = Settings(listen=listen, operations_listen=operations_listen, console_listen="")
    found = asyncio.run(surroundings.addresses(settings, offline=False))
    assert found.seen == "listen is free, operations_listen is free"
    with_console = replace(settings, console_listen=console_listen)
    found = asyncio.run(surroundings.addresses(with_console, offline=False))
    assert found.seen.endswith("console_listen is free")
    with listening() as port:
        taken = replace(settings, listen=f"127.0.0.1:{port}")
        assert "in use" in asyncio.run(surroundings.addresses(taken, offline=True)).seen
    with RelayProcess(tmp_path, [], console=True) as relay:
        ours = Settings(
            listen=f"127.0.0.1:{relay.port}",
            operations_listen=f"127.0.0.1:{relay.operations_port}",
            console_listen=f"127.0.0.1:{relay.console_port}",
        )
        found = asyncio.run(surroundings.addresses(ours, offline=False))
        names = ("listen", "operations_listen", "console_listen")
        assert found.seen == ", ".join(f"{name} is answered by a relay" for name in names)
        swapped = replace(ours, listen=ours.operations_listen, operations_listen=ours.listen)
        stranger = asyncio.run(surroundings.addresses(swapped, offline=False))
    assert (stranger.outcome, "no relay" in stranger.seen) == (Outcome.FAILURE, True)
    assert "ss -ltnp" in stranger.remedy


@pytest.mark.parametrize(
    ("listen", "url", "outcome", "seen"),
    [
        ("", "", Outcome.SKIPPED, "there is none"),
        ("127.0.0.1:8082", "", Outcome.OK, "this machine alone"),
        ("localhost:8082", "", Outcome.OK, "this machine alone"),
        ("[::1]:8082", "https://console.example.com", Outcome.OK, "https://console.example.com"),
        ("10.0.0.1:8082", "https://console.example.com", Outcome.OK, "https://"),
        (":8082", "", Outcome.WARNING, "without TLS"),
        ("console.internal:8082", "", Outcome.WARNING, "without TLS"),
        ("127.0.0.1:8082", "http://console.example.com", Outcome.WARNING, "not secure"),
    ],
)
def test_passwords_do_not_cross_the_network_in_the_clear_unnoticed(
    listen: str, url: str, outcome: Outcome, seen: str
) -> None:
    settings = Settings(console_listen=listen, console_url=url)
    found = asyncio.run(surroundings.console(settings))
    assert (found.outcome, seen in found.seen) == (outcome, True), found
    assert ("console.conf" in found.remedy) == (outcome is Outcome.WARNING)


@pytest.mark.parametrize(
    ("changes", "outcome", "seen"),
    [
        ({}, Outcome.OK, "registration: invitation"),
        ({"registration": "closed", "starting_credit": "1"}, Outcome.OK, "closed"),
        ({"registration": "open"}, Outcome.OK, "gets no credit"),
        ({"registration": "open", "starting_credit": "0.50"}, Outcome.WARNING, "$0.50 with each"),
        (
            {
                "registration": "open", "starting_credit": "1", "email_verification": True,
                "smtp_host": "mail.example.com", "mail_from": "relay@example.com",
            },
            Outcome.OK,
            "$1.00 with a confirmed address",
        ),
        ({"console_listen": ""}, Outcome.SKIPPED, "no console"),
    ],
)  # fmt: skip
def test_strangers_who_make_up_addresses_for_money_are_told_of(
    changes: dict[str, Any], outcome: Outcome, seen: str
) -> None:
    found = asyncio.run(surroundings.accounts(Settings(**changes), None))
    assert (found.outcome, seen in found.seen) == (outcome, True)
    assert bool(found.remedy) == (outcome is Outcome.WARNING)


@pytest.mark.parametrize(
    ("changes", "plans", "seen"),
    [
        ({"registration": "open"}, (FREE,), "anybody may register and gets $5.00 a month"),
        ({"registration": "open", "starting_credit": "1"}, (FREE,), "$1.00 and $5.00 a month"),
        ({}, (FREE,), "any guest of a team may register and gets $5.00 a month"),
        ({}, (replace(FREE, name="default"), PAID), "any guest"),
        ({"default_plan": "free"}, (FREE, PAID), "any guest"),
        ({}, (replace(FREE, offered=True), PAID), "any guest"),
        ({}, (FREE, PAID), ""),
        ({"registration": "closed"}, (FREE,), ""),
        ({"registration": "open"}, (PAID,), ""),
    ],
)
def test_what_a_plan_gives_for_nothing_is_money_too(
    changes: dict[str, Any], plans: tuple[Plan, ...], seen: str
) -> None:
    found = asyncio.run(surroundings.accounts(Settings(**changes), build_catalog(1, plans=plans)))
    assert (found.outcome is Outcome.WARNING, seen in found.seen) == (bool(seen), True)
    assert "email_verification" in found.remedy or not seen


def test_the_limit_of_open_files_is_compared_with_what_may_be_needed() -> None:
    few = asyncio.run(surroundings.open_files(Settings(connections_max=1), None))
    many = asyncio.run(surroundings.open_files(Settings(connections_max=1_000_000), None))
    assert (few.outcome, many.outcome) == (Outcome.OK, Outcome.WARNING)
    gone = asyncio.run(surroundings.open_files(Settings(), (1 << 22) + 1))
    assert gone.outcome is Outcome.SKIPPED


def test_the_allocator_matters_with_tls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    tls = catalog("https://example.com/v1")
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    assert asyncio.run(surroundings.allocator(tls, None)).outcome is Outcome.WARNING
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "8388608")
    assert asyncio.run(surroundings.allocator(tls, None)).outcome is Outcome.OK
    plain = catalog("http://example.com/v1")
    for found, process in ((plain, None), (None, None), (tls, (1 << 22) + 1)):
        assert asyncio.run(surroundings.allocator(found, process)).outcome is Outcome.SKIPPED


NGINX = """
upstream sluice { server 127.0.0.1:8080; }  # proxy_next_upstream off;
server { location / { proxy_pass http://sluice; proxy_read_timeout 900s;
  client_max_body_size   32m; proxy_buffering   off; } }
"""


def test_nginx_is_read_for_what_breaks_streams(tmp_path: Path) -> None:
    def look(folder: Path) -> tuple[Outcome, str]:
        found = asyncio.run(surroundings.nginx(Settings(), folder))
        return found.outcome, found.seen

    assert look(tmp_path / "none")[0] is Outcome.SKIPPED
    site = tmp_path / "conf.d" / "sluice.conf"
    site.parent.mkdir()
    site.write_text("server { listen 80; }")
    assert look(tmp_path)[0] is Outcome.SKIPPED
    site.write_text(NGINX)
    outcome, seen = look(tmp_path)
    assert outcome is Outcome.WARNING
    assert seen.startswith("proxy_next_upstream off not set (proxy_next_upstream off: a call")
    console = tmp_path / "conf.d" / "console.conf"
    console.write_text("server 127.0.0.1:8082; proxy_next_upstream off;")
    assert look(tmp_path)[0] is Outcome.WARNING, "that is said of another site"
    site.write_text(NGINX.replace("# ", ""))
    assert look(tmp_path)[0] is Outcome.OK


def test_the_example_for_nginx_is_well() -> None:
    folder = Path(__file__).resolve().parents[2] / "config" / "nginx"
    if not (folder / "sluice.conf").exists():
        pytest.skip("config/nginx/sluice.conf is not written yet")
    found = asyncio.run(surroundings.nginx(Settings(), folder))
    assert found.outcome is Outcome.OK, found


def test_the_service_is_installed_or_not(tmp_path: Path) -> None:
    none = asyncio.run(surroundings.systemd(tmp_path / "none"))
    assert none.outcome is Outcome.SKIPPED
    absent = asyncio.run(surroundings.systemd(tmp_path, (tmp_path,)))
    assert absent.outcome is Outcome.WARNING
    (tmp_path / "sluice.service").touch()
    assert asyncio.run(surroundings.systemd(tmp_path, (tmp_path,))).outcome is Outcome.OK


def test_the_version_of_sqlite_is_named_with_its_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 40, 1))
    assert "before 3.51.3" in asyncio.run(surroundings.sqlite()).seen
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 51, 3))
    assert "before" not in asyncio.run(surroundings.sqlite()).seen


@pytest.mark.parametrize(
    ("answer", "outcome"), [(0, Outcome.OK), (5, Outcome.WARNING), (-1, Outcome.SKIPPED)]
)
def test_the_kernel_says_whether_the_clock_is_kept(
    monkeypatch: pytest.MonkeyPatch, answer: int, outcome: Outcome
) -> None:
    class Library:
        def adjtimex(self, _buffer: object) -> int:
            return answer

    assert surroundings.clock_synchronised().outcome in set(Outcome)
    monkeypatch.setattr("ctypes.CDLL", lambda _name: Library())
    assert surroundings.clock_synchronised().outcome is outcome
