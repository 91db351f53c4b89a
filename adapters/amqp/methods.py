"""Every AMQP 0-9-1 method, RabbitMQ's extensions included, and their encoding."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from struct import error as StructError
from typing import Any, ClassVar

from leveret.core.fields import FieldError, decode_table, encode_table

_ids, _u16, _u32, _u64 = Struct(">HH"), Struct(">H"), Struct(">I"), Struct(">Q")
_frame = Struct(">BHI").pack


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


@dataclass(frozen=True, slots=True)
class ConnectionStart(Method):
    id: ClassVar[tuple[int, int]] = (10, 10)
    name: ClassVar[str] = "connection.start"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("version_major", "octet"),
        ("version_minor", "octet"),
        ("server_properties", "table"),
        ("mechanisms", "longstr"),
        ("locales", "longstr"),
    )
    version_major: int = 0
    version_minor: int = 0
    server_properties: dict[str, Any] = field(default_factory=dict)
    mechanisms: str = ""
    locales: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionStartOk(Method):
    id: ClassVar[tuple[int, int]] = (10, 11)
    name: ClassVar[str] = "connection.start-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("client_properties", "table"),
        ("mechanism", "shortstr"),
        ("response", "longbytes"),
        ("locale", "shortstr"),
    )
    client_properties: dict[str, Any] = field(default_factory=dict)
    mechanism: str = ""
    response: bytes = b""
    locale: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionSecure(Method):
    id: ClassVar[tuple[int, int]] = (10, 20)
    name: ClassVar[str] = "connection.secure"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("challenge", "longbytes"),)
    challenge: bytes = b""


@dataclass(frozen=True, slots=True)
class ConnectionSecureOk(Method):
    id: ClassVar[tuple[int, int]] = (10, 21)
    name: ClassVar[str] = "connection.secure-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("response", "longbytes"),)
    response: bytes = b""


@dataclass(frozen=True, slots=True)
class ConnectionTune(Method):
    id: ClassVar[tuple[int, int]] = (10, 30)
    name: ClassVar[str] = "connection.tune"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("channel_max", "short"),
        ("frame_max", "long"),
        ("heartbeat", "short"),
    )
    channel_max: int = 0
    frame_max: int = 0
    heartbeat: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionTuneOk(Method):
    id: ClassVar[tuple[int, int]] = (10, 31)
    name: ClassVar[str] = "connection.tune-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("channel_max", "short"),
        ("frame_max", "long"),
        ("heartbeat", "short"),
    )
    channel_max: int = 0
    frame_max: int = 0
    heartbeat: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionOpen(Method):
    id: ClassVar[tuple[int, int]] = (10, 40)
    name: ClassVar[str] = "connection.open"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("virtual_host", "shortstr"),
        ("capabilities", "shortstr"),
        ("insist", "bit"),
    )
    virtual_host: str = ""
    capabilities: str = ""
    insist: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionOpenOk(Method):
    id: ClassVar[tuple[int, int]] = (10, 41)
    name: ClassVar[str] = "connection.open-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("known_hosts", "shortstr"),)
    known_hosts: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionClose(Method):
    id: ClassVar[tuple[int, int]] = (10, 50)
    name: ClassVar[str] = "connection.close"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("reply_code", "short"),
        ("reply_text", "shortstr"),
        ("class_id", "short"),
        ("method_id", "short"),
    )
    reply_code: int = 0
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionCloseOk(Method):
    id: ClassVar[tuple[int, int]] = (10, 51)
    name: ClassVar[str] = "connection.close-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class ConnectionBlocked(Method):
    id: ClassVar[tuple[int, int]] = (10, 60)
    name: ClassVar[str] = "connection.blocked"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("reason", "shortstr"),)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionUnblocked(Method):
    id: ClassVar[tuple[int, int]] = (10, 61)
    name: ClassVar[str] = "connection.unblocked"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class ConnectionUpdateSecret(Method):
    id: ClassVar[tuple[int, int]] = (10, 70)
    name: ClassVar[str] = "connection.update-secret"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("new_secret", "longbytes"), ("reason", "shortstr"))
    new_secret: bytes = b""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionUpdateSecretOk(Method):
    id: ClassVar[tuple[int, int]] = (10, 71)
    name: ClassVar[str] = "connection.update-secret-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class ChannelOpen(Method):
    id: ClassVar[tuple[int, int]] = (20, 10)
    name: ClassVar[str] = "channel.open"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("out_of_band", "shortstr"),)
    out_of_band: str = ""


@dataclass(frozen=True, slots=True)
class ChannelOpenOk(Method):
    id: ClassVar[tuple[int, int]] = (20, 11)
    name: ClassVar[str] = "channel.open-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("channel_id", "longbytes"),)
    channel_id: bytes = b""


@dataclass(frozen=True, slots=True)
class ChannelFlow(Method):
    id: ClassVar[tuple[int, int]] = (20, 20)
    name: ClassVar[str] = "channel.flow"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("active", "bit"),)
    active: bool = False


@dataclass(frozen=True, slots=True)
class ChannelFlowOk(Method):
    id: ClassVar[tuple[int, int]] = (20, 21)
    name: ClassVar[str] = "channel.flow-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("active", "bit"),)
    active: bool = False


@dataclass(frozen=True, slots=True)
class ChannelClose(Method):
    id: ClassVar[tuple[int, int]] = (20, 40)
    name: ClassVar[str] = "channel.close"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("reply_code", "short"),
        ("reply_text", "shortstr"),
        ("class_id", "short"),
        ("method_id", "short"),
    )
    reply_code: int = 0
    reply_text: str = ""
    class_id: int = 0
    method_id: int = 0


@dataclass(frozen=True, slots=True)
class ChannelCloseOk(Method):
    id: ClassVar[tuple[int, int]] = (20, 41)
    name: ClassVar[str] = "channel.close-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class AccessRequest(Method):
    id: ClassVar[tuple[int, int]] = (30, 10)
    name: ClassVar[str] = "access.request"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("realm", "shortstr"),
        ("exclusive", "bit"),
        ("passive", "bit"),
        ("active", "bit"),
        ("write", "bit"),
        ("read", "bit"),
    )
    realm: str = ""
    exclusive: bool = False
    passive: bool = False
    active: bool = False
    write: bool = False
    read: bool = False


@dataclass(frozen=True, slots=True)
class AccessRequestOk(Method):
    id: ClassVar[tuple[int, int]] = (30, 11)
    name: ClassVar[str] = "access.request-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("ticket", "short"),)
    ticket: int = 0


@dataclass(frozen=True, slots=True)
class ExchangeDeclare(Method):
    id: ClassVar[tuple[int, int]] = (40, 10)
    name: ClassVar[str] = "exchange.declare"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("exchange", "shortstr"),
        ("type", "shortstr"),
        ("passive", "bit"),
        ("durable", "bit"),
        ("auto_delete", "bit"),
        ("internal", "bit"),
        ("nowait", "bit"),
        ("arguments", "table"),
    )
    ticket: int = 0
    exchange: str = ""
    type: str = ""
    passive: bool = False
    durable: bool = False
    auto_delete: bool = False
    internal: bool = False
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExchangeDeclareOk(Method):
    id: ClassVar[tuple[int, int]] = (40, 11)
    name: ClassVar[str] = "exchange.declare-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class ExchangeDelete(Method):
    id: ClassVar[tuple[int, int]] = (40, 20)
    name: ClassVar[str] = "exchange.delete"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("exchange", "shortstr"),
        ("if_unused", "bit"),
        ("nowait", "bit"),
    )
    ticket: int = 0
    exchange: str = ""
    if_unused: bool = False
    nowait: bool = False


@dataclass(frozen=True, slots=True)
class ExchangeDeleteOk(Method):
    id: ClassVar[tuple[int, int]] = (40, 21)
    name: ClassVar[str] = "exchange.delete-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class ExchangeBind(Method):
    id: ClassVar[tuple[int, int]] = (40, 30)
    name: ClassVar[str] = "exchange.bind"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("destination", "shortstr"),
        ("source", "shortstr"),
        ("routing_key", "shortstr"),
        ("nowait", "bit"),
        ("arguments", "table"),
    )
    ticket: int = 0
    destination: str = ""
    source: str = ""
    routing_key: str = ""
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExchangeBindOk(Method):
    id: ClassVar[tuple[int, int]] = (40, 31)
    name: ClassVar[str] = "exchange.bind-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class ExchangeUnbind(Method):
    id: ClassVar[tuple[int, int]] = (40, 40)
    name: ClassVar[str] = "exchange.unbind"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("destination", "shortstr"),
        ("source", "shortstr"),
        ("routing_key", "shortstr"),
        ("nowait", "bit"),
        ("arguments", "table"),
    )
    ticket: int = 0
    destination: str = ""
    source: str = ""
    routing_key: str = ""
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExchangeUnbindOk(Method):
    id: ClassVar[tuple[int, int]] = (40, 51)
    name: ClassVar[str] = "exchange.unbind-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class QueueDeclare(Method):
    id: ClassVar[tuple[int, int]] = (50, 10)
    name: ClassVar[str] = "queue.declare"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("queue", "shortstr"),
        ("passive", "bit"),
        ("durable", "bit"),
        ("exclusive", "bit"),
        ("auto_delete", "bit"),
        ("nowait", "bit"),
        ("arguments", "table"),
    )
    ticket: int = 0
    queue: str = ""
    passive: bool = False
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueueDeclareOk(Method):
    id: ClassVar[tuple[int, int]] = (50, 11)
    name: ClassVar[str] = "queue.declare-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("queue", "shortstr"),
        ("message_count", "long"),
        ("consumer_count", "long"),
    )
    queue: str = ""
    message_count: int = 0
    consumer_count: int = 0


@dataclass(frozen=True, slots=True)
class QueueBind(Method):
    id: ClassVar[tuple[int, int]] = (50, 20)
    name: ClassVar[str] = "queue.bind"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("queue", "shortstr"),
        ("exchange", "shortstr"),
        ("routing_key", "shortstr"),
        ("nowait", "bit"),
        ("arguments", "table"),
    )
    ticket: int = 0
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueueBindOk(Method):
    id: ClassVar[tuple[int, int]] = (50, 21)
    name: ClassVar[str] = "queue.bind-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class QueuePurge(Method):
    id: ClassVar[tuple[int, int]] = (50, 30)
    name: ClassVar[str] = "queue.purge"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("queue", "shortstr"),
        ("nowait", "bit"),
    )
    ticket: int = 0
    queue: str = ""
    nowait: bool = False


@dataclass(frozen=True, slots=True)
class QueuePurgeOk(Method):
    id: ClassVar[tuple[int, int]] = (50, 31)
    name: ClassVar[str] = "queue.purge-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("message_count", "long"),)
    message_count: int = 0


@dataclass(frozen=True, slots=True)
class QueueDelete(Method):
    id: ClassVar[tuple[int, int]] = (50, 40)
    name: ClassVar[str] = "queue.delete"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("queue", "shortstr"),
        ("if_unused", "bit"),
        ("if_empty", "bit"),
        ("nowait", "bit"),
    )
    ticket: int = 0
    queue: str = ""
    if_unused: bool = False
    if_empty: bool = False
    nowait: bool = False


@dataclass(frozen=True, slots=True)
class QueueDeleteOk(Method):
    id: ClassVar[tuple[int, int]] = (50, 41)
    name: ClassVar[str] = "queue.delete-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("message_count", "long"),)
    message_count: int = 0


@dataclass(frozen=True, slots=True)
class QueueUnbind(Method):
    id: ClassVar[tuple[int, int]] = (50, 50)
    name: ClassVar[str] = "queue.unbind"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("queue", "shortstr"),
        ("exchange", "shortstr"),
        ("routing_key", "shortstr"),
        ("arguments", "table"),
    )
    ticket: int = 0
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueueUnbindOk(Method):
    id: ClassVar[tuple[int, int]] = (50, 51)
    name: ClassVar[str] = "queue.unbind-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class BasicQos(Method):
    id: ClassVar[tuple[int, int]] = (60, 10)
    name: ClassVar[str] = "basic.qos"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("prefetch_size", "long"),
        ("prefetch_count", "short"),
        ("global_", "bit"),
    )
    prefetch_size: int = 0
    prefetch_count: int = 0
    global_: bool = False


@dataclass(frozen=True, slots=True)
class BasicQosOk(Method):
    id: ClassVar[tuple[int, int]] = (60, 11)
    name: ClassVar[str] = "basic.qos-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class BasicConsume(Method):
    id: ClassVar[tuple[int, int]] = (60, 20)
    name: ClassVar[str] = "basic.consume"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("queue", "shortstr"),
        ("consumer_tag", "shortstr"),
        ("no_local", "bit"),
        ("no_ack", "bit"),
        ("exclusive", "bit"),
        ("nowait", "bit"),
        ("arguments", "table"),
    )
    ticket: int = 0
    queue: str = ""
    consumer_tag: str = ""
    no_local: bool = False
    no_ack: bool = False
    exclusive: bool = False
    nowait: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BasicConsumeOk(Method):
    id: ClassVar[tuple[int, int]] = (60, 21)
    name: ClassVar[str] = "basic.consume-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("consumer_tag", "shortstr"),)
    consumer_tag: str = ""


@dataclass(frozen=True, slots=True)
class BasicCancel(Method):
    id: ClassVar[tuple[int, int]] = (60, 30)
    name: ClassVar[str] = "basic.cancel"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("consumer_tag", "shortstr"), ("nowait", "bit"))
    consumer_tag: str = ""
    nowait: bool = False


@dataclass(frozen=True, slots=True)
class BasicCancelOk(Method):
    id: ClassVar[tuple[int, int]] = (60, 31)
    name: ClassVar[str] = "basic.cancel-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("consumer_tag", "shortstr"),)
    consumer_tag: str = ""


@dataclass(frozen=True, slots=True)
class BasicPublish(Method):
    id: ClassVar[tuple[int, int]] = (60, 40)
    name: ClassVar[str] = "basic.publish"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("exchange", "shortstr"),
        ("routing_key", "shortstr"),
        ("mandatory", "bit"),
        ("immediate", "bit"),
    )
    ticket: int = 0
    exchange: str = ""
    routing_key: str = ""
    mandatory: bool = False
    immediate: bool = False


@dataclass(frozen=True, slots=True)
class BasicReturn(Method):
    id: ClassVar[tuple[int, int]] = (60, 50)
    name: ClassVar[str] = "basic.return"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("reply_code", "short"),
        ("reply_text", "shortstr"),
        ("exchange", "shortstr"),
        ("routing_key", "shortstr"),
    )
    reply_code: int = 0
    reply_text: str = ""
    exchange: str = ""
    routing_key: str = ""


@dataclass(frozen=True, slots=True)
class BasicDeliver(Method):
    id: ClassVar[tuple[int, int]] = (60, 60)
    name: ClassVar[str] = "basic.deliver"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("consumer_tag", "shortstr"),
        ("delivery_tag", "longlong"),
        ("redelivered", "bit"),
        ("exchange", "shortstr"),
        ("routing_key", "shortstr"),
    )
    consumer_tag: str = ""
    delivery_tag: int = 0
    redelivered: bool = False
    exchange: str = ""
    routing_key: str = ""


@dataclass(frozen=True, slots=True)
class BasicGet(Method):
    id: ClassVar[tuple[int, int]] = (60, 70)
    name: ClassVar[str] = "basic.get"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("ticket", "short"),
        ("queue", "shortstr"),
        ("no_ack", "bit"),
    )
    ticket: int = 0
    queue: str = ""
    no_ack: bool = False


@dataclass(frozen=True, slots=True)
class BasicGetOk(Method):
    id: ClassVar[tuple[int, int]] = (60, 71)
    name: ClassVar[str] = "basic.get-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("delivery_tag", "longlong"),
        ("redelivered", "bit"),
        ("exchange", "shortstr"),
        ("routing_key", "shortstr"),
        ("message_count", "long"),
    )
    delivery_tag: int = 0
    redelivered: bool = False
    exchange: str = ""
    routing_key: str = ""
    message_count: int = 0


@dataclass(frozen=True, slots=True)
class BasicGetEmpty(Method):
    id: ClassVar[tuple[int, int]] = (60, 72)
    name: ClassVar[str] = "basic.get-empty"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("cluster_id", "shortstr"),)
    cluster_id: str = ""


@dataclass(frozen=True, slots=True)
class BasicAck(Method):
    id: ClassVar[tuple[int, int]] = (60, 80)
    name: ClassVar[str] = "basic.ack"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("delivery_tag", "longlong"), ("multiple", "bit"))
    delivery_tag: int = 0
    multiple: bool = False


@dataclass(frozen=True, slots=True)
class BasicReject(Method):
    id: ClassVar[tuple[int, int]] = (60, 90)
    name: ClassVar[str] = "basic.reject"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("delivery_tag", "longlong"), ("requeue", "bit"))
    delivery_tag: int = 0
    requeue: bool = False


@dataclass(frozen=True, slots=True)
class BasicRecoverAsync(Method):
    id: ClassVar[tuple[int, int]] = (60, 100)
    name: ClassVar[str] = "basic.recover-async"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("requeue", "bit"),)
    requeue: bool = False


@dataclass(frozen=True, slots=True)
class BasicRecover(Method):
    id: ClassVar[tuple[int, int]] = (60, 110)
    name: ClassVar[str] = "basic.recover"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("requeue", "bit"),)
    requeue: bool = False


@dataclass(frozen=True, slots=True)
class BasicRecoverOk(Method):
    id: ClassVar[tuple[int, int]] = (60, 111)
    name: ClassVar[str] = "basic.recover-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class BasicNack(Method):
    id: ClassVar[tuple[int, int]] = (60, 120)
    name: ClassVar[str] = "basic.nack"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (
        ("delivery_tag", "longlong"),
        ("multiple", "bit"),
        ("requeue", "bit"),
    )
    delivery_tag: int = 0
    multiple: bool = False
    requeue: bool = False


@dataclass(frozen=True, slots=True)
class ConfirmSelect(Method):
    id: ClassVar[tuple[int, int]] = (85, 10)
    name: ClassVar[str] = "confirm.select"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = (("nowait", "bit"),)
    nowait: bool = False


@dataclass(frozen=True, slots=True)
class ConfirmSelectOk(Method):
    id: ClassVar[tuple[int, int]] = (85, 11)
    name: ClassVar[str] = "confirm.select-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class TxSelect(Method):
    id: ClassVar[tuple[int, int]] = (90, 10)
    name: ClassVar[str] = "tx.select"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class TxSelectOk(Method):
    id: ClassVar[tuple[int, int]] = (90, 11)
    name: ClassVar[str] = "tx.select-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class TxCommit(Method):
    id: ClassVar[tuple[int, int]] = (90, 20)
    name: ClassVar[str] = "tx.commit"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class TxCommitOk(Method):
    id: ClassVar[tuple[int, int]] = (90, 21)
    name: ClassVar[str] = "tx.commit-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class TxRollback(Method):
    id: ClassVar[tuple[int, int]] = (90, 30)
    name: ClassVar[str] = "tx.rollback"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


@dataclass(frozen=True, slots=True)
class TxRollbackOk(Method):
    id: ClassVar[tuple[int, int]] = (90, 31)
    name: ClassVar[str] = "tx.rollback-ok"
    kinds: ClassVar[tuple[tuple[str, str], ...]] = ()


METHODS: dict[tuple[int, int], type[Method]] = {
    method.id: method
    for method in list(globals().values())
    if isinstance(method, type) and issubclass(method, Method) and method is not Method
}


def decode_method(payload: bytes) -> Method:
    """A method frame's payload. Raise MethodError: 503 unknown, 502 malformed."""
    if len(payload) < 4:
        raise MethodError(502, "method frame too short", (0, 0))
    number = _ids.unpack_from(payload)
    kind = METHODS.get(number)
    if kind is None:
        raise MethodError(503, f"unknown method {number[0]}.{number[1]}", (number[0], number[1]))
    values: dict[str, Any] = {}
    pos, bit = 4, 0
    try:
        for name, field_kind in kind.kinds:
            if field_kind == "bit":
                if not bit:
                    pos += 1
                values[name] = bool(payload[pos - 1] & 1 << bit)
                bit = (bit + 1) % 8
                continue
            bit = 0
            if field_kind == "shortstr":
                end = pos + 1 + payload[pos]
                if end > len(payload):
                    raise IndexError
                values[name] = payload[pos + 1 : end].decode("utf-8", "surrogateescape")
                pos = end
            elif field_kind in ("longstr", "longbytes"):
                end = pos + 4 + _u32.unpack_from(payload, pos)[0]
                if end > len(payload):
                    raise IndexError
                raw = payload[pos + 4 : end]
                values[name] = raw if field_kind == "longbytes" else raw.decode("utf-8", "surrogateescape")
                pos = end
            elif field_kind == "table":
                values[name], pos = decode_table(payload, pos)
            elif field_kind == "octet":
                values[name] = payload[pos]
                pos += 1
            else:
                packed = NUMBERS[field_kind]
                values[name] = packed.unpack_from(payload, pos)[0]
                pos += packed.size
    except (IndexError, StructError, FieldError) as error:
        raise MethodError(502, f"malformed method '{kind.name}'", kind.id) from error
    return kind(**values)


