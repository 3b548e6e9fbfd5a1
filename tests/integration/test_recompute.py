"""Every kind of charge recomputes from the file: by the relay, and by a stranger's script."""

import asyncio
import itertools
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing as closing_database
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.core.entities import Price, Usage
from proxy.core.pricing import charge, quote_usage
from proxy.storage.batch import CALL_ADDED, CALL_COLUMNS
from proxy.storage.imports import apply_catalog
from proxy.storage.ports import Admission
from proxy.storage.price_tables import write_price
from proxy.storage.retention import RollUp, Step
from proxy.storage.sqlite import migrate, packaged_migrations
from proxy.storage.till import Aside, Event, Moved
from proxy.storage.verify import verify
from proxy.storage.wallet_changes import Change, adjust, refund_call, take_fee
from tests.storage.test_price_tables import prices
from tests.storage.test_verify import spoil
from tests.storage.world import CATALOG, MASTER, NOW, USD, closing, keeper, opening, read

SCRIPT = Path(__file__).with_name("recompute.py")
EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "catalog.toml"
CREDIT = 10**8 * USD
CALLS: dict[str, list[Usage]] = {
    "gpt-4o": [Usage(input_uncached=7, cache_read=3, output=5), Usage(image_input=36_839)],
    "gpt-3.5-turbo": [Usage(input_uncached=7, cache_read=3, output=5)],
    "claude-sonnet-4-5": [Usage(input_uncached=1, cache_write_5m=2, cache_write_1h=3, output=4)],
    "gemini-3.1-pro": [
        Usage(input_uncached=200_000, output=9),
        Usage(input_uncached=200_000, cache_read=1, output=9, searches=3),
    ],
    "gpt-image-1": [Usage(input_uncached=11, image_input=323, image_output=4_160)],
    "dall-e-3": [
        Usage(images=2, variant="1024x1024:hd"),
        Usage(images=1, variant="standard"),
        Usage(images=1),
    ],
    "tts-1": [Usage(characters=4_096)],
    "whisper-1": [Usage(audio_ms=90_001)],
    "gpt-4o-transcribe": [Usage(input_uncached=14, audio_input=45, output=101)],
    "text-embedding-3-small": [Usage(input_uncached=8)],
    "rerank-v3.5": [Usage(searches=2)],
}


def recomputed(path: Path) -> list[str]:
    """What the script prints: what is wrong, and how many it looked at."""
    run = subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return run.stdout.splitlines()


def bill(path: Path, models: list[dict[str, Any]], calls: list[tuple[str, Usage]]) -> None:
    """Let a keeper take, hold and settle the calls, at a group's multiplier of 1.25."""
    document = {**CATALOG, "model": [*CATALOG["model"], *models]}

    async def main() -> None:
        ticks = itertools.count(0.0, 60.0)  # no limit of requests a minute bites
        books = await keeper(path, credit=CREDIT, clock_monotonic=lambda: next(ticks))
        await books.change(lambda c: apply_catalog(c, document, master=MASTER, now=NOW))
        for number, (name, usage) in enumerate(calls, 1):
            price = books.catalog.models[name].price
            assert price is not None
            held, most = quote_usage(price, 1_250_000, usage), charge(usage, price, 1_250_000)
            terms: dict[str, Any] = {"model": name, "price_version": price.version}
            asked = opening(number, hold=held, ceiling=held, multiplier=1_250_000, **terms)
            assert isinstance(await books.admit(asked), Admission)
            assert books.settle(closing(number, usage=usage, charge=most)).overrun == 0
        await books.close()

    asyncio.run(main())


