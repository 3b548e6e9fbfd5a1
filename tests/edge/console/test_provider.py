"""What a provider says of itself, and how much of it is read (the stand-in is our own)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from proxy.edge.console import provider
from proxy.edge.console.provider import Client, Provider, ProviderError, Question

QUESTION = Question("state", "nonce", "verifier")
GOOD = {
    "authorization_endpoint": "https://id.example/authorize?tenant=1",
    "token_endpoint": "https://id.example/token",
    "jwks_uri": "https://id.example/keys",
}
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def asked(answer: Callable[[str], web.Response], path: str = "") -> str:
    """The address a browser is sent to, by a provider that says `answer(its name)` of itself."""

    async def run() -> str:
        seen: list[str] = []

        async def handle(request: web.Request) -> web.StreamResponse:
            seen.append(request.path)
            return answer(name)

        app = web.Application()
        app.router.add_get("/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        name = f"http://{host}:{port}{path}"
        there = Provider(name)
        client = Client(name, "relay", None, "https://console.example/login/callback")
        try:
            found = await there.address(client, QUESTION, 0.0, again=False)
            assert await there.address(client, QUESTION, 1.0, again=False) == found
            assert seen == [f"{path}/.well-known/openid-configuration"]
            return found
        finally:
            await there.close()
            await there.close()
            await runner.cleanup()

    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_provider_is_known_by_its_name_with_or_without_a_slash(slash: str) -> None:
    found = asked(lambda name: web.json_response(GOOD | {"issuer": name + slash}), "/tenant")
    assert found.startswith("https://id.example/authorize?tenant=1&response_type=code&")
    assert "code_challenge_method=S256" in found
    assert "verifier" not in found


REFUSED: dict[str, Any] = {
    "another name": GOOD | {"issuer": "https://other.example"},
    "no name": GOOD,
    "no endpoint": {"token_endpoint": 7},
    "an endpoint in the clear": {"token_endpoint": "http://id.example/token"},
    "an endpoint that is no URL": {"jwks_uri": "http://[broken"},
    "a file": {"jwks_uri": "file:///etc/passwd"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_provider_may_not_say_of_itself(name: str) -> None:
    said = REFUSED[name]

    def answer(issuer: str) -> web.Response:
        own = {} if "name" in name else {"issuer": issuer}
        return web.json_response(GOOD | own | said)

    with pytest.raises(ProviderError):
        asked(answer)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: web.Response(status=302, headers={"location": "https://evil.example"}), "302"),
        (lambda: web.Response(status=500), "500"),
        (lambda: web.Response(body=b" " * (provider.ANSWER_BYTES_MAX + 1)), "bytes"),
        (lambda: web.Response(text="<html>"), "no JSON"),
        (lambda: web.json_response([]), "no JSON object"),
    ],
)
def test_only_so_much_is_read_of_an_answer(answer: Callable[[], web.Response], reason: str) -> None:
    with pytest.raises(ProviderError, match=reason):
        asked(lambda _name: answer())
