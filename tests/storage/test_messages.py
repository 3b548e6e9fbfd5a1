from typing import get_args

import msgspec
import pytest

from proxy.core.entities import Usage, UsageSource
from proxy.core.limits import LimitState
from proxy.storage import messages
from proxy.storage.messages import FromKeeper, Posted, Role, ToKeeper
from proxy.storage.ports import KeeperStatistics, Progress, Refusal, RefusalReason, Weighed
from tests.storage.world import closing, opening

STATE = LimitState(60, 9, 0.5, None, None, 0.0)
PROGRESS = Progress(5, Usage(output=3), UsageSource.COUNTED, 6, 7, None)
STATISTICS = KeeperStatistics(1, 2.0, 3, 0, 4, 0.5, 0.25, 6, {("complete", "reported"): 7})
SAID: tuple[ToKeeper, ...] = (
    messages.Hello(Role.WORKER, 62, 1 << 55),
    messages.Hello(Role.WORKER, 0, 1, 9),
    messages.Restore(opening(5), 10, PROGRESS),
    messages.Restore(opening(6, client_reference="é"), 10, None),
    messages.Resend(opening(5), 10, closing(5)),
    messages.Undo(5),
    messages.Present(),
    messages.Admit(opening(5)),
    messages.Hurry(5),
    messages.Extend(5, 10),
    messages.Mark(PROGRESS),
    messages.Settle(closing(5, anomalies=("a", "b"))),
    messages.AskLimits(1, 2),
    messages.State(1, b"\0\xff"),
    messages.Scrape(1),
    messages.Goodbye(b""),
    messages.InForce(9),
    messages.CatchUp(3),
    messages.Weigh(4, opening(5)),
    messages.Count(5, 6),
)
ANSWERED: tuple[FromKeeper, ...] = (
    messages.Welcome(1 << 62, 7),
    messages.Welcome(1, 7, asks_in_force=True, weighs=True, counts=True),
    messages.Ready(),
    messages.Admitted(5, 10, ceiling_held=True, limits=STATE, durable=True),
    messages.Refused(5, RefusalReason.TOKENS, STATE, 1, 0.5, 60),
    messages.Unavailable(5, "why"),
    messages.Extended(5, 0),
    messages.Committed([1, 2], [Posted(3, 4, 5, 6)]),
    messages.Limits(1, STATE),
    messages.Limits(1, None),
    messages.CatalogChanged(8),
    messages.AskState(1),
    messages.State(1, b""),
    messages.Scraped(1, STATISTICS, "starting"),
    messages.CaughtUp(3),
    messages.Weighing(4, None),
    messages.Weighing(4, Weighed(5, False, 6, STATE, None)),
    messages.Weighing(4, Weighed(5, True, 6, STATE, Refusal(RefusalReason.WALLET, STATE, 7))),
    messages.Counted(5, known=True, refusal=None),
    messages.Counted(6, known=True, refusal=Refusal(RefusalReason.REQUESTS, STATE, 0, 0.5, 60)),
)


def test_what_is_said_is_what_is_heard() -> None:
    assert messages.to_keeper.decode(msgspec.msgpack.encode(SAID)) == list(SAID)
    assert messages.from_keeper.decode(msgspec.msgpack.encode(ANSWERED)) == list(ANSWERED)
    assert {type(one) for one in SAID} == set(get_args(ToKeeper))
    assert {type(one) for one in ANSWERED} == set(get_args(FromKeeper))


@pytest.mark.parametrize("kinds", [ToKeeper, FromKeeper])
def test_a_tag_names_one_record_in_either_direction(kinds: object) -> None:
    tags = [kind.__struct_config__.tag for kind in get_args(kinds)]
    assert len(set(tags)) == len(tags)
    assert all(kind.__struct_config__.array_like for kind in get_args(kinds))


def test_a_record_that_gained_a_field_is_read_by_the_release_before() -> None:
    frame = msgspec.msgpack.encode([[8, 5, 10, "of a later release"]])
    assert messages.to_keeper.decode(frame) == [messages.Extend(5, 10)]


def test_what_the_release_before_said_is_read_without_what_was_gained_since() -> None:
    hello = msgspec.msgpack.encode([[1, "worker", 3, 4]])
    assert messages.to_keeper.decode(hello) == [messages.Hello(Role.WORKER, 3, 4, -1)]
    welcome = msgspec.msgpack.encode([[32, 5, 6]])
    assert messages.from_keeper.decode(welcome) == [messages.Welcome(5, 6, asks_in_force=False)]


@pytest.mark.parametrize(
    "frame", [[[99, 1]], [["8", 5, 10]], [[8, 5]], [[8, "5", 10]], 8, [[32, 1, 1]]]
)
def test_what_nobody_would_say_is_refused(frame: object) -> None:
    with pytest.raises(msgspec.DecodeError):
        messages.to_keeper.decode(msgspec.msgpack.encode(frame))


def test_a_usage_of_another_release_is_understood() -> None:
    known = {"input_uncached": 1, "output": 2, "calls": 1}
    usage = Usage(input_uncached=1, output=2, searches=3, variant="hd", cache_read_audio=4)
    sent = msgspec.to_builtins(messages.Settle(closing(5, usage=usage)))
    assert isinstance(sent[1], dict), "named members: a release may add some"
    older = [sent[0], {**sent[1], "usage": known}]
    newer = [sent[0], {**sent[1], "usage": {**sent[1]["usage"], "holograms": 7}}]
    heard = messages.to_keeper.decode(msgspec.msgpack.encode([sent, older, newer]))
    assert [each.closing.usage for each in heard if isinstance(each, messages.Settle)] == [
        usage,
        Usage(input_uncached=1, output=2),
        usage,
    ]
