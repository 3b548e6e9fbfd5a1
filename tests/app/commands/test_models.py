from pathlib import Path
from typing import Any

import pytest

from proxy.app.commands import models
from proxy.app.control import CommandError
from proxy.app.office import Office
from proxy.core.actions import models as actions
from tests.app.commands.office import Do, in_office, refusal

SIZES = {"context_window": 1000, "output_tokens_max": 100}


def test_a_model_is_made_priced_again_and_withdrawn_and_every_version_stays(
    tmp_path: Path,
) -> None:
    async def test(do: Do, office: Office) -> None:
        await do("model set", name="new", set=SIZES, create=True)
        shown = await do("model show", name="new")
        assert (shown["price"], shown["version"], shown["versions"]) == (None, None, [])
        basis = shown["price_basis"]
        await do("price set", model="new", price={"input": "1", "output": "2"}, basis=basis)
        assert (await do("price set", model="new", price={"output": "2.0", "input": "1.0"})) == []
        with pytest.raises(CommandError, match=r"the price of model 'new' was changed since"):
            await do("price set", model="new", price={"input": "9", "output": "9"}, basis=basis)
        (change,) = await do("price set", model="new", price={"input": "3", "output": "4"})
        assert change["what"] == "price of 'new'"
        await do("price set", model="new", price={"input": "3", "output": "0"})
        await do("price set", model="new", price={"input": "2"})
        await do("price set", model="new", price={"input": "3", "output": "4"})
        shown = await do("model show", name="new")
        assert shown["price"] == {"input": "3.00", "output": "4.00"}
        # A price is no part of what an edit of the rest is based on.
        await do("model set", name="new", set={"tokenizer": "o200k"}, basis=shown["basis"])
        await do("price withdraw", model="new", basis=shown["price_basis"])
        assert office.keeper.catalog.models["new"].price is None
        versions = (await do("model show", name="new"))["versions"]
        assert [(each["version"], each["withdrawn"], each["price"]) for each in versions] == [
            (6, True, None),
            (5, False, {"input": "3.00", "output": "4.00"}),
            (4, False, {"input": "2.00", "output": "0.00"}),
            (3, False, {"input": "3.00", "output": "0.00"}),
            (2, False, {"input": "3.00", "output": "4.00"}),
            (1, False, {"input": "1.00", "output": "2.00"}),
        ]
        await do("model remove", name="new")
        with pytest.raises(CommandError, match="there is no model 'new'"):
            await do("model show", name="new")

    in_office(tmp_path, test)


def test_models_are_listed_by_pages_and_parts_of_names(tmp_path: Path) -> None:
    async def test(do: Do, _office: Office) -> None:
        for name in ("alpha", "beta", "gamma"):
            await do("model set", name=name, set=SIZES, create=True)
        first = await do("model list", rows_max=2)
        assert [each["model"]["name"] for each in first["models"]] == ["alpha", "beta"]
        assert (first["found"], first["more"], first["unpriced"]) == (4, True, 3)
        rest = await do("model list", rows_max=2, after="beta")
        assert [each["model"]["name"] for each in rest["models"]] == ["gamma", "m"]
        assert not rest["more"]
        assert rest["models"][1]["groups"] == ("default",)
        assert rest["models"][1]["channels"] == ["main"]
        found = await do("model list", search=" AMM ")
        assert [each["model"]["name"] for each in found["models"]] == ["gamma"]
        assert (await do("model list", unpriced=True))["found"] == 3

    in_office(tmp_path, test)


def test_an_import_is_one_change_or_none(tmp_path: Path) -> None:
    async def test(do: Do, office: Office) -> None:
        basis = (await do("model show", name="m"))["price_basis"]
        tables = [
            {"name": "m", "price": {"input": "5", "output": "6"}},
            {"name": "new", **SIZES, "price": {"input": "7", "output": "8"}},
        ]
        before = office.keeper.catalog.version
        with pytest.raises(CommandError, match="the price of model 'new' was changed since"):
            await do("price import", models=tables, bases={"m": basis, "new": "other"})
        assert office.keeper.catalog.version == before
        changes = await do("price import", models=tables, bases={"m": basis, "new": "none"})
        assert [each["what"] for each in changes] == [
            "model 'new'",
            "price of 'm'",
            "price of 'new'",
        ]
        model = office.keeper.catalog.models["m"]
        assert model.price is not None
        assert (model.price.input, model.context_window) == (5 * 10**9, 1000)

    in_office(tmp_path, test)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("model set", {"name": "x", "set": SIZES}, "there is no model 'x'"),
    ("model set", {"name": "m", "set": {"price": {}}}, "does not set its price"),
    ("model set", {"name": "m", "set": {"context_window": 0}}, "context_window must be at least"),
    ("model remove", {"name": "m"}, "still served by channel main"),
    ("model remove", {"name": "x"}, "there is no model 'x'"),
    ("price set", {"model": "x", "price": {"input": "1"}}, "there is no model 'x'"),
    ("price set", {"model": "m", "price": {"input": "-1", "output": "1"}}, "input is not a price"),
    ("price set", {"model": "m", "price": {"output": "1", "colour": "1"}}, "unknown key 'colour'"),
    ("price set", {"model": "m", "price": {"input": "1"}}, "output=0 gives it away"),
    ("price withdraw", {"model": "x"}, "there is no model 'x'"),
    ("price import", {"models": []}, "between 1 and 5,000 models"),
    ("price import", {"models": [{}]}, "name must be text"),
]


@pytest.mark.parametrize(("command", "arguments", "message"), REFUSED)
def test_what_is_wrong_is_said(
    tmp_path: Path, command: str, arguments: dict[str, Any], message: str
) -> None:
    assert message in ": ".join(refusal(tmp_path, command, **arguments))


def test_every_action_of_the_domain_has_its_handler() -> None:
    assert models.HANDLERS.keys() == {action.name for action in actions.ACTIONS}
