import json
from typing import Any

import openapi_spec_validator

from proxy.core.actions.scopes import scope_of
from proxy.core.actions.table import ACTIONS
from proxy.core.openapi.admin import ACTIONS_BY_PATH, PREFIX, document

DOCUMENT: dict[str, Any] = json.loads(document("1.2.3"))


def test_the_specifications_own_schema_accepts_it() -> None:
    openapi_spec_validator.validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == "1.2.3"


def test_every_exposed_action_is_in_it_and_nothing_more() -> None:
    exposed = [action for action in ACTIONS.values() if action.exposed]
    assert len(ACTIONS_BY_PATH) == len(exposed), "no two have the same path"
    assert DOCUMENT["paths"].keys() == {PREFIX + path for path in ACTIONS_BY_PATH}
    for path, action in ACTIONS_BY_PATH.items():
        row = DOCUMENT["paths"][PREFIX + path]
        assert row["post"]["x-sluice-scope"] == scope_of(action)
        assert ("get" in row) is not action.audited
        (body,) = row["post"]["requestBody"]["content"].values()
        name = body["schema"]["$ref"].rpartition("/")[2]
        fields = DOCUMENT["components"]["schemas"][name]["properties"]
        assert {*fields} == {*action.arguments.__struct_fields__}, "no two have the same name"


def test_what_only_looks_may_be_asked_by_query() -> None:
    parameters = DOCUMENT["paths"][PREFIX + "key-list"]["get"]["parameters"]
    assert parameters == [
        {"name": "user", "in": "query", "required": False, "schema": {"type": "string"}}
    ]
    (wallet,) = DOCUMENT["paths"][PREFIX + "wallet-show"]["get"]["parameters"]
    assert wallet["required"] is True
