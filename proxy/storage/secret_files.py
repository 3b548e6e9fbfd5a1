"""Files that hold one secret each: read, judged, and made where that is allowed.

Rules: a secret is 32 random bytes as 64 hexadecimal digits, in a file nobody else may read. What
could have been typed, copied from an example or derived from a word is refused, with the file, the
reason and the remedy, and never with any part of the content. This module must not know what
a secret is for.
"""

import os
import stat
from base64 import b16decode
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from proxy.storage.secrets import SECRET_BYTES, SecretError

SECRET_FILE_BYTES_MAX = 4_096
_DISTINCT_BYTES_MIN = 16
"""32 random bytes repeat so much once in 10^15; a typed pattern always does."""
HOW_TO_MAKE = "openssl rand -hex 32"
_PLACEHOLDERS = (
    "change", "secret", "password", "example", "placeholder", "replace", "default", "todo",
    "dummy", "sample", "pepper", "master", "test", "your", "xxx", "...", "<", "admin", "sluice",
)  # fmt: skip
"""Words of example files. None of them is spelt in hexadecimal digits."""
_COMMON = frozenset(
    sha256(word.encode()).digest() for word in ("", "changeme", "admin", "123456", *_PLACEHOLDERS)
)
"""`echo -n WORD | sha256sum` makes 64 digits too, the same for everybody."""


class UnfitSecretError(SecretError):
    """There is no secret in the file that was named, so one has to be put there."""


def read_secret(path: Path, *, credential: bool = False) -> bytes:
    """Read 32 bytes from a private file. Raises SecretError; FileNotFoundError is the caller's.

    See `read_private` for `credential`.
    """
    return _checked(path, read_private(path, credential=credential))


def read_word(path: Path) -> str:
    """Read a password that others chose, one line of a private file. Raises SecretError."""
    try:
        text = read_private(path).decode().strip("\r\n")
    except FileNotFoundError:
        raise SecretError(f"{path} does not exist", "make it, or name another file") from None
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not UTF-8", "write the secret into it as text") from None
    if not text or len(text) >= SECRET_FILE_BYTES_MAX or not text.isprintable():
        raise SecretError(f"{path} does not hold one line of text", "write the secret into it")
    return text


def read_private(path: Path, *, credential: bool = False) -> bytes:
    """Read a file that nobody else may read, 4 KiB of it and one byte.

    Raises SecretError; FileNotFoundError is the caller's.

    `credential`: the file is one of systemd's. It grants the service's user access by an ACL
    where the file system has them, and then the group's bits are the ACL's mask (acl(5)), not the
    group's; other users still may have none.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SecretError(
            f"{path} cannot be read: {error.strerror}",
            "check path and permissions, also of the directories above it",
        ) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise SecretError(f"{path} is not a regular file", "name a file that holds the secret")
        if mode & (0o007 if credential else 0o077):
            raise SecretError(
                f"others may read {path} (mode {mode & 0o777:03o})",
                "run chmod 600 on it; if others had access to it, make it anew",
            )
        return os.read(descriptor, SECRET_FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)


def create_secret(path: Path) -> bytes:
    """Make a secret and put it at `path`, for the owner only; or read what is there by then.

    Two processes that start at once get the same one. Raises OSError, SecretError.
    """
    secret = os.urandom(SECRET_BYTES)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new-{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret.hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    # In place whole or not at all: half a pepper would lock every user out for good.
    try:
        path.hardlink_to(fresh)
    except FileExistsError:
        return read_secret(path)
    finally:
        fresh.unlink()
    return secret


def _checked(path: Path, text: bytes) -> bytes:
    """The secret in `text`, or a SecretError that says what is wrong without quoting it."""
    digits = text.strip()
    try:
        secret = b16decode(digits, casefold=True)
    except ValueError:
        secret = b""
    reason = _weakness(digits, secret)
    if reason:
        raise UnfitSecretError(
            f"{path} {reason}; it must hold 64 random hexadecimal digits",
            f"make it with: {HOW_TO_MAKE}",
        )
    return secret


def _weakness(digits: bytes, secret: bytes) -> str:
    """Why this is no secret; empty if it may be one."""
    folded = digits.decode("latin-1").casefold()
    if not digits:
        return "is empty"
    if digits.isascii() and not secret and any(word in folded for word in _PLACEHOLDERS):
        return "holds a placeholder, not a secret"
    if len(set(digits)) == 1:
        return "is weak: all its characters are equal"
    if len(secret) != SECRET_BYTES:
        what = "hexadecimal digits" if secret else "characters that are not hexadecimal digits"
        more = "more than " if len(digits) > SECRET_FILE_BYTES_MAX else ""
        return f"is malformed: {more}{min(len(digits), SECRET_FILE_BYTES_MAX)} {what}"
    steps = {(after - before) & 0xFF for before, after in pairwise(secret)}
    if len(steps) == 1 or secret[:16] == secret[16:] or len(set(secret)) < _DISTINCT_BYTES_MIN:
        return "is weak: a pattern"
    # Random bytes are all printable once in 10^13.
    if secret in _COMMON or all(0x20 <= byte < 0x7F for byte in secret):
        return "is weak: text or the digest of a common word"
    return ""
