"""Every sample there is, for a model whose name tries to break out of its quotes."""

from proxy.core.examples.sample import ENDPOINTS, STREAMED, Sample, sample

PLAIN = "gpt-x"
ODD = "org/a'b\"c\\é`${x}#{y}@😀:free"
ROOT = "https://relay.example"


def samples(model: str = ODD) -> list[Sample]:
    """One per endpoint, and the streamed ones."""
    made = [sample(endpoint, base_url=ROOT, model=model) for endpoint in ENDPOINTS]
    streamed = [sample(endpoint, base_url=ROOT, model=model, stream=True) for endpoint in STREAMED]
    return made + streamed


def chat(*, stream: bool = False) -> Sample:
    """The one that everybody reads first."""
    return sample("chat", base_url=f"{ROOT}/v1/", model=PLAIN, stream=stream)


def named(each: Sample) -> str:
    """A test's id."""
    return f"{each.endpoint}-{each.reply.name.lower()}"
