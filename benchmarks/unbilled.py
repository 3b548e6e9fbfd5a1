"""The same relay process without money: what `--only money` compares the ledger's cost with.

    python -m benchmarks.unbilled --data DIRECTORY --listen HOST:PORT --operations HOST:PORT

Rules: only `World.billing` differs from `sluice serve`. Metering, routing, metrics and the
catalog are the product's own; the keeper runs too, for the snapshot, but no call reaches it: all
are admitted, nothing is limited, extended or written. This is no mode of the product, which has
no way to serve without its ledger.
"""

import argparse
import asyncio
from collections.abc import Callable

import uvloop

from proxy.app.directory import DataDirectory
from proxy.app.serve import Signals
from proxy.app.settings import Settings, load
from proxy.app.sockets import Listeners, open_listeners
from proxy.app.wiring import Relay
from proxy.core.limits import LimitState
from proxy.edge import log
from proxy.storage.ports import Admission, Closing, Durable, Opening, Progress, Receipt, Weighed

UNLIMITED = 10**15
"""A million dollars, nano-USD: no call of a benchmark comes near it."""


class NoBilling:
    """Implements storage/ports.Billing by agreeing to everything at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """One commit that happened long ago serves every call."""
        done: asyncio.Future[None] = loop.create_future()
        done.set_result(None)
        self._committed: Durable = done
        self._limits = LimitState()

    async def admit(self, opening: Opening) -> Admission:
        """Hold more than any call costs."""
        return self.decide(opening)

    def decide(self, opening: Opening) -> Admission:  # noqa: ARG002 - all are admitted
        """The same at once."""
        return Admission(
            held=UNLIMITED, ceiling_held=False, limits=self._limits, committed=self._committed
        )

    async def count(self, key_id: int) -> None:
        """Let it go on."""

    def extend(self, call_id: int, amount: int, answer: Callable[[int], None]) -> None:  # noqa: ARG002 - all are the same
        """Grant it."""
        answer(amount)

    def mark(self, progress: Progress) -> None:
        """Forget it."""

    def settle(self, closing: Closing) -> Receipt:
        """Say that the charge is posted."""
        return Receipt(closing.call_id, closing.charge, 0, UNLIMITED, self._committed)

    async def weigh(self, opening: Opening) -> Weighed:
        """Say that it would be admitted."""
        return Weighed(opening.hold, False, UNLIMITED, self._limits, None)  # noqa: FBT003 - a record

    async def catch_up(self) -> None:
        """Return at once: nothing is written."""

    async def limits(self, key_id: int) -> LimitState:  # noqa: ARG002 - no key has limits
        """Return no limits."""
        return self._limits


class UnbilledRelay(Relay):
    """The product's process with its billing taken out after the start."""

    async def start(self, settings: Settings, listeners: Listeners) -> None:
        """Raises what Relay.start raises; nobody can have called when it returns."""
        await super().start(settings, listeners)
        self.world.billing = NoBilling(asyncio.get_running_loop())


async def serve(settings: Settings, listeners: Listeners) -> None:
    """Serve until SIGTERM, then drain."""
    log.configure(settings.log_level, settings.log_format)
    with DataDirectory(settings.data_path).locked():
        relay = UnbilledRelay()
        await relay.start(settings, listeners)
        signals = Signals()
        try:
            await signals.stop.wait()
            await relay.drain()
        finally:
            await relay.stop()
            signals.close()


def main() -> None:
    """Command line, the flags of `sluice serve` that the benchmark uses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--data", "--listen", "--operations"):
        parser.add_argument(name, required=True)
    parser.add_argument("--console", default="")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    settings = load(
        None,
        {
            "data_dir": options.data,
            "listen": options.listen,
            "operations_listen": options.operations,
            "console_listen": options.console,
            **dict(each.split("=", 1) for each in options.set),
        },
    )
    uvloop.run(serve(settings, open_listeners(settings)))


if __name__ == "__main__":
    main()
