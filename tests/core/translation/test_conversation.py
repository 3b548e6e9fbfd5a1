import pytest

from proxy.core.errors import ErrorCode, RelayError
from proxy.core.translation import conversation
from proxy.core.translation.conversation import (
    Effort,
    Message,
    Request,
    Role,
    Text,
    ToolCall,
    effort_of,
    object_arguments,
)


def test_records_compare_by_what_they_say() -> None:
    one = Request("m", (Message(Role.USER, (Text("hi"),)),))
    assert one == Request("m", (Message(Role.USER, (Text("hi"),)),))
    assert one != Request("m", (Message(Role.USER, (Text("ho"),)),))


@pytest.mark.parametrize("name", ["Wire", "Role", "Choice", "Finish", "Kind", "Effort"])
def test_every_choice_is_plain_text(name: str) -> None:
    members = list(getattr(conversation, name))
    assert members
    assert all(isinstance(member, str) for member in members)


@pytest.mark.parametrize(
    ("effort", "budget", "wanted"),
    [
        (None, None, None),
        (Effort.MAX, 1, Effort.MAX),
        (None, 0, Effort.NONE),
        (None, 4_096, Effort.LOW),
        (None, 16_384, Effort.MEDIUM),
        (None, 16_385, Effort.HIGH),
    ],
)
def test_budgets_keep_their_order_as_levels(
    effort: Effort | None, budget: int | None, wanted: Effort | None
) -> None:
    assert effort_of(Request("m", (), effort=effort, thinking_tokens=budget)) is wanted


@pytest.mark.parametrize(("arguments", "wanted"), [('{"a": 1}', b'{"a": 1}'), ("", b"{}")])
def test_arguments_are_an_object(arguments: str, wanted: bytes) -> None:
    assert object_arguments(ToolCall("c", "f", arguments)) == wanted


@pytest.mark.parametrize("arguments", ["nonsense", "[1]"])
def test_arguments_that_are_none_are_refused(arguments: str) -> None:
    with pytest.raises(RelayError, match="`c` of `f`") as caught:
        object_arguments(ToolCall("c", "f", arguments))
    assert caught.value.code is ErrorCode.INVALID_REQUEST
