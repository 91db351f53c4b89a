"""What each AMQP method does: one table from method to function, one file per class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leveret.adapters.amqp.faults import ChannelFault, ConnectionFault, fault_of
from leveret.adapters.amqp.handlers import basic, channel, connection, exchange, queue
from leveret.adapters.amqp.methods import Method
from leveret.core.errors import BrokerError

if TYPE_CHECKING:
    from leveret.adapters.amqp.channel import Channel
    from leveret.adapters.amqp.connection import AmqpConnection
__all__ = ["on_channel_method", "on_connection_method"]

# basic.publish and single acks do not come this way: the parser calls the channel directly.
CHANNEL_HANDLERS: dict[type[Method], Callable[[Channel, Any], None]] = {
    **channel.HANDLERS,
    **exchange.HANDLERS,
    **queue.HANDLERS,
    **basic.HANDLERS,
}
CONNECTION_HANDLERS: dict[type[Method], Callable[[AmqpConnection, Any], None]] = connection.HANDLERS


def on_channel_method(target: Channel, method: Method) -> None:
    """A method on an open channel. Refusals close the channel or, raised, the connection, naming the method."""
    handler = CHANNEL_HANDLERS.get(type(method))
    if handler is None:
        raise ConnectionFault(503, f"unexpected method '{method.name}' on channel {target.number}", method.id)
    try:
        handler(target, method)
    except BrokerError as error:
        target.fail(fault_of(error), method.id)
    except ChannelFault as fault:
        target.fail(fault, method.id)
    except ConnectionFault as fault:
        raise ConnectionFault(fault.code, fault.text, method.id) from fault


def on_connection_method(target: AmqpConnection, method: Method) -> None:
    """A method on channel 0 of a running connection."""
    handler = CONNECTION_HANDLERS.get(type(method))
    if handler is None:
        raise ConnectionFault(503, f"unexpected method '{method.name}' on channel 0", method.id)
    handler(target, method)
