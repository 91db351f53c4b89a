"""RabbitMQ's password hashes, verbatim: base64 of a 4-byte salt and the digest of salt and UTF-8 password."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

__all__ = [
    "ALGORITHMS",
    "DEFAULT_ALGORITHM",
    "NotBase64",
    "UnknownHashLength",
    "algorithm_of",
    "hash_password",
    "verify",
]

DEFAULT_ALGORITHM = "rabbit_password_hashing_sha256"
# MD5 is for hashes imported from very old definitions; new passwords are hashed with the default.
ALGORITHMS = {
    DEFAULT_ALGORITHM: "sha256",
    "rabbit_password_hashing_sha512": "sha512",
    "rabbit_password_hashing_md5": "md5",
}
SALT_BYTES = 4
NO_SALT = b"\0" * SALT_BYTES


class NotBase64(ValueError):
    """A password hash is not base64."""


class UnknownHashLength(ValueError):
    """A password hash has a length of none of the algorithms."""


def _digest(salt: bytes, password: str, algorithm: str) -> bytes:
    # A client's password need not be UTF-8; its bytes are hashed unchanged. usedforsecurity: where a policy forbids MD5,
    # old hashes can still be compared.
    data = salt + password.encode("utf-8", "surrogateescape")
    return hashlib.new(ALGORITHMS[algorithm], data, usedforsecurity=False).digest()


def hash_password(password: str, algorithm: str = DEFAULT_ALGORITHM, salt: bytes | None = None) -> str:
    """Hash a password. Raise KeyError for an unknown algorithm, ValueError for an empty password or invalid Unicode."""
    if not password:
        raise ValueError("an empty password cannot be hashed: no login could use it")
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + _digest(salt, password, algorithm)).decode("ascii")


def algorithm_of(password_hash: str) -> str:
    """Tell the algorithm by the length of a hash. Raise NotBase64, or UnknownHashLength."""
    try:
        size = len(base64.b64decode(password_hash, validate=True)) - SALT_BYTES
    except ValueError as error:  # binascii.Error is one, and what is not ASCII raises it plain
        raise NotBase64("a password hash is base64") from error
    for algorithm, digest in ALGORITHMS.items():
        if hashlib.new(digest, usedforsecurity=False).digest_size == size:
            return algorithm
    raise UnknownHashLength("a password hash is a salt of 4 bytes and a digest of SHA-256, SHA-512 or MD5")


def verify(password: str, password_hash: str, algorithm: str = DEFAULT_ALGORITHM) -> bool:
    """Compare a password with a hash. Empty passwords, invalid hashes and unknown algorithms fail after the same work."""
    raw = b""
    if password and algorithm in ALGORITHMS:
        try:
            raw = base64.b64decode(password_hash, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
    if len(raw) <= SALT_BYTES:
        raw, algorithm = NO_SALT, DEFAULT_ALGORITHM
    try:
        digest = _digest(raw[:SALT_BYTES], password, algorithm)
    except UnicodeEncodeError:  # half a surrogate pair, from JSON: such a password cannot have been set
        return False
    return hmac.compare_digest(raw[SALT_BYTES:], digest)
