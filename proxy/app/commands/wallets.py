"""Commands on wallets."""

import secrets
from collections.abc import Mapping

from proxy.app.commands.shapes import Handler
from proxy.app.office import Office
from proxy.core.actions.action import Actor
from proxy.core.actions.wallets import WalletCredit, WalletShow
from proxy.core.money import format_usd, parse_usd
from proxy.storage import accounts


async def wallet_credit(office: Office, _actor: Actor, a: WalletCredit) -> object:
    """Top a wallet up, once per reference."""
    amount = parse_usd(a.amount)
    reference = a.reference or f"cli-{secrets.token_hex(8)}"
    user_id = await office.read(lambda c: accounts.user_id_of(c, a.user))
    top_up = await office.keeper.credit(user_id, amount, a.reason, reference)
    return {
        "user": a.user,
        "credited_usd": format_usd(top_up.amount if top_up.fresh else 0),
        "balance_usd": format_usd(office.keeper.balance(user_id)),
        "reference": reference,
        "repeated": not top_up.fresh,
    }


async def wallet_show(office: Office, _actor: Actor, a: WalletShow) -> object:
    """A wallet, where its money came from and where it went."""
    row = await office.read(lambda c: accounts.show_wallet(c, a.user))
    return {
        "user": row.user,
        "balance_usd": format_usd(row.balance),
        "topped_up_usd": format_usd(row.topped_up),
        "charged_usd": format_usd(row.charged),
    }


HANDLERS: Mapping[str, Handler] = {"wallet credit": wallet_credit, "wallet show": wallet_show}
