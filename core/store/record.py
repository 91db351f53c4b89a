"""A message as bytes and back: what stands behind a key in the store."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError

from leveret.core.errors import StoreUnavailable
from leveret.core.message import Envelope, Message
from leveret.core.store.base import StoredMessage

__all__ = ["BODY_REFERENCE", "SHARED", "body_size", "decode", "encode", "stored_form"]

VERSION = 1

# version, flags, bytes of exchange, of routing key, of header. Behind it those three; then, as the flags say,
# expiry (wall clock, ms), delivery count; then the body or a reference to it.
HEAD = Struct(">BBHHI")
EXPIRY = Struct(">Q")
COUNT = Struct(">I")
BODY_REFERENCE = Struct(">QQ")  # number of the body, its size

REDELIVERED = 1
EXPIRES = 2
COUNTED = 4
SHARED = 8  # the body is elsewhere, shared with other records
DEAD_LETTER = 16  # its x-death header is the broker's own

UTF8 = ("utf-8", "surrogateescape")  # names come from peers, and must come back as they were

Names = tuple[str, str, bytes]


def encode(
    message: Message, heads: dict[Envelope, bytes], wall_offset: float, shared: bytes | None = None
) -> bytes:
    """heads: a cache for one group. wall_offset: seconds from the message's clock to the wall clock's epoch.
    shared: the reference (BODY_REFERENCE) that replaces the body."""
    envelope = message.envelope
    head = heads.get(envelope)
    if head is None:
        exchange, key = envelope.exchange.encode(*UTF8), envelope.routing_key.encode(*UTF8)
        head = (
            HEAD.pack(
                VERSION, DEAD_LETTER * envelope.is_dead_letter, len(exchange), len(key), len(envelope.header)
            )
            + exchange
            + key
            + envelope.header
        )
        heads[envelope] = head
    if (
        message.expires_at is None
        and not message.delivery_count
        and not message.is_redelivered
        and shared is None
    ):
        return head + message.body
    flags = head[1] | (REDELIVERED if message.is_redelivered else 0)
    extras = b""
    if message.expires_at is not None:
        flags |= EXPIRES
        extras = EXPIRY.pack(max(0, int((message.expires_at + wall_offset) * 1000)))
    if message.delivery_count:
        flags |= COUNTED
        extras += COUNT.pack(min(message.delivery_count, 0xFFFFFFFF))
    if shared is not None:
        flags |= SHARED
    body = message.body if shared is None else shared
    return b"".join((head[:1], bytes((flags,)), head[2:], extras, body))


def decode(
    position: int, record: memoryview, body_of: Callable[[int], bytes], cache: dict[bytes, Names]
) -> StoredMessage:
    """body_of: a shared body by its number. cache: of decoded names, for one read. Raise StoreUnavailable."""
    try:
        version, flags, exchange_size, key_size, header_size = HEAD.unpack_from(record)
        if version != VERSION:
            raise StoreUnavailable(f"the store has a record of version {version}; this is version {VERSION}")
        end = HEAD.size + exchange_size + key_size + header_size
        head = bytes(record[2:end])
        names = cache.get(head)
        if names is None:
            at = HEAD.size - 2
            exchange = head[at : at + exchange_size].decode(*UTF8)
            at += exchange_size
            names = cache[head] = (exchange, head[at : at + key_size].decode(*UTF8), head[at + key_size :])
        expires_at_ms = None
        delivery_count = 0
        if flags & EXPIRES:
            (expires_at_ms,) = EXPIRY.unpack_from(record, end)
            end += EXPIRY.size
        if flags & COUNTED:
            (delivery_count,) = COUNT.unpack_from(record, end)
            end += COUNT.size
        body = body_of(BODY_REFERENCE.unpack_from(record, end)[0]) if flags & SHARED else bytes(record[end:])
    except (StructError, KeyError) as error:
        raise StoreUnavailable(f"the store has a damaged record at position {position}") from error
    return StoredMessage(
        position, names[0], names[1], names[2], body, expires_at_ms, delivery_count, bool(flags & REDELIVERED),
        bool(flags & DEAD_LETTER),
    )  # fmt: skip


def stored_form(message: Message, wall_offset: float) -> StoredMessage:
    """What reading the message back would give, for one that is not written yet."""
    envelope, expires_at = message.envelope, message.expires_at
    return StoredMessage(
        message.position, envelope.exchange, envelope.routing_key, envelope.header, message.body,
        None if expires_at is None else max(0, int((expires_at + wall_offset) * 1000)),
        message.delivery_count, message.is_redelivered, envelope.is_dead_letter,
    )  # fmt: skip


def body_size(record: memoryview) -> int:
    """Bytes of the body, wherever it is."""
    _, flags, exchange_size, key_size, header_size = HEAD.unpack_from(record)
    if flags & SHARED:
        return int(BODY_REFERENCE.unpack_from(record, len(record) - BODY_REFERENCE.size)[1])
    end = HEAD.size + exchange_size + key_size + header_size
    end += EXPIRY.size if flags & EXPIRES else 0
    end += COUNT.size if flags & COUNTED else 0
    return len(record) - int(end)
