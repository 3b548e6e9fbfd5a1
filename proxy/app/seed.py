"""The first contents of a data directory: channels and models of `--demo` and `--upstream`.

Rules: seeding only adds what is missing and points its own channels at the given address; it
never changes a price, a limit or a key that is there, so a second start changes nothing. The
first user and key are made only while no key exists at all. This module must not know sockets
beyond asking an upstream which models it has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from proxy.app.commands import runner
from proxy.app.demo_words import GEMINI_MODELS as DEMO_GEMINI
from proxy.app.demo_words import MODELS as DEMO_MODELS
from proxy.app.office import Office
from proxy.core.actions.action import Role
from proxy.core.deployments import azure_address
from proxy.core.entities import Dialect

LISTING_BYTES_MAX: Final = 4 << 20
LISTING_SECONDS_MAX: Final = 10.0
MODELS_MAX: Final = 500
GEMINI_PAGE: Final = 1000
"""The most that Google's `models.list` gives at once, which else gives 50."""
GEMINI_METHOD: Final = "generateContent"
FIRST_USER: Final = "demo"
FIRST_PERSON: Final = "admin@example.com"
"""Who signs in to the console first, as administrator; the first key is in their wallet then."""
FIRST_KEY: Final = "first"
FIRST_CREDIT: Final = "10.00"
PLAN: Final = "default"
GROUP: Final = "default"
PRICE: Final = {"input": "1.00", "output": "4.00"}
"""USD per 1M tokens, for models nobody has priced: nothing is served unpriced."""
CONTEXT_WINDOW: Final = 128_000
OUTPUT_TOKENS_MAX: Final = 16_384
NO_KEY: Final = "none"
"""Sent to upstreams that were given no key, such as a local llama.cpp."""
DEMO_SERVICES: Final[Mapping[str, Mapping[str, Any]]] = {
    "demo-embedding": {"endpoints": ["embeddings"], "price": {"input": "0.02"}},
    "demo-image": {
        "endpoints": ["images_edits", "images_generations", "images_variations"],
        "price": {"image": "0.04"},
    },
    "demo-speech": {"endpoints": ["speech"], "price": {"character": "15.00"}},
    "demo-transcribe": {
        "endpoints": ["transcriptions", "translations"],
        "price": {"audio_minute": "0.006"},
    },
    "demo-moderation": {"endpoints": ["moderations"], "price": {"call": "0"}},
    "demo-rerank": {"endpoints": ["rerank"], "price": {"call": "0.002"}},
}
"""What the demo upstream has beside its conversations: a model for each, priced as it is used."""
DEMO: Final = frozenset({*DEMO_MODELS, *DEMO_GEMINI, *DEMO_SERVICES})
"""All of its models, whose prices are meant as they are."""
USUAL_MODELS: Final = {
    Dialect.OPENAI: ("gpt-4o", "gpt-4o-mini"),
    Dialect.ANTHROPIC: ("claude-sonnet-4-5", "claude-haiku-4-5"),
    Dialect.GEMINI: ("gemini-2.5-pro", "gemini-2.5-flash"),
}
"""Used when the upstream does not say what it has and no `--model` did."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream to seed a channel for. `models` are served under their own names."""

    name: str
    dialect: Dialect
    base_url: str
    key: str = field(repr=False, default=NO_KEY)
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seeded:
    """What a seed did. `key` is the first key's secret, only when it was made just now."""

    key: str | None = field(repr=False)
    models: tuple[str, ...]
    changes: tuple[str, ...] = ()
    user: str = FIRST_USER
    sign_in: str | None = field(repr=False, default=None)
    """Path on the console where FIRST_PERSON sets a password; only if they were made just now."""

    @classmethod
    def read(cls, row: Mapping[str, Any] | None) -> "Seeded | None":
        """What another process says it has seeded, as `told`."""
        if row is None:
            return None
        return cls(row["key"], tuple(row["models"]), user=row["user"], sign_in=row["sign_in"])

    def told(self) -> dict[str, Any]:
        """What a process tells another one, as JSON."""
        found = {"key": self.key, "models": self.models, "user": self.user}
        return {**found, "sign_in": self.sign_in}


def base_url_of(pasted: str, dialect: Dialect = Dialect.OPENAI) -> str:
    """A channel's base URL from whatever was pasted: bare host, `/v1`, or the full endpoint."""
    url = pasted.rstrip("/")
    if dialect is Dialect.GEMINI:
        url = url.partition("/models")[0]  # which a model's name and what to do with it follow
        return url if urlsplit(url).path else f"{url}/v1beta"
    for endpoint in ("/chat/completions", "/messages", "/models"):
        url = url.removesuffix(endpoint).rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def address_of(
    pasted: str, api_version: str | None, dialect: Dialect = Dialect.OPENAI
) -> dict[str, str]:
    """The rows of a channel that say where it is: Azure's too, known by a version in either."""
    base_url, found = azure_address(pasted)
    version = api_version or found
    if version is None:
        return {"base_url": base_url_of(pasted, dialect)}
    return {"base_url": base_url, "api_version": version}


def demo_upstreams(base_url: str) -> tuple[Upstream, ...]:
    """The demo upstream as three channels, one of each dialect."""
    url = base_url + "/v1"
    return (
        Upstream("demo-openai", Dialect.OPENAI, url, models=(*DEMO_MODELS, *DEMO_SERVICES)),
        Upstream("demo-anthropic", Dialect.ANTHROPIC, url, models=DEMO_MODELS),
        Upstream("demo-gemini", Dialect.GEMINI, base_url + "/v1beta", models=DEMO_GEMINI),
    )


