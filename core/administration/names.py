"""Names that operators give to things."""

from __future__ import annotations

from leveret.core.errors import InvalidArgument

__all__ = ["check_name"]

MAX_NAME_BYTES = 255  # AMQP's short strings


def check_name(kind: str, name: str) -> None:
    """Raise InvalidArgument, with RabbitMQ's text, for a name that is too long for AMQP.

    kind: "vhost", "exchange", ... for the text. name: bytes that are not UTF-8 are escaped as in `os.fsdecode`.
    """
    size = len(name.encode("utf-8", "surrogateescape"))
    if size > MAX_NAME_BYTES:
        raise InvalidArgument(f"{kind} should be less than 255 bytes, actually was {size}\n")
