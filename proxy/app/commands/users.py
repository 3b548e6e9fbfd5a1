"""Commands on wallets' owners."""

import sqlite3
from collections.abc import Mapping

from proxy.app.commands.plans import plan_choose
from proxy.app.commands.shapes import Handler, iso
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Arguments
from proxy.core.actions.plans import PlanChoose
from proxy.core.actions.users import UserAdd, UserSet
from proxy.core.money import format_usd, parse_usd
from proxy.core.sentences import Sentence
from proxy.storage import accounts
from proxy.storage.billing import Keeper
from proxy.storage.till import Event, Moved
from proxy.storage.wallet_changes import add_top_up


async def user_add(office: Office, _actor: Actor, a: UserAdd) -> object:
    """Add a user; with `credit`, top the wallet up at once."""
    amount = None if a.credit is None else parse_usd(a.credit)
    plan = a.plan or _only_plan(office.keeper)
    now = office.clock()

    def add(connection: sqlite3.Connection, event: Event) -> Moved[int]:
        user_id = accounts.add_user(connection, a.name, plan, now)
        if not amount:
            return Moved(user_id)
        reference = f"start-{user_id}"
        credit = add_top_up(connection, event, user_id, amount, "starting credit", reference)
        return Moved(user_id, credit.transfers)

    user_id = await office.move(add)
    return {"id": user_id, "name": a.name, "plan": plan, "balance_usd": format_usd(amount or 0)}


async def user_set(office: Office, actor: Actor, a: UserSet) -> object:
    """Give a user another plan, or let them in or not; open streams of one shut out are cut."""
    if a.plan is not None:
        # A plan may cost something: its month begins as when an owner chooses it.
        await plan_choose(office, actor, PlanChoose(user=a.user, plan=a.plan))

    def change(connection: sqlite3.Connection) -> None:
        accounts.user_id_of(connection, a.user)
        if a.enabled is not None:
            accounts.set_user_enabled(connection, a.user, enabled=a.enabled)

    await office.change(change)
    user = next(each for each in office.keeper.catalog.users.values() if each.name == a.user)
    return {"id": user.id, "name": user.name, "plan": user.plan, "enabled": user.enabled}


async def user_list(office: Office, _actor: Actor, _a: Arguments) -> object:
    """All users with their balances."""
    rows = await office.read(accounts.list_users)
    return [
        {
            "id": row.id,
            "name": row.name,
            "plan": row.plan,
            "enabled": row.enabled,
            "balance_usd": format_usd(row.balance),
            "created": iso(row.created_at),
        }
        for row in rows
    ]


def _only_plan(keeper: Keeper) -> str:
    plans = sorted(keeper.catalog.plans)
    if len(plans) == 1:
        return plans[0]
    if not plans:
        raise CommandError("there is no plan yet", "sluice catalog apply FILE with a [[plan]]")
    raise CommandError(
        Sentence("which plan? there are {plans}", plans=", ".join(plans)), "name one with --plan"
    )


HANDLERS: Mapping[str, Handler] = {
    "user add": user_add,
    "user set": user_set,
    "user list": user_list,
}