async def seed(office: Office, upstreams: Sequence[Upstream], *, console: bool = False) -> Seeded:
    """Add what `upstreams` need and, if there is no key yet, a first user with one.

    With a `console` that is a person who can sign in there. Raises CommandError.
    """
    document: Any = await runner.run(office, "catalog export", {})
    wanted = merged(document, upstreams)
    done: Any = await runner.run(office, "catalog apply", {"document": wanted})
    found = Seeded(
        key=None,
        models=tuple(dict.fromkeys(name for each in upstreams for name in each.models)),
        changes=tuple(f"{change['action']} {change['what']}" for change in done["changes"]),
    )
    catalog = office.keeper.catalog
    if catalog.keys_by_id:
        oldest = catalog.keys_by_id[min(catalog.keys_by_id)]
        return replace(found, user=catalog.users[oldest.user_id].name)
    user, sign_in = await _first_user(office, console=console)
    made: Any = await runner.run(office, "key add", {"user": user, "name": FIRST_KEY})
    return replace(found, key=str(made["key"]), user=user, sign_in=sign_in)


def merged(document: Mapping[str, Any], upstreams: Sequence[Upstream]) -> dict[str, Any]:
    """`document` with everything `upstreams` need added to it; pure."""
    plans = list(document["plan"]) or [{"name": PLAN}]
    groups = list(document["group"])
    models = list(document["model"])
    channels = list(document["channel"])
    if not any(group["name"] == GROUP for group in groups):
        groups.append({"name": GROUP})
    for upstream in upstreams:
        known = {model["name"] for model in models}
        models.extend(_model(name) for name in upstream.models if name not in known)
        at = next((i for i, row in enumerate(channels) if row["name"] == upstream.name), None)
        if at is None:
            channels.append(_channel(upstream, {"groups": [GROUP]}))
        else:
            channels[at] = _channel(upstream, channels[at])
    return {**document, "plan": plans, "group": groups, "model": models, "channel": channels}


async def list_models(upstream: Upstream) -> tuple[str, ...]:
    """Ask an upstream which models it has; the usual ones if it does not say."""
    headers = {"authorization": f"Bearer {upstream.key}"}
    if upstream.dialect is Dialect.ANTHROPIC:
        headers = {"x-api-key": upstream.key, "anthropic-version": "2023-06-01"}
    timeout = aiohttp.ClientTimeout(total=LISTING_SECONDS_MAX)
    url = f"{upstream.base_url.rstrip('/')}/models"
    if upstream.dialect is Dialect.GEMINI:
        headers = {"x-goog-api-key": upstream.key}
        url += f"?pageSize={GEMINI_PAGE}"
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers, allow_redirects=False) as response,
        ):
            body = await response.content.read(LISTING_BYTES_MAX)
            found = orjson.loads(body) if response.status == 200 else {}
    except (TimeoutError, aiohttp.ClientError, ValueError, OSError):
        found = {}
    named = tuple(name for name in _names(found, upstream.dialect) if name)
    return named[:MODELS_MAX] or USUAL_MODELS[upstream.dialect]


def _names(found: object, dialect: Dialect) -> Iterator[str]:
    """The names in a listing; of Gemini's those that a conversation can be had with."""
    gemini = dialect is Dialect.GEMINI
    rows = found.get("models" if gemini else "data") if isinstance(found, dict) else None
    for row in rows if isinstance(rows, list) else ():
        name = row.get("name" if gemini else "id") if isinstance(row, dict) else None
        if not isinstance(name, str):
            continue
        if not gemini:
            yield name
        elif GEMINI_METHOD in (row.get("supportedGenerationMethods") or ()):
            yield name.removeprefix("models/")


async def _first_user(office: Office, *, console: bool) -> tuple[str, str | None]:
    """The name of a wallet with credit, and where its owner sets a password if they are new."""
    plan = PLAN if PLAN in office.keeper.catalog.plans else min(office.keeper.catalog.plans)
    terms = {"plan": plan, "credit": FIRST_CREDIT}
    if console and not await runner.run(office, "person list", {}):
        arguments = {"email": FIRST_PERSON, "role": Role.ADMIN, **terms}
        person: Any = await runner.run(office, "person add", arguments)
        return str(person["user"]), str(person["link"])
    users: Any = await runner.run(office, "user list", {})
    if not any(user["name"] == FIRST_USER for user in users):
        await runner.run(office, "user add", {"name": FIRST_USER, **terms})
    return FIRST_USER, None


def _model(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "context_window": CONTEXT_WINDOW,
        "output_tokens_max": OUTPUT_TOKENS_MAX,
        "tokenizer": tokenizer_of(name),
        "price": dict(PRICE),
        **DEMO_SERVICES.get(name, {}),
    }


def tokenizer_of(model: str) -> str:
    """The token table of a well-known family, by name; `estimate` for all others."""
    bare = model.rpartition("/")[2]
    if bare.startswith(("gpt-3.5", "gpt-4-", "text-embedding")) or bare == "gpt-4":
        return "cl100k"
    if bare.startswith(("gpt-", "o1", "o3", "o4", "chatgpt-", "demo-")):
        return "o200k"
    return "estimate"


def _channel(upstream: Upstream, known: Mapping[str, Any]) -> dict[str, Any]:
    models = dict(known.get("models", {})) | {name: name for name in upstream.models}
    # A second start without the key keeps the one that is sealed.
    keys = known.get("keys") if upstream.key == NO_KEY else None
    # The operator named this address on the command line: private is what they meant.
    return {
        **known,
        "name": upstream.name,
        "dialect": upstream.dialect.value,
        "base_url": upstream.base_url,
        "keys": keys or [upstream.key],
        "allow_private": True,
        "models": models,
    }
