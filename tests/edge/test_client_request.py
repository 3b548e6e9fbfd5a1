"""A request's body by pieces: what belongs to it, what to the next, and when it is too much."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.core.http1_request import HeadMemo
from proxy.edge.client_request import BODY_PAUSE_BYTES, Request

HEAD = HeadMemo().parse(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5")[0]


def request(length: int, body: bytes | None = None, connection: Any = None) -> Request:
    return Request(connection, HEAD, length, body)


def test_a_body_that_came_with_its_head_is_taken_once() -> None:
    whole = request(5, b"hello")
    assert (whole.complete, whole.wants_more, whole.content_length) == (True, False, 5)
    assert whole.take() == b"hello"
    assert whole.take() == b""


@pytest.mark.parametrize(
    "pieces", [[b"hellonext"], [b"he", b"", b"llon", b"ext"], [b"hello", b"next"]]
)
def test_what_follows_a_body_is_the_next_requests(pieces: list[bytes]) -> None:
    asked, rest = request(5), b""
    for piece in pieces:
        rest += asked.feed(piece) if asked.wants_more else piece
    assert (asked.complete, asked.take(), rest) == (True, b"hello", b"next")


def test_chunks_are_unwrapped_and_what_is_none_is_an_error() -> None:
    asked = request(-1)
    assert asked.content_length is None
    assert asked.feed(b"3\r\nhel\r\n2\r\nlo\r\n") == b""
    assert asked.take() == b"hello"
    assert asked.feed(b"0\r\n\r\nGET") == b"GET"
    assert asked.complete
    broken = request(-1)
    assert broken.feed(b"2\r\nok\r\nzz\r\n") == b""
    assert broken.error is not None
    assert not broken.wants_more


def test_too_much_at_once_pauses_reading_until_it_was_taken() -> None:
    asked = request(2 * BODY_PAUSE_BYTES)
    asked.feed(b"x" * BODY_PAUSE_BYTES)
    assert not asked.is_overfull()
    asked.feed(b"x")
    assert asked.is_overfull()
    asked.take()
    assert not asked.is_overfull()
    asked.feed(b"x" * (BODY_PAUSE_BYTES - 1))
    assert asked.complete
    assert not asked.is_overfull()


def test_who_waits_for_more_is_woken_by_it_and_reading_goes_on() -> None:
    async def main() -> None:
        resumed: list[bool] = []
        line = SimpleNamespace(resume_reading=lambda: resumed.append(True))
        asked = request(5, connection=line)
        waiting = asyncio.ensure_future(asked.arrive())
        await asyncio.sleep(0)
        assert (resumed, waiting.done()) == ([True], False)
        asked.feed(b"hel")
        await waiting
        asked.wake()  # nobody waits any more

    asyncio.run(main())
