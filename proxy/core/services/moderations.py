"""Moderations: texts or pictures in, categories out.

Rules: OpenAI charges nothing for them and reports no usage; who sells them bills by call or by an
estimate of the tokens. A picture is data in the body, so its weight is bounded, not counted. This
module must not know prices.

Source: the OpenAI specification's CreateModerationRequest (`model` defaults to
omni-moderation-latest; `input`: string, array of strings or of typed parts).
"""

from typing import Final

from proxy.core.entities import Usage, UsageSource
from proxy.core.services.fields import MEASURED, MODEL, JsonFields, TextSize, invalid
from proxy.core.services.service import ServiceRequest

WATCHED: Final = {"model": MODEL, "input": MEASURED}
MODEL_DEFAULT: Final = "omni-moderation-latest"
INPUT_TOKENS_MAX: Final = 32_768
"""What one input can come to: our figure, for a text as long as any moderation model reads."""


def read(fields: JsonFields) -> ServiceRequest:
    """Read a moderations request. Raises RelayError."""
    model = fields.model(MODEL_DEFAULT)
    source = fields.members.get("input")
    if source is None:
        raise invalid("input", "is required: send a string, or an array of strings or parts")
    inputs = 1
    if source.kind == "array" and source.elements:
        inputs = source.elements
        if source.strings + source.objects != inputs:
            raise invalid("input", "must hold strings, or parts that are objects")
    elif source.kind != "string":
        raise invalid("input", "must be a string, or an array of at least one string or part")
    size = TextSize(source.narrow, source.wide)
    most = inputs * INPUT_TOKENS_MAX
    return ServiceRequest(
        endpoint="moderations",
        model=model.name,
        place=model.place,
        model_given=model.given,
        usage_max=Usage(input_uncached=min(size.tokens_max, most)),
        usage_bound=Usage(input_uncached=most),
        usage_known=Usage(input_uncached=min(size.tokens_known, most)),
        known_source=UsageSource.ESTIMATED,
    )
