"""The usage log and receipts: whose they are, what they say, and that nothing in them is markup."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.core.entities import Usage, Verdict
from proxy.core.ids import format_id
from proxy.edge.console import pages_usage
from tests.edge.console.calls import Calls
from tests.edge.console.consoles import World, in_console

EVIL = "<script>alert(1)</script>"


def test_a_call_is_in_the_log_with_its_cost_and_leads_to_its_receipt(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann", "laptop")
        call = await calls.made(1, key, client_reference="mine-7")
        page = await ann.get("/usage")
        for said in (
            "Spent by day",
            "Calls by day",
            "Tokens by day",
            "laptop",
            "served as m-upstream",
            "complete",
            "107 → 50",
            "7 cached",
            "$0.00",
        ):
            assert said in page.text, said
        assert f"/usage/{format_id(call)}" in page.text
        receipt = await ann.get(f"/usage/{format_id(call)}")
        assert receipt.status == 200
        for said in (
            "$0.000207", "How the charge is computed", "$1.00", "$2.00", "$0.0001",
            "delivered whole", "up-&lt;1&gt;", "mine-7", "10 of the output tokens",
            "reported by the provider", "python3 recompute.py",
        ):  # fmt: skip
            assert said in receipt.text, said

    in_console(tmp_path, test)


def test_a_refund_is_said_on_the_receipt(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        call = format_id(await calls.made(1, await calls.key("ann")))
        assert "refunded" not in (await ann.get(f"/usage/{call}")).text
        await world.do("wallet refund", call=call, reason="as agreed")
        await world.do("ledger flush")
        assert "$0.000207 of it was refunded" in (await ann.get(f"/usage/{call}")).text

    in_console(tmp_path, test)


def test_the_program_on_the_receipt_recomputes_it(tmp_path: Path) -> None:
    async def test(world: World) -> tuple[str, str]:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        call = format_id(await calls.made(1, await calls.key("ann")))
        told = await ann.get(f"/usage/{call}/receipt.json")
        assert f"receipt-{call}.json" in told.headers["content-disposition"]
        program = await ann.get("/usage/recompute.py")
        shown = await ann.get(f"/usage/{call}")
        assert "from fractions import Fraction" in shown.text
        return told.text, program.text

    told, program = in_console(tmp_path / "data", test)
    (tmp_path / "receipt.json").write_text(told)
    (tmp_path / "recompute.py").write_text(program)
    assert json.loads(told)["data"]["charge_nano_usd"] == 207_000
    run = subprocess.run(
        [sys.executable, "-I", "recompute.py", "receipt.json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert (run.returncode, "equal" in run.stdout) == (0, True), run.stdout + run.stderr


def test_somebody_elses_call_does_not_exist(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        bob = await world.signed_in("bob@example.com", wallet="bob")
        calls = Calls(world)
        ended = format_id(await calls.made(1, await calls.key("ann", "secret-name")))
        running = await calls.begin(1, 1)
        open_one = format_id(running)
        for path in (f"/usage/{ended}", f"/usage/{ended}/receipt.json", f"/usage/{open_one}"):
            assert (await ann.get(path)).status in {200, 404 if "json" in path else 200}, path
            page = await bob.get(path)
            assert (page.status, "secret-name" in page.text) == (404, False), path
        for path in ("/usage", "/usage?key=1", "/usage/export.csv", "/usage/export.json?key=1"):
            page = await bob.get(path)
            assert (page.status, "secret-name" in page.text) == (200, False), path
        for name in ("req_0000000000000", "nonsense", "..%2f", "req_" + "z" * 13):
            assert (await ann.get(f"/usage/{name}")).status == 404
        stranger = world.stranger()
        assert "/login" in (await stranger.get("/usage", follow=False)).headers["location"]
        operator = await world.signed_in("op@example.com", role="operator", wallet="ops")
        assert (await operator.get(f"/usage/{ended}")).status == 200
        await calls.end(running)

    in_console(tmp_path, test)


def test_a_member_sees_their_own_keys_and_an_owner_all(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="team")
        eve = await world.signed_in("eve@example.com", wallet="team", rank="member")
        calls = Calls(world)
        hers = await calls.key("team", "key-of-eve", person=2)
        other = await calls.key("team", "key-of-ann", person=1)
        own, not_own = await calls.made(1, hers), await calls.made(1, other)
        page = await eve.get("/usage")
        assert ("key-of-eve" in page.text, "key-of-ann" in page.text) == (True, False)
        assert (await eve.get(f"/usage/{format_id(own)}")).status == 200
        assert (await eve.get(f"/usage/{format_id(not_own)}")).status == 404
        assert (await eve.get(f"/usage/{format_id(not_own)}/receipt.json")).status == 404
        assert "key-of-ann" not in (await eve.get("/usage/export.csv")).text
        page = await ann.get("/usage")
        assert ("key-of-eve" in page.text, "key-of-ann" in page.text) == (True, True)

    in_console(tmp_path, test)


def test_an_operator_finds_any_call_and_its_refund(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        await world.signed_in("bob@example.com", wallet="bob")
        operator = await world.signed_in("op@example.com", role="operator", wallet="ops")
        calls = Calls(world)
        hers = format_id(await calls.made(1, await calls.key("ann", "of-ann")))
        his = format_id(await calls.made(2, await calls.key("bob", "of-bob")))
        page = await operator.get("/operator/calls")
        assert (page.status, hers in page.text, his in page.text) == (200, True, True)
        assert 'data-live="/operator/calls/live?since=' in page.text
        page = await operator.get("/operator/calls?wallet=bob")
        assert (hers in page.text, his in page.text, "of-bob" in page.text) == (False, True, True)
        assert "Spent by day" in page.text
        assert "There is no such wallet" in (await operator.get("/operator/calls?wallet=x")).text
        receipt = await operator.get(f"/usage/{his}")
        assert f"/operator/refund/{his}" in receipt.text
        assert "/operator/refund" not in (await ann.get(f"/usage/{hers}")).text
        page = await operator.get(f"/operator/calls?id={his}")
        assert page.path == f"/usage/{his}"
        assert (await ann.get(f"/usage?id={hers}")).path == f"/usage/{hers}"
        assert (await ann.get(f"/usage?id={his}")).status == 404
        assert (await ann.get("/usage?id=nonsense")).status == 200
        assert (await ann.get("/operator/calls")).status == 404
        assert (await ann.get("/operator/calls/live")).status == 404

    in_console(tmp_path, test)


def test_nothing_in_a_call_is_markup(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann", f"key {EVIL}")
        call = await calls.made(
            1, key, model=EVIL, client_reference=EVIL,
            closed={
                "upstream_model": EVIL, "finish_reason": EVIL, "error_code": EVIL,
                "anomalies": (EVIL,),
            },
        )  # fmt: skip
        running = await calls.begin(1, key, model=EVIL)
        for path in (
            "/usage",
            f"/usage/{format_id(call)}",
            f"/usage/{format_id(running)}",
            f"/usage?model={EVIL}&group={EVIL}",
            f"/usage?key={EVIL}&verdict={EVIL}&from={EVIL}&before={EVIL}",
        ):
            page = await ann.get(path)
            assert (page.status, EVIL in page.text) == (200, False), path
        await calls.end(running)

    in_console(tmp_path, test)


def test_filters_are_kept_in_links_and_nonsense_is_said(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann")
        await calls.made(1, key, closed={"verdict": Verdict.CLIENT_GONE})
        page = await ann.get("/usage?verdict=client_gone&key=1")
        assert "/usage/export.csv?key=1&amp;verdict=client_gone" in page.text
        assert 'id="req_' in page.text
        assert 'id="req_' not in (await ann.get("/usage?verdict=complete")).text
        assert 'id="req_' in (await ann.get("/usage?verdict=failed")).text
        page = await ann.get("/usage?verdict=none&key=x&from=yesterday&to=9999-12-31")
        assert page.status == 200
        assert page.text.count("A day is written like") == 2
        assert "There is no such key" in page.text
        assert (await ann.get("/usage?from=2026-01-02&to=2026-01-01")).status == 200
        assert (await ann.get("/usage?key=99999999999999999999999")).status == 200

    in_console(tmp_path, test)


def test_long_logs_are_paged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_usage, "ROWS", 2)

    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann")
        ids = [format_id(await calls.made(1, key)) for _ in range(3)]
        first = await ann.get("/usage")
        assert [f'id="{one}"' in first.text for one in ids] == [False, True, True]
        assert f"/usage?before={ids[1]}" in first.text
        second = await ann.get(f"/usage?before={ids[1]}")
        assert [f'id="{one}"' in second.text for one in ids] == [True, False, False]

    in_console(tmp_path, test)


def test_who_has_no_wallet_is_told(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        lone = await world.signed_in("lone@example.com")
        assert "no wallet" in (await lone.get("/usage")).text
        assert (await lone.get("/usage/req_0000000000001")).status == 404
        assert (await lone.get("/usage/export.csv")).status == 404

    in_console(tmp_path, test)


def test_what_is_unusual_in_a_call_is_explained(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        calls = Calls(world)
        key = await calls.key("ann")

        async def said(**closed: object) -> str:
            call = await calls.made(1, key, endpoint="chat", closed=closed)
            return (await ann.get(f"/usage/{format_id(call)}")).text

        assert "provider&#39;s filter" in await said(finish_reason="content_filter")
        assert "raise max_tokens" in await said(finish_reason="length")
        assert "without any output" in await said(usage=Usage(input_uncached=5))
        assert "call a tool" in await said(finish_reason="tool_calls")
        gone = await said(verdict=Verdict.CLIENT_GONE, usage=Usage(calls=0), charge=0, attempts=())
        assert "closed the connection" in gone
        assert "Nothing was used" in gone
        assert "No provider was asked" in gone
        forgiven = await said(charge=0, forgiven=207_000, verdict=Verdict.UPSTREAM_ERROR)
        assert "the operator pays that" in forgiven
        assert "does not agree" in await said(charge=5)

    in_console(tmp_path, test)


def test_the_page_is_in_chinese_for_who_reads_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ann = await world.signed_in("ann@example.com", wallet="ann")
        page = await ann.ask("GET", "/usage", None, {"accept-language": "zh"})
        assert "No calls yet" not in page.text
        assert 'lang="zh-Hans"' in page.text

    in_console(tmp_path, test)
