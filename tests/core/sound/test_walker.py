"""Where a walk looks does not depend on how the file was cut."""

import pytest

from proxy.core.sound.walker import STOP, WAIT, Walker, ceil_milliseconds


class Boxes(Walker):
    """Boxes of one byte of size and as many of content; size 0 ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def look(self, data: bytes, position: int) -> int:
        if len(data) - position < 2:
            return WAIT
        self.seen.append(data[position])
        return data[position] or STOP


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_every_header_is_seen_once(size: int) -> None:
    body = bytes([3, 9, 9, 2, 9, 200]) + bytes(199) + bytes([2, 9, 0, 7, 3, 3])
    walker = Boxes()
    for start in range(0, len(body), size):
        walker.feed(body[start : start + size])
    assert walker.seen == [3, 2, 200, 2, 0]
    assert walker.size == len(body)


def test_milliseconds_round_up() -> None:
    assert [ceil_milliseconds(units, 44_100) for units in (0, 1, 44_100, 44_101)] == [
        0,
        1,
        1_000,
        1_001,
    ]


def test_a_walker_says_nothing_by_itself() -> None:
    with pytest.raises(NotImplementedError):
        Walker().look(b"", 0)
    with pytest.raises(NotImplementedError):
        Walker().milliseconds()
