"""Images: how many of which, at what they may come to."""

import pytest

from proxy.core.entities import Price, Usage
from proxy.core.errors import RelayError
from proxy.core.services import endpoints, images
from proxy.core.services.fields import JsonFields
from proxy.core.services.service import ServiceRequest


def read(members: str, endpoint: str = "images_generations") -> ServiceRequest:
    reader = endpoints.open_request(endpoint, "application/json")
    reader.feed(f"{{{members}}}".encode())
    return reader.finish()


PROMPT = '"prompt":"a cat!!!"'


@pytest.mark.parametrize(
    ("members", "size", "quality", "count", "held", "known"),
    [
        ('"model":"dall-e-2"', "1024x1024", "standard", 1, 0, 0),
        ('"model":"dall-e-3","quality":"hd","size":"1792x1024"', "1792x1024", "hd", 1, 0, 0),
        ('"model":"dall-e-3","quality":"auto","n":null', "1024x1024", "standard", 1, 0, 0),
        ('"model":"gpt-image-1"', "", "", 1, 16_384, 1_056),
        ('"model":"gpt-image-1","size":"auto","quality":"auto"', "", "", 1, 16_384, 1_056),
        (
            '"model":"gpt-image-1","size":"1024x1024","quality":"high","n":2',
            "1024x1024",
            "high",
            2,
            16_384,
            8_320,
        ),
        (
            '"model":"gpt-image-1","size":"1536x1024","quality":"low"',
            "1536x1024",
            "low",
            1,
            1_024,
            408,
        ),
        (
            '"model":"gpt-image-2","size":"3840x2160","quality":"medium"',
            "3840x2160",
            "medium",
            1,
            4_096,
            1_584,
        ),
        (
            '"model":"gpt-image-1","size":"1024x1024","quality":"low","n":2,"partial_images":3',
            "1024x1024",
            "low",
            2,
            2_648,
            544,
        ),
    ],
)
def test_what_is_asked_for_is_held_at_its_dearest(
    members: str, size: str, quality: str, count: int, held: int, known: int
) -> None:
    request = read(f"{members},{PROMPT}")
    assert (request.size, request.quality) == (size, quality)
    assert request.usage_max == Usage(input_uncached=4, images=count, image_output=held)
    assert request.usage_known == Usage(input_uncached=2, images=count, image_output=known)
    assert request.usage_bound.images == count
    assert request.usage_bound.image_output == 4 * max(held, count * 8_192)
    assert not request.stream


def test_the_variant_is_known_where_size_and_quality_are() -> None:
    price = Price("dall-e-3", 1, image_variants={"1024x1024:hd": 80, "1024x1024:standard": 40})
    hd = read(f'"model":"dall-e-3","quality":"hd",{PROMPT}')
    assert hd.usage_held(price).variant == "1024x1024:hd"
    assert read(f'"model":"dall-e-3",{PROMPT}').usage_held(price).variant == "1024x1024:standard"
    assert read(f'"model":"gpt-image-1",{PROMPT}').usage_held(price).variant == ""


def test_a_model_that_is_not_named_is_the_documented_one() -> None:
    assert read(PROMPT).model == "dall-e-2"
    assert read(PROMPT, "images_edits").model == "gpt-image-1.5"
    assert read(f'"model":null,{PROMPT}').edits("dall-e-2") == ((9, 13, b'"dall-e-2"'),)


def test_images_to_edit_are_read_too() -> None:
    request = read(f'"images":[{{"image_url":"u"}},{{"file_id":"f"}}],{PROMPT}', "images_edits")
    assert request.usage_max.image_input == 2 * 8_192
    assert request.usage_bound.prompt_total == 8 + 4 * 3 * 8_192


def test_a_variation_has_no_prompt() -> None:
    request = images.read(JsonFields({}, 1), "images_variations", 1)
    assert request.usage_max == Usage(images=1)
    assert request.model == "dall-e-2"


def test_a_stream_is_asked_for() -> None:
    assert read(f'"model":"gpt-image-1","stream":true,"partial_images":0,{PROMPT}').stream


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ('"model":"m"', "prompt"),
        ('"prompt":null', "prompt"),
        ('"prompt":["a"]', "prompt"),
        (f'{PROMPT},"n":0', "n"),
        (f'{PROMPT},"n":11', "n"),
        (f'{PROMPT},"n":"1"', "n"),
        (f'{PROMPT},"partial_images":4', "partial_images"),
        (f'{PROMPT},"size":1024', "size"),
        (f'{PROMPT},"quality":[]', "quality"),
        (f'{PROMPT},"stream":"true"', "stream"),
        (f'{PROMPT},"response_format":{{}}', "response_format"),
        (f'{PROMPT},"model":""', "model"),
    ],
)
def test_what_cannot_be_drawn_is_refused(members: str, param: str) -> None:
    with pytest.raises(RelayError) as caught:
        read(members)
    assert caught.value.param == param
