import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from proxy.core.actions.action import Action, Role
from proxy.core.actions.table import DOMAIN_OF
from proxy.core.ids import format_id
from proxy.core.openapi.admin import ACTIONS_BY_PATH
from proxy.edge.console import pages_api
from proxy.edge.console.rates import Rates
from proxy.edge.console.surroundings import ApiRates
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import Browser, Page, World, in_console

ACTIONS = "/api/v1/actions/"


async def ask(
    who: Browser, token: str, action: str, body: Any = None, method: str = "POST", **headers: str
) -> Page:
    plain = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = None if plain is None else io.BytesIO(plain)
    said = {"authorization": f"Bearer {token}", **headers} if token else headers
    return await who.ask(method, ACTIONS + action, sent, said)


def error(page: Page) -> tuple[int, str]:
    told = json.loads(page.text)["error"]
    assert told.keys() >= {"code", "message", "remedy"}
    assert page.headers["content-type"].startswith("application/json")
    return page.status, told["code"]


async def robot(world: World, *scopes: str, role: str = "admin", **more: object) -> str:
    made = await world.do("token add", name="robot", scopes=scopes, role=role, **more)
    return str(made["token"])


def test_what_the_command_line_does_the_api_does(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        who, token = world.stranger(), await robot(world, "*:confirmed")
        made = await ask(who, token, "user-add", {"name": "ann", "credit": "5"})
        assert json.loads(made.text)["result"]["balance_usd"] == "5.00"
        listed = await ask(who, token, "user-list", method="GET")
        assert json.loads(listed.text)["result"] == await world.do("user list")
        days = await ask(who, token, "usage-daily?user=ann&days=3", method="GET")
        assert json.loads(days.text) == {"result": []}
        assert "set-cookie" not in {name.lower() for name in listed.headers}
        rows = await world.office.read(
            lambda c: c.execute("SELECT via, actor, outcome FROM audit ORDER BY id DESC LIMIT 1")
            .fetchall()
        )  # fmt: skip
        assert rows == [("api", "token 1 (robot)", "done")]

    in_console(tmp_path, test)


def test_refusals_are_json_with_what_to_do(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        who = world.stranger()
        token = await robot(world, "keys:write", "wallets:write", role="operator")
        await world.do("user add", name="ann")
        for wrong in ("", "sa-x", "sk-" + "a" * 38, "x" * 999, "\xe9"):
            assert error(await ask(who, wrong, "key-list")) == (401, "invalid_token")
        basic = await who.ask(
            "POST", ACTIONS + "key-list", b"", {"authorization": f"Basic {token}"}
        )
        assert error(basic) == (401, "invalid_token")
        assert "Bearer" in basic.headers["www-authenticate"]
        cases: list[tuple[str, Any, tuple[int, str]]] = [
            ("nothing", {}, (404, "unknown_action")),
            ("token-add", {"name": "x", "scopes": ["*:read"]}, (404, "unknown_action")),
            ("ledger-rollup", {"days": 1}, (403, "role_too_low")),
            ("user-list", {}, (403, "scope_missing")),
            ("wallet-credit", {"user": "ann", "amount": "1"}, (403, "scope_missing")),
            ("key-add", b"{", (400, "not_json")),
            ("key-add", [], (422, "invalid_arguments")),
            ("key-add", {"user": "ann"}, (422, "invalid_arguments")),
            ("key-add", {"user": "ann", "name": "k", "x": 1}, (422, "invalid_arguments")),
            ("key-add", {"user": "ann", "name": "k", "group": "gold"}, (422, "refused")),
            ("key-show", {"key": "99"}, (422, "refused")),
        ]
        for action, body, expected in cases:
            assert error(await ask(who, token, action, body)) == expected, action
        for wrong, remedy in (
            ("models-list", "did you mean model-list? see /api/openapi.json"),
            ("x" * 4_000, "see /api/openapi.json"),
        ):
            unknown = await ask(who, token, wrong, {})
            assert json.loads(unknown.text)["error"]["remedy"] == remedy
        refused = await ask(who, token, "key-add", {"user": "ann", "name": "k", "group": "gold"})
        assert json.loads(refused.text)["error"]["fields"].keys() == {"group"}
        got = await ask(who, token, "key-add?user=ann&name=k", method="GET")
        assert error(got) == (405, "method_not_allowed")
        assert got.headers["allow"] == "POST"
        twice = await ask(who, token, "key-list?user=a&user=b", method="GET")
        assert error(twice) == (422, "invalid_arguments")
        for path in ("/api/", "/api/v2/actions/key-list"):
            assert error(await who.ask("GET", path, None, {})) == (404, "not_found")
        assert await world.do("key list") == []

    in_console(tmp_path, test)


def test_null_and_nothing_are_told_apart(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        who, token = world.stranger(), await robot(world, "keys:write")
        await world.do("user add", name="ann")
        await world.do("key add", user="ann", name="k", budget="5", concurrency=3)
        page = await ask(who, token, "key-set", {"key": "k", "budget": None})
        shown = json.loads(page.text)["result"]
        assert (shown["budget_usd"], shown["concurrency"]) == (None, 3)

    in_console(tmp_path, test)


def test_a_session_is_no_token_and_a_token_no_session(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        assert error(await ask(ann, "", "key-list", {"user": "ann"})) == (401, "invalid_token")
        token = await robot(world, "*:confirmed")
        page = await world.stranger().ask(
            "GET", "/keys", None, {"authorization": f"Bearer {token}"}, follow=False
        )
        assert page.status == 303
        described = await ann.get("/api/openapi.json")
        assert json.loads(described.text)["openapi"] == "3.1.0"
        assert "access-control-allow-credentials" not in described.headers

    in_console(tmp_path, test)


def test_a_persons_token_is_for_their_wallets_and_dies_with_them(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.person("ann@example.com", wallet="ann")
        await world.person("bob@example.com", wallet="bob")
        ann = await world.surroundings.keeper.do(
            "token add", {"name": "mine", "scopes": ["*:confirmed"]}, _person(1, "ann@example.com")
        )
        assert isinstance(ann, dict)
        who, token = world.stranger(), str(ann["token"])
        assert (await ask(who, token, "key-add", {"user": "ann", "name": "k"})).status == 200
        for wallet in ("bob", "nobody"):
            page = await ask(who, token, "key-add", {"user": wallet, "name": "k"})
            assert error(page) == (422, "refused")
        assert error(await ask(who, token, "user-list")) == (403, "role_too_low")
        await world.office.keeper.note(
            lambda c: c.execute("UPDATE person SET enabled = 0 WHERE id = 1")
        )
        assert error(await ask(who, token, "key-list", {"user": "ann"})) == (401, "invalid_token")

    in_console(tmp_path, test)


def _person(number: int, email: str) -> Any:
    from proxy.core.actions.action import Actor, Role, Via

    return Actor(Role.USER, email, Via.CONSOLE, person=number)


def test_asking_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_api, "BODY_BYTES_MAX", 1_000)

    async def test(world: World) -> None:
        world.surroundings.api = ApiRates(by_token=Rates(3), failures=Rates(2))
        who, token = world.stranger(), await robot(world, "*:read")
        large = await ask(who, token, "user-list", b" " * 1_001)
        assert error(large) == (413, "too_large")
        statuses = [(await ask(who, "sa-wrong", "user-list")).status for _ in range(4)]
        assert statuses == [401, 401, 429, 429]
        statuses = [(await ask(who, token, "user-list")).status for _ in range(3)]
        assert statuses == [200, 200, 429], "others' failures are not this token's"
        late = await ask(who, token, "user-list")
        assert int(late.headers["retry-after"]) >= 1

    in_console(tmp_path, test)


def test_a_body_that_does_not_arrive_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_api, "BODY_SECONDS_MAX", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async def test(world: World) -> None:
        who, bearer = world.stranger(), f"Bearer {await robot(world, '*:read')}"
        late = await who.ask("POST", f"{ACTIONS}user-list", slow(), {"authorization": bearer})
        assert error(late) == (408, "too_slow")
        packed = {"authorization": bearer, "content-encoding": "gzip"}
        broken = await who.ask("POST", f"{ACTIONS}user-list", io.BytesIO(b"{}"), packed)
        assert error(broken) == (400, "not_json")

    in_console(tmp_path, test)


def test_a_keeper_that_is_away_is_no_refusal(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        from proxy.storage.ports import KeeperUnavailableError

        who, token = world.stranger(), await robot(world, "*:confirmed")
        world.office.keeper._writer.failed = KeeperUnavailableError("disk full")
        page = await ask(who, token, "user-add", {"name": "x"})
        world.office.keeper._writer.failed = None
        assert error(page) == (503, "unavailable")
        assert page.headers["retry-after"]

    in_console(tmp_path, test)


def test_a_catalog_may_be_larger_than_a_form(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        who, token = world.stranger(), await robot(world, "*:confirmed")
        exported = await world.do("catalog export")
        padded = json.dumps({"document": exported, "dry_run": True}) + " " * (2 << 20)
        page = await ask(who, token, "catalog-apply", padded.encode())
        assert json.loads(page.text)["result"]["changes"] == []
        chunked = await ask(who, token, "catalog-apply", b"{" * (3 << 20))
        assert error(chunked) == (400, "not_json")

    in_console(tmp_path, test)


def test_numbers_that_no_column_holds_and_broken_texts_are_refused(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        who, token = world.stranger(), await robot(world, "*:confirmed")
        await world.do("user add", name="ann")
        for body in (
            b'{"user": "ann", "name": "k", "concurrency": 18446744073709551616}',
            b'{"user": "ann", "name": "k", "concurrency": 9223372036854775808}',
            b'{"user": "ann", "name": "k", "concurrency": 1e400}',
            b'{"user": "ann", "name": "\\ud800"}',
            b'{"user": "ann", "name": "k\\u0000"}',
        ):
            page = await ask(who, token, "key-add", body)
            assert page.status in {400, 422}, page.text
            error(page)
        assert await world.do("key list") == []

    in_console(tmp_path, test)


def needs(action: Action) -> bool:
    return any(field.required for field in msgspec.structs.fields(action.arguments))


REPORTS = tuple(action for action in ACTIONS_BY_PATH.values() if action.report)


@pytest.mark.parametrize("action", REPORTS, ids=lambda action: action.name)
def test_a_report_is_for_its_role_and_scope_alone(tmp_path: Path, action: Action) -> None:
    path, domain = action.name.replace(" ", "-"), DOMAIN_OF[action.name]

    async def test(world: World) -> None:
        await world.person("ann@example.com", wallet="ann")
        who = world.stranger()

        async def status(role: str, scope: str, method: str = "POST") -> tuple[int, str]:
            token = await robot(world, scope, role=role)
            page = await ask(who, token, path, method=method)
            return (200, "") if page.status == 200 else error(page)

        good = (200, "")
        for scope in (f"{domain}:read", f"{domain}:write", f"{domain}:confirmed", "*:read"):
            for role in ("operator", "admin"):
                found = await status(role, scope)
                assert found == good or (needs(action), found) == (True, (422, "invalid_arguments"))
        assert await status("admin", "keys:confirmed") == (403, "scope_missing")
        if action.role is not Role.USER:
            assert await status("user", "*:confirmed") == (403, "role_too_low")
        assert error(await ask(who, "", path)) == (401, "invalid_token")

    in_console(tmp_path, test)


def test_reports_are_read_beside_a_keeper_that_is_away(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        who, token = world.stranger(), await robot(world, "*:read", role="operator")
        world.surroundings.keeper = cast("Any", None)
        by_query = await ask(who, token, "report-margin?days=2&by=model", method="GET")
        by_body = await ask(who, token, "report-margin", {"days": 2, "by": "model"})
        assert by_query.status == 200
        assert json.loads(by_query.text) == json.loads(by_body.text)
        for wrong in ({"days": 0}, {"days": 367}, {"by": "x"}, {"x": 1}, {"days": "7"}):
            assert error(await ask(who, token, "report-margin", wrong)) == (
                422,
                "invalid_arguments",
            )
        page = await ask(who, token, "report-margin", {"until": "soon"})
        assert error(page) == (422, "refused")
        assert json.loads(page.text)["error"]["fields"].keys() == {"until"}

    in_console(tmp_path, test)


def test_a_persons_token_tells_their_calls_and_nobody_elses(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.person("ann@example.com", wallet="ann")
        await world.person("bob@example.com", wallet="bob")
        made = Calls(world)
        of_ann, of_bob = await made.key("ann"), await made.key("bob")
        mine, other = await made.made(1, of_ann), await made.made(2, of_bob)
        asked = {"name": "mine", "scopes": ["usage:read"]}
        ann = await world.surroundings.keeper.do("token add", asked, _person(1, "ann@example.com"))
        assert isinstance(ann, dict)
        who, token = world.stranger(), str(ann["token"])

        async def told(action: str, **given: Any) -> Any:
            page = await ask(who, token, action, given)
            return json.loads(page.text)["result"] if page.status == 200 else error(page)

        (row,) = (await told("call-list", user="ann"))["calls"]
        assert row["request_id"] == format_id(mine)
        assert (await told("call-sums", user="ann"))["total"]["calls"] == 1
        assert (await told("call-show", user="ann", call=format_id(mine)))["charge_nano"] > 0
        (day,) = await told("usage-daily", user="ann")
        assert (day["calls"], "cost_usd" in day) == (1, False)
        for action, given in (
            ("call-list", {"user": "bob"}),
            ("call-list", {}),
            ("call-sums", {"user": "bob"}),
            ("call-show", {"user": "bob", "call": format_id(other)}),
            ("call-show", {"user": "ann", "call": format_id(other)}),
            ("usage-daily", {"user": "bob"}),
            ("usage-daily", {}),
        ):
            assert await told(action, **given) == (422, "refused"), action
        assert await told("report-margin") == (403, "role_too_low")
        assert await told("key-list", user="ann") == (403, "scope_missing")

    in_console(tmp_path, test)
