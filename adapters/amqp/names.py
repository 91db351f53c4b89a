"""Names as clients write them."""

from __future__ import annotations

import base64
import secrets

__all__ = ["clean", "generated"]


def clean(name: str) -> str:
    """Without CR and LF, which RabbitMQ removes from queue and exchange names in every method."""
    return name.replace("\r", "").replace("\n", "") if "\r" in name or "\n" in name else name


def generated(prefix: str) -> str:
    """A server-given name: the prefix and 22 characters that nobody guesses (128 bits)."""
    return prefix + base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode("ascii")
