import pytest

from proxy.core.translation import conversation
from proxy.core.translation.conversation import Message, Request, Role, Text


def test_records_compare_by_what_they_say() -> None:
    one = Request("m", (Message(Role.USER, (Text("hi"),)),))
    assert one == Request("m", (Message(Role.USER, (Text("hi"),)),))
    assert one != Request("m", (Message(Role.USER, (Text("ho"),)),))


@pytest.mark.parametrize("name", ["Role", "Choice", "Finish", "Kind", "Effort"])
def test_every_choice_is_plain_text(name: str) -> None:
    members = list(getattr(conversation, name))
    assert members
    assert all(isinstance(member, str) for member in members)
