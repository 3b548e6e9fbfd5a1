"""A keeper to be killed: bills calls for ever and says on stdout what it was told is committed."""

import asyncio
import os
import random
import sys
from pathlib import Path
from time import time

from proxy.core.entities import Usage, UsageSource
from proxy.core.ids import IdSource
from proxy.storage.ports import Admission, Progress
from tests.storage.world import closing, keeper, opening

STREAMS = 50


async def main(path: Path, seed: int) -> None:
    """Run `STREAMS` calls at a time until killed; a line is one committed charge."""
    books = await keeper(path, credit=10**15)
    print("ready", books.recovery.calls, flush=True)
    ids, rng = IdSource(0), random.Random(seed)

    async def one() -> None:
        call_id = max(ids.next(time()), books.last_id + 1)
        stream = rng.random() < 0.7
        admission = await books.admit(
            opening(call_id, stream=stream, key_id=1, hold=4_000_000, started_at=time())
        )
        if not isinstance(admission, Admission):
            raise AssertionError(f"{admission} with a wallet that never empties")
        if stream:
            await admission.committed
        output = 0
        for _ in range(rng.randrange(4)):
            output += rng.randrange(1, 300)
            if stream:
                usage = Usage(output=output)
                books.mark(Progress(call_id, usage, UsageSource.COUNTED, 2_000 * output, output, 1))
            await asyncio.sleep(rng.random() / 100)
        usage = Usage(output=output)
        receipt = books.settle(
            closing(
                call_id, usage=usage, charge=2_000 * output, delivered_bytes=output,
                ended_at=time(),
            )
        )  # fmt: skip
        await receipt.committed
        os.write(1, b"%d %d\n" % (call_id, receipt.charged))

    async def forever() -> None:
        while True:
            await one()

    await asyncio.gather(*(forever() for _ in range(STREAMS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
