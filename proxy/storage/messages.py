"""What workers, the console and the keeper say to each other over the port.

Rules: records only, each a msgpack array whose first element is its tag. A record may gain
fields at its end, with defaults, and a tag is never used again: then another release still reads
it, and the version below stays. Whatever else changes raises the version, and peers of another
version are refused. Calls are named by their ids everywhere, so that every message about a call
may be said twice. This module must not know sockets or decisions.

A conversation: both sides send `PREFACE`. The worker says `Hello`, is told `Welcome`, announces
what it holds (`Restore`, `Resend`, `Undo`, in any order), says `Present`, and is told `Ready`;
only then it asks for anything. The console says `Hello` and may ask at once.
"""

from enum import StrEnum
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct

from proxy.core.limits import LimitState
from proxy.storage.ports import (
    Closing,
    KeeperStatistics,
    Opening,
    Progress,
    Refusal,
    RefusalReason,
    Weighed,
)

VERSION = 1
PREFACE = b"sluice port %d\n" % VERSION
"""The first bytes in each direction: told apart before anything is decoded."""


class Role(StrEnum):
    """Who speaks to the keeper."""

    WORKER = "worker"
    CONSOLE = "console"


class Hello(Struct, frozen=True, array_like=True, tag=1):
    """Who connects. `incarnation` tells two processes apart that had the same number.

    `catalog_version` is the one in force there, 0 before the first; -1: it never says which.
    """

    role: Role
    number: int
    incarnation: int
    catalog_version: int = -1


class Restore(Struct, frozen=True, array_like=True, tag=2):
    """A call that is open: what was asked, what is held for it, what it has delivered."""

    opening: Opening
    held: int
    progress: Progress | None


class Resend(Struct, frozen=True, array_like=True, tag=3):
    """A settlement nobody has acknowledged, with all it takes to settle a call never heard of."""

    opening: Opening
    held: int
    closing: Closing


