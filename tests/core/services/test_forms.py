"""Form data comes out typed, with the same errors as JSON."""

import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.services.fields import TextSize
from proxy.core.services.forms import FormFields, FormReader
from proxy.core.services.service import ModelPlace, ServiceRequest

CONTENT_TYPE = "multipart/form-data; boundary=B"


def field(name: str, value: bytes, file: str = "") -> bytes:
    head = f'--B\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def read(*parts: bytes) -> FormFields:
    found: list[FormFields] = []

    def keep(given: FormFields) -> ServiceRequest:
        found.append(given)
        raise InterruptedError

    reader = FormReader(CONTENT_TYPE, keep, lambda _file: None)
    reader.feed(b"".join(parts) + b"--B--\r\n")
    with pytest.raises(InterruptedError):
        reader.finish()
    return found[0]


def refusal(given: FormFields, how: str, name: str, *arguments: object) -> str:
    with pytest.raises(RelayError) as caught:
        getattr(given, how)(*([] if how == "model" else [name]), *arguments)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert caught.value.param == name
    return caught.value.message


def test_values_are_typed() -> None:
    given = read(
        field("n", b"3"),
        field("size", b"1x1"),
        field("stream", b"True"),
        field("quiet", b"0"),
        field("prompt", "hé".encode()),
    )
    assert given.integer("n", 10) == 3
    assert given.word("size") == "1x1"
    assert given.flag("stream")
    assert not given.flag("quiet")
    assert given.text("prompt") == TextSize(1, 1)
    assert given.has("n")


def test_what_is_absent_is_nothing() -> None:
    given = read()
    assert given.integer("n", 10) is None
    assert given.word("size") == ""
    assert not given.flag("stream")
    assert given.text("prompt") == TextSize()
    assert not given.has("n")


def test_what_is_of_another_type_is_refused() -> None:
    given = read(
        field("n", b"three"),
        field("stream", b"yes"),
        field("size", b"\xff"),
        field("a", b"x" * 5_000),
    )
    assert refusal(given, "integer", "n", 10) == "`n` must be an integer from 1 to 10."
    assert refusal(given, "flag", "stream") == "`stream` must be true or false."
    assert refusal(given, "word", "size") == "`size` must be UTF-8."
    assert refusal(given, "word", "a") == "`a` must be a short string."


def test_a_field_is_there_once_and_no_file() -> None:
    given = read(
        field("a", b"1"), field("a", b"2"), field("b", b"1"), field("b", b"2", '; filename="x"')
    )
    assert refusal(given, "word", "a") == "`a` is there twice: send it once."
    assert refusal(given, "word", "b") == "`b` must be a plain field, not a file."


def test_the_model_is_where_it_stands() -> None:
    name, place, given = read(field("x", b"1"), field("model", b"gpt")).model()
    assert (name, given) == ("gpt", True)
    assert (place.end - place.start, place.quoted) == (3, False)
    assert "printable" in refusal(read(field("model", b"")), "model", "model")


def test_a_form_without_model_is_refused_or_has_the_default() -> None:
    given = read(field("x", b"1"))
    assert "is required" in refusal(given, "model", "model")
    before = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
    place = ModelPlace(0, 0, before, b"\r\n", quoted=False)
    assert given.model("d") == ("d", place, False)


def test_one_file_is_found() -> None:
    file = field("file", b"abc", '; filename="x"')
    assert read(file).file("file", "it").size == 3
    assert refusal(read(), "file", "file", "it") == "`file` is required: send it as a file."
    assert "twice" in refusal(read(file, file), "file", "file", "it")
    empty = field("file", b"", '; filename="x"')
    assert "is empty" in refusal(read(empty), "file", "file", "it")


def test_faults_become_errors_of_the_relay() -> None:
    for content_type in ("", "application/json", "multipart/form-data"):
        with pytest.raises(RelayError, match="takes form data, but the content type"):
            FormReader(content_type, lambda _: pytest.fail("nothing"), lambda _file: None)
    reader = FormReader(CONTENT_TYPE, lambda _: pytest.fail("nothing"), lambda _file: None)
    with pytest.raises(RelayError, match="The form data has its boundary at byte 1"):
        reader.feed(b"x--B\r\n")
    reader = FormReader(CONTENT_TYPE, lambda _: pytest.fail("nothing"), lambda _file: None)
    reader.feed(b"--B")
    with pytest.raises(RelayError, match="ends at byte 3"):
        reader.finish()
