import asyncio
from pathlib import Path

import pytest

from proxy.storage import space
from proxy.storage.space import SpaceWatch, free_bytes, megabytes, require
from proxy.storage.sqlite import StorageError


def test_free_space_is_that_of_the_nearest_directory_there_is(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0
    assert free_bytes(tmp_path / "not" / "yet" / "there") > 0


def test_too_little_space_is_refused_with_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(tmp_path, 1, "this")
    with pytest.raises(StorageError, match=r"this needs 1,000,000,000\.0 MB .*; free some or grow"):
        require(tmp_path, 10**15, "this")

    def unreadable(_path: Path) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(space, "free_bytes", unreadable)
    with pytest.raises(StorageError, match="Permission denied; check it"):
        require(tmp_path, 1, "this")
    assert megabytes(1_234_567) == "1.2 MB"


def test_the_edge_is_told_once_in_each_direction(tmp_path: Path) -> None:
    figures = iter([2000, 999, 990, 1000, 1124, 1125, 1000])
    told: list[str | None] = []
    watch = SpaceWatch(tmp_path / "x.db", 1000, told.append, lambda _path: next(figures))
    states = []
    for _ in range(7):
        watch.look()
        states.append(watch.short is not None)
    assert states == [False, True, True, True, True, False, False]
    assert [line is None for line in told] == [False, True]
    assert "nearly full: 0.0 MB free" in str(told[0])
    assert watch.free == 1000


def test_a_file_system_that_does_not_answer_admits_nothing(tmp_path: Path) -> None:
    def gone(_path: Path) -> int:
        raise OSError(5, "Input/output error")

    watch = SpaceWatch(tmp_path / "x.db", 0, lambda _reason: None, gone)
    watch.look()
    assert "Input/output error" in str(watch.short)


def test_it_looks_until_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "LOOK_SECONDS", 0.0)
    looks = 0
    enough = asyncio.Event()

    def measure(_path: Path) -> int:
        nonlocal looks
        looks += 1
        if looks == 3:
            enough.set()
        return 1

    async def main() -> int:
        watch = SpaceWatch(tmp_path / "x.db", 0, lambda _reason: None, measure)
        watch.start()
        await enough.wait()
        watch.stop()
        watch.stop()
        seen = looks
        for _ in range(5):
            await asyncio.sleep(0)
        return looks - seen

    assert asyncio.run(main()) == 0