class Undo(Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Nobody will begin this call: forget its admission, if there was one."""

    call_id: int


class Present(Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Everything that was open is announced."""


class Admit(Struct, frozen=True, array_like=True, tag=6):
    """See `Billing.admit`. Answered by `Admitted`, `Refused` or `Unavailable`."""

    opening: Opening


class Hurry(Struct, frozen=True, array_like=True, tag=7, gc=False):
    """Somebody waits for the open row of a plain call. Answered by `Committed`."""

    call_id: int


class Extend(Struct, frozen=True, array_like=True, tag=8, gc=False):
    """See `Billing.extend`. Answered by `Extended`."""

    call_id: int
    amount: int


class Mark(Struct, frozen=True, array_like=True, tag=9):
    """See `Billing.mark`. Not answered."""

    progress: Progress


class Settle(Struct, frozen=True, array_like=True, tag=10):
    """See `Billing.settle`. Answered by `Committed`."""

    closing: Closing


class AskLimits(Struct, frozen=True, array_like=True, tag=11, gc=False):
    """See `Billing.limits`. Answered by `Limits` of the same number."""

    number: int
    key_id: int


class State(Struct, frozen=True, array_like=True, tag=12, gc=False):
    """A worker's metrics, as its exposition wrote them: the answer to `AskState`."""

    number: int
    state: bytes


class Scrape(Struct, frozen=True, array_like=True, tag=13, gc=False):
    """The console wants figures. Answered by several `State` and one `Scraped`."""

    number: int


class Goodbye(Struct, frozen=True, array_like=True, tag=14, gc=False):
    """A worker leaves with nothing open; these are its last metrics."""

    state: bytes


class InForce(Struct, frozen=True, array_like=True, tag=15, gc=False):
    """The worker serves by this version of the catalog now, and by none before it."""

    catalog_version: int


class CatchUp(Struct, frozen=True, array_like=True, tag=16, gc=False):
    """See `Billing.catch_up`. Answered by `CaughtUp` of the same number."""

    number: int


class Weigh(Struct, frozen=True, array_like=True, tag=17):
    """See `Billing.weigh`. Answered by `Weighing` of the same number."""

    number: int
    opening: Opening


class Count(Struct, frozen=True, array_like=True, tag=18, gc=False):
    """See `Billing.count`. Answered by `Counted` of the same number."""

    number: int
    key_id: int


class Welcome(Struct, frozen=True, array_like=True, tag=32, gc=False):
    """The keeper knows who speaks. `last_id`: the greatest id in use; ids begin above it.

    `asks_in_force`: it knows `InForce`, which the release before did not; `weighs`: `CatchUp` and
    `Weigh`; `counts`: `Count`.
    """

    last_id: int
    catalog_version: int
    asks_in_force: bool = False
    weighs: bool = False
    counts: bool = False


STRANGER: Final = Welcome(0, 0)
"""What a worker knows of a keeper before it welcomes: it is asked for nothing that is new."""


class Ready(Struct, frozen=True, array_like=True, tag=33, gc=False):
    """What was announced is in force, and calls are admitted."""


class Admitted(Struct, frozen=True, array_like=True, tag=34):
    """See `ports.Admission`. Unless its open row is `durable` by now, `Committed` says when."""

    call_id: int
    held: int
    ceiling_held: bool
    limits: LimitState
    durable: bool = False
    balance: int = 0


class Refused(Struct, frozen=True, array_like=True, tag=35):
    """See `ports.Refusal`."""

    call_id: int
    reason: RefusalReason
    limits: LimitState
    available: int
    retry_after: float
    limit: int


class Unavailable(Struct, frozen=True, array_like=True, tag=36, gc=False):
    """The keeper cannot decide about this call now."""

    call_id: int
    reason: str


class Extended(Struct, frozen=True, array_like=True, tag=37, gc=False):
    """So much was added to the call's hold."""

    call_id: int
    granted: int


class Posted(Struct, frozen=True, array_like=True, gc=False):
    """What one settlement posted. Nano-USD."""

    call_id: int
    charged: int
    overrun: int
    balance_after: int


class Committed(Struct, frozen=True, array_like=True, tag=38):
    """In the file now: these open rows, and these settlements with what they posted."""

    opened: list[int]
    posted: list[Posted]


class Limits(Struct, frozen=True, array_like=True, tag=39):
    """A key's buckets; None for a key the keeper does not know."""

    number: int
    limits: LimitState | None


class CatalogChanged(Struct, frozen=True, array_like=True, tag=40, gc=False):
    """This version of the catalog is in force: read it from the file."""

    version: int


class AskState(Struct, frozen=True, array_like=True, tag=41, gc=False):
    """The keeper wants a worker's metrics. Answered by `State` of the same number."""

    number: int


class Scraped(Struct, frozen=True, array_like=True, tag=42):
    """The answer to `Scrape`, after the states. `unready` says why calls are not admitted."""

    number: int
    statistics: KeeperStatistics
    unready: str | None


class CaughtUp(Struct, frozen=True, array_like=True, tag=43, gc=False):
    """The file has what was decided before it was asked for."""

    number: int


class Weighing(Struct, frozen=True, array_like=True, tag=44):
    """What an admission would come to; None when the keeper cannot say."""

    number: int
    weighed: Weighed | None


class Counted(Struct, frozen=True, array_like=True, tag=45):
    """The request may go on, or why not. `known`: whether the keeper knows the key."""

    number: int
    known: bool
    refusal: Refusal | None


ToKeeper: TypeAlias = (
    Hello | Restore | Resend | Undo | Present | Admit | Hurry | Extend | Mark | Settle
    | AskLimits | State | Scrape | Goodbye | InForce | CatchUp | Weigh | Count
)  # fmt: skip
FromKeeper: TypeAlias = (
    Welcome | Ready | Admitted | Refused | Unavailable | Extended | Committed | Limits
    | CatalogChanged | AskState | State | Scraped | CaughtUp | Weighing | Counted
)  # fmt: skip

to_keeper = msgspec.msgpack.Decoder(list[ToKeeper])
"""Decodes one frame on the keeper's side; made once, because making one is dear."""
from_keeper = msgspec.msgpack.Decoder(list[FromKeeper])
