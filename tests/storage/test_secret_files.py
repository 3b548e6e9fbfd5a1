"""A secret file is used when it can be one, else refused with file, reason and remedy."""

import os
import random
from hashlib import sha256
from pathlib import Path

import pytest

from proxy.storage.secret_files import (
    SECRET_FILE_BYTES_MAX,
    create_secret,
    read_secret,
    read_word,
)
from proxy.storage.secrets import SECRET_BYTES, SecretError

GOOD = random.Random(1).randbytes(SECRET_BYTES)


def written(path: Path, text: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_a_secret_is_made_private_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "pepper"
    secret = create_secret(path)
    assert len(secret) == SECRET_BYTES
    assert read_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert create_secret(tmp_path / "other") != secret
    assert [file.name for file in path.parent.iterdir()] == ["pepper"]


def test_half_a_file_left_by_a_crash_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / f"pepper.new-{os.getpid()}"
    left.write_bytes(b"abc")
    assert create_secret(tmp_path / "pepper") == read_secret(tmp_path / "pepper")
    assert not left.exists()


def test_of_two_that_start_at_once_the_second_gets_the_first_ones_secret(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    first = create_secret(path)
    assert create_secret(path) == first == read_secret(path)
    assert [file.name for file in tmp_path.iterdir()] == ["pepper"]


def test_a_missing_file_is_for_the_caller_to_judge(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_secret(tmp_path / "pepper")


@pytest.mark.parametrize("around", [b"%s", b"%s\n", b"\n %s\r\n"])
@pytest.mark.parametrize("upper", [False, True])
def test_white_space_and_case_do_not_matter(tmp_path: Path, around: bytes, upper: bool) -> None:
    digits = GOOD.hex().upper() if upper else GOOD.hex()
    assert read_secret(written(tmp_path / "pepper", around % digits.encode())) == GOOD


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"changeme", "placeholder"),
        (b"Change-Me-Please", "placeholder"),
        (b"<64 hexadecimal digits>", "placeholder"),
        (b"YOUR_PEPPER_HERE" * 4, "placeholder"),
        (b"x" * 64, "placeholder"),
        (b"0" * 64, "all its characters are equal"),
        (b"f" * 64, "all its characters are equal"),
        (b"ab" * 32, "a pattern"),
        (b"0123" * 16, "a pattern"),
        (b"deadbeef" * 8, "a pattern"),
        (b"0123456789abcdef" * 4, "a pattern"),
        (bytes(range(32)).hex().encode(), "a pattern"),
        (bytes(range(255, 223, -1)).hex().encode(), "a pattern"),
        (GOOD[:16].hex().encode() * 2, "a pattern"),
        (b"correct horse battery staple 123".hex().encode(), "text"),
        (sha256(b"").hexdigest().encode(), "common word"),
        (sha256(b"changeme").hexdigest().encode(), "common word"),
        (GOOD.hex().encode()[:-1], "63 characters that are not hexadecimal"),
        (GOOD.hex().encode()[:-2], "62 hexadecimal digits"),
        (GOOD.hex().encode() + b"00", "66 hexadecimal digits"),
        (b"zq" * 32, "64 characters that are not"),
        (GOOD, "not hexadecimal digits"),
        (GOOD.hex().encode() * 1000, "more than 4096"),
    ],
)
@pytest.mark.parametrize("credential", [False, True])
def test_what_is_no_secret_is_refused(
    tmp_path: Path, text: bytes, reason: str, credential: bool
) -> None:
    path = written(tmp_path / "pepper", text)
    with pytest.raises(SecretError) as refused:
        read_secret(path, credential=credential)
    assert str(path) in refused.value.message
    assert reason in refused.value.message
    assert "openssl rand -hex 32" in refused.value.remedy
    if len(text.strip()) > 3:
        assert text.strip().decode("latin-1") not in str(refused.value), "it is never quoted"


def test_random_secrets_are_not_called_weak(tmp_path: Path) -> None:
    rng = random.Random(2)
    for _ in range(2_000):
        secret = rng.randbytes(SECRET_BYTES)
        assert read_secret(written(tmp_path / "pepper", secret.hex().encode())) == secret


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "pepper", GOOD.hex().encode(), mode)
    with pytest.raises(SecretError, match=rf"others may read .*{mode:03o}.*chmod 600"):
        read_secret(path)
    path.chmod(0o400)
    assert read_secret(path) == GOOD


def test_a_credential_s_group_bits_are_the_mask_of_its_acl(tmp_path: Path) -> None:
    path = written(tmp_path / "pepper", GOOD.hex().encode(), 0o440)
    assert read_secret(path, credential=True) == GOOD
    path.chmod(0o444)
    with pytest.raises(SecretError, match="others may read"):
        read_secret(path, credential=True)


def test_what_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SecretError, match="cannot be read"):
        read_secret(tmp_path / "loop")
    with pytest.raises(SecretError, match="not a regular file"):
        read_secret(tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(SecretError, match="not a regular file"):
        read_secret(tmp_path / "fifo")


def test_a_huge_file_is_read_only_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    path.chmod(0o600)
    with pytest.raises(SecretError, match="is weak"):
        read_secret(path)
    assert SECRET_FILE_BYTES_MAX < 1 << 16


def test_a_password_that_others_chose_is_read_from_a_private_file(tmp_path: Path) -> None:
    assert read_word(written(tmp_path / "a", "pässwörd 1\r\n".encode())) == "pässwörd 1"
    for text, why in (
        (b"", "one line"),
        (b"\n", "one line"),
        (b"two\nlines", "one line"),
        (b"\xff", "not UTF-8"),
        (b"x" * SECRET_FILE_BYTES_MAX, "one line"),
    ):
        with pytest.raises(SecretError, match=why):
            read_word(written(tmp_path / "b", text))
    with pytest.raises(SecretError, match="others may read"):
        read_word(written(tmp_path / "c", b"word", 0o644))
    with pytest.raises(SecretError, match="does not exist"):
        read_word(tmp_path / "none")
