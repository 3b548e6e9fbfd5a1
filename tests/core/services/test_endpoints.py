"""Each service has its reader, which takes good bodies and refuses the others by name."""

import pytest

from proxy.core.entities import ENDPOINTS
from proxy.core.errors import RelayError
from proxy.core.services import endpoints
from proxy.core.services.service import ServiceRequest
from tests.corpora.services import ServiceCase, services

ACCEPTED = [case for case in services() if case.status == 200]
REFUSED = [case for case in services() if case.status != 200]
SIZES = (1, 3, 61, 4_096, 1 << 30)


def read(case: ServiceCase, size: int) -> ServiceRequest:
    body = case.body
    model = "m" if case.endpoint.startswith("gemini") else ""
    reader = endpoints.open_request(case.endpoint, case.header, model)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    return reader.finish()


def sizes(case: ServiceCase) -> tuple[int, ...]:
    return SIZES if len(case.body) < 20_000 else SIZES[3:]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_a_good_body_is_read_alike_however_it_is_cut(case: ServiceCase) -> None:
    request = read(case, 1 << 30)
    assert request.endpoint == case.endpoint
    assert {name: getattr(request.usage_known, name) for name in case.expect} == dict(case.expect)
    if case.model is not None:
        assert request.model == case.model
    for size in sizes(case):
        assert read(case, size) == request
    for known, held, bound in zip(
        *(
            tuple(vars_of(usage))
            for usage in (request.usage_known, request.usage_max, request.usage_bound)
        ),
        strict=True,
    ):
        assert known <= held
        assert held <= bound


def vars_of(usage: object) -> list[int]:
    """The sums a usage is held, bounded and priced by."""
    names = "prompt_total completion_total images characters audio_ms searches calls"
    return [getattr(usage, name) for name in names.split()]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_another_model_is_put_where_it_stood_and_nothing_else_changes(case: ServiceCase) -> None:
    body = case.body
    request = read(case, 4_096)
    if case.endpoint == "gemini_count_tokens":
        assert request.edits(request.model) == ()
        return
    edited = body
    for start, end, text in reversed(request.edits("up/ä")):
        edited = edited[:start] + text + edited[end:]
    reader = endpoints.open_request(case.endpoint, case.header)
    reader.feed(edited)
    again = reader.finish()
    assert again.model == "up/ä"
    assert again.model_given
    # Another name can mean other defaults of images; the rest is as it was.
    if not case.endpoint.startswith("images_"):
        assert again.usage_max == request.usage_max


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_a_bad_body_is_refused_alike_however_it_is_cut(case: ServiceCase) -> None:
    for size in sizes(case):
        with pytest.raises(RelayError) as caught:
            read(case, size)
        error = caught.value
        assert (error.status, error.code.code, error.param) == (case.status, case.code, case.param)
        assert error.message.endswith(".")
        assert error.message.isprintable()
        assert len(error.message) < 300


def test_the_corpus_is_large_and_its_names_unique() -> None:
    names = [case.name for case in services()]
    assert len(REFUSED) >= 200
    assert len(set(names)) == len(names)


def test_every_service_is_an_endpoint_of_a_model() -> None:
    assert endpoints.SERVICES <= ENDPOINTS


def test_a_body_is_read_by_its_endpoints_reader() -> None:
    reader = endpoints.open_request("embeddings", "application/json")
    reader.feed(b'{"model":"e","in')
    reader.feed(b'put":"hello"}')
    request = reader.finish()
    assert (request.endpoint, request.model) == ("embeddings", "e")


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("moderations", b'{"input":"x"}'),
        ("rerank", b'{"model":"m","query":"q","documents":["d"]}'),
        ("count_tokens", b'{"model":"m","messages":[{}]}'),
        ("gemini_count_tokens", b'{"contents":[]}'),
        ("speech", b'{"model":"m","input":"x"}'),
        ("images_generations", b'{"prompt":"x"}'),
        ("images_edits", b'{"prompt":"x"}'),
    ],
)
def test_a_request_knows_its_endpoint(endpoint: str, body: bytes) -> None:
    reader = endpoints.open_request(endpoint, "application/json", "g")
    reader.feed(body)
    assert reader.finish().endpoint == endpoint


FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    ("endpoint", "content_type", "body"),
    [
        ("embeddings", "application/json", b'{"input":"x"}'),
        ("images_generations", "application/json", b'{"prompt":"x"}'),
        ("transcriptions", "multipart/form-data; boundary=B", FORM + b"--B--"),
        (
            "images_variations",
            "multipart/form-data; boundary=B",
            FORM.replace(b'"file"', b'"image"') + b"--B--",
        ),
    ],
)
def test_a_model_that_the_path_names_is_put_in(
    endpoint: str, content_type: str, body: bytes
) -> None:
    reader = endpoints.open_request(endpoint, content_type, "deployed")
    reader.feed(body)
    request = reader.finish()
    assert (request.model, request.model_given) == ("deployed", False)
    assert len(request.edits("deployed")) == 1
