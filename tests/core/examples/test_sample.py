import pytest

from proxy.core.examples.sample import ENDPOINTS, STREAMED, Reply, sample
from proxy.core.urls import CANONICAL, METHODS, Endpoint
from tests.core.examples import ODD, ROOT, samples


@pytest.mark.parametrize("base_url", [ROOT, f"{ROOT}/", f"{ROOT}/v1", f"{ROOT}/v1/"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_sample_is_of_the_endpoint_it_says(endpoint: str, base_url: str) -> None:
    made = sample(endpoint, base_url=base_url, model="m")
    known = Endpoint(endpoint)
    assert made.url == ROOT + CANONICAL[known].replace("{model}", "m")
    assert made.method == METHODS[known][0]
    assert made.base_url in {ROOT, f"{ROOT}/v1"}
    assert not made.stream


def test_each_names_its_model_where_its_endpoint_reads_it() -> None:
    for made in samples():
        if made.body is not None and made.endpoint != "gemini_generate":
            assert made.body["model"] == ODD
        elif made.form:
            assert dict(made.form)["model"] == ODD
        elif made.endpoint != "models":
            assert "/v1beta/models/org/a%27b%22c%5C%C3%A9%60%24%7Bx%7D" in made.url
        assert made.model == ODD


def test_streams_are_asked_for() -> None:
    for endpoint in STREAMED:
        made = sample(endpoint, base_url=ROOT, model="m", stream=True)
        assert made.stream
        assert made.reply is Reply.EVENTS
        assert made.body is not None
        assert made.body["stream"] is True


def test_what_is_saved_is_no_file_that_is_sent() -> None:
    for made in samples():
        assert (made.reply in {Reply.IMAGE, Reply.BYTES}) == bool(made.save_as)
        assert made.file is None or made.save_as != made.file[1]


def test_unknown_endpoints_are_told_what_there_is() -> None:
    with pytest.raises(ValueError, match="no example for 'files'; there are chat, messages"):
        sample("files", base_url=ROOT, model="m")
    with pytest.raises(ValueError, match="embeddings has no streamed example; chat and messages"):
        sample("embeddings", base_url=ROOT, model="m", stream=True)
