"""The usage log as a file: CSV for spreadsheets, JSON for programs, as long as it is.

Rules: written as it is read, a page of rows at a time, and no view of the database is held between
pages; after each the file's reader rests as long as the page took, so that an export never keeps
the disk and a processor from those who serve calls. A slow or gone browser stops the reading. No
cell is a formula. This module must not know SQL.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from typing import Final

import orjson
from aiohttp import web

from proxy.core.spreadsheets import MARK, Cell, csv_line
from proxy.edge.console import usage_query
from proxy.edge.console.visit import Visit
from proxy.storage.reports import usage_log
from proxy.storage.reports.call_lines import COLUMNS, fields
from proxy.storage.reports.usage_log import CallRow, Wanted

PAGE_ROWS: Final = 1_000
ROWS_MAX: Final = 2_000_000
EXPORTS_MAX: Final = 8
"""At once, in one process."""
EXPORTS_OF_PERSON_MAX: Final = 2
EXPORT_SECONDS_MAX: Final = 1_800.0
"""How long a slow reader may keep one open."""
REST_SECONDS_MAX: Final = 0.25
log = logging.getLogger("sluice.console")


async def as_csv(seen: Visit) -> web.StreamResponse:
    """The calls asked for, as CSV with a line of names."""
    head = MARK + csv_line(COLUMNS)
    return await _write(
        seen, "usage.csv", "text/csv; charset=utf-8", head, lambda row: csv_line(cells(row)), ""
    )


async def as_json(seen: Visit) -> web.StreamResponse:
    """The calls asked for, as a JSON array of objects, one to a line."""
    comma = ""

    def line(row: CallRow) -> str:
        nonlocal comma
        before, comma = comma, ",\n"
        return before + orjson.dumps(fields(row)).decode()

    return await _write(seen, "usage.json", "application/json", "[\n", line, "\n]\n")


def cells(row: CallRow) -> list[Cell]:
    """A call in the order of `COLUMNS`."""
    return [*fields(row).values()]


async def _write(
    seen: Visit,
    name: str,
    content_type: str,
    head: str,
    line: Callable[[CallRow], str],
    end: str,
) -> web.StreamResponse:
    person = seen.person
    if seen.wallet is None or person is None:
        return seen.problem(404)
    _, exports = seen.texts, seen.surroundings.exports
    if exports[person.id] >= EXPORTS_OF_PERSON_MAX:
        return seen.problem(429, _("Two exports of yours are under way; wait for one to end."))
    if exports.total() >= EXPORTS_MAX:
        return seen.problem(429, _("Others are exporting now; try again in a minute."))
    wanted = usage_query.asked(seen).wanted
    exports[person.id] += 1
    try:
        response = web.StreamResponse(
            headers={
                "content-type": content_type,
                "content-disposition": f'attachment; filename="{name}"',
            }
        )
        seen.take_leave(response)
        await response.prepare(seen.request)
        whole = False
        try:
            async with asyncio.timeout(EXPORT_SECONDS_MAX):
                await response.write(head.encode())
                async for rows in _pages(seen, wanted):
                    await response.write("".join([line(row) for row in rows]).encode())
                await response.write(end.encode())
                await response.write_eof()
                whole = True
        except (ConnectionError, TimeoutError, sqlite3.Error) as error:
            log.warning("an export ended early: %r", error)
        finally:
            # A file that ends early must not look whole.
            if not whole and seen.request.transport is not None:
                seen.request.transport.abort()
        return response
    finally:
        exports[person.id] -= 1


async def _pages(seen: Visit, wanted: Wanted) -> AsyncIterator[list[CallRow]]:
    loop = asyncio.get_running_loop()
    before: int | None = None
    for _ in range(ROWS_MAX // PAGE_ROWS):
        began = loop.time()
        reader = await seen.reader()
        page = await usage_log.page(reader, wanted, before=before, rows_max=PAGE_ROWS)
        if page.calls:
            yield page.calls
        before = page.older
        if before is None:
            return
        await asyncio.sleep(min(loop.time() - began, REST_SECONDS_MAX))
