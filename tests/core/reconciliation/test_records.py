from proxy.core.entities import Usage
from proxy.core.reconciliation.records import day_of, tokens_of


def test_counts_are_said_as_exports_say_them() -> None:
    usage = Usage(
        input_uncached=10, cache_read=5, cache_write_5m=2, cache_write_1h=3, output=7,
        audio_output=1, audio_input=4, cache_read_audio=6,
    )  # fmt: skip
    assert tokens_of(usage) == {"input": 30, "cached": 11, "written": 5, "output": 8}


def test_days_are_utc() -> None:
    assert day_of(86_399.9) == 0
    assert day_of(86_400.0) == 1
