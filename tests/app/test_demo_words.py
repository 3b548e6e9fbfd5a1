import orjson
import pytest

from proxy.app.demo_words import (
    ECHO_WORDS_MAX,
    MODELS,
    PromptError,
    compose,
    data_event,
    named_event,
    new_id,
    object_of,
    read_prompt,
    texts_of,
)

ASK = {"model": "demo-gpt", "messages": [{"role": "user", "content": "say something nice"}]}


def words(text: str) -> int:
    return len(text.split())


def test_a_word_is_cut_where_its_tokens_no_longer_fit() -> None:
    prompt = read_prompt(orjson.dumps({**ASK, "max_tokens": 3}))
    answer = compose(prompt, len)
    assert (answer.pieces, answer.output_tokens, answer.cut) == (("Slu",), 3, True)
    nothing = compose(prompt, lambda text: 4 * bool(text))
    assert (nothing.pieces, nothing.output_tokens, nothing.cut) == ((), 0, True)


def test_the_prompt_is_echoed_from_every_kind_of_content() -> None:
    parts = [{"type": "text", "text": "last part"}, {"type": "image_url"}, "odd"]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}]
    prompt = read_prompt(orjson.dumps({"messages": messages}))
    assert prompt.text == "last part"
    assert prompt.model == MODELS[0]
    many = read_prompt(orjson.dumps({"messages": [{"content": "zz " * 100}]}))
    assert "".join(compose(many, words).pieces).count(" zz") == ECHO_WORDS_MAX
    empty = read_prompt(b'{"messages": []}')
    assert "".join(compose(empty, words).pieces).endswith("You asked nothing.")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"messages": [1]}', b'{"messages": [], "max_tokens": "x"}']
)
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(PromptError):
        read_prompt(body)


def test_events_are_written_as_each_provider_does() -> None:
    assert data_event({"a": 1}) == b'data: {"a":1}\n\n'
    assert named_event({"type": "x"}) == b'event: x\ndata: {"type":"x"}\n\n'
    assert new_id("req_") != new_id("req_")
    assert object_of(b'{"a": 1}') == {"a": 1}
    assert texts_of({"text": "none"}) == []
