"""Every AMQP 0-9-1 method, RabbitMQ's extensions included, and their encoding (AMQP 1.3 to 1.8).

The classes are the table: number, name, and the fields in the order of the wire, each with its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from struct import error as StructError
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform, get_type_hints

from leveret.adapters.amqp.spec import COMMAND_INVALID, FRAME_END, FRAME_ERROR, METHOD_FRAME, SYNTAX_ERROR
from leveret.core.fields import ENCODE_ERRORS, FieldError, decode_table, encode_table

__all__ = [
    "METHODS", "AccessRequest", "AccessRequestOk", "BasicAck", "BasicCancel", "BasicCancelOk", "BasicConsume",
    "BasicConsumeOk", "BasicDeliver", "BasicGet", "BasicGetEmpty", "BasicGetOk", "BasicNack", "BasicPublish",
    "BasicQos", "BasicQosOk", "BasicRecover", "BasicRecoverAsync", "BasicRecoverOk", "BasicReject",
    "BasicReturn", "ChannelClose", "ChannelCloseOk", "ChannelFlow", "ChannelFlowOk", "ChannelOpen",
    "ChannelOpenOk", "ConfirmSelect", "ConfirmSelectOk", "ConnectionBlocked", "ConnectionClose",
    "ConnectionCloseOk", "ConnectionOpen", "ConnectionOpenOk", "ConnectionSecure", "ConnectionSecureOk",
    "ConnectionStart", "ConnectionStartOk", "ConnectionTune", "ConnectionTuneOk", "ConnectionUnblocked",
    "ConnectionUpdateSecret", "ConnectionUpdateSecretOk", "ExchangeBind", "ExchangeBindOk", "ExchangeDeclare",
    "ExchangeDeclareOk", "ExchangeDelete", "ExchangeDeleteOk", "ExchangeUnbind", "ExchangeUnbindOk", "Method",
    "MethodError", "QueueBind", "QueueBindOk", "QueueDeclare", "QueueDeclareOk", "QueueDelete",
    "QueueDeleteOk", "QueuePurge", "QueuePurgeOk", "QueueUnbind", "QueueUnbindOk", "TxCommit", "TxCommitOk",
    "TxRollback", "TxRollbackOk", "TxSelect", "TxSelectOk", "decode_method", "encode_method", "method_frame",
]  # fmt: skip

Octet = Annotated[int, "octet"]
Short = Annotated[int, "short"]
Long = Annotated[int, "long"]
LongLong = Annotated[int, "longlong"]
ShortStr = Annotated[str, "shortstr"]  # UTF-8 (AMQP 4.2.5.3), but see CARRIES_CONTENT
LongStr = Annotated[str, "longstr"]
LongBytes = Annotated[bytes, "longbytes"]  # a long string that is no text
Table = Annotated[dict[str, Any], "table"]
Bit = Annotated[bool, "bit"]  # bits in a row share octets, the first is the lowest


CARRIES_CONTENT = frozenset({(60, 40), (60, 50), (60, 60), (60, 71)})
"""basic.publish, return, deliver, get-ok: their exchange and routing key may be any bytes, as in RabbitMQ."""


class MethodError(Exception):
    """A method payload that cannot be understood: the reply code, text and offending method."""

    def __init__(self, code: int, text: str, method: tuple[int, int]) -> None:
        super().__init__(text)
        self.code, self.text, self.method = code, text, method


class Method:
    """Base of all methods: `id` (class, method), `name` as the specification has it, `kinds` field by field."""

    __slots__ = ()
    id: ClassVar[tuple[int, int]]
    name: ClassVar[str]
    kinds: ClassVar[tuple[tuple[str, str], ...]]


M = TypeVar("M", bound=Method)
METHODS: dict[tuple[int, int], type[Method]] = {}


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def method(class_id: int, method_id: int, name: str) -> Callable[[type[M]], type[M]]:
    """Makes the class a frozen, slotted dataclass and enters it in METHODS."""

    def enter(definition: type[M]) -> type[M]:
        kind: type[M] = dataclass(frozen=True, slots=True)(definition)
        hints = get_type_hints(definition, include_extras=True)
        kind.id, kind.name = (class_id, method_id), name
        kind.kinds = tuple((key, hints[key].__metadata__[0]) for key in definition.__annotations__)
        METHODS[kind.id] = kind
        return kind

    return enter


@method(10, 10, "connection.start")
class ConnectionStart(Method):
    version_major: Octet = 0
    version_minor: Octet = 0
    server_properties: Table = field(default_factory=dict)
    mechanisms: LongStr = ""
    locales: LongStr = ""


@method(10, 11, "connection.start-ok")
class ConnectionStartOk(Method):
    client_properties: Table = field(default_factory=dict)
    mechanism: ShortStr = ""
    response: LongBytes = b""
    locale: ShortStr = ""


@method(10, 20, "connection.secure")
class ConnectionSecure(Method):
    challenge: LongBytes = b""


@method(10, 21, "connection.secure-ok")
class ConnectionSecureOk(Method):
    response: LongBytes = b""


@method(10, 30, "connection.tune")
class ConnectionTune(Method):
    channel_max: Short = 0
    frame_max: Long = 0
    heartbeat: Short = 0


@method(10, 31, "connection.tune-ok")
class ConnectionTuneOk(Method):
    channel_max: Short = 0
    frame_max: Long = 0
    heartbeat: Short = 0


@method(10, 40, "connection.open")
class ConnectionOpen(Method):
    virtual_host: ShortStr = ""
    capabilities: ShortStr = ""
    insist: Bit = False


@method(10, 41, "connection.open-ok")
class ConnectionOpenOk(Method):
    known_hosts: ShortStr = ""


@method(10, 50, "connection.close")
class ConnectionClose(Method):
    reply_code: Short = 0
    reply_text: ShortStr = ""
    class_id: Short = 0
    method_id: Short = 0


@method(10, 51, "connection.close-ok")
class ConnectionCloseOk(Method): ...


@method(10, 60, "connection.blocked")
class ConnectionBlocked(Method):
    reason: ShortStr = ""


@method(10, 61, "connection.unblocked")
class ConnectionUnblocked(Method): ...


@method(10, 70, "connection.update-secret")
class ConnectionUpdateSecret(Method):
    new_secret: LongBytes = b""
    reason: ShortStr = ""


@method(10, 71, "connection.update-secret-ok")
class ConnectionUpdateSecretOk(Method): ...


@method(20, 10, "channel.open")
class ChannelOpen(Method):
    out_of_band: ShortStr = ""


@method(20, 11, "channel.open-ok")
class ChannelOpenOk(Method):
    channel_id: LongBytes = b""


@method(20, 20, "channel.flow")
class ChannelFlow(Method):
    active: Bit = False


@method(20, 21, "channel.flow-ok")
class ChannelFlowOk(Method):
    active: Bit = False


@method(20, 40, "channel.close")
class ChannelClose(Method):
    reply_code: Short = 0
    reply_text: ShortStr = ""
    class_id: Short = 0
    method_id: Short = 0


@method(20, 41, "channel.close-ok")
class ChannelCloseOk(Method): ...


@method(30, 10, "access.request")
class AccessRequest(Method):
    realm: ShortStr = ""
    exclusive: Bit = False
    passive: Bit = False
    active: Bit = False
    write: Bit = False
    read: Bit = False


@method(30, 11, "access.request-ok")
class AccessRequestOk(Method):
    ticket: Short = 0


@method(40, 10, "exchange.declare")
class ExchangeDeclare(Method):
    ticket: Short = 0
    exchange: ShortStr = ""
    type: ShortStr = ""
    passive: Bit = False
    durable: Bit = False
    auto_delete: Bit = False
    internal: Bit = False
    nowait: Bit = False
    arguments: Table = field(default_factory=dict)


@method(40, 11, "exchange.declare-ok")
class ExchangeDeclareOk(Method): ...


@method(40, 20, "exchange.delete")
class ExchangeDelete(Method):
    ticket: Short = 0
    exchange: ShortStr = ""
    if_unused: Bit = False
    nowait: Bit = False


@method(40, 21, "exchange.delete-ok")
class ExchangeDeleteOk(Method): ...


@method(40, 30, "exchange.bind")
class ExchangeBind(Method):
    ticket: Short = 0
    destination: ShortStr = ""
    source: ShortStr = ""
    routing_key: ShortStr = ""
    nowait: Bit = False
    arguments: Table = field(default_factory=dict)


@method(40, 31, "exchange.bind-ok")
class ExchangeBindOk(Method): ...


@method(40, 40, "exchange.unbind")
class ExchangeUnbind(Method):
    ticket: Short = 0
    destination: ShortStr = ""
    source: ShortStr = ""
    routing_key: ShortStr = ""
    nowait: Bit = False
    arguments: Table = field(default_factory=dict)


@method(40, 51, "exchange.unbind-ok")
class ExchangeUnbindOk(Method): ...


@method(50, 10, "queue.declare")
class QueueDeclare(Method):
    ticket: Short = 0
    queue: ShortStr = ""
    passive: Bit = False
    durable: Bit = False
    exclusive: Bit = False
    auto_delete: Bit = False
    nowait: Bit = False
    arguments: Table = field(default_factory=dict)


@method(50, 11, "queue.declare-ok")
class QueueDeclareOk(Method):
    queue: ShortStr = ""
    message_count: Long = 0
    consumer_count: Long = 0


@method(50, 20, "queue.bind")
class QueueBind(Method):
    ticket: Short = 0
    queue: ShortStr = ""
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    nowait: Bit = False
    arguments: Table = field(default_factory=dict)


@method(50, 21, "queue.bind-ok")
class QueueBindOk(Method): ...


@method(50, 30, "queue.purge")
class QueuePurge(Method):
    ticket: Short = 0
    queue: ShortStr = ""
    nowait: Bit = False


@method(50, 31, "queue.purge-ok")
class QueuePurgeOk(Method):
    message_count: Long = 0


@method(50, 40, "queue.delete")
class QueueDelete(Method):
    ticket: Short = 0
    queue: ShortStr = ""
    if_unused: Bit = False
    if_empty: Bit = False
    nowait: Bit = False


@method(50, 41, "queue.delete-ok")
class QueueDeleteOk(Method):
    message_count: Long = 0


@method(50, 50, "queue.unbind")
class QueueUnbind(Method):
    ticket: Short = 0
    queue: ShortStr = ""
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    arguments: Table = field(default_factory=dict)


@method(50, 51, "queue.unbind-ok")
class QueueUnbindOk(Method): ...


@method(60, 10, "basic.qos")
class BasicQos(Method):
    prefetch_size: Long = 0
    prefetch_count: Short = 0
    global_: Bit = False


@method(60, 11, "basic.qos-ok")
class BasicQosOk(Method): ...


@method(60, 20, "basic.consume")
class BasicConsume(Method):
    ticket: Short = 0
    queue: ShortStr = ""
    consumer_tag: ShortStr = ""
    no_local: Bit = False
    no_ack: Bit = False
    exclusive: Bit = False
    nowait: Bit = False
    arguments: Table = field(default_factory=dict)


@method(60, 21, "basic.consume-ok")
class BasicConsumeOk(Method):
    consumer_tag: ShortStr = ""


@method(60, 30, "basic.cancel")
class BasicCancel(Method):
    consumer_tag: ShortStr = ""
    nowait: Bit = False


@method(60, 31, "basic.cancel-ok")
class BasicCancelOk(Method):
    consumer_tag: ShortStr = ""


@method(60, 40, "basic.publish")
class BasicPublish(Method):
    ticket: Short = 0
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    mandatory: Bit = False
    immediate: Bit = False


@method(60, 50, "basic.return")
class BasicReturn(Method):
    reply_code: Short = 0
    reply_text: ShortStr = ""
    exchange: ShortStr = ""
    routing_key: ShortStr = ""


@method(60, 60, "basic.deliver")
class BasicDeliver(Method):
    consumer_tag: ShortStr = ""
    delivery_tag: LongLong = 0
    redelivered: Bit = False
    exchange: ShortStr = ""
    routing_key: ShortStr = ""


@method(60, 70, "basic.get")
class BasicGet(Method):
    ticket: Short = 0
    queue: ShortStr = ""
    no_ack: Bit = False


@method(60, 71, "basic.get-ok")
class BasicGetOk(Method):
    delivery_tag: LongLong = 0
    redelivered: Bit = False
    exchange: ShortStr = ""
    routing_key: ShortStr = ""
    message_count: Long = 0


@method(60, 72, "basic.get-empty")
class BasicGetEmpty(Method):
    cluster_id: ShortStr = ""


@method(60, 80, "basic.ack")
class BasicAck(Method):
    delivery_tag: LongLong = 0
    multiple: Bit = False


@method(60, 90, "basic.reject")
class BasicReject(Method):
    delivery_tag: LongLong = 0
    requeue: Bit = False


@method(60, 100, "basic.recover-async")
class BasicRecoverAsync(Method):
    requeue: Bit = False


@method(60, 110, "basic.recover")
class BasicRecover(Method):
    requeue: Bit = False


@method(60, 111, "basic.recover-ok")
class BasicRecoverOk(Method): ...


@method(60, 120, "basic.nack")
class BasicNack(Method):
    delivery_tag: LongLong = 0
    multiple: Bit = False
    requeue: Bit = False


@method(85, 10, "confirm.select")
class ConfirmSelect(Method):
    nowait: Bit = False


@method(85, 11, "confirm.select-ok")
class ConfirmSelectOk(Method): ...


@method(90, 10, "tx.select")
class TxSelect(Method): ...


@method(90, 11, "tx.select-ok")
class TxSelectOk(Method): ...


@method(90, 20, "tx.commit")
class TxCommit(Method): ...


@method(90, 21, "tx.commit-ok")
class TxCommitOk(Method): ...


@method(90, 30, "tx.rollback")
class TxRollback(Method): ...


@method(90, 31, "tx.rollback-ok")
class TxRollbackOk(Method): ...


_ids, _u8, _u32 = Struct(">HH"), Struct(">B"), Struct(">I")
_frame = Struct(">BHI").pack
NUMBERS: dict[str, Struct] = {"octet": _u8, "short": Struct(">H"), "long": _u32, "longlong": Struct(">Q")}


def decode_method(payload: bytes) -> Method:
    """A method frame's payload, to its last octet. Raise MethodError: 503 unknown, 502 malformed, 501 not UTF-8."""
    if len(payload) < 4:
        raise MethodError(SYNTAX_ERROR, "method frame too short", (0, 0))
    number: tuple[int, int] = _ids.unpack_from(payload)
    kind = METHODS.get(number)
    if kind is None:
        raise MethodError(COMMAND_INVALID, f"unknown method {number[0]}.{number[1]}", number)
    values: dict[str, Any] = {}
    pos, bit = 4, 0
    errors = "surrogateescape" if kind.id in CARRIES_CONTENT else "strict"
    try:
        for name, field_kind in kind.kinds:
            if field_kind == "bit":
                if not bit:
                    pos += 1
                values[name] = bool(payload[pos - 1] & 1 << bit)
                bit = (bit + 1) % 8
                continue
            bit = 0
            if field_kind == "table":
                values[name], pos = decode_table(payload, pos)
            elif field_kind in NUMBERS:
                packed = NUMBERS[field_kind]
                values[name] = packed.unpack_from(payload, pos)[0]
                pos += packed.size
            else:
                size = _u8 if field_kind == "shortstr" else _u32
                start = pos + size.size
                pos = start + size.unpack_from(payload, pos)[0]
                raw = payload[start:pos]
                if pos > len(payload):
                    raise IndexError("cut short")
                if field_kind == "longbytes":
                    values[name] = raw
                else:
                    values[name] = raw.decode(
                        "utf-8", errors if field_kind == "shortstr" else "surrogateescape"
                    )
    except UnicodeDecodeError as error:  # as RabbitMQ, which names the method on channel 0 alone
        raise MethodError(FRAME_ERROR, "Malformed UTF-8 in shortstr", (0, 0)) from error
    except (IndexError, StructError, FieldError) as error:
        raise MethodError(SYNTAX_ERROR, f"malformed method '{kind.name}'", kind.id) from error
    if pos != len(payload):
        raise MethodError(SYNTAX_ERROR, f"malformed method '{kind.name}'", kind.id)
    return kind(**values)


