"""A usage log that goes on by itself: server-sent events, a row of the table in each.

Rules: rows are made by the log's own template, so that they look the same and nothing in them is
markup of others; who may see them is asked again and again, since a session may end meanwhile. How
many streams there are, and how long each lasts, is bounded: a browser asks again by itself, and
says from when (`last-event-id`). This module must not know SQL.

Source: HTML Standard, section 9.2 (server-sent events).
"""

import asyncio
import contextlib
import sqlite3
from typing import Final

from aiohttp import web

from proxy.core.ids import format_id
from proxy.edge.console import usage_query, visit
from proxy.edge.console.visit import Visit
from proxy.storage.reports.live import News, Tail
from proxy.storage.reports.usage_log import CallRow, Wanted

LOOK_SECONDS: Final = 1.0
STREAM_SECONDS_MAX: Final = 1_800.0
STREAMS_MAX: Final = 100
STREAMS_OF_PERSON_MAX: Final = 4
AGAIN_SECONDS: Final = 15.0
"""How often it is asked whether the session still lives."""
OVERLAP_SECONDS: Final = 3.0
"""How long before a page was made calls are told that it may have missed."""
_TIME_CHARS_MAX: Final = 32
_HEADERS: Final = {"content-type": "text/event-stream; charset=utf-8", "x-accel-buffering": "no"}


async def live(seen: Visit) -> web.StreamResponse:
    """Tell of new and running calls of the wallet in use until the browser leaves."""
    wallet = seen.wallet
    if wallet is None or seen.request.query.get("of", str(wallet.id)) != str(wallet.id):
        return web.Response(status=204)  # another wallet was chosen since the page was made
    return await _stream(seen, usage_query.asked(seen).wanted, of_all=False)


async def live_of_all(seen: Visit) -> web.StreamResponse:
    """Tell an operator of the calls of all wallets, or of the one asked for."""
    return await _stream(seen, (await usage_query.asked_of_all(seen)).wanted, of_all=True)


async def _stream(seen: Visit, wanted: Wanted, *, of_all: bool) -> web.StreamResponse:
    person = seen.person
    if person is None:
        raise AssertionError("a stream is for who is signed in")
    streams = seen.surroundings.streams
    if streams.total() >= STREAMS_MAX or streams[person.id] >= STREAMS_OF_PERSON_MAX:
        return web.Response(status=204)  # a browser does not try again after this
    streams[person.id] += 1
    try:
        response = web.StreamResponse(headers=_HEADERS)
        seen.take_leave(response)
        await response.prepare(seen.request)
        # A browser comes again; ValueError is aiosqlite's of a connection another page gave up.
        with contextlib.suppress(ConnectionError, TimeoutError, sqlite3.Error, ValueError):
            async with asyncio.timeout(STREAM_SECONDS_MAX):
                await _tell(seen, response, wanted, of_all=of_all)
        return response
    finally:
        streams[person.id] -= 1


async def _tell(seen: Visit, response: web.StreamResponse, wanted: Wanted, *, of_all: bool) -> None:
    """Look again and again. Raises ConnectionError when the browser has left."""
    loop = asyncio.get_running_loop()
    may = _right(seen, of_all=of_all)
    since = _since(seen)
    tail = Tail(await seen.reader(), wanted)
    asked_at = loop.time()
    shown: dict[int, int] = {}
    await response.write(b"retry: 2000\n\n: hello\n\n")
    while True:
        news = await tail.look()
        news = News([call for call in news.ended if _is_new(call, since)], news.running)
        since = 0.0
        # A running call is told again when its bill has grown.
        grown = [row for row in news.running if shown.get(row.id) != row.charge]
        shown = {row.id: row.charge for row in news.running}
        if news.ended or grown:
            rows = seen.surroundings.renderer.render(
                "usage/rows.html",
                language=seen.language,
                visit=seen,
                calls=news.ended,
                running=grown[::-1],
                all=of_all,
                format_id=format_id,
                now=seen.now,
            )
            await response.write(event("row", rows, seen.now))
        else:
            await response.write(b": \n\n")
        await asyncio.sleep(LOOK_SECONDS)
        if loop.time() - asked_at >= AGAIN_SECONDS:
            asked_at = loop.time()
            now = await visit.see(seen.surroundings, seen.request)
            if _right(now, of_all=of_all) != may:
                return


def _right(seen: Visit, *, of_all: bool) -> tuple[object, ...]:
    """What a stream rests on; when it is another, the stream ends."""
    person, wallet = seen.person, seen.wallet
    if person is None:
        return ()
    if of_all:
        return (person.id, person.role)
    return (person.id, None if wallet is None else (wallet.id, wallet.role))


def event(name: str, text: str, at: float) -> bytes:
    """Write one event; its id is the time, from which a browser that comes again goes on."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\nid: {at:.3f}\n{lines}\n".encode()


def _since(seen: Visit) -> float:
    """From when on calls are new to this browser: since its page was made, or its last event."""
    said = seen.request.headers.get("last-event-id") or seen.request.query.get("since", "")
    try:
        since = float(said[:_TIME_CHARS_MAX])
    except ValueError:
        since = seen.now
    return since - OVERLAP_SECONDS


def _is_new(call: CallRow, since: float) -> bool:
    return call.started_at + call.duration_ms / 1000 >= since
