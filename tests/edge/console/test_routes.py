from proxy.edge.console.pages import ROUTES
from proxy.edge.console.routes import Route


def test_a_route_that_skips_the_guard_says_so() -> None:
    assert all(isinstance(route, Route) for route in ROUTES)
    assert not [route for route in ROUTES if route.foreign and route.role is not None]
