from typing import get_args

from proxy.core.actions.action import Role
from proxy.core.actions.usage import ACTIONS, Ending
from proxy.core.entities import Verdict


def test_looking_changes_nothing() -> None:
    assert not any(action.audited for action in ACTIONS)


def test_what_is_told_at_length_is_for_everybody_and_never_the_keepers_work() -> None:
    assert [action.name for action in ACTIONS if action.report] == [
        "call list", "call sums", "call show", "usage daily",
    ]  # fmt: skip
    assert {action.role for action in ACTIONS} == {Role.USER}


def test_every_way_to_end_may_be_asked_for() -> None:
    assert {*get_args(Ending)} == {"failed", *Verdict}
