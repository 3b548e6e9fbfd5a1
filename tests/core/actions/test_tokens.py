from proxy.core.actions.tokens import ACTIONS


def test_a_token_cannot_make_another() -> None:
    (add,) = [action for action in ACTIONS if action.name == "token add"]
    assert add.step_up
    assert not add.exposed
