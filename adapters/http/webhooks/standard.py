"""Standard Webhooks, what both sides share: keys, the content that is signed, v1 signatures (HMAC-SHA256)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

__all__ = ["PRIVATE", "PUBLIC", "SYMMETRIC", "decoded_key", "hmac_signature", "signed_content"]

SYMMETRIC, PRIVATE, PUBLIC = "whsec_", "whsk_", "whpk_"


def decoded_key(text: str, prefix: str) -> bytes:
    """With or without the prefix. Raise ValueError, which never shows the key."""
    try:
        return base64.b64decode(text.removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a secret is {prefix!r} and standard base64") from None


def signed_content(webhook_id: str, timestamp: str, body: bytes) -> bytes:
    """Exactly the bytes that are sent, behind the two headers as they are sent."""
    return f"{webhook_id}.{timestamp}.".encode("utf-8", "surrogateescape") + body


def hmac_signature(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)
