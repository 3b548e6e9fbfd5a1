"""What templates see of a visitor, made up."""

from types import SimpleNamespace

from proxy.core.charts import Series, bar_chart, line_chart, share_bar
from proxy.edge.console.render import usd
from proxy.edge.console.surroundings import Options


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
        "surroundings": SimpleNamespace(options=Options()),
        "notice": {"kind": "success", "text": "The key was made."},
    }
    return SimpleNamespace(**(values | changes))


def stranger(**changes: object) -> SimpleNamespace:
    """Somebody who is not signed in."""
    seen = visit(person=None, role=None, wallet=None, wallets=[])
    vars(seen).update(changes)
    return seen


def charts() -> dict[str, str]:
    """One of each kind, with figures that are made up."""
    days = [f"Nov {day}" for day in range(1, 22)]
    models = ("claude-sonnet-4-5", "gpt-5-mini", "gemini-2.5-pro", "llama-3.3-70b", "others")
    spent = [
        Series(
            name,
            tuple((day * 37 * (n + 3) % 11 + 2) * 90_000_000 // (n + 1) for day in range(21)),
        )
        for n, name in enumerate(models)
    ]
    waits = tuple(None if day == 8 else 300 + day * 53 % 170 for day in range(21))
    shares = [(one.name, one.total) for one in spent]
    return {
        "bars": bar_chart("US dollars by model", days, spent, usd),
        "lines": line_chart("Median, ms", days, [Series("ms", waits)], lambda ms: f"{ms} ms"),
        "shares": share_bar("November", shares, usd),
    }
