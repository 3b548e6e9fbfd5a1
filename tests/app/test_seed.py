import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from proxy.app import seed
from proxy.app.commands import runner
from proxy.app.demo import start_demo
from proxy.app.demo_words import MODELS
from proxy.app.directory import DataDirectory
from proxy.app.office import open_office
from proxy.app.seed import Seeded, Upstream, demo_upstreams, list_models, merged, tokenizer_of
from proxy.core.catalog import Catalog
from proxy.core.catalog_faults import faults
from proxy.core.entities import Dialect, Wire
from proxy.storage.documents import read_document
from proxy.storage.secrets import key_well_formed

EMPTY: dict[str, Any] = {"version": 1, "plan": [], "group": [], "model": [], "channel": []}
UPSTREAM = Upstream("u", Dialect.OPENAI, "http://127.0.0.1:9/v1", "secret-1", ("m1", "m2"))


def seeded(path: Path, *upstreams: Upstream) -> tuple[Seeded, Catalog]:
    async def run() -> tuple[Seeded, Catalog]:
        directory = DataDirectory(path)
        directory.create()
        async with open_office(directory) as office:
            return await seed.seed(office, upstreams), office.keeper.catalog

    return asyncio.run(run())


def test_a_first_seed_makes_all_a_first_call_needs(tmp_path: Path) -> None:
    done, catalog = seeded(tmp_path, *demo_upstreams("http://127.0.0.1:9"))
    assert done.key is not None
    assert key_well_formed(done.key)
    assert done.key not in repr(done)
    assert done.models == (*MODELS, *seed.DEMO_SERVICES, "demo-gemini")
    (key,) = catalog.keys_by_id.values()
    for wire in (Wire.CHAT, Wire.MESSAGES):
        for model in MODELS:
            (channel,) = catalog.channels_for(key.group, model, wire)
            assert channel.base_url == "http://127.0.0.1:9/v1"
            assert channel.allow_private
            assert channel.keys
    assert all(model.price for model in catalog.models.values())
    for name, rows in seed.DEMO_SERVICES.items():
        for endpoint in rows["endpoints"]:
            assert catalog.channels_for_endpoint(key.group, name, endpoint)
    assert not list(faults(catalog.models.values(), catalog.channels.values()))


def test_with_a_console_the_first_key_is_of_who_signs_in_there(tmp_path: Path) -> None:
    async def run() -> tuple[Seeded, Seeded, Any, Any]:
        directory = DataDirectory(tmp_path)
        directory.create()
        async with open_office(directory) as office:
            first = await seed.seed(office, [UPSTREAM], console=True)
            again = await seed.seed(office, [UPSTREAM], console=True)
            people = await runner.run(office, "person list", {})
            wallet = await runner.run(office, "wallet show", {"user": first.user})
            return first, again, people, wallet

    first, again, (person,), wallet = asyncio.run(run())
    assert first.key is not None
    assert first.sign_in is not None
    assert first.sign_in.startswith("/password/set?token=")
    assert first.sign_in not in repr(first)
    assert (first.user, person["role"]) == (seed.FIRST_PERSON, "admin")
    assert wallet["balance_usd"] == seed.FIRST_CREDIT
    assert (again.key, again.sign_in) == (None, None), "shown once"
    assert Seeded.read(first.told()) == replace(first, changes=())
    assert Seeded.read(None) is None


def test_a_second_seed_changes_nothing_and_makes_no_key(tmp_path: Path) -> None:
    seeded(tmp_path, UPSTREAM)
    done, catalog = seeded(tmp_path, UPSTREAM)
    assert (done.key, done.changes) == (None, ())
    assert len(catalog.keys_by_id) == 1
    assert len(catalog.users) == 1


def test_a_moved_upstream_is_followed_and_its_key_kept(tmp_path: Path) -> None:
    seeded(tmp_path, UPSTREAM)
    moved = replace(UPSTREAM, base_url="http://127.0.0.1:10/v1", key=seed.NO_KEY)
    done, catalog = seeded(tmp_path, moved)
    (channel,) = catalog.channels.values()
    assert channel.base_url == "http://127.0.0.1:10/v1"
    assert [key.secret for key in channel.keys] == ["secret-1"]
    assert done.changes == ("change channel 'u'",)
    _, catalog = seeded(tmp_path, replace(UPSTREAM, key="secret-2"))
    assert [key.secret for key in catalog.channels[1].keys] == ["secret-2"]


def test_prices_limits_and_names_that_are_there_stay() -> None:
    price = {"input": "9.00", "output": "9.00"}
    model = {"name": "m1", "context_window": 5, "output_tokens_max": 5, "price": price}
    document = {
        **EMPTY,
        "plan": [{"name": "mine", "concurrency": 1}],
        "group": [{"name": "default", "multiplier": "2.0"}],
        "model": [model],
    }
    found = merged(document, [UPSTREAM])
    assert found["plan"] == document["plan"]
    assert found["group"] == document["group"]
    assert found["model"][0] == model
    assert [row["name"] for row in found["model"]] == ["m1", "m2"]
    assert read_document(found).channels[0].channel.models == {"m1": "m1", "m2": "m2"}


def test_channels_keep_what_the_operator_changed() -> None:
    first = merged(EMPTY, [UPSTREAM])
    first["channel"][0] |= {"weight": 7, "models": {"alias": "m1"}}
    again = merged(first, [UPSTREAM])
    assert again["channel"][0]["weight"] == 7
    assert again["channel"][0]["models"] == {"alias": "m1", "m1": "m1", "m2": "m2"}


