"""Names that operators give to things."""

from __future__ import annotations

from leveret.core.errors import InvalidArgument

__all__ = ["check_name"]

MAX_NAME_BYTES = 255  # AMQP's short strings


def check_name(kind: str, name: str) -> None:
    """Raise InvalidArgument for a name that AMQP clients cannot say. kind: "vhost", "exchange", ... for the text."""
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MAX_NAME_BYTES:
        raise InvalidArgument(f"{kind} should be less than 255 bytes, actually was {size}\n")
