"""RabbitMQ's password hashes, verbatim: base64 of a 4-byte salt and the digest of salt and UTF-8 password."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

__all__ = ["DEFAULT_ALGORITHM", "burn", "hash_password", "verify"]

DEFAULT_ALGORITHM = "rabbit_password_hashing_sha256"
# md5 is for hashes that are imported from very old definitions; nothing new is hashed with it.
ALGORITHMS = {
    DEFAULT_ALGORITHM: "sha256",
    "rabbit_password_hashing_sha512": "sha512",
    "rabbit_password_hashing_md5": "md5",
}
SALT_BYTES = 4


def _digest(salt: bytes, password: str, algorithm: str) -> bytes:
    return hashlib.new(ALGORITHMS[algorithm], salt + password.encode("utf-8", "surrogateescape")).digest()


def hash_password(password: str, algorithm: str = DEFAULT_ALGORITHM, salt: bytes | None = None) -> str:
    """Raise KeyError for an algorithm that is not RabbitMQ's."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + _digest(salt, password, algorithm)).decode("ascii")


def verify(password: str, password_hash: str, algorithm: str = DEFAULT_ALGORITHM) -> bool:
    """In constant time. An empty password, an empty or broken hash, an unknown algorithm: False."""
    try:
        raw = base64.b64decode(password_hash, validate=True)
    except (binascii.Error, ValueError):
        return False
    if not password or len(raw) <= SALT_BYTES or algorithm not in ALGORITHMS:
        burn(password)
        return False
    return hmac.compare_digest(raw[SALT_BYTES:], _digest(raw[:SALT_BYTES], password, algorithm))


def burn(password: str) -> None:
    """The same work for a user that does not exist: the time taken must not tell."""
    _digest(b"\0" * SALT_BYTES, password, DEFAULT_ALGORITHM)
