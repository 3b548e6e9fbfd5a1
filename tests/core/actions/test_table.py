import pytest

from proxy.core.actions.action import Action, OfSelf, Role
from proxy.core.actions.table import ACTIONS


@pytest.mark.parametrize("action", ACTIONS.values(), ids=lambda action: action.name)
def test_every_action_says_what_it_is(action: Action) -> None:
    assert ACTIONS[action.name] is action
    assert action.summary.endswith(".")
    fields = action.arguments.__struct_fields__
    assert action.secrets <= {*fields}
    if action.role is Role.USER:
        # Without either nobody could tell whether the person may do it.
        assert "user" in fields or issubclass(action.arguments, OfSelf)
    assert action.audited or not action.step_up
    assert not (action.report and action.audited), "the keeper alone writes"
    assert not {name for name in fields if "password" in name or "secret" in name} - action.secrets
