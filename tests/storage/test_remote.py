import asyncio
from pathlib import Path

from proxy.storage.verify import verify
from tests.storage.port import admitted, ids, office, worker
from tests.storage.world import NOW, USD, closing, opening, read


def test_a_call_is_billed_over_the_port_as_it_is_in_one_process(tmp_path: Path) -> None:
    async def main() -> None:
        async with office(tmp_path) as here:
            remote = await worker(here)
            source = ids(0)
            for stream in (False, True):
                call_id = source.next(NOW)
                admission = admitted(await remote.admit(opening(call_id, stream=stream)))
                assert (admission.held, admission.ceiling_held) == (100_000, False)
                await admission.committed
                assert read(here.database, "SELECT id FROM open_call") == [(call_id,)]
                receipt = remote.settle(closing(call_id))
                await receipt.committed
                assert (receipt.charged, receipt.overrun) == (50_000, 0)
                stored = read(here.database, "SELECT balance_after FROM call ORDER BY id DESC")
                assert stored[0] == (receipt.balance_after,)
            await remote.close()

    asyncio.run(main())
    report = verify(tmp_path / "sluice.db", quiet=True)
    assert report.problems == ()
    assert (report.calls, report.wallets, report.revenue) == (2, 2 * USD - 100_000, 100_000)