NUMBERS: dict[str, Struct] = {"short": _u16, "long": _u32, "longlong": _u64}


def encode_method(method: Method) -> bytes:
    """A method frame's payload. Raise FieldError for what does not fit."""
    pieces = [_ids.pack(*method.id)]
    bits, count = 0, 0
    for name, kind in method.kinds:
        value = getattr(method, name)
        if kind == "bit":
            if count == 8:
                pieces.append(bytes((bits,)))
                bits = count = 0
            bits |= bool(value) << count
            count += 1
            continue
        if count:
            pieces.append(bytes((bits,)))
            bits = count = 0
        if kind == "shortstr":
            raw = value.encode("utf-8", "surrogateescape")
            if len(raw) > 255:
                raise FieldError(f"{method.name}: {name} is longer than 255 bytes")
            pieces.append(bytes((len(raw),)) + raw)
        elif kind in ("longstr", "longbytes"):
            raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
            pieces.append(_u32.pack(len(raw)) + raw)
        elif kind == "table":
            pieces.append(encode_table(value))
        elif kind == "octet":
            pieces.append(bytes((value,)))
        else:
            pieces.append(NUMBERS[kind].pack(value))
    if count:
        pieces.append(bytes((bits,)))
    return b"".join(pieces)


def method_frame(channel: int, method: Method) -> bytes:
    payload = encode_method(method)
    return _frame(1, channel, len(payload)) + payload + b"\xce"
