import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.storage.secrets import (
    KEY_RANDOM_BYTES,
    SecretError,
    key_digest,
    key_well_formed,
    new_key,
    open_sealed,
    seal,
)

MASTER = bytes(range(32))


@given(st.binary(min_size=KEY_RANDOM_BYTES, max_size=KEY_RANDOM_BYTES))
def test_every_key_is_well_formed_and_every_typo_is_not(random_bytes: bytes) -> None:
    key = new_key(random_bytes)
    assert key.startswith("sk-")
    assert len(key) == 41
    assert key.isascii()
    assert key[3:].isalnum()
    assert key_well_formed(key)
    at = random.Random(random_bytes).randrange(3, len(key))
    other = "a" if key[at] != "a" else "b"
    assert not key_well_formed(key[:at] + other + key[at + 1 :])
    assert not key_well_formed(key[:-1])
    assert not key_well_formed(key + "0")


@pytest.mark.parametrize("text", ["", "sk-", "pk-" + "a" * 38, "sk-" + "é" * 38, "sk-" + "a" * 38])
def test_what_is_no_key_is_told_apart(text: str) -> None:
    assert not key_well_formed(text)


def test_all_random_bits_count() -> None:
    zero = bytes(KEY_RANDOM_BYTES)
    keys = {new_key(zero)}
    for bit in range(178):
        keys.add(new_key((1 << bit).to_bytes(KEY_RANDOM_BYTES, "big")))
    assert len(keys) == 179
    with pytest.raises(AssertionError):
        new_key(b"short")


def test_a_digest_depends_on_key_and_pepper() -> None:
    assert key_digest(b"p", "k") == key_digest(b"p", "k")
    assert len({key_digest(b"p", "k"), key_digest(b"q", "k"), key_digest(b"p", "l")}) == 3
    assert len(key_digest(b"p", "k")) == 32


def test_a_sealed_key_opens_only_in_its_row_with_its_master() -> None:
    sealed = seal(MASTER, 7, "sk-upstream-canary")
    assert b"canary" not in sealed
    assert open_sealed(MASTER, 7, sealed) == "sk-upstream-canary"
    assert seal(MASTER, 7, "sk-upstream-canary") != sealed
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for master, row, value in (
        (MASTER, 8, sealed),
        (bytes(32), 7, sealed),
        (MASTER, 7, flipped),
        (MASTER, 7, b""),
        (MASTER, 7, sealed[:20]),
    ):
        with pytest.raises(SecretError, match="row") as refused:
            open_sealed(master, row, value)
        assert "canary" not in str(refused.value)
