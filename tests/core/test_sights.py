from proxy.core.sights import FAILED, GARBAGE, Sight


def test_an_event_that_means_nothing_is_the_default() -> None:
    sight = Sight()
    assert (sight.runs, sight.finished, sight.usage, sight.answer_id) == ((), (), None, "")
    assert not any((sight.only_usage, sight.content, sight.failed, sight.terminal, sight.garbage))


def test_the_two_that_are_known_by_name() -> None:
    assert Sight(garbage=True) == GARBAGE
    assert Sight(failed=True) == FAILED
