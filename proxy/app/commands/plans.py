"""Commands on plans."""

import sqlite3
from collections import Counter
from collections.abc import Mapping

from proxy.app.commands.editing import edited
from proxy.app.commands.shapes import Handler, iso
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions.action import Actor, Arguments, Role
from proxy.core.actions.plans import PlanChoose, PlanName, PlanSet
from proxy.core.money import format_usd
from proxy.core.sentences import Sentence
from proxy.storage import accounts, edits, imports, plans
from proxy.storage.plans import Term
from proxy.storage.till import Aside, Event, Moved


async def plan_list(office: Office, _actor: Actor, _a: Arguments) -> object:
    """All plans as `[[plan]]` of the catalog document, with how many wallets are on each."""
    master, catalog = office.secrets.master, office.keeper.catalog
    document = await office.read(lambda c: imports.export_catalog(c, master))
    wallets = Counter(user.plan for user in catalog.users.values())
    return [
        {"plan": table, "wallets": wallets[table["name"]], "basis": edits.basis_of("plan", table)}
        for table in document["plan"]
    ]


async def plan_set(office: Office, _actor: Actor, a: PlanSet) -> object:
    """Change some of a plan, or make one; who is on it pays a new fee from their next month."""
    return await edited(
        office, edits.setting("plan", a.name, a.set, create=a.create, basis=a.basis)
    )


async def plan_remove(office: Office, _actor: Actor, a: PlanName) -> object:
    """Remove a plan that no wallet is on."""
    return await edited(office, edits.removing("plan", a.name))


async def plan_choose(office: Office, actor: Actor, a: PlanChoose) -> object:
    """Put a wallet on a plan and begin its month, unless that is paid for already."""
    plan = office.keeper.catalog.plans.get(a.plan)
    if plan is None and actor.role is not Role.USER:
        raise CommandError(
            Sentence("there is no plan {plan!r}", plan=a.plan), "see `sluice plan list`"
        )
    if plan is None or not (plan.offered or actor.role is not Role.USER):
        raise CommandError(
            Sentence("there is no plan {plan!r} on offer", plan=a.plan),
            "choose one of those that the wallet's page offers",
        )
    if not actor.owner:
        raise CommandError("only who owns the wallet chooses its plan")
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))
    now = office.clock()
    paid = await office.read(lambda c: plans.paid_until(c, user_id, plan.name))
    fee = 0 if paid is not None and paid > now else plan.monthly_fee

    def choose(connection: sqlite3.Connection, event: Event) -> Moved[Term]:
        return plans.choose_plan(connection, event, user_id, plan, now)

    term = await office.move(choose, aside=Aside(user_id, fee))
    return {
        "user": a.user,
        "plan": term.plan,
        "until": None if term.until is None else iso(term.until),
        "fee_usd": format_usd(term.fee),
        "credit_usd": format_usd(term.credit),
        "balance_usd": format_usd(office.keeper.balance(user_id)),
    }


HANDLERS: Mapping[str, Handler] = {
    "plan list": plan_list,
    "plan set": plan_set,
    "plan remove": plan_remove,
    "plan choose": plan_choose,
}
