"""Actions on client keys."""

from proxy.core.actions.action import Action, Arguments, Role
from proxy.core.entities import BudgetPeriod


class KeyListing(Arguments, frozen=True):
    user: str | None = None


class KeyAdd(Arguments, frozen=True):
    user: str
    name: str
    group: str = "default"
    expires: str | None = None
    budget: str | None = None
    budget_period: BudgetPeriod = BudgetPeriod.TOTAL
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    models: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    cache_seconds: int | None = None


class KeyDisable(Arguments, frozen=True):
    key: str
    user: str | None = None


ACTIONS = (
    Action("key add", KeyAdd, "Add a key; the answer alone holds its secret.", Role.USER),
    Action("key list", KeyListing, "Keys without their secrets.", Role.USER, audited=False),
    Action(
        "key disable", KeyDisable, "Disable a key by id or name; its streams are cut.", Role.USER
    ),
)
