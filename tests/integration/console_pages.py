"""Which pages the console has, from its own table, with real things in place of the parameters.

A route whose parameter nobody names here is an error: who adds a page adds what it is about, or no
test that walks all of them sees it with anything on it.
"""

import re
from collections.abc import Iterator, Mapping

from proxy.edge.console.pages import ROUTES
from proxy.edge.console.routes import Route

PARAMETER = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
STREAMS = ("/usage/live", "/operator/calls/live")
"""They never end: a test of their own listens to them."""
APART = (
    "/login/provider",
    "/login/callback",
    "/playground/progress",
    "/selftest/{job}",
    "/operator/reconcile/{job}",
    "/operator/reconcile/{job}/rows.csv",
)
"""Ways to a provider and back, what the playground's script asks for, and what is there only after
a form was sent; looked at where it is sent: test_console_calls.py, test_console_operator.py.
"""
FILES = re.compile(r"\.(csv|json|py|txt)$|^/api/")
"""What a browser saves and does not show."""


def pages() -> Iterator[Route]:
    """Every route that answers with a page to look at."""
    for route in ROUTES:
        shown = route.path not in (*STREAMS, *APART) and not FILES.search(route.path)
        if route.method == "GET" and shown and not route.foreign:
            yield route


def files() -> Iterator[Route]:
    """Every route that answers with a file to save."""
    for route in ROUTES:
        kept = FILES.search(route.path) and route.path not in APART
        if route.method == "GET" and kept and not route.foreign:
            yield route


QUERIES: Mapping[str, str] = {
    "/invitation": "?token={invitation}",
    "/password/set": "?token={password_token}",
    "/verify": "?token={verify_token}",
    "/account/email/take": "?token={email_token}",
    "/operator/people/delete": "?email={member}",
    "/operator/adjust": "?user={user}",
    "/operator/channels/show": "?name={channel}",
    "/operator/channels/edit": "?name={channel}",
    "/operator/channels/keys/new": "?name={channel}",
    "/operator/groups/edit": "?name={group}",
    "/operator/models/show": "?name={model}",
    "/operator/models/edit": "?name={model}",
    "/operator/models/price": "?name={model}",
    "/operator/models/import": "?provider=openai&models=gpt-4o*",
    "/operator/plans/edit": "?name={plan}",
    "/operator/users/show": "?name={user}",
}
"""What a page must be asked with to show something, beside the parameters of its path."""
NAMED: Mapping[str, str] = {
    "/models/{name:.+}": "/models/{model}",
}
"""Routes whose parameter does not say what it is the name of."""


def address(route: Route, known: Mapping[str, str]) -> str:
    """The path of a route, each parameter taken from `known` by its name."""

    def found(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise AssertionError(f"nothing to show {route.path} with: name its {match[1]}")
        return known[match[1]]

    path = NAMED.get(route.path, route.path) + QUERIES.get(route.path, "")
    return PARAMETER.sub(found, path)
