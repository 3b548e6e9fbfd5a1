"""Every named body of a service over a real socket: status, code, member, and no charge.

One relay for all: what one case leaves behind would spoil the next one's answer. Bodies go in one
write, and cut in pieces, so that what is read of them as they come is read alike.
"""

from collections.abc import Iterator

import pytest

from proxy.core.entities import Dialect
from proxy.core.urls import CANONICAL, Endpoint
from tests.corpora.services import ServiceCase, services
from tests.edge.harness import ANN, Relay, channel
from tests.integration.raw_client import RawClient, RawResponse
from tests.integration.scripted import ScriptedUpstream
from tests.integration.scripts import plain_script
from tests.integration.test_bad_input import error_in

REFUSED = [case for case in services() if case.status != 200]
PIECE_BYTES = 1_000
DIALECTS = {"count_tokens": Dialect.ANTHROPIC, "gemini_count_tokens": Dialect.GEMINI}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(plain_script(b"{}")) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream) -> Iterator[Relay]:
    path = tmp_path_factory.mktemp("services")
    with Relay(path, channel(upstream.base_url), plan="free", spool_memory_bytes_max=2_048) as one:
        yield one


def target(case: ServiceCase) -> str:
    return CANONICAL[Endpoint(case.endpoint)].replace("{model}", "m")


def head(case: ServiceCase) -> bytes:
    lines = [
        f"POST {target(case)} HTTP/1.1",
        "host: relay.test",
        f"authorization: Bearer {ANN}",
        f"content-length: {len(case.body)}",
    ]
    if case.header:
        lines.append(f"content-type: {case.header}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def told(client: RawClient, case: ServiceCase, write_bytes: int | None) -> RawResponse:
    client.send(head(case) + case.body, write_bytes)
    return client.read_response()


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_bad_body_is_refused_by_name_and_costs_nothing(
    relay: Relay, upstream: ScriptedUpstream, case: ServiceCase
) -> None:
    dialect = DIALECTS.get(case.endpoint, Dialect.OPENAI)
    for write_bytes in (None, PIECE_BYTES):
        with relay.client() as client:
            response = told(client, case, write_bytes)
        assert response.status == case.status
        error = error_in(response, dialect, case.code or "")
        if dialect is Dialect.ANTHROPIC:
            assert error["type"] == "invalid_request_error"
        elif dialect is Dialect.OPENAI:
            assert error["param"] == case.param
        assert response.header("x-sluice-cost") == "0"
    assert not upstream.requests


def test_nothing_of_it_is_on_a_bill(relay: Relay) -> None:
    assert relay.calls() == []
    assert len(REFUSED) > 200
