"""Embeddings: texts or tokens in, vectors out, billed by the tokens read.

Rules: any array of strings, token arrays or objects (pictures, for those who embed them) passes;
what the elements mean is the upstream's to judge. This module must not know prices.

Sources: openai-python `types/embedding_create_params.py` (input: string, array of strings, of
tokens or of token arrays; encoding_format; dimensions) and `create_embedding_response.py` (usage:
prompt_tokens, total_tokens).
"""

from typing import Final

from proxy.core.entities import Usage, UsageSource
from proxy.core.json_members import Member
from proxy.core.services.fields import MEASURED, MODEL, WORD, JsonFields, TextSize, invalid
from proxy.core.services.service import ServiceRequest

WATCHED: Final = {
    "model": MODEL,
    "input": MEASURED,
    "encoding_format": WORD,
    "dimensions": WORD,
}
DIMENSIONS_MAX: Final = 1_000_000
FRAME_TOKENS_MAX: Final = 8
"""What a model may put around each text: marks of its beginning and end."""


def read(fields: JsonFields) -> ServiceRequest:
    """Read an embeddings request. Raises RelayError."""
    model = fields.model()
    source = fields.members.get("input")
    if source is None:
        raise invalid("input", "is required: send a string, or an array of strings or tokens")
    texts = _texts(source)
    fields.word("encoding_format")
    fields.integer("dimensions", DIMENSIONS_MAX)
    size = TextSize(source.narrow, source.wide)
    tokens = source.numbers_inside
    bound = tokens + size.tokens_bound + texts * FRAME_TOKENS_MAX
    return ServiceRequest(
        endpoint="embeddings",
        model=model.name,
        place=model.place,
        model_given=model.given,
        usage_max=Usage(input_uncached=max(1, tokens + size.tokens_max)),
        usage_bound=Usage(input_uncached=bound),
        usage_known=Usage(input_uncached=max(1, tokens + size.tokens_known)),
        known_source=UsageSource.ESTIMATED if size.characters else UsageSource.COUNTED,
    )


def _texts(source: Member) -> int:
    """Count the texts of an input, and refuse what is none."""
    if source.kind == "string":
        if not source.narrow + source.wide:
            raise invalid("input", "must not be an empty string")
        return 1
    if source.kind != "array" or not source.elements:
        raise invalid("input", "must be a string, or an array of at least one string or token")
    known = source.strings + source.numbers + source.arrays + source.objects
    if known != source.elements:
        raise invalid("input", "must hold strings or tokens, no null, true or false")
    return source.elements - source.numbers + min(1, source.numbers)
