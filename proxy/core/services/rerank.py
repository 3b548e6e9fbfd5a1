"""Rerank: a query and documents in, an order out, billed per call, per search unit or by tokens.

Rules: what an answer reports is billed as such; without a report, search units are counted as
Cohere defines them and tokens estimated as a cross-encoder reads them, the query once for every
document. This module must not know prices.

Sources: cohere-python `src/cohere/v2/raw_client.py:rerank` (model, query, documents, top_n,
max_tokens_per_doc) and `types/api_meta_billed_units.py` (search_units, a float); Cohere's pricing
page ("a single search unit is defined as one query with up to 100 documents") and models page
(documents longer than about 500 tokens are split, each part counts); Jina's API reference
(usage.total_tokens; documents may be objects).
"""

from typing import Final

from proxy.core.entities import Usage, UsageSource
from proxy.core.services.fields import MEASURED, MODEL, WORD, JsonFields, TextSize, invalid
from proxy.core.services.service import ServiceRequest

WATCHED: Final = {"model": MODEL, "query": MEASURED, "documents": MEASURED, "top_n": WORD}
UNIT_DOCUMENTS: Final = 100
DOCUMENT_TOKENS: Final = 500
"""A longer document counts as several."""
FRAME_TOKENS_MAX: Final = 8
"""What a model may put around a query and a document."""
_TOP_MAX: Final = 1_000_000


def read(fields: JsonFields) -> ServiceRequest:
    """Read a rerank request. Raises RelayError."""
    model = fields.model()
    asked, given = fields.members.get("query"), fields.members.get("documents")
    if asked is None or asked.kind not in {"string", "object"}:
        raise invalid("query", "is required: send a string")
    if given is None or given.kind != "array" or not given.elements:
        raise invalid("documents", "is required: send an array of at least one document")
    if given.strings + given.objects != given.elements:
        raise invalid("documents", "must hold strings or objects")
    fields.integer("top_n", _TOP_MAX)
    query = TextSize(asked.narrow, asked.wide)
    texts = TextSize(given.narrow, given.wide)
    count = given.elements
    frames = count * FRAME_TOKENS_MAX
    parts_max = count + (query.tokens_max * count + texts.tokens_max) // DOCUMENT_TOKENS
    return ServiceRequest(
        endpoint="rerank",
        model=model.name,
        place=model.place,
        model_given=model.given,
        usage_max=Usage(
            input_uncached=query.tokens_max * count + texts.tokens_max + frames,
            searches=_units(parts_max),
        ),
        usage_bound=Usage(
            input_uncached=query.tokens_bound * count + texts.tokens_bound + frames,
            searches=_units(2 * parts_max),
        ),
        usage_known=Usage(
            input_uncached=query.tokens_known * count + texts.tokens_known,
            searches=_units(count),
        ),
        known_source=UsageSource.ESTIMATED,
    )


def _units(documents: int) -> int:
    return -(-documents // UNIT_DOCUMENTS)
