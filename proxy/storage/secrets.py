"""Secrets at rest: client keys as digests, upstream keys sealed.

Rules: a client key is shown once and stored only as HMAC-SHA256 under the pepper; an upstream
key is AES-256-GCM under the master key with its row's id as associated data, so that a sealed
value moved to another row does not open. No message of this module contains a secret. It must not
know the tables, nor where pepper and master key come from.
"""

import hashlib
import hmac
import os
from zlib import crc32

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_PREFIX = "sk-"
API_TOKEN_PREFIX = "sa-"  # noqa: S105 - how one begins
KEY_RANDOM_BITS = 178
KEY_RANDOM_BYTES = 23
"""Random bytes to hand to `new_key`: the whole bytes around 178 bits."""
SECRET_BYTES = 32
"""The length of pepper and master key."""
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_LENGTH = 30  # 62^30 > 2^178
_CHECKSUM_LENGTH = 8
_BODY_END = len(KEY_PREFIX) + _BODY_LENGTH
_KEY_LENGTH = _BODY_END + _CHECKSUM_LENGTH
_NONCE_BYTES = 12


class SecretError(Exception):
    """A secret or a sealed value cannot be used: what and why, and what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message}; {remedy}")


def new_key(random_bytes: bytes) -> str:
    """Make a client key of `KEY_RANDOM_BYTES` random bytes: prefix, 30 digits, checksum."""
    return _new(KEY_PREFIX, random_bytes)


def new_api_token(random_bytes: bytes) -> str:
    """Make a token of the admin API, in the form of a client key."""
    return _new(API_TOKEN_PREFIX, random_bytes)


def api_token_digest(token: str) -> bytes:
    """SHA-256 of a token: enough for one that is 178 random bits."""
    return hashlib.sha256(token.encode()).digest()


def _new(prefix: str, random_bytes: bytes) -> str:
    if len(random_bytes) != KEY_RANDOM_BYTES:
        raise AssertionError(f"a key takes {KEY_RANDOM_BYTES} random bytes")
    number = int.from_bytes(random_bytes, "big") & ((1 << KEY_RANDOM_BITS) - 1)
    digits: list[str] = []
    for _ in range(_BODY_LENGTH):
        number, digit = divmod(number, len(_BASE62))
        digits.append(_BASE62[digit])
    body = prefix + "".join(digits)
    return body + _checksum(body)


def key_well_formed(key: str) -> bool:
    """Whether the checksum fits: a typo is told apart before any digest is made."""
    return (
        len(key) == _KEY_LENGTH
        and key.startswith(KEY_PREFIX)
        and key.isascii()
        and key[_BODY_END:] == _checksum(key[:_BODY_END])
    )


def key_digest(pepper: bytes, key: str) -> bytes:
    """HMAC-SHA256 of a client key: what the database knows of it."""
    return hmac.digest(pepper, key.encode(), "sha256")


def seal(master: bytes, row_id: int, secret: str) -> bytes:
    """Encrypt an upstream key for the row it will live in: nonce, then ciphertext and tag."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(master).encrypt(nonce, secret.encode(), _associated(row_id))


def open_sealed(master: bytes, row_id: int, sealed: bytes) -> str:
    """Decrypt what `seal` made for this row. Raises SecretError."""
    nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return AESGCM(master).decrypt(nonce, ciphertext, _associated(row_id)).decode()
    except (InvalidTag, ValueError):
        raise SecretError(
            f"the upstream key in row {row_id} does not open with this master key",
            "restore the master key that sealed it",
        ) from None


def _checksum(body: str) -> str:
    return f"{crc32(body.encode()):08x}"


def _associated(row_id: int) -> bytes:
    return b"channel_key:%d" % row_id
