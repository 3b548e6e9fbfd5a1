"""Images drawn, edited or varied: billed per image of a size and quality, or by tokens.

Rules: a form and a JSON body are read alike. What the provider chooses ("auto") is unknown here:
the dearest is held for, and the answer says which it was. This module must not know prices.

Sources: openai-python `types/image_generate_params.py`, `image_edit_params.py` and
`image_create_variation_params.py` (defaults, ranges, sizes by model); the OpenAI specification's
EditImageBodyJsonParam (`images` instead of files). Tokens of an image: OpenAI's image generation
guide (272 to 6,240 with GPT Image 1: the model page's prices per image divided by that of a token;
100 more for each partial image), and 7,024 for gpt-image-2 by its calculator.
"""

from typing import Final

from proxy.core.entities import Usage, UsageSource
from proxy.core.services.fields import MEASURED, MODEL, WORD, Fields, TextSize, invalid
from proxy.core.services.service import ServiceRequest

WATCHED: Final = {
    "model": MODEL,
    "prompt": MEASURED,
    "images": MEASURED,
    "n": WORD,
    "size": WORD,
    "quality": WORD,
    "stream": WORD,
    "partial_images": WORD,
    "response_format": WORD,
}
DEFAULTS: Final = {
    "images_generations": "dall-e-2",
    "images_edits": "gpt-image-1.5",
    "images_variations": "dall-e-2",
}
"""The model meant by a body that names none."""
IMAGES_MAX: Final = 10
PARTIAL_IMAGES_MAX: Final = 3
READ_TOKENS_MAX: Final = 8_192
"""What an image to edit weighs at the highest fidelity."""
PARTIAL_TOKENS: Final = 100
SLACK: Final = 4
"""No report is believed above so many times what is held for."""
_STANDARD: Final = frozenset({"1024x1024", "1024x1536", "1536x1024"})
_HELD: Final = {"low": 1_024, "medium": 2_048}
_HELD_OTHERWISE: Final = 8_192
_DRAWN: Final = {"low": (272, 408), "medium": (1_056, 1_584), "high": (4_160, 6_240)}


def read(fields: Fields, endpoint: str, files: int) -> ServiceRequest:
    """Read a request to `endpoint` with so many image `files`. Raises RelayError."""
    model = fields.model(DEFAULTS[endpoint])
    prompt = _prompt(fields, endpoint)
    count = fields.integer("n", IMAGES_MAX) or 1
    partial = fields.integer("partial_images", PARTIAL_IMAGES_MAX, minimum=0) or 0
    size, quality = _asked(fields, model.name)
    fields.word("response_format")
    dall_e = model.name.startswith("dall-e")
    held = 0 if dall_e else count * (_held_tokens(size, quality) + partial * PARTIAL_TOKENS)
    drawn = 0 if dall_e else count * _drawn_tokens(size, quality)
    given = 0 if dall_e else files * READ_TOKENS_MAX
    return ServiceRequest(
        endpoint=endpoint,
        model=model.name,
        place=model.place,
        model_given=model.given,
        usage_max=Usage(
            input_uncached=prompt.tokens_max, image_input=given, image_output=held, images=count
        ),
        usage_bound=Usage(
            input_uncached=prompt.tokens_bound + SLACK * _HELD_OTHERWISE * (files + count),
            image_output=SLACK * max(held, count * _HELD_OTHERWISE),
            images=count,
        ),
        usage_known=Usage(input_uncached=prompt.tokens_known, image_output=drawn, images=count),
        known_source=UsageSource.ESTIMATED,
        stream=fields.flag("stream"),
        size=size,
        quality=quality,
    )


def _prompt(fields: Fields, endpoint: str) -> TextSize:
    if endpoint == "images_variations":
        return TextSize()
    if not fields.has("prompt"):
        raise invalid("prompt", "is required: send a text that describes the image")
    return fields.text("prompt")


def _asked(fields: Fields, model: str) -> tuple[str, str]:
    """Return the size and quality that will be drawn; empty where the provider chooses."""
    size, quality = fields.word("size"), fields.word("quality")
    if model.startswith("dall-e"):
        return size or "1024x1024", quality if quality == "hd" else "standard"
    return "" if size == "auto" else size, "" if quality == "auto" else quality


def _held_tokens(size: str, quality: str) -> int:
    tokens = _HELD.get(quality, _HELD_OTHERWISE)
    return tokens if size in _STANDARD else 2 * tokens


def _drawn_tokens(size: str, quality: str) -> int:
    """Estimate what an image comes to whose answer does not say."""
    square, other = _DRAWN.get(quality, _DRAWN["medium"])
    return square if size in {"", "1024x1024"} else other
