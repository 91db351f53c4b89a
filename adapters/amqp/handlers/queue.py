"""queue.*"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.adapters.amqp import methods
from leveret.adapters.amqp.faults import ChannelFault
from leveret.adapters.amqp.methods import Method
from leveret.adapters.amqp.names import clean
from leveret.core.reply_to import REPLY_TO, is_reply_queue

if TYPE_CHECKING:
    from leveret.adapters.amqp.channel import Channel
__all__ = ["HANDLERS", "queue_name"]


def queue_name(channel: Channel, name: str) -> str:
    """An empty name is the queue declared last on this channel (AMQP 1.7.2.3 and its kin)."""
    name = clean(name)
    if name:
        return name
    if channel.last_queue is None:
        raise ChannelFault(404, "no previously declared queue")
    return channel.last_queue


def on_declare(channel: Channel, method: methods.QueueDeclare) -> None:
    name = clean(method.queue)
    if name == REPLY_TO or is_reply_queue(name):
        if name != REPLY_TO and not channel.connection.broker.replies.exists(name):
            raise ChannelFault(404, f"no queue '{name}' in vhost '{channel.session.vhost.name}'")
        channel.answer(method, methods.QueueDeclareOk(queue=name, message_count=0, consumer_count=1))
        return
    queue = channel.session.queue_declare(
        name,
        passive=method.passive,
        durable=method.durable,
        exclusive=method.exclusive,
        auto_delete=method.auto_delete,
        arguments=method.arguments,
    )
    channel.last_queue = queue.name
    channel.answer(
        method,
        methods.QueueDeclareOk(
            queue=queue.name, message_count=queue.message_count, consumer_count=queue.consumer_count
        ),
    )


def on_bind(channel: Channel, method: methods.QueueBind) -> None:
    name, key = _bound(channel, method.queue, method.routing_key)
    channel.session.queue_bind(name, clean(method.exchange), key, method.arguments)
    channel.answer(method, methods.QueueBindOk())


def on_unbind(channel: Channel, method: methods.QueueUnbind) -> None:
    name, key = _bound(channel, method.queue, method.routing_key)
    channel.session.queue_unbind(name, clean(method.exchange), key, method.arguments)
    channel.send(methods.QueueUnbindOk())  # the one of its kind without nowait


def _bound(channel: Channel, name: str, key: str) -> tuple[str, str]:
    """With both empty, the key is the queue's name too."""
    resolved = queue_name(channel, name)
    if is_reply_queue(resolved) or resolved == REPLY_TO:
        raise ChannelFault(403, "cannot bind or unbind to a volatile (direct reply-to) queue")
    return resolved, resolved if not name and not key else key


def on_purge(channel: Channel, method: methods.QueuePurge) -> None:
    count = channel.session.queue_purge(queue_name(channel, method.queue))
    channel.answer(method, methods.QueuePurgeOk(message_count=count))


def on_delete(channel: Channel, method: methods.QueueDelete) -> None:
    count = channel.session.queue_delete(
        queue_name(channel, method.queue), if_unused=method.if_unused, if_empty=method.if_empty
    )
    channel.answer(method, methods.QueueDeleteOk(message_count=count))


HANDLERS: dict[type[Method], Callable[[Channel, Any], None]] = {
    methods.QueueDeclare: on_declare,
    methods.QueueBind: on_bind,
    methods.QueueUnbind: on_unbind,
    methods.QueuePurge: on_purge,
    methods.QueueDelete: on_delete,
}
