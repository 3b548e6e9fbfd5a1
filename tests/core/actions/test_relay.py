from proxy.core.actions.relay import ACTIONS


def test_figures_are_no_part_of_the_api() -> None:
    assert [action.name for action in ACTIONS if action.exposed or action.audited] == []
