from proxy.core.actions.refusals import MOVED, READ_ONLY


def test_words_that_pages_know_again_are_apart() -> None:
    assert MOVED not in READ_ONLY
    assert READ_ONLY not in MOVED
