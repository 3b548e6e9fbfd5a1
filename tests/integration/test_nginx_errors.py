"""What nginx itself answers in front of the relay: JSON in the caller's dialect, and no more."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anthropic
import openai
import pytest
from google import genai

from proxy.core.entities import Dialect
from proxy.core.errors import ErrorCode, RelayError, error_body
from proxy.core.urls import dialect_of
from tests.edge.harness import body
from tests.integration.nginx_process import EXAMPLE, NginxProcess
from tests.integration.nginx_site import (
    LIST,
    TARGETS,
    Site,
    channels,
    check_error,
    open_site,
    scripted_answer,
)
from tests.integration.raw_client import RawClient, RawResponse, request_bytes
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted import ScriptedUpstream, refused_port
from tests.integration.scripts import AwaitGone, Reset, plain_script


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("nginx")) as site:
        yield site


@pytest.fixture
def site(built: Site) -> Site:
    return replace(built, account=built.relay.account())


@pytest.fixture(params=Dialect)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return Dialect(request.param)


def test_the_examples_error_codes_are_the_relays() -> None:
    text = EXAMPLE.read_text()

    def rows(name: str) -> dict[str, str]:
        block = re.search(rf"map \$\w+ \${name} {{(.*?)}}", text, re.DOTALL)
        assert block, name
        found = re.findall(r"^ +(\w+) (?:\"(.*)\"|(\w+));$", block[1], re.MULTILINE)
        return {key: quoted or word for key, quoted, word in found}

    known = {row.code: row for row in ErrorCode}
    kinds = ("openai_type", "anthropic_type", "google_status", "google_reason")
    tables = {kind: rows(f"sluice_{kind}") for kind in kinds}
    for code in rows("sluice_code").values():
        row = known[code].value
        google = json.loads(error_body(RelayError(known[code], ""), Dialect.GEMINI, ""))["error"]
        for kind, name in (
            ("openai_type", row.openai_type),
            ("anthropic_type", row.anthropic_type),
            ("google_status", google["status"]),
            ("google_reason", google["details"][0]["reason"]),
        ):
            assert tables[kind].get(code, tables[kind]["default"]) == name, (code, kind)
        assert code == "invalid_request" or code in rows("sluice_message")


def test_a_body_over_the_limit_is_413_for_every_sdk(site: Site) -> None:
    key, trust = site.account.key, site.nginx.trust()
    prompt = "x" * (33 << 20)
    before = len(site.upstream.requests)
    with openai.OpenAI(
        base_url=f"{site.nginx.url}/v1", api_key=key, max_retries=0,
        http_client=openai.DefaultHttpxClient(verify=trust),
    ) as ours, pytest.raises(openai.APIStatusError) as refused:  # fmt: skip
        ours.chat.completions.create(model="m", messages=[{"role": "user", "content": prompt}])
    assert (refused.value.status_code, refused.value.code) == (413, "request_too_large")
    with anthropic.Anthropic(
        base_url=site.nginx.url, api_key=key, max_retries=0,
        http_client=anthropic.DefaultHttpxClient(verify=trust),
    ) as theirs, pytest.raises(anthropic.APIStatusError) as told:  # fmt: skip
        theirs.messages.create(
            model="m", max_tokens=5, messages=[{"role": "user", "content": prompt}]
        )
    assert told.value.status_code == 413
    assert json.loads(told.value.response.text)["error"]["type"] == "request_too_large"
    options = genai.types.HttpOptions(base_url=site.nginx.url, client_args={"verify": trust})
    with (
        genai.Client(api_key=key, http_options=options) as googles,
        pytest.raises(genai.errors.ClientError) as known,
    ):
        googles.models.generate_content(model="m", contents=prompt)
    assert (known.value.code, known.value.status) == (413, "INVALID_ARGUMENT")
    assert len(site.upstream.requests) == before


def test_errors_of_nginx_are_in_the_callers_dialect(built: Site, dialect: Dialect) -> None:
    target = TARGETS[dialect]
    too_large = f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 33554433\r\n\r\n"
    check_error(built.ask(too_large.encode()), ErrorCode.REQUEST_TOO_LARGE, dialect, 413)
    long_header = request_bytes(target, b"{}", headers={"x-long": "x" * 9_000})
    check_error(built.ask(long_header), ErrorCode.INVALID_REQUEST, dialect, 400)
    check_error(
        built.ask(request_bytes(target, method="TRACE")), ErrorCode.METHOD_NOT_ALLOWED, dialect, 405
    )
    coded = request_bytes(target, headers={"Transfer-Encoding": "gzip"})
    coded = coded.replace(b"Content-Length: 0\r\n", b"")
    check_error(built.ask(coded), ErrorCode.INVALID_REQUEST, dialect, 501)


def test_the_header_decides_the_dialect_where_the_path_does_not(built: Site) -> None:
    version = {"anthropic-version": "2023-06-01"}
    for target, headers, dialect in (
        ("/v1/models", {}, Dialect.OPENAI),
        ("/v1/models", version, Dialect.ANTHROPIC),
        ("/v1/messages/v1/chat/completions?a=/messages", version, Dialect.OPENAI),
        ("/v1/v1/messages/?beta=true", {}, Dialect.ANTHROPIC),
        ("/v1beta/models", version, Dialect.GEMINI),
        ("/v1beta/models/m:generateContent/v1/chat/completions", {}, Dialect.OPENAI),
        ("/v1beta/openai/chat/completions", {}, Dialect.OPENAI),
        ("/v1beta/openai/models", {}, Dialect.OPENAI),
        ("/v1beta/openai/models", version, Dialect.ANTHROPIC),
        ("/v1alpha/files?alt=json", {}, Dialect.GEMINI),
        ("/v1alpha/files?alt=json", version, Dialect.ANTHROPIC),
        ("/v1/models/m%3acountTokens?a=/messages", version, Dialect.GEMINI),
        ("/api//V1Beta//models//messages:streamGenerateContent/", {}, Dialect.GEMINI),
        ("/v1/models?a=/v1beta/models/m:generateContent", {}, Dialect.OPENAI),
    ):
        assert dialect is dialect_of(unquote(target), anthropic_version=bool(headers)), target
        sent = request_bytes(target, method="TRACE", headers=headers)
        check_error(built.ask(sent), ErrorCode.METHOD_NOT_ALLOWED, dialect, 405)
    check_error(
        built.ask(b"GE\0T / HTTP/1.1\r\n\r\n"), ErrorCode.INVALID_REQUEST, Dialect.OPENAI, 400
    )
    with RawClient(built.nginx.port) as client:
        response = client.send(LIST).read_response()
        check_error(response, ErrorCode.INVALID_REQUEST, Dialect.OPENAI, 400)


def test_while_the_relay_is_down_nginx_says_so_and_no_longer(
    tmp_path: Path, dialect: Dialect
) -> None:
    with (
        ScriptedUpstream(scripted_answer) as upstream,
        RelayProcess(tmp_path / "relay", channels(upstream)) as relay,
        NginxProcess(tmp_path / "nginx", relay.port) as nginx,
    ):
        site = Site(nginx, relay, upstream, relay.account())
        sent = site.call(dialect, stream=dialect is not Dialect.OPENAI)
        assert site.ask(sent).status == 200
        relay.kill()
        for _ in range(3):
            response = site.ask(sent)
            check_error(response, ErrorCode.SERVICE_UNAVAILABLE, dialect, 502)
            assert response.header("retry-after") == "1"
        relay.start()
        assert site.ask(sent).status == 200
        assert len(upstream.requests) == 2


def test_an_answer_that_never_comes_is_504(site: Site, tmp_path: Path, dialect: Dialect) -> None:
    site.upstream.play([AwaitGone()])
    edits = {"proxy_read_timeout 900s": "proxy_read_timeout 1s"}
    with NginxProcess(tmp_path / "impatient", site.relay.port, edits=edits) as nginx:
        impatient = replace(site, nginx=nginx)
        response = impatient.ask(site.call(dialect, stream=False))
        check_error(response, ErrorCode.UPSTREAM_TIMEOUT, dialect, 504)
    bill = site.bill()
    assert (bill["verdict"], float(bill["charge_usd"])) == ("client_gone", 0)


def test_too_many_requests_of_one_address_are_429(
    site: Site, tmp_path: Path, dialect: Dialect
) -> None:
    site.upstream.play([AwaitGone()])
    edits = {"limit_conn sluice_address 512": "limit_conn sluice_address 1"}
    with NginxProcess(tmp_path / "narrow", site.relay.port, edits=edits) as nginx:
        narrow = replace(site, nginx=nginx)
        with narrow.client() as client:
            client.send(site.call(dialect))
            site.until_asked()
            response = narrow.ask(site.call(dialect))
        check_error(response, ErrorCode.CONCURRENCY_LIMIT_EXCEEDED, dialect, 429)
        assert response.header("retry-after") == "1"


def test_the_relays_own_errors_pass_untouched(site: Site, dialect: Dialect) -> None:
    site.upstream.play(plain_script(b'{"error":{"message":"no"}}', 500))
    for sent in (
        request_bytes(TARGETS[dialect], body(max_tokens=5), key="sk-nobody"),
        request_bytes(TARGETS[dialect], b"{", key=site.account.key),
        site.call(dialect, model="nothing"),
        request_bytes(TARGETS[dialect] + "/nowhere", b"{}", key=site.account.key),
        request_bytes(TARGETS[dialect], method="GET", key=site.account.key),
        site.call(dialect),
    ):
        with RawClient(site.relay.port) as client:
            direct = client.send(sent).read_response()
        through = site.ask(sent)
        assert direct.status in {400, 401, 404, 405, 502}

        def told(response: RawResponse) -> Any:
            found = json.loads(response.body)
            found.pop("request_id", None)
            return response.status, found, response.header("x-ratelimit-limit-requests")

        assert told(through) == told(direct)
        name = "request-id" if dialect is Dialect.ANTHROPIC else "x-request-id"
        assert (through.header(name) or "").startswith("req_"), through.headers


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/.sluice-error"])
def test_operations_and_insides_are_not_to_be_had(built: Site, path: str) -> None:
    response = built.ask(request_bytes(path, method="GET"))
    assert response.status == 404
    assert response.error()["code"] == "unknown_url"


def test_a_call_that_failed_is_not_sent_a_second_time(tmp_path: Path) -> None:
    with (
        ScriptedUpstream([Reset()]) as first,
        ScriptedUpstream([Reset()]) as second,
        NginxProcess(
            tmp_path / "nginx", first.port,
            edits={"keepalive 128;": f"server 127.0.0.1:{second.port}; keepalive 128;"},
        ) as nginx,
    ):  # fmt: skip
        for number in range(1, 5):
            with RawClient(nginx.plain_port) as client:
                response = client.send(LIST).read_response()
            check_error(response, ErrorCode.SERVICE_UNAVAILABLE, Dialect.OPENAI, 502)
            assert len(first.requests) + len(second.requests) == number


def test_a_refused_connection_is_one_answer(tmp_path: Path) -> None:
    with refused_port() as port, NginxProcess(tmp_path / "nginx", port) as nginx:
        for _ in range(3):
            with RawClient(nginx.plain_port) as client:
                response = client.send(LIST).read_response()
            check_error(response, ErrorCode.SERVICE_UNAVAILABLE, Dialect.OPENAI, 502)
