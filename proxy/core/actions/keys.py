"""Actions on client keys.

Rules: a key is named by its id or its name. Who is a member of a wallet, but not an owner, sees
and changes the keys they made themselves. What is not given to `key set` stays; null clears.
"""

from msgspec import UNSET, UnsetType

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


class KeyNamed(Arguments, frozen=True):
    key: str
    user: str | None = None


class KeySet(Arguments, frozen=True):
    key: str
    user: str | None = None
    name: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    expires: str | UnsetType | None = UNSET
    budget: str | UnsetType | None = UNSET
    budget_period: BudgetPeriod | UnsetType = UNSET
    requests_per_minute: int | UnsetType | None = UNSET
    tokens_per_minute: int | UnsetType | None = UNSET
    concurrency: int | UnsetType | None = UNSET
    models: tuple[str, ...] | UnsetType | None = UNSET
    networks: tuple[str, ...] | UnsetType | None = UNSET
    cache_seconds: int | UnsetType | None = UNSET


class KeyRotate(Arguments, frozen=True):
    """`grace`: how long the secret before stays valid, such as `1h`; `0`: it ends at once."""

    key: str
    user: str | None = None
    grace: str = "0"


class KeyLend(Arguments, frozen=True):
    key: str
    user: str | None = None
    seconds: int = 900


ACTIONS = (
    Action("key add", KeyAdd, "Add a key; the answer alone holds its secret.", Role.USER),
    Action("key list", KeyListing, "Keys without their secrets.", Role.USER, audited=False),
    Action("key show", KeyNamed, "One key without its secret.", Role.USER, audited=False),
    Action("key set", KeySet, "Change what is given of a key; null clears.", Role.USER),
    Action("key disable", KeyNamed, "Disable a key by id or name; its streams are cut.", Role.USER),
    Action("key enable", KeyNamed, "Enable a key again.", Role.USER),
    Action(
        "key rotate",
        KeyRotate,
        "Give a key a new secret, which the answer alone holds; the old one may stay for a while.",
        Role.USER,
    ),
    Action("key remove", KeyNamed, "Delete a key for good; its streams are cut.", Role.USER),
    Action(
        "key lend",
        KeyLend,
        "A further secret that opens a key for up to an hour, for pages that call with it.",
        Role.USER,
    ),
)
