import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.codes import (
    RANDOM_BYTES,
    Mistake,
    last_group,
    new_code,
    read_code,
    shown,
)

CODE = new_code(bytes(range(RANDOM_BYTES)))
randoms = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


def test_a_code_looks_like_one() -> None:
    groups = CODE.split("-")
    assert [len(group) for group in groups] == [4] * 6
    assert not {*CODE} & {*"ILOU"}
    assert last_group(CODE) == groups[-1]
    with pytest.raises(AssertionError, match="13 random bytes"):
        new_code(b"short")


@given(randoms)
def test_whoever_types_it_finds_it(random: bytes) -> None:
    code = new_code(random)
    digits = read_code(code)
    assert isinstance(digits, str)
    assert shown(digits) == code
    wide = "".join(chr(ord(each) + 0xFEE0) if each != "-" else "—" for each in code)
    alike = code.replace("0", "o").replace("1", "l")
    for typed in (
        code.lower(),
        code.replace("-", ""),
        f"  {code.replace('-', ' ')}\n",
        wide,
        alike,
    ):
        assert read_code(typed) == digits, typed


@given(randoms, st.integers(0, 23), st.integers(1, 31))
def test_one_wrong_digit_is_told(random: bytes, at: int, step: int) -> None:
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    digits = new_code(random).replace("-", "")
    other = alphabet[(alphabet.index(digits[at]) + step) % 32]
    read = read_code(digits[:at] + other + digits[at + 1 :])
    # One in a million passes by chance; it is then a code that nobody made.
    assert read is Mistake.CHECKSUM or isinstance(read, str)


@pytest.mark.parametrize(
    ("typed", "mistake"),
    [
        ("", Mistake.LENGTH),
        (CODE[:-1], Mistake.LENGTH),
        (CODE + "2", Mistake.LENGTH),
        ("0" * 101, Mistake.LENGTH),
        ("U" + CODE[1:], Mistake.DIGIT),
        ("*" + CODE[1:], Mistake.DIGIT),
        ("\x00" + CODE[1:], Mistake.DIGIT),
        ("🎁" + CODE[1:], Mistake.DIGIT),
        (CODE[5:10] + CODE[:5] + CODE[10:], Mistake.CHECKSUM),
    ],
)
def test_what_is_no_code_is_told_why(typed: str, mistake: Mistake) -> None:
    assert read_code(typed) is mistake
    assert mistake.value


def test_a_neighbour_of_a_known_code_is_no_code() -> None:
    wrong = "Z" if CODE[0] != "Z" else "Y"
    assert read_code(wrong + CODE[1:]) is Mistake.CHECKSUM
