"""basic.*: consuming, getting, settling; publishing and plain acks come by the hot path instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.adapters.amqp import methods
from leveret.adapters.amqp.delivery import content_frames
from leveret.adapters.amqp.faults import ChannelFault, ConnectionFault
from leveret.adapters.amqp.handlers.queue import queue_name
from leveret.adapters.amqp.methods import Method, method_frame
from leveret.adapters.amqp.names import generated
from leveret.core.queue.consumer import Consumer
from leveret.core.reply_to import REPLY_TO

if TYPE_CHECKING:
    from leveret.adapters.amqp.channel import Channel
    from leveret.core.message import Message
__all__ = ["HANDLERS"]


def on_qos(channel: Channel, method: methods.BasicQos) -> None:
    if method.prefetch_size:
        raise ConnectionFault(540, f"prefetch_size!=0 ({method.prefetch_size})")
    if method.global_:
        if any(consumer.queue.type == "quorum" for consumer in channel.consumers.values()):
            raise ConnectionFault(540, "global qos is not supported by quorum queues")
        channel.set_global_prefetch(method.prefetch_count)
    else:
        channel.prefetch = method.prefetch_count
    channel.send(methods.BasicQosOk())


def on_consume(channel: Channel, method: methods.BasicConsume) -> None:
    tag = method.consumer_tag or generated("amq.ctag-")
    if tag in channel.consumers or tag == channel.reply_tag:
        raise ConnectionFault(530, f"attempt to reuse consumer tag '{tag}'")
    name = queue_name(channel, method.queue)
    if name == REPLY_TO:
        _consume_replies(channel, method, tag)
        return
    queue = channel.session.queue_for_consume(name)
    if channel.global_prefetch and queue.type == "quorum":
        raise ConnectionFault(540, "global qos is not supported by quorum queues")
    arguments = method.arguments
    priority = arguments.get("x-priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool):
        raise ChannelFault(406, f"invalid arg 'x-priority' for consumer '{tag}': an integer is needed")
    consumer = Consumer(
        queue,
        channel,
        tag,
        no_ack=method.no_ack,
        prefetch=channel.prefetch,
        is_exclusive=method.exclusive,
        priority=priority,
        arguments=arguments,
    )
    timeout = arguments.get("x-consumer-timeout")
    if isinstance(timeout, int) and not isinstance(timeout, bool):
        consumer.timeout_ms = timeout
    queue.attach(consumer)
    channel.start(consumer)
    # On the wire before the first delivery: dispatch comes at the end of this chunk.
    channel.answer(method, methods.BasicConsumeOk(consumer_tag=tag))


def _consume_replies(channel: Channel, method: methods.BasicConsume, tag: str) -> None:
    if not method.no_ack:
        raise ChannelFault(406, "reply consumer cannot acknowledge")
    if channel.reply_tag is not None:
        raise ChannelFault(406, "reply consumer already set")
    channel.expect_replies(tag)
    channel.answer(method, methods.BasicConsumeOk(consumer_tag=tag))


def on_cancel(channel: Channel, method: methods.BasicCancel) -> None:
    """An unknown tag is fine. Deliveries in flight are in the outbox already, so they come before the answer."""
    channel.cancel(method.consumer_tag)
    channel.answer(method, methods.BasicCancelOk(consumer_tag=method.consumer_tag))


def on_cancel_ok(channel: Channel, method: methods.BasicCancelOk) -> None:
    """The answer to a cancel of ours."""


def on_get(channel: Channel, method: methods.BasicGet) -> None:
    queue = channel.session.queue_for_get(queue_name(channel, method.queue))
    message = queue.get(no_ack=method.no_ack)
    if message is None:
        channel.get_empty_total += 1
        channel.send(methods.BasicGetEmpty(cluster_id=""))
        return
    channel.last_tag += 1
    if method.no_ack:
        channel.get_no_ack_total += 1
    else:
        channel.get_total += 1
        channel.unacked[channel.last_tag] = message
    message = channel.stamped([message])[0]
    envelope = message.envelope
    outbox = channel.outbox
    outbox.write(
        method_frame(
            channel.number,
            methods.BasicGetOk(
                delivery_tag=channel.last_tag,
                redelivered=message.is_redelivered,
                exchange=envelope.exchange,
                routing_key=envelope.routing_key,
                message_count=queue.message_count,
            ),
        )
    )
    for piece in content_frames(channel.number, envelope.header, message.body, channel.connection.frame_max):
        outbox.write(piece)
    tracer = channel.session.vhost.tracer
    if tracer is not None:
        tracer.delivered(
            queue, [message], channel.connection.name, channel.number, channel.session.principal.username
        )


def _settle(
    channel: Channel, method: Method, tag: int, *, multiple: bool, requeue: bool, counts: bool
) -> None:
    tagged = channel.collect(tag, multiple=multiple, method=method.id)
    if channel.transaction is not None:
        channel.transaction.settle(tagged, "requeue" if requeue else "reject")
        return
    messages: list[Message] = [message for _, message in tagged]
    if requeue:
        channel.requeue(messages, counts=counts)
    else:
        channel.reject(messages)


def on_ack(channel: Channel, method: methods.BasicAck) -> None:
    """Only odd ones come here; the parser takes the rest."""
    if method.multiple:
        channel.on_ack_multiple(method.delivery_tag)
    else:
        channel.on_acks([method.delivery_tag])


def on_reject(channel: Channel, method: methods.BasicReject) -> None:
    _settle(channel, method, method.delivery_tag, multiple=False, requeue=method.requeue, counts=True)


def on_nack(channel: Channel, method: methods.BasicNack) -> None:
    """A requeue by nack is no failed delivery (RabbitMQ 4.3), one by reject is: see delivery limits."""
    _settle(
        channel, method, method.delivery_tag, multiple=method.multiple, requeue=method.requeue, counts=False
    )


def on_recover(channel: Channel, method: methods.BasicRecover) -> None:
    _recover(channel, requeue=method.requeue)
    channel.send(methods.BasicRecoverOk())


def on_recover_async(channel: Channel, method: methods.BasicRecoverAsync) -> None:
    _recover(channel, requeue=method.requeue)


def _recover(channel: Channel, *, requeue: bool) -> None:
    if not requeue:
        raise ConnectionFault(540, "requeue=false")
    messages = list(channel.unacked.values())
    channel.unacked.clear()
    channel.requeue(messages, counts=False)


HANDLERS: dict[type[Method], Callable[[Channel, Any], None]] = {
    methods.BasicQos: on_qos,
    methods.BasicConsume: on_consume,
    methods.BasicCancel: on_cancel,
    methods.BasicCancelOk: on_cancel_ok,
    methods.BasicGet: on_get,
    methods.BasicAck: on_ack,
    methods.BasicReject: on_reject,
    methods.BasicNack: on_nack,
    methods.BasicRecover: on_recover,
    methods.BasicRecoverAsync: on_recover_async,
}
