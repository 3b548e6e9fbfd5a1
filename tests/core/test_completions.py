"""What a text completions body says about its prompts and how many answers it asks for."""

import json

import msgspec
import pytest
from msgspec import Raw

from proxy.core import completions
from proxy.core.errors import RelayError
from proxy.core.prompts import Prompt

MEMBERS = msgspec.json.Decoder(dict[str, Raw])


def members(**fields: object) -> dict[str, Raw]:
    return MEMBERS.decode(json.dumps(fields))


@pytest.mark.parametrize(
    ("prompt", "pieces", "fixed", "count"),
    [
        ("hello", ("hello",), 1, 1),
        ("", ("",), 1, 1),
        (None, ("",), 1, 1),
        (["a", "b"], ("a", "b"), 2, 2),
        ([1, 2, 3], (), 3, 1),
        ([[1, 2], [3]], (), 3, 2),
        (["a", [1, 2]], ("a",), 3, 2),
        ([{"odd": 1}], ('[{"odd": 1}]',), 1, 1),
    ],
)
def test_every_prompt_is_counted(
    prompt: object, pieces: tuple[str, ...], fixed: int, count: int
) -> None:
    body = members(prompt=prompt)
    completions.check(body)
    assert completions.read_prompt(body, "m") == Prompt(pieces, fixed)
    assert completions.choices(body) == count
    assert not completions.hidden_output(body)


def test_what_is_to_follow_the_insertion_is_prompt_too() -> None:
    assert completions.read_prompt(members(prompt="a", suffix="b"), "m").pieces == ("a", "b")
    assert completions.read_prompt(members(prompt="a", suffix=7), "m").pieces == ("a", "7")
    assert completions.read_prompt(members(prompt="a", suffix=None), "m").pieces == ("a",)


@pytest.mark.parametrize(
    ("fields", "made", "hidden"),
    [
        ({}, 1, False),
        ({"n": 3}, 3, False),
        ({"n": 3, "best_of": 3}, 3, False),
        ({"best_of": 4}, 4, True),
        ({"n": 3, "best_of": 2}, 3, False),
        ({"n": None, "best_of": None}, 1, False),
    ],
)
def test_candidates_are_made_that_are_not_returned(
    fields: dict[str, object], made: int, hidden: bool
) -> None:
    assert completions.choices(members(prompt=["a", "b"], **fields)) == 2 * made
    assert completions.hidden_output(members(**fields)) is hidden


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a"] * (completions.PROMPTS_MAX + 1)}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"best_of": "2"}, "best_of"),
        ({"echo": "yes"}, "echo"),
        ({"best_of": 2, "stream": True}, "best_of"),
    ],
)
def test_what_cannot_be_worked_with_is_refused(fields: dict[str, object], param: str) -> None:
    with pytest.raises(RelayError) as caught:
        completions.check(members(**({"prompt": "a"} | fields)))
    assert caught.value.param == param


def test_a_body_of_messages_is_sent_where_they_are_read() -> None:
    with pytest.raises(RelayError, match="messages go to /v1/chat/completions"):
        completions.check(members(messages=[{}]))


def test_as_many_prompts_as_there_may_be() -> None:
    completions.check(members(prompt=["a"] * completions.PROMPTS_MAX, n=2, stream=True))
    completions.check(members(prompt=list(range(9_999))))


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({"prompt": "abc"}, ()),
        ({"prompt": "abc", "echo": False}, ()),
        ({"prompt": "abc", "echo": True}, (3,)),
        ({"prompt": ["abc", "d"], "echo": True, "n": 2}, (3, 3, 1, 1)),
        ({"prompt": [1, 2], "echo": True}, (2 * completions.CHARS_PER_TOKEN,)),
    ],
)
def test_how_much_of_each_choice_repeats_its_prompt(
    fields: dict[str, object], sizes: tuple[int, ...]
) -> None:
    assert completions.echoed(members(**fields)) == sizes


def test_an_answer_without_its_prompts() -> None:
    assert completions.without_echo(("ab!", "c?", "d"), (2, 1)) == ("!", "?", "d")
    assert completions.without_echo(("a",), (5, 5)) == ("",)


def test_a_prompt_too_deep_to_read_counts_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deep:
        def decode(self, _: object) -> None:
            raise RecursionError

    monkeypatch.setattr(completions, "_PROMPTS", Deep())
    assert completions.read_prompt(members(prompt="a"), "m").pieces == ('"a"',)
