import pytest

from proxy.core.actions.refusals import KINDS, MOVED
from proxy.storage.edits import check_basis


def test_a_moved_entry_is_refused_in_the_words_that_pages_know() -> None:
    with pytest.raises(ValueError, match=MOVED):
        check_basis("x", "a", "b")


def test_kinds_are_called_what_they_are() -> None:
    assert {str(kind) for kind in KINDS.values()} == set(KINDS)
