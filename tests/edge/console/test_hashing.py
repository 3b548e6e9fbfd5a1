import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import argon2
import pytest

from proxy.core.passwords import BYTES_MAX
from proxy.edge.console import hashing
from proxy.edge.console.hashing import AT_ONCE_MAX, WAITING_MAX, BusyError, Hasher, Looked

CHEAP = argon2.profiles.CHEAPEST


def with_hasher(test: Callable[[Hasher], Awaitable[Any]], *, cheap: bool = True) -> Any:
    async def run() -> Any:
        hasher = Hasher(CHEAP if cheap else None)
        try:
            return await test(hasher)
        finally:
            hasher.close()

    return asyncio.run(asyncio.wait_for(run(), 30))


def test_a_hash_is_argon2id_of_the_standard_and_salted() -> None:
    async def test(hasher: Hasher) -> None:
        first, second = await hasher.hash("correct horse"), await hasher.hash("correct horse")
        assert first != second
        assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        assert await hasher.compare(first, "correct horse") == Looked(right=True)

    with_hasher(test, cheap=False)


@pytest.mark.parametrize(
    ("known", "typed", "right"),
    [
        ("correct horse", "correct horse", True),
        ("correct horse", "Correct horse", False),
        ("correct horse", "", False),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait", "cafe\N{COMBINING ACUTE ACCENT} au lait", True),
        ("x" * BYTES_MAX, "x" * BYTES_MAX + "y", False),
        ("x" * BYTES_MAX, "x" * 100_000, False),
        ("correct horse", "\ud800", False),
    ],
    ids=str,
)  # fmt: skip
def test_a_password_is_compared(known: str, typed: str, right: bool) -> None:
    async def test(hasher: Hasher) -> bool:
        return (await hasher.compare(await hasher.hash(known), typed)).right

    assert with_hasher(test) is right


def test_a_hash_of_other_parameters_is_stale_when_it_is_right() -> None:
    async def test(hasher: Hasher) -> None:
        old = argon2.PasswordHasher(time_cost=1, memory_cost=16, parallelism=1).hash("pass word 12")
        assert await hasher.compare(old, "pass word 12") == Looked(right=True, stale=True)
        assert await hasher.compare(old, "another word") == Looked(right=False)
        assert await hasher.compare("no hash at all", "x") == Looked(right=False)

    with_hasher(test)


def test_nobody_costs_as_much_as_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(hasher: Hasher) -> None:
        known = await hasher.hash("correct horse")
        assert await hasher.compare(None, "wrong") == Looked(right=False)
        done: list[str] = []
        verify = hasher._verify

        def counted(known: str, password: str) -> bool:
            done.append(known)
            return verify(known, password)

        monkeypatch.setattr(hasher, "_verify", counted)
        assert await hasher.compare(known, "wrong") == await hasher.compare(None, "wrong")
        assert not (await hasher.compare(None, hashing._NOBODYS)).right
        first, second, third = done
        assert first == known
        assert second == third
        assert second.rpartition("$")[0].startswith(known.rsplit("$", 2)[0])

    with_hasher(test)


def test_two_at_a_time_and_few_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(hasher: Hasher) -> None:
        gate, lock = threading.Event(), threading.Lock()
        seen = {"now": 0, "most": 0}

        def slow(_: object) -> str:
            with lock:
                seen["now"] += 1
                seen["most"] = max(seen["most"], seen["now"])
            gate.wait(20)
            with lock:
                seen["now"] -= 1
            return "hash"

        monkeypatch.setattr(hasher, "_hash", slow)
        asked = [asyncio.ensure_future(hasher.hash("x")) for _ in range(AT_ONCE_MAX + WAITING_MAX)]
        await asyncio.sleep(0)
        # Who leaves does not make room: its work is done all the same.
        asked.pop().cancel()
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await hasher.hash("one more")
        gate.set()
        await asyncio.gather(*asked)
        assert seen["most"] <= AT_ONCE_MAX
        await asyncio.sleep(0)
        assert await hasher.hash("again") == "hash"

    with_hasher(test)
