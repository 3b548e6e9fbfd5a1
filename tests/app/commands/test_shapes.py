import pytest

from proxy.app.commands.shapes import iso, parse_time, split_remedy


def test_moments() -> None:
    assert parse_time("2d", 100.0) == 100 + 2 * 86_400
    assert parse_time("3h", 0) == 10_800
    assert parse_time("4m", 0) == 240
    assert iso(parse_time("2030-01-31T12:00:00+02:00", 0)) == "2030-01-31T10:00:00Z"
    assert iso(None) is None
    for bad in ("", "d", "-1d", "9999999999d", "tomorrow"):
        with pytest.raises(ValueError, match="neither a span"):
            parse_time(bad, 0)


def test_remedies_are_told_from_colons_in_messages() -> None:
    assert split_remedy("no x: see `y`") == ("no x", "see `y`")
    assert split_remedy("a: b; remove it") == ("a: b", "remove it")
    assert split_remedy("price: not a number") == ("price: not a number", "")
    assert split_remedy("see this") == ("see this", "")