def encode_method(method: Method) -> bytes:
    """A method frame's payload. Raise FieldError for what does not fit."""
    pieces = [_ids.pack(*method.id)]
    bits, count = 0, 0
    for name, kind in method.kinds:
        value = getattr(method, name)
        if count and (kind != "bit" or count == 8):
            pieces.append(_u8.pack(bits))
            bits = count = 0
        if kind == "bit":
            bits |= bool(value) << count
            count += 1
            continue
        try:
            if kind == "table":
                pieces.append(encode_table(value))
            elif kind in NUMBERS:
                pieces.append(NUMBERS[kind].pack(value))
            else:
                raw = value if kind == "longbytes" else value.encode("utf-8", "surrogateescape")
                if name == "routing_key":  # other listeners know longer ones
                    raw = raw[:255]
                pieces.append((_u8 if kind == "shortstr" else _u32).pack(len(raw)) + raw)
        except ENCODE_ERRORS as error:
            wanted = "text of at most 255 bytes in UTF-8" if kind == "shortstr" else f"a {kind}"
            raise FieldError(f"{name} of {method.name} must be {wanted}") from error
    if count:
        pieces.append(_u8.pack(bits))
    return b"".join(pieces)


def method_frame(channel: int, method: Method) -> bytes:
    """The whole frame. Raise FieldError for what does not fit."""
    payload = encode_method(method)
    return _frame(METHOD_FRAME, channel, len(payload)) + payload + bytes((FRAME_END,))
