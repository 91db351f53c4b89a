"""exchange.*"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.adapters.amqp import methods
from leveret.adapters.amqp.methods import Method
from leveret.adapters.amqp.names import clean

if TYPE_CHECKING:
    from leveret.adapters.amqp.channel import Channel
__all__ = ["HANDLERS"]


def on_declare(channel: Channel, method: methods.ExchangeDeclare) -> None:
    channel.session.exchange_declare(
        clean(method.exchange),
        method.type,
        passive=method.passive,
        durable=method.durable,
        auto_delete=method.auto_delete,
        internal=method.internal,
        arguments=method.arguments,
    )
    channel.answer(method, methods.ExchangeDeclareOk())


def on_delete(channel: Channel, method: methods.ExchangeDelete) -> None:
    channel.session.exchange_delete(clean(method.exchange), if_unused=method.if_unused)
    channel.answer(method, methods.ExchangeDeleteOk())


def on_bind(channel: Channel, method: methods.ExchangeBind) -> None:
    channel.session.exchange_bind(
        clean(method.destination), clean(method.source), method.routing_key, method.arguments
    )
    channel.answer(method, methods.ExchangeBindOk())


def on_unbind(channel: Channel, method: methods.ExchangeUnbind) -> None:
    channel.session.exchange_unbind(
        clean(method.destination), clean(method.source), method.routing_key, method.arguments
    )
    channel.answer(method, methods.ExchangeUnbindOk())


HANDLERS: dict[type[Method], Callable[[Channel, Any], None]] = {
    methods.ExchangeDeclare: on_declare,
    methods.ExchangeDelete: on_delete,
    methods.ExchangeBind: on_bind,
    methods.ExchangeUnbind: on_unbind,
}
