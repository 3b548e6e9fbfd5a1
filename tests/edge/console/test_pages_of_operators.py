from proxy.core.actions.action import Role
from proxy.edge.console.pages_of_operators import ROUTES


def test_everything_of_operators_is_for_operators() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        assert route.path == "/operator" or route.path.startswith("/operator/")
        assert route.role is not None
        assert not Role.USER.covers(route.role)
        assert not route.foreign
