from proxy.core.actions.action import Role
from proxy.edge.console.pages import ROUTES


def test_every_page_of_an_operator_is_below_its_path() -> None:
    for route in ROUTES:
        below = route.path.startswith("/operator")
        assert below == (route.role in {Role.OPERATOR, Role.ADMIN}), route.path


def test_what_changes_something_is_not_asked_for_by_a_link() -> None:
    assert {route.method for route in ROUTES} <= {"GET", "POST"}
