"""Actions on redeem codes."""

from proxy.core.actions.action import Action, Arguments, Role


class CodeMake(Arguments, frozen=True):
    """`amount` is what each is worth in USD; `batch` names them together, by the date if absent."""

    amount: str
    count: int = 1
    batch: str | None = None
    note: str = ""
    expires: str | None = None


class CodeListing(Arguments, frozen=True):
    """`before`: the id to go on below."""

    batch: str | None = None
    before: int | None = None
    rows_max: int = 50


class CodeWithdraw(Arguments, frozen=True):
    """One code by its id, or what is left of a batch."""

    id: int | None = None
    batch: str | None = None


class CodeRedeem(Arguments, frozen=True):
    user: str
    code: str


ACTIONS = (
    Action("code make", CodeMake, "Make redeem codes; they are shown only now.", step_up=True),
    Action("code list", CodeListing, "Codes and what became of them.", audited=False),
    Action("code withdraw", CodeWithdraw, "Make codes worthless that nobody has redeemed."),
    Action(
        "code redeem",
        CodeRedeem,
        "Top a wallet up with a code.",
        Role.USER,
        secrets=frozenset({"code"}),
    ),
)
