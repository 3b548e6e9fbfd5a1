import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.storage.secrets import (
    KEY_RANDOM_BYTES,
    SECRET_BYTES,
    SecretError,
    digester,
    key_digest,
    key_well_formed,
    load_or_create_secret,
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


@given(st.binary(max_size=130), st.text(max_size=130).filter(str.isprintable))
def test_a_digester_gives_the_same_digest_again_and_again(pepper: bytes, key: str) -> None:
    digest = digester(pepper)
    assert digest(key) == digest(key) == key_digest(pepper, key)


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


def test_a_secret_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "pepper"
    secret = load_or_create_secret(path)
    assert len(secret) == SECRET_BYTES
    assert load_or_create_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert load_or_create_secret(tmp_path / "other") != secret
    assert [file.name for file in path.parent.iterdir()] == ["pepper"]


def test_half_a_file_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "pepper.new").write_bytes(b"abc")
    assert len(load_or_create_secret(tmp_path / "pepper")) == SECRET_BYTES


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"secret",
        b"00" * 32,
        b"ab" * 32,
        b"0123" * 16,
        b"zz" * 32,
        b"1f" * 31,
        bytes(range(33)).hex().encode(),
    ],
)
def test_an_empty_or_weak_secret_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(SecretError, match="empty or weak"):
        load_or_create_secret(path)


def test_a_secret_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    load_or_create_secret(path)
    path.chmod(0o640)
    with pytest.raises(SecretError, match="chmod 600"):
        load_or_create_secret(path)
    path.chmod(0o400)
    assert len(load_or_create_secret(path)) == SECRET_BYTES


def test_a_secret_that_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SecretError, match="cannot be read"):
        load_or_create_secret(tmp_path / "loop")
