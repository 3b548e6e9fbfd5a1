from proxy.core.actions.action import Role
from proxy.core.actions.codes import ACTIONS


def test_people_redeem_and_only_the_operator_makes_codes() -> None:
    roles = {action.name: action.role for action in ACTIONS}
    assert [name for name, role in roles.items() if role is Role.USER] == ["code redeem"]
    (make,) = [action for action in ACTIONS if action.name == "code make"]
    (redeem,) = [action for action in ACTIONS if action.name == "code redeem"]
    assert make.step_up
    assert redeem.secrets == {"code"}
