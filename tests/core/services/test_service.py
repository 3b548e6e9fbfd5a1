"""What a call is held for, edited into and billed."""

from msgspec.structs import replace

from proxy.core.entities import Formula, Price, Usage, UsageSource
from proxy.core.services.service import Measured, ModelPlace, ServiceBill, ServiceRequest, bill

PRICE = Price("m", 1, input=1, image=7, image_variants={"1024x1024:hd": 9, "512x512": 3})
REPORTED, COUNTED = UsageSource.REPORTED, UsageSource.COUNTED


def request(
    known: Usage,
    bound: Usage | None = None,
    *,
    size: str = "",
    quality: str = "",
    given: bool = True,
    quoted: bool = True,
) -> ServiceRequest:
    return ServiceRequest(
        endpoint="embeddings",
        model="m",
        place=ModelPlace(9, 12, b"<", b">", quoted=quoted),
        usage_max=known,
        usage_bound=known if bound is None else bound,
        usage_known=known,
        known_source=COUNTED,
        model_given=given,
        size=size,
        quality=quality,
    )


def test_the_model_is_edited_where_it_stands() -> None:
    assert request(Usage()).edits("m") == ()
    assert request(Usage()).edits('a"b') == ((9, 12, b'<"a\\"b">'),)
    assert request(Usage(), quoted=False).edits("é") == ((9, 12, "<é>".encode()),)
    assert request(Usage(), given=False).edits("m") == ((9, 12, b'<"m">'),)


def test_tokens_are_of_all_kinds() -> None:
    usage = Usage(input_uncached=1, cache_read=2, audio_input=4, output=8, audio_output=16)
    usage = replace(usage, image_input=32, image_output=64)
    assert request(usage).tokens_max == 127


def test_images_are_held_for_at_the_variant_if_it_is_known() -> None:
    usage = Usage(images=2)
    assert (
        request(usage, size="1024x1024", quality="hd").usage_held(PRICE).variant == "1024x1024:hd"
    )
    assert request(usage, size="512x512").usage_held(PRICE) == usage
    assert request(usage, quality="hd").usage_held(PRICE) == usage
    assert request(Usage(), size="1024x1024", quality="hd").usage_held(PRICE) == Usage()


def test_a_report_replaces_what_was_known_but_not_what_it_does_not_count() -> None:
    known = Usage(input_uncached=10, characters=5, audio_ms=6, searches=7, calls=0)
    asked = request(known)
    measured = Measured(Usage(input_uncached=3), anomalies=("text",))
    assert bill(asked, measured, PRICE, complete=True) == ServiceBill(
        Usage(input_uncached=3, characters=5, audio_ms=6, searches=7, calls=0), REPORTED, ("text",)
    )
    assert bill(asked, Measured(), PRICE, complete=False) == ServiceBill(known, COUNTED)


def test_a_report_is_believed_up_to_the_bound() -> None:
    bound = Usage(input_uncached=10, audio_input=2, output=4, audio_ms=6)
    told = Usage(input_uncached=30, image_input=5, output=3, image_output=2, audio_ms=7)
    assert bill(request(Usage(), bound), Measured(told), PRICE, complete=True) == ServiceBill(
        Usage(input_uncached=12, output=3, image_output=1, audio_ms=6),
        REPORTED,
        ("input_bounded", "output_bounded", "units_bounded"),
    )


def test_images_are_those_that_came() -> None:
    asked = request(Usage(images=3), size="512x512", quality="auto")
    cases = {
        (None, True): 3,
        (None, False): 3,
        (2, True): 2,
        (2, False): 2,
        (0, True): 3,
        (0, False): 0,
        (9, True): 3,
    }
    for (images, complete), expected in cases.items():
        billed = bill(asked, Measured(images=images), PRICE, complete=complete)
        assert billed.usage.images == expected
        assert billed.usage.variant == ("512x512" if expected else "")
        assert billed.anomalies == (("units_bounded",) if images == 9 else ())


def test_the_variant_is_the_one_that_was_made() -> None:
    asked = request(Usage(images=1), size="512x512")
    measured = Measured(size="1024x1024", quality="hd")
    assert bill(asked, measured, PRICE, complete=True).usage.variant == "1024x1024:hd"
    assert bill(request(Usage()), measured, PRICE, complete=True).usage.variant == ""


def test_where_tokens_cost_nothing_the_source_is_that_of_the_units() -> None:
    asked = replace(request(Usage()), known_source=UsageSource.ESTIMATED)
    cases = {
        Price("m", 1, character=1): COUNTED,
        Price("m", 1, input=1): UsageSource.ESTIMATED,
        Price("m", 1, output=1): UsageSource.ESTIMATED,
        Price("m", 1, formula=Formula.RATIO): UsageSource.ESTIMATED,
    }
    for price, source in cases.items():
        assert bill(asked, Measured(), price, complete=True).source is source
    assert bill(asked, Measured(Usage()), PRICE, complete=True).source is REPORTED


def test_sound_that_came_replaces_what_was_guessed_of_it() -> None:
    asked = request(Usage(input_uncached=2, output=9, characters=5))
    billed = bill(asked, Measured(spoken=7), PRICE, complete=True)
    assert billed.usage == Usage(input_uncached=2, output=7, characters=5)
    assert billed.source is COUNTED
