"""The OpenAPI document against the relay: routes, the specification's own schema, generated requests.

Schemathesis makes requests from the document, such as it allows and such as it forbids, and judges
every answer by it: no fault of ours, no undocumented status, media type, header or body.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema_rs
import openapi_spec_validator
import pytest
import requests
import schemathesis
from schemathesis import GenerationMode, checks
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi import checks as openapi_checks

from proxy import __version__
from proxy.core import asks
from proxy.core.entities import DIALECT_ENDPOINTS, Dialect
from proxy.core.examples.sample import ENDPOINTS, STREAMED, sample
from proxy.core.openapi.document import ANSWER_HEADERS, REQUEST_HEADERS, document
from proxy.core.openapi.operations import OPERATIONS
from proxy.core.openapi.schemas import REQUESTS
from proxy.core.urls import CANONICAL, METHODS, Endpoint
from proxy.edge.downstream import EXPOSED_HEADERS
from proxy.edge.server import ROUTES
from tests import tree
from tests.integration.relay_process import RelayProcess, UpstreamAt, free_ports

DOCUMENT: dict[str, Any] = json.loads(document(__version__))
REFUSED = [400, 401, 402, 403, 404, 405, 413, 422, 429]
CONFIG = {
    "seed": 1,
    "cache": {"enabled": False},
    "generation": {"deterministic": True},
    "checks": {"negative_data_rejection": {"expected-statuses": REFUSED}},
}
"""The same requests every time, and nothing left in the tree."""
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config.from_dict(CONFIG))
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]
GPT, CLAUDE, GEMINI = "demo-gpt", "demo-claude", "demo-gemini"
PRICE = {"input": "1.00", "output": "4.00", "image": "0.01", "character": "15.00",
         "audio_hour": "0.36", "call": "0.0001"}  # fmt: skip
EXAMPLES_MAX = 60
CALL_SECONDS_MAX = 20.0


def documented() -> set[str]:
    """The document's operations, as `METHOD /path`."""
    return {f"{method.upper()} {path}" for path, row in DOCUMENT["paths"].items() for method in row}


def test_every_route_is_in_the_document_and_nothing_more() -> None:
    served = {
        f"{method} {path}"
        for endpoint, path in CANONICAL.items()
        for method in METHODS[endpoint]
        if method != "HEAD"
    }
    assert documented() == served
    assert set(ROUTES) <= served


def test_the_specifications_own_schema_accepts_it() -> None:
    openapi_spec_validator.validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["version"] == __version__


def test_every_header_that_callers_may_read_or_send_is_in_it() -> None:
    exposed = {name.strip() for name in EXPOSED_HEADERS.split(",")}
    assert exposed <= set(ANSWER_HEADERS), "say in core/openapi/document.py what a new one means"
    assert set(ANSWER_HEADERS) - exposed <= {"retry-after-ms", "x-should-retry"}
    readme = tree.text(Path("README.md"))
    told = set(re.findall(r"^\| `(x-[a-z-]+): [^`]*`", readme, re.MULTILINE))
    assert told <= set(REQUEST_HEADERS) == set(asks.HEADERS), "core/openapi/document.py names all"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_what_the_example_programs_send_is_allowed(endpoint: str) -> None:
    for stream in {False, endpoint in STREAMED}:
        made = sample(endpoint, base_url="", model=GPT, stream=stream)
        sent = dict(made.form) if made.body is None else made.body
        (row,) = (
            row for key, row in OPERATIONS.items() if key == (Endpoint(endpoint), made.method)
        )
        media = "multipart/form-data" if made.form else "application/json"
        name = (row.takes or {}).get(media)
        assert (name is None) == (made.method == "GET")
        if made.file is not None:
            sent = {**sent, made.file[0]: "the file's bytes"}
        if name is not None:
            jsonschema_rs.validate(dict(REQUESTS[name]), json.loads(json.dumps(sent)))


@dataclass(frozen=True)
class Bench:
    url: str
    key: str


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    (port,) = free_ports(1)
    demo = subprocess.Popen(
        [sys.executable, "-m", "proxy.app.demo", "--listen", f"127.0.0.1:{port}", "--rate", "0"],
        stdout=subprocess.PIPE,
    )
    try:
        assert demo.stdout is not None
        assert demo.stdout.readline()
        url = f"http://127.0.0.1:{port}"
        of_openai = sorted(DIALECT_ENDPOINTS[Dialect.OPENAI] | {"responses"})
        upstreams = [
            UpstreamAt("gpt", "openai", f"{url}/v1", {GPT: GPT}, settings={"endpoints": of_openai}),
            UpstreamAt("claude", "anthropic", f"{url}/v1", {CLAUDE: CLAUDE}),
            UpstreamAt("gemini", "gemini", f"{url}/v1beta", {GEMINI: GEMINI}),
        ]
        models = {GPT: {"endpoints": of_openai, "price": PRICE}}
        folder = tmp_path_factory.mktemp("openapi")
        with RelayProcess(folder, upstreams, models=models) as relay:
            yield Bench(relay.url, relay.account().key)
            assert relay.verify()["clean"]
            assert "internal error" not in relay.log()
    finally:
        demo.kill()
        demo.communicate()


def test_it_is_served_without_a_key(bench: Bench) -> None:
    answer = requests.get(f"{bench.url}/openapi.json", timeout=CALL_SECONDS_MAX)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == DOCUMENT
    head = requests.head(f"{bench.url}/v1/openapi.json", timeout=CALL_SECONDS_MAX)
    assert head.headers["content-length"] == answer.headers["content-length"]
    refused = requests.post(f"{bench.url}/openapi.json", timeout=CALL_SECONDS_MAX)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def is_broken(case: schemathesis.Case) -> bool:
    """Whether the body breaks its schema: headers and queries nobody knows are no fault.

    Not a form's: all its values are texts, so what is of a wrong type may be right once written.
    """
    if case.media_type != "application/json":
        return False
    parts = {} if case.meta is None else case.meta.components
    return any(
        place is ParameterLocation.BODY and part.mode is GenerationMode.NEGATIVE
        for place, part in parts.items()
    )


@SCHEMA.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES_MAX,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_generated_requests_are_answered_as_documented(
    case: schemathesis.Case, bench: Bench
) -> None:
    allowed = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if allowed and isinstance(case.body, dict) and "model" in case.body:
        # Most of them reach an upstream: no generator guesses a model's name.
        case.body["model"] = (GPT, GPT, CLAUDE, case.body["model"])[len(str(case.body)) % 4]
    response = case.call(
        base_url=bench.url,
        headers={"authorization": f"Bearer {bench.key}"},
        timeout=CALL_SECONDS_MAX,
    )
    judges = [*CHECKS, openapi_checks.negative_data_rejection] if is_broken(case) else CHECKS
    case.validate_response(response, checks=judges)
