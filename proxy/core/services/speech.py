"""Speech: a text in, sound out, billed by its characters, or by tokens read and spoken.

Rules: characters are those of `input` alone, counted exactly. A model of tokens reports them only
in a stream of events; sound by itself says nothing, so they are estimated from the text. This
module must not know prices or sound.

Sources: openai-python `types/audio/speech_create_params.py` (input, model, voice, instructions,
stream_format); OpenAI's pricing page, where gpt-4o-mini-tts speaks a minute for $0.015 at $12 per
1M tokens: 1,250 tokens.
"""

from typing import Final

from proxy.core.entities import Usage, UsageSource
from proxy.core.services.fields import MEASURED, MODEL, WORD, JsonFields, TextSize, invalid
from proxy.core.services.service import ServiceRequest

WATCHED: Final = {
    "model": MODEL,
    "input": MEASURED,
    "instructions": MEASURED,
    "stream_format": WORD,
    "response_format": WORD,
}
MINUTE_TOKENS: Final = 1_250
NARROW_A_MINUTE: Final = 900
"""Letters of Latin script that are spoken in a minute: 150 words of 6."""
WIDE_A_MINUTE: Final = 250
"""Characters of other scripts, by the slowest: Chinese and Japanese."""
SLOWNESS_MAX: Final = 4
"""`speed` goes down to 0.25."""
FRAME_TOKENS_MAX: Final = 512


def read(fields: JsonFields) -> ServiceRequest:
    """Read a speech request. Raises RelayError."""
    model = fields.model()
    if not fields.has("input"):
        raise invalid("input", "is required: send the text to speak")
    text, how = fields.text("input"), fields.text("instructions")
    if not text.characters:
        raise invalid("input", "must not be an empty string")
    fields.word("response_format")
    spoken = spoken_tokens(text)
    asked = TextSize(text.narrow + how.narrow, text.wide + how.wide)
    most = spoken * SLOWNESS_MAX + FRAME_TOKENS_MAX
    return ServiceRequest(
        endpoint="speech",
        model=model.name,
        place=model.place,
        model_given=model.given,
        usage_max=Usage(
            input_uncached=asked.tokens_max, output=2 * spoken, characters=text.characters
        ),
        usage_bound=Usage(
            input_uncached=asked.tokens_bound + FRAME_TOKENS_MAX,
            output=most,
            characters=text.characters,
        ),
        usage_known=Usage(
            input_uncached=asked.tokens_known, output=spoken, characters=text.characters
        ),
        known_source=UsageSource.ESTIMATED,
        stream=fields.word("stream_format") == "sse",
    )


def spoken_tokens(text: TextSize) -> int:
    """Estimate the tokens of sound a text is spoken in, at the usual speed; at least 1."""
    minutes_wide = text.wide * NARROW_A_MINUTE
    minutes_narrow = text.narrow * WIDE_A_MINUTE
    return -(-(minutes_wide + minutes_narrow) * MINUTE_TOKENS // (NARROW_A_MINUTE * WIDE_A_MINUTE))
