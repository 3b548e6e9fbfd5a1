from proxy.core.actions.usage import ACTIONS


def test_looking_changes_nothing() -> None:
    assert not any(action.audited for action in ACTIONS)
