"""Standard Webhooks signatures: v1 (HMAC-SHA256) and v1a (ed25519), over exactly the bytes that are sent."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from leveret.adapters.http.webhooks.standard import (
    PRIVATE,
    SYMMETRIC,
    decoded_key,
    hmac_signature,
    signed_content,
)

__all__ = ["MAX_SECRETS", "Secret", "new_secret", "signatures"]

MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64  # of the specification
SEED_BYTES = 32  # ed25519; some keys carry the public half behind it
MAX_SECRETS = 10


def new_secret() -> str:
    return SYMMETRIC + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Secret:
    """One key. expires_at: seconds since the epoch after which it signs no more (it was rotated out); None: never."""

    text: str = field(repr=False)
    expires_at: float | None = None
    _sign: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, text: str, expires_at: float | None = None) -> Secret:
        """Raise ValueError, which never shows the secret."""
        if text.startswith(PRIVATE):
            return cls(text, expires_at, _ed25519(decoded_key(text, PRIVATE)))
        key = decoded_key(text, SYMMETRIC)
        if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
            raise ValueError(f"a secret has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, this one {len(key)}")
        return cls(text, expires_at, _hmac_sha256(key))

    def sign(self, content: bytes) -> str:
        signature: str = self._sign(content)
        return signature


def _hmac_sha256(key: bytes) -> Any:
    def sign(content: bytes) -> str:
        return "v1," + base64.b64encode(hmac_signature(key, content)).decode()

    return sign


def _ed25519(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise ValueError("whsk_ secrets need the package 'cryptography'") from None
    if len(key) not in (SEED_BYTES, 2 * SEED_BYTES):
        raise ValueError(f"an ed25519 key has {SEED_BYTES} bytes, this one {len(key)}")
    private = Ed25519PrivateKey.from_private_bytes(key[:SEED_BYTES])

    def sign(content: bytes) -> str:
        return "v1a," + base64.b64encode(private.sign(content)).decode()

    return sign


def signatures(known: Iterable[Secret], webhook_id: str, now: float, body: bytes) -> str:
    """The value of webhook-signature, the current key's first; "" without keys. now: of this attempt, in seconds since
    the epoch; whole seconds of it are signed."""
    valid: Sequence[Secret] = [one for one in known if one.expires_at is None or one.expires_at > now]
    if not valid:
        return ""
    content = signed_content(webhook_id, str(int(now)), body)
    return " ".join([one.sign(content) for one in valid])
