"""What templates see of a visitor, made up."""

from types import SimpleNamespace


def visit(role: object = "admin", **changes: object) -> SimpleNamespace:
    wallet = SimpleNamespace(id=1, name="mia@example.com", balance=12_504_373_500, held=20_000_000)
    other = SimpleNamespace(id=2, name="Reading group", balance=0, held=0)
    values: dict[str, object] = {
        "person": SimpleNamespace(email="mia@example.com"),
        "role": role,
        "wallet": wallet,
        "wallets": [wallet, other],
        "language": "en",
        "theme": "auto",
        "csrf": "csrf-token",
        "path": "/keys",
        "notice": None,
    }
    return SimpleNamespace(**(values | changes))


def stranger(**changes: object) -> SimpleNamespace:
    """Somebody who is not signed in."""
    seen = visit(person=None, role=None, wallet=None, wallets=[])
    vars(seen).update(changes)
    return seen