def example_models() -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = tomllib.loads(EXAMPLE.read_text())["model"]
    return models


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One call and more of every kind in the example catalog."""
    path = tmp_path_factory.mktemp("recompute") / "sluice.db"
    bill(path, example_models(), [(name, usage) for name, all_ in CALLS.items() for usage in all_])
    return path


def test_every_kind_of_charge_in_the_example_recomputes_from_its_rows(ledger: Path) -> None:
    calls = sum(len(usages) for usages in CALLS.values())
    priced = {model["name"] for model in example_models()} - {"o3-mini", "omni-moderation-latest"}
    assert CALLS.keys() == priced, "a new kind of price in the example needs a call here"
    assert recomputed(ledger) == [f"{calls} charges recomputed"]
    assert verify(ledger, quiet=True).problems == ()
    charged = dict(read(ledger, "SELECT model || ' ' || id, charge FROM call"))
    assert charged["dall-e-3 8"] == 2 * 80_000_000 * 5 // 4
    assert charged["whisper-1 12"] == 90_001 * 125
    assert charged["gemini-3.1-pro 5"] == 500_135_000
    assert charged["gemini-3.1-pro 6"] == 1_052_703_000, "one token more doubles the price of all"


@pytest.mark.parametrize(
    ("model", "column"),
    [
        ("whisper-1", "audio_ms"),
        ("rerank-v3.5", "searches"),
        ("gpt-image-1", "image_output"),
        ("gpt-4o", "cache_read_audio"),
        ("dall-e-3", "images"),
        ("tts-1", "characters"),
    ],
)
def test_whatever_is_changed_behind_our_back_is_found(
    ledger: Path, tmp_path: Path, model: str, column: str
) -> None:
    path = Path(shutil.copy(ledger, tmp_path / "sluice.db"))
    ((call_id,),) = read(path, "SELECT min(id) FROM call WHERE model = ?", model)
    spoil(path, f"UPDATE call SET {column} = {column} + 1000 WHERE id = {call_id}")
    assert any(f"call {call_id} was priced" in problem for problem in verify(path).problems)
    assert recomputed(path)[0].startswith(f"call {call_id} of {model} costs ")


def test_another_variant_is_another_price(ledger: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(ledger, tmp_path / "sluice.db"))
    spoil(path, "UPDATE call SET variant = '1024x1024:standard' WHERE variant = '1024x1024:hd'")
    assert not verify(path).clean
    assert len(recomputed(path)) == 2


def test_what_was_used_stays_in_the_daily_sums(ledger: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(ledger, tmp_path / "sluice.db"))
    names = ("audio_ms", "searches", "image_input", "image_output", "images", "characters")
    sums = ", ".join(f"sum({name})" for name in names)
    ((calls, *before),) = read(path, f"SELECT count(*), {sums} FROM call")
    assert min(before) > 0
    with closing_database(sqlite3.connect(path, isolation_level=None)) as connection:
        rolling = RollUp(1 << 62)
        step = Step(0, done=False)
        while not step.done:
            connection.execute("BEGIN IMMEDIATE")
            step = rolling.step(connection)
            connection.execute("COMMIT")
    assert rolling.kept == []
    assert read(path, f"SELECT sum(ended), {sums} FROM rollup") == [(calls, *before)]
    assert verify(path, quiet=True).problems == ()


def test_refunds_corrections_and_fees_are_in_the_history_of_their_wallet(
    ledger: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(ledger, tmp_path / "sluice.db"))

    async def main() -> None:
        books = await keeper(path)

        def give(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
            return refund_call(connection, event, 1, None, "slow", "r", "boss")

        def take(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
            return adjust(connection, event, 1, -USD, "typo", "a", "boss")

        def fee(connection: sqlite3.Connection, event: Event) -> Moved[Change]:
            return take_fee(connection, event, 2, USD, "plan", "f")

        await books.till.move(give)
        await books.till.move(take, aside=Aside(1, USD))
        await books.till.move(fee, aside=Aside(2, USD))
        await books.close()

    asyncio.run(main())
    assert len(recomputed(path)) == 1
    assert verify(path, quiet=True).problems == ()
    with closing_database(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER wallet_change_never_changes")
        connection.execute("UPDATE wallet_change SET amount = amount + 1 WHERE kind = 'refund'")
    said = recomputed(path)
    assert said[0].startswith("wallet 1 has ")
    assert said[1].startswith("call 1 was charged ")
    assert any("I1: refund" in problem for problem in verify(path).problems)


COUNTS = st.integers(0, 3_000)
SMALL = st.builds(
    Usage,
    **{
        name: COUNTS
        for name in Usage.__struct_fields__
        if name not in {"variant", "calls", "reasoning"}
    },
    variant=st.sampled_from(("", "1024x1024", "1024x1024:hd", "low", "other")),
)


@settings(max_examples=6)
@given(st.lists(st.tuples(prices(), SMALL), min_size=8, max_size=8))
def test_any_price_and_usage_recompute(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[Price, Usage]]
) -> None:
    most = sum(quote_usage(price, 1_250_000, usage) for price, usage in pairs)
    assume(most < CREDIT)
    path = tmp_path_factory.mktemp("any") / "sluice.db"
    size = {"context_window": 1, "output_tokens_max": 1}
    models = [
        {"name": f"any-{at}", "price": write_price(price), **size}
        for at, (price, _) in enumerate(pairs)
    ]
    bill(path, models, [(f"any-{at}", usage) for at, (_, usage) in enumerate(pairs)])
    (said,) = recomputed(path)
    assert said.endswith("charges recomputed")
    assert verify(path, quiet=True).problems == ()


def test_charges_and_prices_of_an_older_file_are_what_they_were(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    known = tuple(each for each in packaged_migrations() if each.number < 10)
    with closing_database(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, 1.0, known)
        figures = ", ".join(map(str, [10**9, 10**8, 10**9, 10**9, 2 * 10**9, 10**9, *[0] * 8]))
        connection.execute(f"INSERT INTO price VALUES ('m', 1, 0, 'tokens', {figures})")
        row = dict.fromkeys(CALL_COLUMNS[: -len(CALL_ADDED)], 0) | {
            "id": 5, "model": "m", "price_version": 1, "multiplier": 10**6, "charge": 210_000,
            "input_uncached": 100, "cache_read": 100, "output": 50, "delivered_bytes": 9,
        }  # fmt: skip
        text = ("endpoint", "dialect", "group_name", "verdict", "source")
        row |= dict.fromkeys(text, "x")
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO call ({names}) VALUES ({marks})", tuple(row.values()))
        migrate(connection, 2.0)
        stored = connection.execute("SELECT image_input, cache_read_audio, tiers FROM price")
        assert stored.fetchall() == [(10**9, 10**8, "[]")]
    assert recomputed(path) == ["1 charges recomputed"]
    with pytest.raises(sqlite3.IntegrityError), closing_database(sqlite3.connect(path)) as again:
        again.execute("UPDATE price SET image_input = 0")
