"""The relay's command line, with every decision about money written to a log.

`python -m tests.integration.recorded_relay serve ...` is `sluice serve ...` whose keeper appends
one JSON line per decision, in the order they were taken, to the file named by SLUICE_DECISIONS.
Nothing about the decisions changes.
"""

import json
import os
from collections.abc import Callable

from proxy.app import cli, wiring
from proxy.storage.billing import Keeper
from proxy.storage.ports import Admission, Closing, Opening, Receipt, Refusal

VARIABLE = "SLUICE_DECISIONS"


class RecordingKeeper(Keeper):
    """A keeper that says what it decides."""

    def decide(self, opening: Opening) -> Admission | Refusal:
        decision = super().decide(opening)
        held = decision.held if isinstance(decision, Admission) else None
        reason = None if isinstance(decision, Admission) else decision.reason.value
        _note(
            "admit", opening.call_id, key=opening.key_id, user=opening.user_id,
            stream=opening.stream, hold=opening.hold, ceiling=opening.ceiling,
            held=held, reason=reason,
        )  # fmt: skip
        return decision

    def extend(self, call_id: int, amount: int, answer: Callable[[int], None]) -> None:
        def answered(granted: int) -> None:
            _note("extend", call_id, asked=amount, granted=granted)
            answer(granted)

        super().extend(call_id, amount, answered)

    def settle(self, closing: Closing) -> Receipt:
        receipt = super().settle(closing)
        _note(
            "settle", closing.call_id, verdict=closing.verdict.value, charge=closing.charge,
            forgiven=closing.forgiven, charged=receipt.charged, overrun=receipt.overrun,
            balance_after=receipt.balance_after,
        )  # fmt: skip
        return receipt


_log = -1


def _note(what: str, call_id: int, **fields: object) -> None:
    os.write(_log, json.dumps({"what": what, "call": call_id, **fields}).encode() + b"\n")


if __name__ == "__main__":
    _log = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    setattr(wiring, "Keeper", RecordingKeeper)  # noqa: B010 - replaced on purpose
    cli.main()
