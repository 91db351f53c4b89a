"""Standard Webhooks (https://www.standardwebhooks.com): keys, the signed content, signing and verifying.

Two kinds of signatures exist: `v1` (HMAC-SHA256 with a symmetric key, written whsec_...) and `v1a` (ed25519; the private key is
written whsk_..., the public one whpk_...). Both are made over the id, the timestamp and exactly the bytes of the body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "MAX_SECRETS",
    "MAX_SIGNATURES",
    "Secret",
    "VerificationKeys",
    "equals_any",
    "new_secret",
    "signatures",
]

SYMMETRIC, PRIVATE, PUBLIC = "whsec_", "whsk_", "whpk_"
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64  # of the specification, for keys that sign
MIN_VERIFICATION_KEY_BYTES = 16  # some senders give shorter keys than the specification allows
ED25519_BYTES = 32  # in some private keys the public key follows the seed
MAX_SECRETS = 10
MAX_SIGNATURES = 20
"""The number of signatures of a request that are compared; further ones are ignored."""


def new_secret() -> str:
    """A random symmetric key."""
    return SYMMETRIC + base64.b64encode(secrets.token_bytes(32)).decode()


def equals_any(value: bytes, expected: Sequence[bytes]) -> bool:
    """Compare with each of them, in a time that does not depend on where they differ or on which one is equal."""
    found = False
    for one in expected:
        found |= hmac.compare_digest(value, one)
    return found


def _decoded_key(text: str, prefix: str) -> bytes:
    """The key's bytes; the prefix may be missing. Raise ValueError, whose text never shows the key."""
    try:
        return base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a secret is {prefix!r} and standard base64") from None


def _signed_content(webhook_id: str, timestamp: str, body: bytes) -> bytes:
    """The two headers as they are sent, and exactly the body's bytes."""
    return f"{webhook_id}.{timestamp}.".encode("utf-8", "surrogateescape") + body


def _hmac_sha256(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)


# -- signing


@dataclass(frozen=True, slots=True)
class Secret:
    """A key that signs.

    text        as it was configured
    expires_at  seconds since the epoch after which it signs no more, because it was rotated out; None: never
    """

    text: str = field(repr=False)
    expires_at: float | None = None
    _sign: Callable[[bytes], str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, text: str, expires_at: float | None = None) -> Secret:
        """Raise ValueError for an invalid key; its text never shows the key."""
        if text.startswith(PRIVATE):
            return cls(text, expires_at, _ed25519_signer(_decoded_key(text, PRIVATE)))
        key = _decoded_key(text, SYMMETRIC)
        if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
            raise ValueError(f"a secret has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, this one {len(key)}")
        return cls(text, expires_at, lambda content: _signature("v1", _hmac_sha256(key, content)))

    def sign(self, content: bytes) -> str:
        assert self._sign is not None
        return self._sign(content)


def _signature(version: str, raw: bytes) -> str:
    return f"{version},{base64.b64encode(raw).decode()}"


def _ed25519_signer(key: bytes) -> Callable[[bytes], str]:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise ValueError("whsk_ secrets need the package 'cryptography'") from None
    if len(key) not in (ED25519_BYTES, 2 * ED25519_BYTES):
        raise ValueError(f"an ed25519 key has {ED25519_BYTES} bytes, this one {len(key)}")
    private = Ed25519PrivateKey.from_private_bytes(key[:ED25519_BYTES])
    return lambda content: _signature("v1a", private.sign(content))


def signatures(known: Iterable[Secret], webhook_id: str, now: float, body: bytes) -> str:
    """The value of the header webhook-signature: one signature per secret that has not expired, in their order; "" without one.

    now: the time of the attempt in seconds since the epoch; whole seconds are signed.
    """
    valid: Sequence[Secret] = [one for one in known if one.expires_at is None or one.expires_at > now]
    if not valid:
        return ""
    content = _signed_content(webhook_id, str(int(now)), body)
    return " ".join([one.sign(content) for one in valid])


# -- verifying


@dataclass(frozen=True, slots=True)
class VerificationKeys:
    """Keys, any of which may have signed: symmetric ones (v1) and public ones (v1a)."""

    symmetric: tuple[bytes, ...] = field(repr=False)
    public: tuple[Any, ...] = field(repr=False, default=())

    @classmethod
    def of(cls, texts: Iterable[str]) -> VerificationKeys:
        """Raise ValueError for an invalid key; its text never shows the key."""
        symmetric, public = [], []
        for text in texts:
            if text.startswith(PUBLIC):
                public.append(_ed25519_public_key(text))
                continue
            key = _decoded_key(text, SYMMETRIC)
            if len(key) < MIN_VERIFICATION_KEY_BYTES:
                raise ValueError(f"a secret of {len(key)} bytes is too short")
            symmetric.append(key)
        return cls(tuple(symmetric), tuple(public))

    def have_signed(self, webhook_id: str, timestamp: str, body: bytes, signatures: str) -> bool:
        """signatures: the value of the header webhook-signature; one valid signature is enough."""
        content = _signed_content(webhook_id, timestamp, body)
        expected = [_hmac_sha256(key, content) for key in self.symmetric]
        for value in signatures.split()[:MAX_SIGNATURES]:
            version, _, text = value.partition(",")
            try:
                signature = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                continue
            if version == "v1" and equals_any(signature, expected):
                return True
            if version == "v1a" and any(_is_signed(key, signature, content) for key in self.public):
                return True
        return False


def _ed25519_public_key(text: str) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise ValueError("whpk_ keys need the package 'cryptography'") from None
    key = _decoded_key(text, PUBLIC)
    if len(key) != ED25519_BYTES:
        raise ValueError(f"an ed25519 key has {ED25519_BYTES} bytes, this one {len(key)}")
    return Ed25519PublicKey.from_public_bytes(key)


def _is_signed(key: Any, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
