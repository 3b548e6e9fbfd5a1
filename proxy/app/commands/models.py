"""Commands on models and the versions of their prices."""

import sqlite3
from bisect import bisect_right
from collections.abc import Mapping
from typing import Final

from proxy.app.commands.editing import edited
from proxy.app.commands.shapes import Handler, iso
from proxy.app.office import Office
from proxy.core.actions.action import Actor
from proxy.core.actions.models import (
    ModelListing,
    ModelName,
    ModelSet,
    PriceImport,
    PriceSet,
    PriceWithdraw,
)
from proxy.core.entities import Formula, Model
from proxy.core.money import format_usd
from proxy.core.sentences import Sentence
from proxy.storage import edits
from proxy.storage.documents import write_model
from proxy.storage.edits import Edit, Table
from proxy.storage.price_tables import read_price, write_price
from proxy.storage.snapshots import PriceVersion, price_versions

ROWS_MAX: Final = 1_000
VERSIONS_MAX: Final = 200
IMPORTED_MAX: Final = 5_000


async def model_list(office: Office, _actor: Actor, a: ModelListing) -> object:
    """Models by name, a page of them; `more` says whether there are others behind."""
    catalog = office.keeper.catalog
    wish = a.search.strip().lower()
    names = sorted(
        name
        for name, model in catalog.models.items()
        if wish in name.lower() and (model.price is None or not a.unpriced)
    )
    start = bisect_right(names, a.after) if a.after else 0
    rows_max = max(1, min(a.rows_max, ROWS_MAX))
    return {
        "models": [_row(office, catalog.models[name]) for name in names[start : start + rows_max]],
        "found": len(names),
        "more": len(names) > start + rows_max,
        "unpriced": sum(model.price is None for model in catalog.models.values()),
    }


async def model_show(office: Office, _actor: Actor, a: ModelName) -> object:
    """One model, what an edit of it is based on, and every version of its price."""
    model = office.keeper.catalog.models.get(a.name)
    if model is None:
        raise edits.missing("model", a.name)

    def read(connection: sqlite3.Connection) -> list[PriceVersion]:
        return price_versions(connection, a.name, VERSIONS_MAX)

    versions = await office.read(read)
    return {
        **_row(office, model),
        "read_only": office.catalog_file or None,
        "versions": [
            {
                "version": each.price.version,
                "withdrawn": each.withdrawn,
                "created": iso(each.created_at),
                "price": None if each.withdrawn else write_price(each.price),
            }
            for each in versions
        ],
    }


async def model_set(office: Office, _actor: Actor, a: ModelSet) -> object:
    """Change some of a model, or make one, which is listed and refused until it has a price."""
    return await edited(
        office, edits.setting("model", a.name, a.set, create=a.create, basis=a.basis)
    )


async def model_remove(office: Office, _actor: Actor, a: ModelName) -> object:
    """Remove a model that no channel serves."""
    channels = office.keeper.catalog.channels.values()
    serving = sorted(channel.name for channel in channels if a.name in channel.models)
    if serving:
        raise ValueError(
            Sentence(
                "model {name!r} is still served by channel {serving}: remove it there first",
                name=a.name,
                serving=", ".join(serving),
            )
        )
    return await edited(office, edits.removing("model", a.name))


async def price_set(office: Office, _actor: Actor, a: PriceSet) -> object:
    """Give a model a price: a new version, for calls that begin from now on."""
    return await edited(office, _pricing(a.model, a.price, a.basis))


async def price_withdraw(office: Office, _actor: Actor, a: PriceWithdraw) -> object:
    """Take a model's price back; calls under way keep theirs."""
    return await edited(office, _pricing(a.model, None, a.basis))


async def price_import(office: Office, _actor: Actor, a: PriceImport) -> object:
    """Take over models that were looked at; all of them or, if one has moved, none."""
    if not 0 < len(a.models) <= IMPORTED_MAX:
        raise ValueError(
            Sentence("between 1 and {most:,} models can be imported at once", most=IMPORTED_MAX)
        )
    return await edited(office, *(_importing(dict(table), a.bases) for table in a.models))


def _pricing(model: str, price: Mapping[str, object] | None, basis: str | None) -> Edit:
    def table(found: Table | None) -> Table:
        if found is None:
            raise edits.missing("model", model)
        now = edits.fingerprint(found.get("price"))
        edits.check_basis(Sentence("the price of model {model!r}", model=model), basis, now)
        if price is not None:
            _check_output(model, found.get("price"), price)
        bare = {name: value for name, value in found.items() if name != "price"}
        return bare if price is None else {**bare, "price": dict(price)}

    return Edit("model", model, table)


def _check_output(model: str, now: object, price: Mapping[str, object]) -> None:
    # What a price does not name costs nothing: whoever means to change one part of it, and names
    # that alone, would give the dearest part away.
    output = now.get("output") if isinstance(now, Mapping) else None
    if "output" in price or output in {None, format_usd(0)}:
        return
    try:
        wanted = read_price("", model, price)
    except ValueError:
        return  # whoever reads the whole table says what is wrong with it, and where
    if wanted.formula is Formula.TOKENS:
        raise ValueError(
            Sentence(
                "this price of {model!r} has no output, which costs {output} USD now: a price is "
                "set as a whole, so name that too; output=0 gives it away",
                model=model,
                output=output,
            )
        )


def _importing(table: Table, bases: Mapping[str, str]) -> Edit:
    name = str(table.get("name"))

    def imported(found: Table | None) -> Table:
        now = edits.fingerprint(None if found is None else found.get("price"))
        edits.check_basis(
            Sentence("the price of model {model!r}", model=name), bases.get(name), now
        )
        return {**(found or {}), **table}

    return Edit("model", name, imported)


def _row(office: Office, model: Model) -> dict[str, object]:
    catalog = office.keeper.catalog
    table = write_model(model)
    price = table.pop("price", None)
    return {
        "model": table,
        "price": price,
        "version": None if model.price is None else model.price.version,
        "groups": catalog.groups_with(model.name),
        "channels": sorted(
            channel.name for channel in catalog.channels.values() if model.name in channel.models
        ),
        "basis": edits.basis_of("model", table),
        "price_basis": edits.fingerprint(price),
    }


HANDLERS: Mapping[str, Handler] = {
    "model list": model_list,
    "model show": model_show,
    "model set": model_set,
    "model remove": model_remove,
    "price set": price_set,
    "price withdraw": price_withdraw,
    "price import": price_import,
}
