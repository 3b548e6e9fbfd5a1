"""Actions on channels and on the catalog as a whole."""

from proxy.core.actions.action import Action, Arguments

Table = dict[str, object]


class ChannelTest(Arguments, frozen=True):
    name: str
    model: str | None = None


class ChannelAdd(Arguments, frozen=True):
    """`table` is a `[[channel]]` of the catalog document."""

    table: Table


class CatalogApply(Arguments, frozen=True):
    """`document` is a parsed catalog file."""

    document: Table
    force: bool = False
    dry_run: bool = False


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
    Action(
        "catalog apply",
        CatalogApply,
        "Make the catalog equal to a document; the answer is the difference.",
        step_up=True,
        secrets=frozenset({"document"}),
    ),
    Action(
        "catalog export",
        Arguments,
        "The whole catalog as a document; upstream keys are placeholders.",
        audited=False,
    ),
)
