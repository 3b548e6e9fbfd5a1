"""Actions on models and the versions of their prices."""

from collections.abc import Mapping

import msgspec

from proxy.core.actions.action import Action, Arguments

Table = dict[str, object]


class ModelListing(Arguments, frozen=True):
    """`search`: part of a name; `after`: the last name of the page before."""

    search: str = ""
    after: str = ""
    rows_max: int = 100
    unpriced: bool = False


class ModelName(Arguments, frozen=True):
    name: str


class ModelSet(Arguments, frozen=True):
    """`set`: keys of a `[[model]]` but its price, null for what it is without one."""

    name: str
    set: Table
    create: bool = False
    basis: str | None = None


class PriceSet(Arguments, frozen=True):
    """`price` is the `price` of a `[[model]]`, in US dollars; `basis` is `price_basis`."""

    model: str
    price: Table
    basis: str | None = None


class PriceWithdraw(Arguments, frozen=True):
    model: str
    basis: str | None = None


class PriceImport(Arguments, frozen=True):
    """`models`: whole `[[model]]` tables. `bases`: what each price was based on, by model."""

    models: tuple[Table, ...]
    bases: Mapping[str, str] = msgspec.field(default_factory=dict)


ACTIONS = (
    Action("model list", ModelListing, "Models with their prices, by name.", audited=False),
    Action("model show", ModelName, "One model and every version of its price.", audited=False),
    Action("model set", ModelSet, "Change some of a model, or make one without a price."),
    Action("model remove", ModelName, "Remove a model; its price versions stay.", step_up=True),
    Action("price set", PriceSet, "Give a model a price: a new version.", step_up=True),
    Action(
        "price withdraw",
        PriceWithdraw,
        "Take a model's price back: it is listed and refused.",
        step_up=True,
    ),
    Action(
        "price import",
        PriceImport,
        "Take over models and prices that were looked at, as one change.",
        step_up=True,
    ),
)
