"""Actions on the catalog as a whole."""

from proxy.core.actions.action import Action, Arguments

Table = dict[str, object]


class CatalogApply(Arguments, frozen=True):
    """`document` is a parsed catalog file."""

    document: Table
    force: bool = False
    dry_run: bool = False


ACTIONS = (
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
