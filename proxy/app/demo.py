"""A demo upstream: paced, realistic answers of every endpoint, so that a first run needs no key.

Rules: it answers like a provider (ids, fingerprint, usage, finish reasons, `[DONE]`) and counts
its usage with the tables the relay bills by; pieces leave on an absolute schedule, so late ones
do not delay those after them. It keeps nothing and checks no credential, hence loopback only.
It must not know that a relay is in front of it, nor what its answers look like (demo_wires.py,
demo_services.py).
"""

import argparse
import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import time
from typing import cast

import orjson
import uvloop
from aiohttp import web

from proxy.app.demo_services import GEMINI_SERVICES, SERVICES, Asked, Service, asked_of
from proxy.app.demo_wires import (
    FORMS,
    GEMINI_FORMS,
    Form,
    refused_by_anthropic,
    refused_by_gemini,
    refused_by_openai,
)
from proxy.app.demo_words import MODELS, PromptError, compose, new_id
from proxy.app.settings import host_and_port
from proxy.core.entities import Tokenizer
from proxy.core.tokenizers import exact_count

TOKENS_PER_SECOND = 40.0
PROMPT_BYTES_MAX = 32 << 20


@dataclass(slots=True)
class Demo:
    """A running demo upstream. `base_url` has no path."""

    base_url: str
    runner: web.AppRunner

    async def stop(self) -> None:
        """Close the listener and every connection."""
        await self.runner.cleanup()


@dataclass(slots=True)
class _Handlers:
    """The routes; `rate` is pieces per second, 0 means as fast as they can be written."""

    rate: float
    count: Callable[[str], int]

    async def converse(self, form: Form, request: web.Request) -> web.StreamResponse:
        """Answer in one of the forms that a conversation has."""
        try:
            prompt = form.read(await request.read(), request.match_info.get("model", ""))
        except PromptError as error:
            return _json(form.refused(str(error)), 400)
        answer = compose(prompt, self.count)
        created = int(time())
        if prompt.stream or request.match_info.get("verb") == "streamGenerateContent":
            return await self._send(request, form.events(prompt, answer, created))
        await self._pause(len(answer.pieces))
        return _json(form.plain(prompt, answer, created))

    async def serve(
        self,
        service: Service,
        refused: Callable[[str], dict[str, object]],
        request: web.Request,
    ) -> web.Response:
        """Answer what is no conversation."""
        form = request.content_type.startswith("multipart/")
        try:
            asked = await _form(request) if form else asked_of(await request.read())
            asked.model = request.match_info.get("model", "") or asked.model
            made = service(asked, self.count)
        except PromptError as error:
            return _json(refused(str(error)), 400)
        headers = {"x-request-id": new_id("req_")}
        kind, body = made
        return web.Response(body=body, headers=headers, content_type=kind)

    async def models(self, _request: web.Request) -> web.Response:
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "demo"} for name in MODELS
        ]
        return _json({"object": "list", "data": rows})

    async def _send(self, request: web.Request, events: Sequence[bytes]) -> web.StreamResponse:
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-request-id": new_id("req_"),
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        async for event in self._paced(events):
            await response.write(event)
        await response.write_eof()
        return response

    async def _paced(self, events: Sequence[bytes]) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number, event in enumerate(events):
            # Due times are absolute: a late wake-up shifts one piece, never the rest.
            due = start + number / self.rate if self.rate else 0.0
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            yield event

    async def _pause(self, pieces: int) -> None:
        if self.rate:
            await asyncio.sleep(pieces / self.rate)


async def start_demo(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    rate: float = TOKENS_PER_SECOND,
    listener: socket.socket | None = None,
) -> Demo:
    """Listen and answer until `Demo.stop`. Port 0 picks a free one. Raises OSError.

    `listener`: a listening socket to use, and to close, instead of making one.
    """
    handlers = _Handlers(rate, exact_count(Tokenizer.O200K))
    app = web.Application(client_max_size=PROMPT_BYTES_MAX)
    for prefix in ("", "/v1"):
        app.router.add_get(prefix + "/models", handlers.models)
        for path, form in FORMS.items():
            app.router.add_post(prefix + path, partial(handlers.converse, form))
        for path, service in SERVICES.items():
            refused = refused_by_anthropic if path.startswith("/messages") else refused_by_openai
            app.router.add_post(prefix + path, partial(handlers.serve, service, refused))
    for path, form in GEMINI_FORMS.items():
        app.router.add_post("/v1beta" + path, partial(handlers.converse, form))
    for path, service in GEMINI_SERVICES.items():
        app.router.add_post("/v1beta" + path, partial(handlers.serve, service, refused_by_gemini))
    # Providers stop generating when their caller leaves; so does this.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site: web.BaseSite = web.TCPSite(runner, host, port)
        if listener is not None:
            site = web.SockSite(runner, listener)
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    name, bound = cast("tuple[str, int]", runner.addresses[0][:2])
    shown = f"[{name}]" if ":" in name else name
    return Demo(f"http://{shown}:{bound}", runner)


def main() -> None:
    """`python -m proxy.app.demo --listen HOST:PORT [--rate TOKENS]`."""
    parser = argparse.ArgumentParser(description="A demo LLM upstream, OpenAI and Anthropic.")
    parser.add_argument("--listen", default="127.0.0.1:8089", metavar="HOST:PORT")
    parser.add_argument("--rate", type=float, default=TOKENS_PER_SECOND, metavar="TOKENS_PER_S")
    options = parser.parse_args()
    host, port = host_and_port(options.listen)
    uvloop.run(_serve(host, port, options.rate))


async def _serve(host: str, port: int, rate: float) -> None:
    demo = await start_demo(host, port, rate=rate)
    print(f"demo upstream on {demo.base_url}", flush=True)  # noqa: T201 - a command's output
    try:
        await asyncio.Event().wait()
    finally:
        await demo.stop()


async def _form(request: web.Request) -> Asked:
    """A multipart form: its texts as members, of its files the bytes."""
    asked = Asked()
    posted = await request.post()
    for name, value in posted.items():
        if isinstance(value, web.FileField):
            asked.files.append(value.file.read())
        else:
            asked.members[name.removesuffix("[]")] = str(value)
    asked.model = str(asked.members.get("model", ""))
    return asked


def _json(payload: dict[str, object], status: int = 200) -> web.Response:
    headers = {"x-request-id": new_id("req_")}
    body = orjson.dumps(payload)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


if __name__ == "__main__":
    main()
