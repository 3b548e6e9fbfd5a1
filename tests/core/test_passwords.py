import pytest

from proxy.core.passwords import BYTES_MAX, TOO_LONG, TOO_SHORT, TOO_SIMPLE, normal, weakness

ANN = "ann.lee@example.com"


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "tr0ub4dor&3x",
        "ĝis revido, amiko",
        "密码应当足够长才好用吧",
        "x9" * 3 + "ab cd",
        "a1b2" * (BYTES_MAX // 4),
    ],
)
def test_long_ones_are_taken_whatever_is_in_them(password: str) -> None:
    assert weakness(password, ANN) is None


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", TOO_SHORT),
        ("short one", TOO_SHORT),
        ("a1b2" * (BYTES_MAX // 4) + "c", TOO_LONG),
        ("密" * (BYTES_MAX // 3 + 1), TOO_LONG),
        ("aaaaaaaaaaaa", TOO_SIMPLE),
        ("abababababab", TOO_SIMPLE),
        ("1234567890", TOO_SIMPLE),
        ("0987654321", TOO_SIMPLE),
        ("qwertyuiop", TOO_SIMPLE),
        ("Password123", TOO_SIMPLE),
        ("PasswordPassword", TOO_SIMPLE),
        ("Ann.Lee@example.com", TOO_SIMPLE),
        ("ann.leeann.lee1", TOO_SIMPLE),
        ("example.com12", TOO_SIMPLE),
    ],
)
def test_what_anybody_would_try_first_is_not(password: str, why: str) -> None:
    assert weakness(password, ANN) == why


def test_short_names_are_no_reason() -> None:
    assert weakness("bob builds boats", "bob@x.de") is None


def test_another_keyboard_is_no_other_password() -> None:
    assert normal("cafe\N{COMBINING ACUTE ACCENT}") == normal("café")
    assert normal("\N{FULLWIDTH DIGIT ONE}") == "1"
    assert weakness("\N{FULLWIDTH DIGIT ONE}23456789\N{FULLWIDTH DIGIT ZERO}", ANN) == TOO_SIMPLE


def test_half_a_character_is_counted_not_feared() -> None:
    assert weakness("\ud800" * BYTES_MAX, ANN) == TOO_LONG
