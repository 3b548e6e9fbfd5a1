"""Members come out typed, and every wrong type is refused by name."""

import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.json_members import Fault
from proxy.core.services import fields
from proxy.core.services.fields import JsonFields, JsonReader, TextSize
from proxy.core.services.service import ModelPlace, ServiceRequest

WATCHED = {
    "model": fields.MODEL,
    "n": fields.WORD,
    "size": fields.WORD,
    "stream": fields.WORD,
    "prompt": fields.MEASURED,
}


def read(body: str) -> JsonFields:
    found: list[JsonFields] = []

    def keep(given: JsonFields) -> ServiceRequest:
        found.append(given)
        raise InterruptedError

    reader = JsonReader(WATCHED, keep)
    reader.feed(body.encode())
    with pytest.raises(InterruptedError):
        reader.finish()
    return found[0]


def refusal(body: str, name: str, how: str) -> str:
    given = read(body)
    arguments = {"integer": (name, 10), "model": ()}.get(how, (name,))
    with pytest.raises(RelayError) as caught:
        getattr(given, how)(*arguments)
    assert caught.value.code is ErrorCode.INVALID_REQUEST
    assert caught.value.param == name
    return caught.value.message


def test_values_are_typed() -> None:
    given = read('{"n":3,"size":"1x1","stream":true,"prompt":"h\\u00e9","x":1}')
    assert given.integer("n", 10) == 3
    assert given.word("size") == "1x1"
    assert given.flag("stream")
    assert given.text("prompt") == TextSize(1, 1)
    assert given.has("n")


def test_null_is_as_good_as_absent() -> None:
    for body in ("{}", '{"n":null,"size":null,"stream":null,"prompt":null}'):
        given = read(body)
        assert given.integer("n", 10) is None
        assert given.word("size") == ""
        assert not given.flag("stream")
        assert given.text("prompt") == TextSize()
        assert not given.has("n")


@pytest.mark.parametrize("value", ["0", "11", "-1", "1.0", "1e0", '"1"', "[]", "true", "1" * 20])
def test_an_integer_out_of_range_is_refused(value: str) -> None:
    assert refusal(f'{{"n":{value}}}', "n", "integer") == "`n` must be an integer from 1 to 10."


def test_other_types_are_refused() -> None:
    assert refusal('{"size":1}', "size", "word") == "`size` must be a short string or null."
    long = "x" * 600
    assert (
        refusal(f'{{"size":"{long}"}}', "size", "word") == "`size` must be a short string or null."
    )
    assert refusal('{"stream":1}', "stream", "flag") == "`stream` must be true, false or null."
    assert refusal('{"prompt":[]}', "prompt", "text") == "`prompt` must be a string."


def test_the_model_is_where_it_stands() -> None:
    body = '{ "prompt":"x", "model" : "gpt" }'
    name, place, given = read(body).model()
    assert (name, given) == ("gpt", True)
    assert body[place.start : place.end] == '"gpt"'


@pytest.mark.parametrize("value", ["1", '""', "[]", "null", '"\\n"', '"' + "x" * 257 + '"'])
def test_a_model_must_be_a_name(value: str) -> None:
    assert "printable" in refusal(f'{{"model":{value}}}', "model", "model")


def test_a_model_of_the_longest_name_is_one() -> None:
    written = "\\ud83d\\ude00" * 256
    assert read(f'{{"model":"{written}"}}').model().name == "\U0001f600" * 256


def test_a_body_without_model_is_refused_or_has_the_default() -> None:
    assert "is required" in refusal('{"prompt":"x"}', "model", "model")
    assert read(' {"prompt":"x"}').model("d") == ("d", ModelPlace(2, 2, b'"model":', b","), False)
    assert read('{"model":null}').model("d") == ("d", ModelPlace(9, 13), False)


def test_faults_become_errors_of_the_relay() -> None:
    reader = JsonReader(WATCHED, lambda _: pytest.fail("nothing to read"))
    with pytest.raises(RelayError) as caught:
        reader.feed(b"[")
    assert caught.value.code is ErrorCode.INVALID_JSON
    assert caught.value.message == "The request body must be a JSON object, like {...}."
    reader = JsonReader(WATCHED, lambda _: pytest.fail("nothing to read"))
    reader.feed(b"{")
    with pytest.raises(RelayError, match="ends at byte 1"):
        reader.finish()
    error = fields.refused(Fault(3, "has `n` twice: send it once", "n"))
    assert (error.message, error.param) == ("`n` is there twice: send it once.", "n")


def test_what_a_reader_found_so_far_is_told_while_it_reads() -> None:
    reader = JsonReader(WATCHED, lambda _: pytest.fail("nothing to read"))
    assert (reader.size, dict(reader.members)) == (0, {})
    reader.feed(b'{"n":3,')
    assert reader.size == 7
    assert [(name, member.value) for name, member in reader.members.items()] == [("n", b"3")]
    found = reader.members
    reader.feed(b'"size":"1x1",')
    assert reader.size == 20
    assert list(found) == ["n", "size"]


def test_sizes_of_texts_lean_up() -> None:
    size = TextSize(9, 2)
    assert size.characters == 11
    assert size.tokens_known == 5
    assert size.tokens_bound == 17
    assert size.tokens_max == 9


def test_a_model_in_the_path_is_the_default_of_every_endpoint() -> None:
    given = JsonFields({}, 1, "deployed")
    assert given.model("d").name == given.model().name == "deployed"