@pytest.mark.parametrize(
    ("model", "table"),
    [
        ("gpt-4o", "o200k"),
        ("openai/gpt-5-mini", "o200k"),
        ("o3-mini", "o200k"),
        ("gpt-4", "cl100k"),
        ("gpt-4-turbo", "cl100k"),
        ("gpt-3.5-turbo", "cl100k"),
        ("gpt-4.1", "o200k"),
        ("claude-sonnet-4-5", "estimate"),
        ("llama-3", "estimate"),
    ],
)
def test_token_tables_of_families(model: str, table: str) -> None:
    assert tokenizer_of(model) == table


@pytest.mark.parametrize(
    ("pasted", "base"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("https://h/v1", "https://h/v1"),
        ("https://h/v1/", "https://h/v1"),
        ("https://h/v1/chat/completions", "https://h/v1"),
        ("https://h/v1/messages/", "https://h/v1"),
        ("https://h/v1/models", "https://h/v1"),
        ("https://h/chat/completions", "https://h/v1"),
        ("https://h/openai/api", "https://h/openai/api"),
    ],
)
def test_any_pasted_address_becomes_a_base_url(pasted: str, base: str) -> None:
    assert seed.base_url_of(pasted) == base


@pytest.mark.parametrize(
    "pasted",
    [
        "https://g",
        "https://g/v1beta/",
        "https://g/v1beta/models",
        "https://g/v1beta/models/gemini-2.5-flash:generateContent",
    ],
)
def test_any_pasted_address_of_googles_too(pasted: str) -> None:
    assert seed.base_url_of(pasted, Dialect.GEMINI) == "https://g/v1beta"
    assert seed.address_of(pasted, None, Dialect.GEMINI) == {"base_url": "https://g/v1beta"}


@pytest.mark.parametrize(
    ("pasted", "version", "rows"),
    [
        ("https://up.example", None, {"base_url": "https://up.example/v1"}),
        (
            "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            None,
            {"base_url": "https://r.openai.azure.com", "api_version": "2024-10-21"},
        ),
        (
            "https://r.openai.azure.com/openai/v1/",
            "v1",
            {"base_url": "https://r.openai.azure.com", "api_version": "v1"},
        ),
    ],
)
def test_an_address_is_azures_by_its_version(
    pasted: str, version: str | None, rows: dict[str, str]
) -> None:
    assert seed.address_of(pasted, version) == rows


def test_an_upstream_is_asked_for_its_models() -> None:
    async def run() -> tuple[str, ...]:
        demo = await start_demo(rate=0)
        try:
            return await list_models(Upstream("d", Dialect.OPENAI, demo.base_url + "/v1/"))
        finally:
            await demo.stop()

    assert asyncio.run(run()) == MODELS


def listing(
    handler: Callable[[web.Request], web.Response], dialect: Dialect = Dialect.OPENAI
) -> tuple[str, ...]:
    async def run() -> tuple[str, ...]:
        async def answer(request: web.Request) -> web.Response:
            return handler(request)

        app = web.Application()
        app.router.add_get("/v1/models", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        try:
            return await list_models(Upstream("u", dialect, f"http://127.0.0.1:{port}/v1", "key"))
        finally:
            await runner.cleanup()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"{}", b'{"data": []}', b'{"data": 1}', b'{"data": [1, {"id": 2}, {"id": ""}]}'],
)
def test_an_upstream_that_does_not_say_gets_the_usual_models(body: bytes) -> None:
    usual = seed.USUAL_MODELS[Dialect.OPENAI]
    assert listing(lambda _: web.Response(body=body)) == usual
    assert listing(lambda _: web.Response(status=404)) == usual


def test_each_dialect_shows_its_credentials_and_lists_are_bounded() -> None:
    seen: list[dict[str, str]] = []

    def many(request: web.Request) -> web.Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response({"data": [{"id": f"m{n}"} for n in range(2000)]})

    assert len(listing(many)) == seed.MODELS_MAX
    assert seen[0]["authorization"] == "Bearer key"
    listing(many, Dialect.ANTHROPIC)
    assert seen[1]["x-api-key"] == "key"
    assert "authorization" not in seen[1]
    listing(many, Dialect.GEMINI)
    assert seen[2]["x-goog-api-key"] == "key"
    assert "authorization" not in seen[2]


def test_of_geminis_models_those_that_converse_are_served() -> None:
    rows = [
        {"name": "models/gemini-9-pro", "supportedGenerationMethods": ["generateContent"]},
        {"name": "models/embedding-9", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/unsaid"},
        {"name": 1, "supportedGenerationMethods": ["generateContent"]},
        1,
    ]
    asked: list[str] = []

    def answer(request: web.Request) -> web.Response:
        asked.append(request.query_string)
        return web.json_response({"models": rows})

    assert listing(answer, Dialect.GEMINI) == ("gemini-9-pro",)
    assert asked == ["pageSize=1000"]
    usual = seed.USUAL_MODELS[Dialect.GEMINI]
    assert listing(lambda _: web.json_response({"data": [{"id": "x"}]}), Dialect.GEMINI) == usual


def test_an_upstream_that_is_not_there_gets_the_usual_models() -> None:
    nobody = Upstream("u", Dialect.ANTHROPIC, "http://127.0.0.1:1/v1")
    assert asyncio.run(list_models(nobody)) == seed.USUAL_MODELS[Dialect.ANTHROPIC]
