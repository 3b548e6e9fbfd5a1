import asyncio
from pathlib import Path

from proxy.storage import payments
from proxy.storage.reader import Reader
from proxy.storage.reports.payments import Payment, payment
from tests.storage.world import NOW, keeper


def test_a_payment_is_shown_to_its_wallet_alone(tmp_path: Path) -> None:
    async def main() -> None:
        books = await keeper(tmp_path / "a.db")
        await books.note(
            lambda c: payments.begin(c, 1, None, "stripe", "usd", 500, "1", 5 * 10**9, NOW)
        )
        reader = await Reader.open(tmp_path / "a.db")
        found = await payment(reader, 1, 1)
        assert found == Payment(1, "usd", 500, 5 * 10**9, None, "begun", NOW)
        assert await payment(reader, 2, 1) is await payment(reader, 1, 2) is None
        await reader.close()
        await books.close()

    asyncio.run(main())
