import asyncio

from proxy.storage.pending import Row


def test_waiting_for_a_lazy_row_hurries_it_once() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        hurried: list[str] = []
        row = Row(loop, lambda: hurried.append("now"))
        assert not row.done()
        assert not hurried, "nobody waits for it yet"
        told: asyncio.Queue[object] = asyncio.Queue(9)
        row.add_done_callback(told.put_nowait)
        waiting = asyncio.ensure_future(asyncio.wait_for(row, 5))
        await asyncio.sleep(0)
        assert hurried == ["now"]
        row.finish()
        await waiting
        assert await told.get() is row

    asyncio.run(main())


def test_a_row_that_is_durable_hurries_nobody() -> None:
    async def main() -> None:
        hurried: list[str] = []
        row = Row(asyncio.get_running_loop(), lambda: hurried.append("now"))
        row.finish()
        await row
        assert not hurried

    asyncio.run(main())
