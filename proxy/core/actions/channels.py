"""Actions on channels and their pools of keys.

Rules: a secret goes in and never comes out; an edit may say on what it is based (`basis`, as told
by `channel show`), and is refused if that has changed since. This module must not know how the
catalog is stored.
"""

from proxy.core.actions.action import Action, Arguments

Table = dict[str, object]


class ChannelTest(Arguments, frozen=True):
    name: str
    model: str | None = None


class ChannelAdd(Arguments, frozen=True):
    """`table` is a `[[channel]]` of the catalog document."""

    table: Table


class ChannelName(Arguments, frozen=True):
    name: str


class ChannelSet(Arguments, frozen=True):
    """`set`: keys of a `[[channel]]` and their new values, null for what it is without one.

    `create`: the channel is new. `proxy` may hold a password, so no log shows it; "" is none.
    """

    name: str
    set: Table
    create: bool = False
    basis: str | None = None
    proxy: str | None = None


class ChannelSwitch(Arguments, frozen=True):
    name: str
    enabled: bool


class ChannelKeyAdd(Arguments, frozen=True):
    name: str
    secret: str


class ChannelKeyRemove(Arguments, frozen=True):
    """`key` is its number, as `channel show` has it."""

    name: str
    key: int


ACTIONS = (
    Action("channel list", Arguments, "All channels, without their keys.", audited=False),
    Action("channel test", ChannelTest, "Make one tiny real call to a channel."),
    Action(
        "channel add",
        ChannelAdd,
        "Add a channel, or change the one of that name.",
        step_up=True,
        secrets=frozenset({"table"}),
    ),
    Action("channel show", ChannelName, "One channel, its keys by their last four.", audited=False),
    Action(
        "channel set",
        ChannelSet,
        "Change some of a channel, or make one.",
        step_up=True,
        secrets=frozenset({"proxy"}),
    ),
    Action("channel switch", ChannelSwitch, "Let a channel serve, or serve no longer."),
    Action("channel remove", ChannelName, "Remove a channel; its accounts stay.", step_up=True),
    Action(
        "channel key add",
        ChannelKeyAdd,
        "Put an upstream key into a channel's pool.",
        step_up=True,
        secrets=frozenset({"secret"}),
    ),
    Action(
        "channel key remove", ChannelKeyRemove, "Take an upstream key out of a pool.", step_up=True
    ),
)
